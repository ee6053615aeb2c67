//! Lines through points.

use super::super::model::{Chart, Lines, Series};
use super::super::scale::Range;
use super::super::scene::{Ink, MarkerKind, Shape, Stroke, WIDTH};
use super::super::thin::thinned;
use super::legend::{self, Entry, Sample};
use super::{BOTTOM, Draft, MARGIN, Plot, TOP, axes, widest};

/// More markers would hide their line.
const MARKERS_MAX: usize = 40;
/// What a line that goes back and forth is thinned to.
const POINTS_MAX: usize = 20_000;
/// Beyond it a line leaves the plot in the same direction.
const FAR: f64 = 1e6;

const MARKERS: [MarkerKind; 6] = [
    MarkerKind::Circle,
    MarkerKind::Square,
    MarkerKind::Triangle,
    MarkerKind::Diamond,
    MarkerKind::Down,
    MarkerKind::Ring,
];

/// Lines without markers differ in these; the first is whole.
const DASHES: [&[f64]; 6] = [
    &[],
    &[7.0, 3.0],
    &[2.0, 2.5],
    &[9.0, 3.0, 2.0, 3.0],
    &[12.0, 4.0],
    &[5.0, 2.0, 1.5, 2.0, 1.5, 2.0],
];
const REFERENCE: &[f64] = &[4.0, 4.0];

pub(super) fn draw(draft: &mut Draft, chart: &Chart, lines: &Lines) -> Option<()> {
    let points = || lines.series.iter().flat_map(|s| &s.points);
    let both = || points().filter(|p| p.0.is_finite() && p.1.is_finite());
    let x = Range::of(&chart.x, both().map(|p| p.0), false)?;
    let y = Range::of(&chart.y, both().map(|p| p.1), true)?;

    let ticks = axes::upright(&y, chart.y.unit, draft.height - TOP - BOTTOM);
    let names = lines.series.iter().map(|s| &*s.name);
    let plot = Plot {
        left: (widest(ticks.iter().map(|t| &*t.label)) + MARGIN + 8.0).max(44.0),
        top: TOP,
        right: WIDTH - legend::room(names),
        bottom: draft.height - BOTTOM,
    };
    axes::draw_upright(draft, &plot, &ticks);
    let across = axes::lying(&x, chart.x.unit, plot.width());
    axes::draw_lying(draft, &plot, &across, true);
    axes::floor(draft, &plot);
    axes::titles(draft, &plot, &chart.x, &chart.y);

    let mut entries = Vec::new();
    // The first line is drawn last, above the others.
    for (number, series) in lines.series.iter().enumerate().rev() {
        let look = Look::of(number, series);
        let last = one(draft, &plot, (&x, &y), series, look);
        entries.push(Entry {
            name: series.name.clone(),
            sample: Sample::Line(look.stroke, look.marker),
            wanted: last.unwrap_or(plot.bottom),
        });
    }
    entries.reverse();
    legend::draw(draft, &plot, entries);
    Some(())
}

#[derive(Clone, Copy)]
struct Look {
    stroke: Stroke,
    marker: Option<MarkerKind>,
}

impl Look {
    fn of(number: usize, series: &Series) -> Self {
        let dash = match (series.dashed, series.has_points) {
            (true, _) => REFERENCE,
            (false, true) => &[],
            (false, false) => DASHES[number % DASHES.len()],
        };
        Self {
            stroke: Stroke {
                ink: Ink::Series(number),
                width: 2.0,
                dash,
            },
            marker: series.has_points.then(|| MARKERS[number % MARKERS.len()]),
        }
    }
}

/// Draws a line and tells how high it ends.
fn one(
    draft: &mut Draft,
    plot: &Plot,
    (x, y): (&Range, &Range),
    series: &Series,
    look: Look,
) -> Option<f64> {
    let place = |&(px, py): &(f64, f64)| Some((x.at(px)?, y.at(py)?));
    let mut run = Vec::new();
    let mut marked = Vec::new();
    let mut last = None;
    for point in series.points.iter().map(place).chain([None]) {
        if let Some((px, py)) = point {
            let inside = [px, py].iter().all(|at| (0.0..=1.0).contains(at));
            if inside {
                marked.push((plot.x(px), plot.y(py)));
            }
            run.push((plot.x(px.clamp(-FAR, FAR)), plot.y(py.clamp(-FAR, FAR))));
            last = Some(plot.y(py.clamp(0.0, 1.0)));
            continue;
        }
        if look.marker.is_none() && run.len() == 1 {
            marker(draft, plot, run[0], MarkerKind::Circle, look.stroke.ink);
        }
        stroke(draft, plot, &run, look.stroke);
        run.clear();
    }
    if let Some(kind) = look.marker {
        let step = marked.len().div_ceil(MARKERS_MAX).max(1);
        for at in marked.into_iter().step_by(step) {
            marker(draft, plot, at, kind, look.stroke.ink);
        }
    }
    last
}

fn marker(draft: &mut Draft, plot: &Plot, at: (f64, f64), kind: MarkerKind, ink: Ink) {
    let inside =
        (plot.left..=plot.right).contains(&at.0) && (plot.top..=plot.bottom).contains(&at.1);
    if inside {
        draft.shapes.push(Shape::Marker { at, kind, ink });
    }
}

/// Draws the parts of a line that are in the plot.
fn stroke(draft: &mut Draft, plot: &Plot, run: &[(f64, f64)], stroke: Stroke) {
    let mut thin = thinned(run);
    let step = thin.len().div_ceil(POINTS_MAX).max(1);
    if step > 1 {
        thin = thin.into_iter().step_by(step).collect();
    }
    let mut part: Vec<(f64, f64)> = Vec::new();
    for pair in thin.windows(2) {
        let Some((from, to)) = cut(plot, pair[0], pair[1]) else {
            continue;
        };
        if part.last() != Some(&from) {
            finish(draft, &mut part, stroke);
            part.push(from);
        }
        part.push(to);
    }
    finish(draft, &mut part, stroke);
}

fn finish(draft: &mut Draft, part: &mut Vec<(f64, f64)>, stroke: Stroke) {
    if part.len() >= 2 {
        draft.shapes.push(Shape::Line {
            points: std::mem::take(part),
            stroke,
        });
    }
    part.clear();
}

/// The part of a straight line in the plot. Source: Y.-D. Liang, B. A. Barsky, "A New
/// Concept and Method for Line Clipping", ACM TOG 3(1), 1984.
fn cut(plot: &Plot, from: (f64, f64), to: (f64, f64)) -> Option<((f64, f64), (f64, f64))> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (mut enters, mut leaves) = (0.0_f64, 1.0_f64);
    for (step, room) in [
        (-dx, from.0 - plot.left),
        (dx, plot.right - from.0),
        (-dy, from.1 - plot.top),
        (dy, plot.bottom - from.1),
    ] {
        if step == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if step < 0.0 {
            enters = enters.max(room / step);
        } else {
            leaves = leaves.min(room / step);
        }
    }
    let at = |part: f64, whole: (f64, f64)| {
        if part <= 0.0 {
            return from;
        }
        if part >= 1.0 {
            return whole;
        }
        let x = (from.0 + part * dx).clamp(plot.left, plot.right);
        (x, (from.1 + part * dy).clamp(plot.top, plot.bottom))
    };
    (enters <= leaves).then(|| (at(enters, to), at(leaves, to)))
}
