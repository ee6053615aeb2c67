//! Bars, side by side in groups, standing or lying.

use super::super::font;
use super::super::model::{Axis, Bars, Chart, Scale};
use super::super::scale::Range;
use super::super::scene::{Anchor, Ink, Shape, WIDTH};
use super::super::value;
use super::legend::{self, Entry, Sample};
use super::{BOTTOM, Draft, MARGIN, Plot, TEXT_SIZE, TOP, axes, widest};

/// The part of a group's room that its bars take.
const FILLED: f64 = 0.78;
/// How high a lying bar is, and the least a group needs.
const LYING_BAR: f64 = 13.0;
const LYING_GROUP_MIN: f64 = 24.0;
/// A chart of very many lying bars has thinner ones.
const HEIGHT_MAX: f64 = 4000.0;
/// Longer names of lying groups are cut.
const GROUP_ROOM_MAX: f64 = 200.0;
/// Between a lying bar and its value.
const LABEL_GAP: f64 = 5.0;

pub(super) fn draw(draft: &mut Draft, chart: &Chart, bars: &Bars) -> Option<()> {
    let values = || {
        bars.series
            .iter()
            .flat_map(|(_, v)| v.iter().flatten().copied())
    };
    let range = Range::of(&with_base(&chart.y, values()), values(), true)?;
    let groups = bars.groups.len();
    if groups == 0 {
        return None;
    }
    let legend_room = match bars.series.len() {
        1 => MARGIN + 20.0,
        _ => legend::room(bars.series.iter().map(|(name, _)| &**name)),
    };
    let labels: Vec<String> = values().map(|v| value::text(v, chart.y.unit)).collect();
    let label_room = widest(labels.iter().map(|l| &**l));
    // What stands behind the end of the longest bar.
    let behind = if bars.horizontal {
        label_room + LABEL_GAP
    } else {
        0.0
    };
    let plot = if bars.horizontal {
        lying_plot(draft, chart, bars, &range, legend_room + behind)
    } else {
        standing_plot(draft, chart, bars, &range, legend_room)
    };
    // Standing bars tell their values if there is room for all of them.
    let bar = plot.width() * FILLED / (groups * bars.series.len()) as f64;
    let labelled = bars.horizontal || label_room <= bar * 0.94;
    for (number, (_, values)) in bars.series.iter().enumerate() {
        for (group, value) in values.iter().enumerate().take(groups) {
            let Some(at) = value.and_then(|v| range.at(v)) else {
                continue;
            };
            let bar = Bar {
                plot,
                place: place(group, groups, number, bars.series.len()),
                from: range.base(),
                to: at.clamp(0.0, 1.0),
                horizontal: bars.horizontal,
            };
            bar.draw(draft, Ink::Series(number));
            if labelled {
                let label = value::text(value.unwrap_or_default(), chart.y.unit);
                bar.label(draft, &label);
            }
        }
    }
    if bars.horizontal {
        draft.line(
            (plot.x(range.base()), plot.top),
            (plot.x(range.base()), plot.bottom),
            Ink::Axis,
        );
    } else {
        let y = plot.y(range.base());
        draft.line((plot.left, y), (plot.right, y), Ink::Axis);
    }
    if bars.series.len() > 1 {
        let entry = |(number, (name, _)): (usize, &(String, _))| Entry {
            name: name.clone(),
            sample: Sample::Square(Ink::Series(number)),
            wanted: plot.top,
        };
        let entries = bars.series.iter().enumerate().map(entry).collect();
        let right = plot.right + behind;
        legend::draw(draft, &Plot { right, ..plot }, entries);
    }
    Some(())
}

/// On a logarithmic axis the least bar has a height too.
fn with_base(axis: &Axis, values: impl Iterator<Item = f64>) -> Axis {
    let mut axis = axis.clone();
    if axis.scale != Scale::Linear && axis.from.is_none() {
        let least = values.filter(|v| *v > 0.0).fold(f64::INFINITY, f64::min);
        axis.from = Some(least / 2.0);
    }
    axis
}

/// The part of the axis of groups, from 0 to 1, that a bar takes.
fn place(group: usize, groups: usize, number: usize, count: usize) -> (f64, f64) {
    let band = 1.0 / groups as f64;
    let wide = band * FILLED / count.max(1) as f64;
    let from = band * group as f64 + band * (1.0 - FILLED) / 2.0 + wide * number as f64;
    (from, from + wide * 0.94)
}

struct Bar {
    plot: Plot,
    place: (f64, f64),
    from: f64,
    to: f64,
    horizontal: bool,
}

impl Bar {
    fn draw(&self, draft: &mut Draft, ink: Ink) {
        let (low, high) = (self.from.min(self.to), self.from.max(self.to));
        let plot = &self.plot;
        let at = if self.horizontal {
            let top = plot.top + self.place.0 * plot.height();
            let high_pixels = (self.place.1 - self.place.0) * plot.height();
            [plot.x(low), top, (high - low) * plot.width(), high_pixels]
        } else {
            let wide = (self.place.1 - self.place.0) * plot.width();
            [
                plot.x(self.place.0),
                plot.y(high),
                wide,
                (high - low) * plot.height(),
            ]
        };
        draft.shapes.push(Shape::Rect { at, ink });
    }

    /// What a bar says, where there is room for it.
    fn label(&self, draft: &mut Draft, label: &str) {
        let plot = &self.plot;
        let middle = (self.place.0 + self.place.1) / 2.0;
        let size = self.place.1 - self.place.0;
        if self.horizontal {
            if self.to < self.from || size * plot.height() < TEXT_SIZE - 1.0 {
                return;
            }
            let x = plot.x(self.to) + LABEL_GAP;
            let y = plot.top + middle * plot.height() + TEXT_SIZE * 0.35;
            draft.text(label, (x, y), Ink::Muted, Anchor::Start);
        } else if self.to >= self.from && size * plot.width() >= font::room(label, TEXT_SIZE, false)
        {
            let place = (plot.x(middle), plot.y(self.to) - 4.0);
            draft.text(label, place, Ink::Muted, Anchor::Middle);
        }
    }
}

fn standing_plot(
    draft: &mut Draft,
    chart: &Chart,
    bars: &Bars,
    range: &Range,
    legend_room: f64,
) -> Plot {
    let ticks = axes::upright(range, chart.y.unit, draft.height - TOP - BOTTOM);
    let plot = Plot {
        left: (widest(ticks.iter().map(|t| &*t.label)) + MARGIN + 8.0).max(44.0),
        top: TOP,
        right: WIDTH - legend_room,
        bottom: draft.height - BOTTOM,
    };
    axes::draw_upright(draft, &plot, &ticks);
    let band = plot.width() / bars.groups.len() as f64;
    let step = every(band, 46.0);
    for (i, name) in bars.groups.iter().enumerate().step_by(step) {
        let shown = font::fitted(name, TEXT_SIZE, false, band * step as f64 - 6.0);
        let x = plot.left + band * (i as f64 + 0.5);
        let place = (x, plot.bottom + 8.0 + TEXT_SIZE);
        draft.text(&shown, place, Ink::Text, Anchor::Middle);
    }
    axes::titles(draft, &plot, &chart.x, &chart.y);
    plot
}

fn lying_plot(
    draft: &mut Draft,
    chart: &Chart,
    bars: &Bars,
    range: &Range,
    legend_room: f64,
) -> Plot {
    let groups = bars.groups.len() as f64;
    let group = (bars.series.len() as f64 * LYING_BAR / FILLED).max(LYING_GROUP_MIN);
    let high = (groups * group).clamp(120.0, HEIGHT_MAX);
    draft.height = TOP + high + BOTTOM;
    let cut = |name: &String| font::fitted(name, TEXT_SIZE, false, GROUP_ROOM_MAX);
    let names: Vec<String> = bars.groups.iter().map(cut).collect();
    let plot = Plot {
        left: (widest(names.iter().map(|n| &**n)) + MARGIN + 8.0).max(44.0),
        top: TOP,
        right: WIDTH - legend_room,
        bottom: TOP + high,
    };
    let ticks = axes::lying(range, chart.y.unit, plot.width());
    axes::draw_lying(draft, &plot, &ticks, true);
    let band = high / groups;
    let step = every(band, TEXT_SIZE + 3.0);
    for (i, name) in names.iter().enumerate().step_by(step) {
        let y = plot.top + band * (i as f64 + 0.5) + TEXT_SIZE * 0.35;
        draft.text(name, (plot.left - 8.0, y), Ink::Text, Anchor::End);
    }
    axes::titles(draft, &plot, &chart.y, &chart.x);
    plot
}

/// One of how many names is shown where each has `band` and needs `least`.
fn every(band: f64, least: f64) -> usize {
    let mut step = 1;
    while band * (step as f64) < least && step < 1000 {
        step += 1;
    }
    step
}
