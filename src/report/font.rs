//! The one font of the program: how wide text is, and its outlines.
//!
//! Servers have no fonts. This one is a part of the program (`font/NOTICE` says
//! whose it is); a character that it lacks is its box for missing ones.

use std::sync::LazyLock;

use ttf_parser::{Face, OutlineBuilder};

const DATA: &[u8] = include_bytes!("font/roboto-subset.ttf");

/// `None` cannot be as long as the test below holds.
static FACE: LazyLock<Option<Face<'static>>> = LazyLock::new(|| Face::parse(DATA, 0).ok());

/// Browsers draw SVG in a font of their own, which may be wider than ours.
const OTHER_FONTS: f64 = 1.16;
/// How much wider bold text is.
const BOLD: f64 = 1.06;

/// What follows the pen along outlines; coordinates as in the scene.
pub(super) trait Pen {
    /// Goes there without drawing.
    fn move_to(&mut self, x: f64, y: f64);
    /// Draws a straight line.
    fn line_to(&mut self, x: f64, y: f64);
    /// Draws a curve with one control point.
    fn quad_to(&mut self, cx: f64, cy: f64, x: f64, y: f64);
    /// Draws a curve with two control points.
    fn cubic_to(&mut self, c: [f64; 4], x: f64, y: f64);
    /// Goes back to where it began.
    fn close(&mut self);
}

/// How wide text of this size is in our font.
pub(super) fn width(text: &str, size: f64) -> f64 {
    let Some(face) = FACE.as_ref() else {
        return 0.0;
    };
    let units: f64 = text.chars().map(|c| advance(face, c)).sum();
    units * size / f64::from(face.units_per_em())
}

/// How much room text needs whatever the font.
pub(super) fn room(text: &str, size: f64, bold: bool) -> f64 {
    width(text, size) * OTHER_FONTS * if bold { BOLD } else { 1.0 }
}

/// Text that needs at most so much room; if it has to be cut, an ellipsis says so.
pub(super) fn fitted(text: &str, size: f64, bold: bool, most: f64) -> String {
    // Nothing this long fits anywhere: the rest need not be measured.
    const CHARS_MAX: usize = 400;
    let end = text
        .char_indices()
        .nth(CHARS_MAX)
        .map_or(text.len(), |(at, _)| at);
    if end == text.len() && room(text, size, bold) <= most {
        return text.to_owned();
    }
    let mut kept = String::new();
    for c in text[..end].chars() {
        kept.push(c);
        kept.push('…');
        let fits = room(&kept, size, bold) <= most;
        kept.pop();
        if !fits {
            kept.pop();
            break;
        }
    }
    let kept = kept.trim_end();
    format!("{kept}…")
}

/// Draws text from a place on its baseline.
pub(super) fn draw(text: &str, size: f64, x: f64, y: f64, pen: &mut dyn Pen) {
    let Some(face) = FACE.as_ref() else {
        return;
    };
    let scale = size / f64::from(face.units_per_em());
    let mut outline = Outline { pen, scale, x, y };
    for c in text.chars() {
        face.outline_glyph(face.glyph_index(c).unwrap_or_default(), &mut outline);
        outline.x += advance(face, c) * scale;
    }
}

fn advance(face: &Face<'_>, c: char) -> f64 {
    let glyph = face.glyph_index(c).unwrap_or_default();
    f64::from(face.glyph_hor_advance(glyph).unwrap_or_default())
}

struct Outline<'a> {
    pen: &'a mut dyn Pen,
    scale: f64,
    x: f64,
    y: f64,
}

impl Outline<'_> {
    fn place(&self, x: f32, y: f32) -> (f64, f64) {
        (
            self.x + f64::from(x) * self.scale,
            self.y - f64::from(y) * self.scale,
        )
    }
}

impl OutlineBuilder for Outline<'_> {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.pen.move_to(x, y);
    }
    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.place(x, y);
        self.pen.line_to(x, y);
    }
    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let (cx, cy) = self.place(x1, y1);
        let (x, y) = self.place(x, y);
        self.pen.quad_to(cx, cy, x, y);
    }
    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let (ax, ay) = self.place(x1, y1);
        let (bx, by) = self.place(x2, y2);
        let (x, y) = self.place(x, y);
        self.pen.cubic_to([ax, ay, bx, by], x, y);
    }
    fn close(&mut self) {
        self.pen.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_font_has_the_signs_of_charts() {
        let face = FACE.as_ref().unwrap();
        for c in "aZ09 %µ×−–…≤≥é·".chars() {
            assert!(face.glyph_index(c).is_some(), "{c}");
        }
        assert!(width("iiii", 12.0) < width("MMMM", 12.0));
    }

    #[test]
    fn long_text_is_cut_to_its_room() {
        let cut = fitted(&"long name ".repeat(1_000_000), 12.0, false, 80.0);
        assert!(
            cut.ends_with('…') && room(&cut, 12.0, false) <= 80.0,
            "{cut}"
        );
        assert_eq!(fitted("short", 12.0, true, 80.0), "short");
    }
}
