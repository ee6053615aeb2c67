//! Where everything of a chart goes.
//!
//! Room for text is measured, so that no two texts overlap; what would leave the
//! plot is cut at its edge.

mod axes;
mod bars;
mod heat;
mod legend;
mod lines;

use super::font;
use super::model::{Chart, Marks};
use super::scene::{Anchor, Ink, Label, Scene, Shape, Stroke, WIDTH};

/// How high most charts are.
const HEIGHT: f64 = 430.0;
/// Between the content and the edge.
const MARGIN: f64 = 14.0;
/// Ticks, names, titles of axes.
const TEXT_SIZE: f64 = 12.0;
const TITLE_SIZE: f64 = 15.0;
/// Above the plot: the title, and that of the vertical axis.
const TOP: f64 = 66.0;
/// Below the plot: ticks, and the title of the horizontal axis.
const BOTTOM: f64 = 52.0;

/// The scene of a chart.
pub(super) fn scene(chart: &Chart) -> Scene {
    let mut draft = Draft::new();
    draft.title(&chart.title);
    let drawn = match &chart.marks {
        Marks::Lines(lines) => lines::draw(&mut draft, chart, lines),
        Marks::Bars(bars) => bars::draw(&mut draft, chart, bars),
        Marks::Heat(heat) => heat::draw(&mut draft, chart, heat),
    };
    if drawn.is_none() {
        draft.height = HEIGHT;
        draft.text(
            "no data",
            (WIDTH / 2.0, HEIGHT / 2.0),
            Ink::Muted,
            Anchor::Middle,
        );
    }
    Scene {
        width: WIDTH,
        height: draft.height,
        shapes: draft.shapes,
    }
}

/// A scene that is being made.
struct Draft {
    shapes: Vec<Shape>,
    height: f64,
}

/// Where the data goes.
#[derive(Clone, Copy, Debug)]
struct Plot {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Plot {
    fn width(&self) -> f64 {
        self.right - self.left
    }

    fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// From 0 to 1, rightwards.
    fn x(&self, at: f64) -> f64 {
        self.left + at * self.width()
    }

    /// From 0 to 1, upwards.
    fn y(&self, at: f64) -> f64 {
        self.bottom - at * self.height()
    }
}

impl Draft {
    fn new() -> Self {
        Self {
            shapes: Vec::new(),
            height: HEIGHT,
        }
    }

    fn title(&mut self, title: &str) {
        self.shapes.push(Shape::Text(Label {
            x: MARGIN,
            y: MARGIN + TITLE_SIZE - 2.0,
            text: font::fitted(title, TITLE_SIZE, true, WIDTH - 2.0 * MARGIN),
            size: TITLE_SIZE,
            bold: true,
            ink: Ink::Text,
            anchor: Anchor::Start,
        }));
    }

    /// A text on a baseline, moved as far as it must be to stay in the scene.
    fn text(&mut self, text: &str, (x, y): (f64, f64), ink: Ink, anchor: Anchor) {
        if text.is_empty() {
            return;
        }
        let room = font::room(text, TEXT_SIZE, false);
        let (before, after) = match anchor {
            Anchor::Start => (0.0, room),
            Anchor::Middle => (room / 2.0, room / 2.0),
            Anchor::End => (room, 0.0),
        };
        let x = x.min(WIDTH - 2.0 - after).max(2.0 + before);
        self.shapes.push(Shape::Text(Label {
            x,
            y,
            text: text.to_owned(),
            size: TEXT_SIZE,
            bold: false,
            ink,
            anchor,
        }));
    }

    fn line(&mut self, from: (f64, f64), to: (f64, f64), ink: Ink) {
        self.shapes.push(Shape::Line {
            points: vec![from, to],
            stroke: Stroke {
                ink,
                width: 1.0,
                dash: &[],
            },
        });
    }
}

/// The room that the widest text needs.
fn widest<'a>(texts: impl Iterator<Item = &'a str>) -> f64 {
    let rooms = texts.map(|text| font::room(text, TEXT_SIZE, false));
    rooms.fold(0.0, f64::max)
}
