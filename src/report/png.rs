//! Charts as PNG, without any font of the machine.

use tiny_skia::{
    FillRule, FilterQuality, LineJoin, Paint, PathBuilder, Pixmap, PixmapPaint, Rect, StrokeDash,
    Transform,
};

use super::colour::{self, Theme};
use super::font::{self, Pen};
use super::model::Chart;
use super::scene::{self, Anchor, Ink, Label, MARKER_RADIUS, MarkerKind, Scene, Shape, Stroke};

/// Pixels per CSS pixel: less is unreadable, more is no use in print either.
const SCALE_MIN: f64 = 0.25;
const SCALE_MAX: f64 = 4.0;

/// A chart on white, `scale` pixels per CSS pixel (0.25 to 4; 2 is sharp in print).
pub fn chart(chart: &Chart, scale: f64) -> Vec<u8> {
    let scale = if scale.is_finite() {
        scale.clamp(SCALE_MIN, SCALE_MAX)
    } else {
        1.0
    };
    let scene = scene::of(chart);
    let size = (pixels(scene.width * scale), pixels(scene.height * scale));
    let Some(map) = Pixmap::new(size.0, size.1) else {
        return Vec::new();
    };
    let transform = Transform::from_scale(single(scale), single(scale));
    let mut canvas = Canvas { map, transform };
    canvas.scene(&scene);
    canvas.map.encode_png().unwrap_or_default()
}

/// Cells as the pixels of a picture, for SVG.
pub(super) fn cells(columns: usize, rows: usize, cells: &[Option<[u8; 3]>]) -> Vec<u8> {
    let picture = picture(columns, rows, cells);
    picture
        .and_then(|map| map.encode_png().ok())
        .unwrap_or_default()
}

fn picture(columns: usize, rows: usize, cells: &[Option<[u8; 3]>]) -> Option<Pixmap> {
    let size = (u32::try_from(columns).ok()?, u32::try_from(rows).ok()?);
    let mut map = Pixmap::new(size.0, size.1)?;
    for (pixel, [r, g, b]) in map
        .pixels_mut()
        .iter_mut()
        .zip(cells)
        .filter_map(|(p, c)| Some((p, (*c)?)))
    {
        *pixel = tiny_skia::ColorU8::from_rgba(r, g, b, 255).premultiply();
    }
    Some(map)
}

struct Canvas {
    map: Pixmap,
    transform: Transform,
}

impl Canvas {
    fn scene(&mut self, scene: &Scene) {
        self.rect([0.0, 0.0, scene.width, scene.height], Ink::Ground);
        for shape in &scene.shapes {
            match shape {
                Shape::Line { points, stroke } => self.line(points, *stroke),
                Shape::Rect { at, ink } => self.rect(*at, *ink),
                Shape::Text(label) => self.text(label),
                Shape::Marker { at, kind, ink } => self.marker(*at, *kind, *ink),
                Shape::Raster {
                    at,
                    columns,
                    rows,
                    cells,
                } => self.raster(*at, (*columns, *rows), cells),
            }
        }
    }

    fn fill(&mut self, path: PathBuilder, ink: Ink) {
        if let Some(path) = path.finish() {
            let rule = FillRule::Winding;
            self.map
                .fill_path(&path, &paint(ink), rule, self.transform, None);
        }
    }

    fn stroke(&mut self, path: PathBuilder, stroke: Stroke) {
        let lengths: Vec<f32> = stroke.dash.iter().map(|l| single(*l)).collect();
        let look = tiny_skia::Stroke {
            width: single(stroke.width),
            line_join: LineJoin::Round,
            dash: StrokeDash::new(lengths, 0.0),
            ..tiny_skia::Stroke::default()
        };
        if let Some(path) = path.finish() {
            self.map
                .stroke_path(&path, &paint(stroke.ink), &look, self.transform, None);
        }
    }

    fn line(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let mut path = PathBuilder::new();
        polygon(&mut path, points);
        self.stroke(path, stroke);
    }

    fn rect(&mut self, at: [f64; 4], ink: Ink) {
        let [x, y, w, h] = at.map(single);
        if let Some(rect) = Rect::from_xywh(x, y, w, h) {
            self.map.fill_rect(rect, &paint(ink), self.transform, None);
        }
    }

    fn text(&mut self, label: &Label) {
        let width = font::width(&label.text, label.size);
        let x = match label.anchor {
            Anchor::Start => label.x,
            Anchor::Middle => label.x - width / 2.0,
            Anchor::End => label.x - width,
        };
        let mut outline = Outline(PathBuilder::new());
        font::draw(&label.text, label.size, x, label.y, &mut outline);
        if label.bold {
            let edge = Stroke {
                ink: label.ink,
                width: label.size / 30.0,
                dash: &[],
            };
            self.stroke(outline.0.clone(), edge);
        }
        self.fill(outline.0, label.ink);
    }

    fn marker(&mut self, at: (f64, f64), kind: MarkerKind, ink: Ink) {
        let mut path = PathBuilder::new();
        match scene::corners(kind, at) {
            Some(corners) => {
                polygon(&mut path, &corners);
                path.close();
            }
            None => path.push_circle(single(at.0), single(at.1), single(MARKER_RADIUS)),
        }
        let (fill, ink, width) = match kind {
            MarkerKind::Ring => (Ink::Ground, ink, 2.0),
            _ => (ink, Ink::Ground, 1.0),
        };
        self.fill(path.clone(), fill);
        let edge = Stroke {
            ink,
            width,
            dash: &[],
        };
        self.stroke(path, edge);
    }

    fn raster(&mut self, at: [f64; 4], size: (usize, usize), cells: &[Option<[u8; 3]>]) {
        let Some(picture) = picture(size.0, size.1, cells) else {
            return;
        };
        let [x, y, w, h] = at.map(single);
        let wide = single(size.0 as f64);
        let high = single(size.1 as f64);
        let place = Transform::from_row(w / wide, 0.0, 0.0, h / high, x, y);
        let look = PixmapPaint {
            quality: FilterQuality::Nearest,
            ..PixmapPaint::default()
        };
        let place = place.post_concat(self.transform);
        self.map
            .draw_pixmap(0, 0, picture.as_ref(), &look, place, None);
    }
}

fn polygon(path: &mut PathBuilder, points: &[(f64, f64)]) {
    for (i, (x, y)) in points.iter().enumerate() {
        let (x, y) = (single(*x), single(*y));
        if i == 0 {
            path.move_to(x, y);
        } else {
            path.line_to(x, y);
        }
    }
}

fn paint(ink: Ink) -> Paint<'static> {
    let [r, g, b] = colour::rgb(ink, Theme::Light);
    let mut paint = Paint::default();
    paint.set_color_rgba8(r, g, b, 255);
    paint.anti_alias = true;
    paint
}

/// Coordinates of a scene are small.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a scene is a few thousand pixels large"
)]
fn single(value: f64) -> f32 {
    value as f32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a scene is a few thousand pixels large"
)]
fn pixels(length: f64) -> u32 {
    length.round().max(1.0) as u32
}

struct Outline(PathBuilder);

impl Pen for Outline {
    fn move_to(&mut self, x: f64, y: f64) {
        self.0.move_to(single(x), single(y));
    }
    fn line_to(&mut self, x: f64, y: f64) {
        self.0.line_to(single(x), single(y));
    }
    fn quad_to(&mut self, cx: f64, cy: f64, x: f64, y: f64) {
        self.0.quad_to(single(cx), single(cy), single(x), single(y));
    }
    fn cubic_to(&mut self, c: [f64; 4], x: f64, y: f64) {
        let [ax, ay, bx, by] = c.map(single);
        self.0.cubic_to(ax, ay, bx, by, single(x), single(y));
    }
    fn close(&mut self) {
        self.0.close();
    }
}
