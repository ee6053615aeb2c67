//! Charts as SVG: text stays text, in the font of whoever looks at it.

use std::fmt::Write as _;

use base64::Engine as _;

use super::colour::{self, Theme};
use super::markup::escaped;
use super::model::{Chart, Marks};
use super::png;
use super::scene::{self, Anchor, Ink, Label, MARKER_RADIUS, MarkerKind, Scene, Shape, Stroke};

const FONTS: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif";
/// More names are not read aloud.
const NAMES_MAX: usize = 12;

/// A chart as a file of its own; for [`Theme::Page`], as a part of a page.
pub fn chart(chart: &Chart, theme: Theme) -> String {
    let scene = scene::of(chart);
    let mut svg = String::new();
    let (w, h) = (num(scene.width), num(scene.height));
    let _infallible = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" \
         height=\"{h}\" role=\"img\" aria-label=\"{title}\" font-family=\"{FONTS}\">\n\
         <title>{title}</title>\n<desc>{about}</desc>\n",
        title = escaped(&chart.title),
        about = escaped(&description(chart)),
    );
    draw(&mut svg, &scene, theme);
    svg.push_str("</svg>\n");
    svg
}

/// What a chart shows, in words.
fn description(chart: &Chart) -> String {
    let names = |all: Vec<&str>| {
        let more = all.len().saturating_sub(NAMES_MAX);
        let mut text = all[..all.len() - more].join(", ");
        if more > 0 {
            let _infallible = write!(text, " and {more} more");
        }
        text
    };
    let (x, y) = (&chart.x.title, &chart.y.title);
    match &chart.marks {
        Marks::Lines(lines) => {
            let all = lines.series.iter().map(|s| &*s.name).collect();
            format!("Lines of {y} over {x}: {}", names(all))
        }
        Marks::Bars(bars) => {
            let all = bars.series.iter().map(|(name, _)| &**name).collect();
            let groups = names(bars.groups.iter().map(|g| &**g).collect());
            format!("Bars of {y} for {groups}: {}", names(all))
        }
        Marks::Heat(heat) => format!("Colours of {} over {x} and {y}", heat.legend.title),
    }
}

fn draw(svg: &mut String, scene: &Scene, theme: Theme) {
    let ground = [0.0, 0.0, scene.width, scene.height];
    rect(svg, ground, &paint(Ink::Ground, theme));
    for shape in &scene.shapes {
        match shape {
            Shape::Line { points, stroke } => line(svg, points, *stroke, theme),
            Shape::Rect { at, ink } => rect(svg, *at, &paint(*ink, theme)),
            Shape::Text(label) => text(svg, label, theme),
            Shape::Marker { at, kind, ink } => marker(svg, *at, *kind, (*ink, theme)),
            Shape::Raster {
                at,
                columns,
                rows,
                cells,
            } => {
                let data = png::cells(*columns, *rows, cells);
                let data = base64::engine::general_purpose::STANDARD.encode(data);
                let [x, y, w, h] = at.map(num);
                let _infallible = writeln!(
                    svg,
                    "<image x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" \
                     preserveAspectRatio=\"none\" style=\"image-rendering:pixelated\" \
                     href=\"data:image/png;base64,{data}\"/>"
                );
            }
        }
    }
}

fn paint(ink: Ink, theme: Theme) -> String {
    match theme {
        Theme::Page => format!("var({})", colour::variable(ink)),
        Theme::Light | Theme::Dark => colour::hex(colour::rgb(ink, theme)),
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], stroke: Stroke, theme: Theme) {
    let mut d = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let sign = if i == 0 { 'M' } else { 'L' };
        let _infallible = write!(d, "{sign}{} {}", num(*x), num(*y));
    }
    let dash = match stroke.dash {
        [] => String::new(),
        lengths => {
            let lengths: Vec<String> = lengths.iter().map(|l| num(*l)).collect();
            format!(" stroke-dasharray=\"{}\"", lengths.join(" "))
        }
    };
    let _infallible = writeln!(
        svg,
        "<path d=\"{d}\" fill=\"none\" stroke=\"{}\" stroke-width=\"{}\" \
         stroke-linejoin=\"round\"{dash}/>",
        paint(stroke.ink, theme),
        num(stroke.width),
    );
}

fn rect(svg: &mut String, at: [f64; 4], fill: &str) {
    let [x, y, w, h] = at.map(num);
    let _infallible = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\" fill=\"{fill}\"/>"
    );
}

fn text(svg: &mut String, label: &Label, theme: Theme) {
    let anchor = match label.anchor {
        Anchor::Start => "",
        Anchor::Middle => " text-anchor=\"middle\"",
        Anchor::End => " text-anchor=\"end\"",
    };
    let bold = if label.bold {
        " font-weight=\"600\""
    } else {
        ""
    };
    let _infallible = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{anchor}{bold} fill=\"{}\">{}</text>",
        num(label.x),
        num(label.y),
        num(label.size),
        paint(label.ink, theme),
        escaped(&label.text),
    );
}

fn marker(svg: &mut String, at: (f64, f64), kind: MarkerKind, (ink, theme): (Ink, Theme)) {
    let (colour, ground) = (paint(ink, theme), paint(Ink::Ground, theme));
    let (fill, edge) = match kind {
        MarkerKind::Ring => (&ground, &colour),
        _ => (&colour, &ground),
    };
    let width = if kind == MarkerKind::Ring { 2 } else { 1 };
    let look = format!("fill=\"{fill}\" stroke=\"{edge}\" stroke-width=\"{width}\"");
    let _infallible = match scene::corners(kind, at) {
        Some(corners) => {
            let corners: Vec<String> = corners
                .iter()
                .map(|(x, y)| format!("{},{}", num(*x), num(*y)))
                .collect();
            writeln!(svg, "<polygon points=\"{}\" {look}/>", corners.join(" "))
        }
        None => writeln!(
            svg,
            "<circle cx=\"{}\" cy=\"{}\" r=\"{MARKER_RADIUS}\" {look}/>",
            num(at.0),
            num(at.1)
        ),
    };
}

/// A coordinate to a hundredth of a pixel.
fn num(value: f64) -> String {
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}
