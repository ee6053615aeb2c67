//! A chart as shapes in places: all that is left to do is to draw them.
//!
//! Every coordinate is finite and within the scene.

use super::layout;
use super::model::Chart;

/// How wide every chart is, in CSS pixels.
pub const WIDTH: f64 = 760.0;

/// Shapes in the order of drawing; the first lies below.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// In CSS pixels.
    pub width: f64,
    /// In CSS pixels.
    pub height: f64,
    /// What is drawn on the ground.
    pub shapes: Vec<Shape>,
}

/// What something is drawn with; the theme knows the colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ink {
    /// What lies below everything.
    Ground,
    /// Titles and names.
    Text,
    /// Ticks and what else is read second.
    Muted,
    /// Lines that lead the eye.
    Grid,
    /// Where axes are.
    Axis,
    /// The data, by its number.
    Series(usize),
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stroke {
    /// With what.
    pub ink: Ink,
    /// How wide.
    pub width: f64,
    /// Drawn and undrawn lengths in turn; none for a whole line.
    pub dash: &'static [f64],
}

/// Where a text stands at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// Its middle is there.
    Middle,
    /// It ends there.
    End,
}

/// A text on one line.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// Where its anchor is.
    pub x: f64,
    /// Where its baseline is.
    pub y: f64,
    /// What it says.
    pub text: String,
    /// How high a line of it is, about.
    pub size: f64,
    /// Whether it is bold.
    pub bold: bool,
    /// With what it is written.
    pub ink: Ink,
    /// Where it stands at its place.
    pub anchor: Anchor,
}

/// How a point is marked: told apart without colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkerKind {
    /// ●
    Circle,
    /// ■
    Square,
    /// ▲
    Triangle,
    /// ◆
    Diamond,
    /// ▼
    Down,
    /// ○
    Ring,
}

/// What can be drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    /// Through two points or more.
    Line {
        /// From the first to the last.
        points: Vec<(f64, f64)>,
        /// How.
        stroke: Stroke,
    },
    /// A filled rectangle.
    Rect {
        /// Left, top, width, height.
        at: [f64; 4],
        /// With what.
        ink: Ink,
    },
    /// A text.
    Text(Label),
    /// A marked point.
    Marker {
        /// The middle.
        at: (f64, f64),
        /// How.
        kind: MarkerKind,
        /// With what.
        ink: Ink,
    },
    /// Cells of colours, not smoothed.
    Raster {
        /// Left, top, width, height.
        at: [f64; 4],
        /// How many cells side by side.
        columns: usize,
        /// How many above each other.
        rows: usize,
        /// From the top left, row by row; `None` shows the ground.
        cells: Vec<Option<[u8; 3]>>,
    },
}

/// How far the middle of a marker is from its edge.
pub const MARKER_RADIUS: f64 = 3.5;

/// The corners of a marker, or `None` if it is round.
pub(super) fn corners(kind: MarkerKind, (x, y): (f64, f64)) -> Option<Vec<(f64, f64)>> {
    let r = MARKER_RADIUS;
    let around: &[(f64, f64)] = match kind {
        MarkerKind::Circle | MarkerKind::Ring => return None,
        MarkerKind::Square => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        MarkerKind::Triangle => &[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)],
        MarkerKind::Down => &[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)],
        MarkerKind::Diamond => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
    };
    Some(
        around
            .iter()
            .map(|(dx, dy)| (x + dx * r, y + dy * r))
            .collect(),
    )
}

/// Lays a chart out. A chart without data says so.
pub fn of(chart: &Chart) -> Scene {
    layout::scene(chart)
}
