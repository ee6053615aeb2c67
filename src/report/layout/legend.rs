//! The legend: names right of the plot, each as near to its line as there is room.

use super::super::font;
use super::super::scene::{Anchor, Ink, MarkerKind, Shape, Stroke, WIDTH};
use super::{Draft, MARGIN, Plot, TEXT_SIZE};

/// From one name to the next.
const PITCH: f64 = 19.0;
/// How long the sample of a line is.
const SAMPLE: f64 = 24.0;
/// From the plot to the samples, and from a sample to its name.
const GAP: f64 = 10.0;
/// Longer names are cut.
const NAME_ROOM_MAX: f64 = 170.0;

/// What a name belongs to.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) sample: Sample,
    /// Where it would best be.
    pub(super) wanted: f64,
}

/// How the thing looks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sample {
    Line(Stroke, Option<MarkerKind>),
    Square(Ink),
}

/// The room right of the plot that these names need.
pub(super) fn room<'a>(names: impl Iterator<Item = &'a str>) -> f64 {
    let rooms = names.map(|name| font::room(&cut(name), TEXT_SIZE, false));
    rooms.fold(0.0, f64::max).ceil() + SAMPLE + 2.0 * GAP + MARGIN
}

fn cut(name: &str) -> String {
    font::fitted(name, TEXT_SIZE, false, NAME_ROOM_MAX)
}

/// Draws names; as many as there is room for, and how many are left.
pub(super) fn draw(draft: &mut Draft, plot: &Plot, mut entries: Vec<Entry>) {
    let capacity = capacity(plot);
    let left_out = entries.len().saturating_sub(capacity);
    if left_out > 0 {
        entries.truncate(capacity.saturating_sub(1));
    }
    let more = left_out + usize::from(left_out > 0);
    entries.sort_by(|a, b| a.wanted.total_cmp(&b.wanted));
    let end = if more > 0 {
        plot.bottom - PITCH
    } else {
        plot.bottom
    };
    let wanted: Vec<f64> = entries.iter().map(|entry| entry.wanted).collect();
    let places = spread(&wanted, plot.top + PITCH / 2.0, end - PITCH / 2.0);
    for (entry, y) in entries.iter().zip(places) {
        one(draft, plot.right + GAP, y, entry);
    }
    if more > 0 {
        let place = (plot.right + 2.0 * GAP + SAMPLE, plot.bottom - PITCH * 0.2);
        draft.text(
            &format!("and {more} more"),
            place,
            Ink::Muted,
            Anchor::Start,
        );
    }
}

/// How many names stand beside a plot.
fn capacity(plot: &Plot) -> usize {
    let mut count = 1;
    while (count + 1) as f64 * PITCH <= plot.height() {
        count += 1;
    }
    count
}

/// Places in order, a pitch apart, near the wanted ones, which are in order.
fn spread(wanted: &[f64], from: f64, to: f64) -> Vec<f64> {
    let mut places = Vec::with_capacity(wanted.len());
    let mut least = from;
    for place in wanted {
        let place = place.max(least);
        places.push(place);
        least = place + PITCH;
    }
    let mut most = to;
    for place in places.iter_mut().rev() {
        *place = place.min(most);
        most = *place - PITCH;
    }
    places
}

fn one(draft: &mut Draft, x: f64, y: f64, entry: &Entry) {
    let middle = x + SAMPLE / 2.0;
    match entry.sample {
        Sample::Line(stroke, marker) => {
            draft.shapes.push(Shape::Line {
                points: vec![(x, y), (x + SAMPLE, y)],
                stroke,
            });
            if let Some(kind) = marker {
                draft.shapes.push(Shape::Marker {
                    at: (middle, y),
                    kind,
                    ink: stroke.ink,
                });
            }
        }
        Sample::Square(ink) => draft.shapes.push(Shape::Rect {
            at: [middle - 6.0, y - 6.0, 12.0, 12.0],
            ink,
        }),
    }
    let place = (x + SAMPLE + GAP - 2.0, y + TEXT_SIZE * 0.35);
    debug_assert!(place.0 < WIDTH);
    draft.text(&cut(&entry.name), place, Ink::Text, Anchor::Start);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_apart_and_in_the_plot() {
        for wanted in [
            vec![5.0; 10],
            vec![500.0; 10],
            vec![0.0, 200.0, 201.0, 202.0],
        ] {
            let places = spread(&wanted, 10.0, 400.0);
            assert!(
                places.windows(2).all(|w| w[1] - w[0] >= PITCH - 1e-9),
                "{places:?}"
            );
            assert!(
                places.iter().all(|p| (10.0..=400.0).contains(p)),
                "{places:?}"
            );
        }
    }
}
