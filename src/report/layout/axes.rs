//! Axes: lines that lead the eye, ticks, titles.

use super::super::font;
use super::super::model::{Axis, Unit};
use super::super::scale::{Range, Tick};
use super::super::scene::{Anchor, Ink, WIDTH};
use super::{Draft, MARGIN, Plot, TEXT_SIZE, TOP};

/// Between two texts side by side.
const GAP: f64 = 12.0;

/// Ticks on a vertical axis of this height.
pub(super) fn upright(range: &Range, unit: Unit, height: f64) -> Vec<Tick> {
    // More than 24 would be too many whatever the height.
    let fits = |most: &usize| {
        let ticks = range.ticks(unit, *most);
        let mut named = ticks.iter().filter(|t| !t.label.is_empty()).map(|t| t.at);
        let mut last = f64::NEG_INFINITY;
        named.all(|at| {
            let apart = (at - last) * height >= 22.0;
            last = at;
            apart
        })
    };
    let most = (2..=8).rev().find(fits).unwrap_or(2);
    unnamed_where_crowded(range.ticks(unit, most), |tick| {
        let middle = tick.at * height;
        (middle - TEXT_SIZE / 2.0, middle + TEXT_SIZE / 2.0)
    })
}

/// Ticks on a horizontal axis of this width.
pub(super) fn lying(range: &Range, unit: Unit, width: f64) -> Vec<Tick> {
    let fits = |most: &usize| {
        let ticks = range.ticks(unit, *most);
        let mut end = f64::NEG_INFINITY;
        ticks.iter().filter(|t| !t.label.is_empty()).all(|tick| {
            let half = font::room(&tick.label, TEXT_SIZE, false) / 2.0;
            let free = tick.at * width - half >= end + GAP;
            end = tick.at * width + half;
            free
        })
    };
    let most = (2..=10).rev().find(fits).unwrap_or(2);
    unnamed_where_crowded(range.ticks(unit, most), |tick| {
        let half = font::room(&tick.label, TEXT_SIZE, false) / 2.0;
        (tick.at * width - half, tick.at * width + half)
    })
}

/// Leaves out names that would touch the one before.
fn unnamed_where_crowded(mut ticks: Vec<Tick>, span: impl Fn(&Tick) -> (f64, f64)) -> Vec<Tick> {
    let mut end = f64::NEG_INFINITY;
    for tick in &mut ticks {
        let (from, to) = span(tick);
        if tick.label.is_empty() {
            continue;
        }
        if from < end + 4.0 {
            tick.label.clear();
        } else {
            end = to;
        }
    }
    ticks
}

/// Lines across the plot at the ticks of the vertical axis, with their names.
pub(super) fn draw_upright(draft: &mut Draft, plot: &Plot, ticks: &[Tick]) {
    for tick in ticks {
        let y = plot.y(tick.at);
        if !tick.label.is_empty() {
            draft.line((plot.left, y), (plot.right, y), Ink::Grid);
        }
        let place = (plot.left - 8.0, y + TEXT_SIZE * 0.35);
        draft.text(&tick.label, place, Ink::Muted, Anchor::End);
    }
}

/// Lines up the plot at the ticks of the horizontal axis, with their names.
pub(super) fn draw_lying(draft: &mut Draft, plot: &Plot, ticks: &[Tick], grid: bool) {
    for tick in ticks {
        let x = plot.x(tick.at);
        if grid && !tick.label.is_empty() {
            draft.line((x, plot.top), (x, plot.bottom), Ink::Grid);
        }
        let length = if tick.label.is_empty() { 3.0 } else { 5.0 };
        draft.line((x, plot.bottom), (x, plot.bottom + length), Ink::Axis);
        let place = (x, plot.bottom + 8.0 + TEXT_SIZE);
        draft.text(&tick.label, place, Ink::Muted, Anchor::Middle);
    }
}

/// The line below the plot.
pub(super) fn floor(draft: &mut Draft, plot: &Plot) {
    draft.line(
        (plot.left, plot.bottom),
        (plot.right, plot.bottom),
        Ink::Axis,
    );
}

/// What is measured upwards stands above the plot, so that it is read without
/// turning the head; what is measured rightwards stands below.
pub(super) fn titles(draft: &mut Draft, plot: &Plot, right: &Axis, up: &Axis) {
    let cut = |text: &str, most| font::fitted(text, TEXT_SIZE, false, most);
    let above = cut(&up.title, WIDTH - 2.0 * MARGIN);
    draft.text(&above, (MARGIN, TOP - 16.0), Ink::Text, Anchor::Start);
    let below = cut(&right.title, plot.width().max(120.0));
    let place = (plot.x(0.5), draft.height - MARGIN + 2.0);
    draft.text(&below, place, Ink::Text, Anchor::Middle);
}
