//! A grid of colours, and a bar that says what they mean.

use super::super::colour;
use super::super::font;
use super::super::model::{Axis, Chart, Heat};
use super::super::scale::Range;
use super::super::scene::{Anchor, Ink, Shape, WIDTH};
use super::{BOTTOM, Draft, MARGIN, Plot, TEXT_SIZE, TOP, axes, widest};

/// More cells than these would be less than a pixel; the greatest of them is shown.
const COLUMNS_MAX: usize = 1200;
const ROWS_MAX: usize = 700;
/// How wide the bar of colours is, and how many colours it shows.
const BAR: f64 = 14.0;
const BAR_CELLS: usize = 128;
/// Between the plot and the bar.
const GAP: f64 = 24.0;

pub(super) fn draw(draft: &mut Draft, chart: &Chart, heat: &Heat) -> Option<()> {
    let cells = Grid::of(heat)?;
    let colours = Range::of(&heat.legend, cells.values.iter().copied(), false)?;
    let ends = |axis: &Axis, (from, to): (f64, f64)| {
        Range::of(
            &Axis {
                from: None,
                to: None,
                ..axis.clone()
            },
            [from, to].into_iter(),
            false,
        )
    };
    let (x, y) = (ends(&chart.x, heat.x)?, ends(&chart.y, heat.y)?);

    let ticks = axes::upright(&y, chart.y.unit, draft.height - TOP - BOTTOM);
    let meaning = axes::upright(&colours, heat.legend.unit, draft.height - TOP - BOTTOM);
    let bar_room = GAP + BAR + 8.0 + widest(meaning.iter().map(|t| &*t.label)) + MARGIN;
    let plot = Plot {
        left: (widest(ticks.iter().map(|t| &*t.label)) + MARGIN + 8.0).max(44.0),
        top: TOP,
        right: WIDTH - bar_room.max(70.0),
        bottom: draft.height - BOTTOM,
    };
    draft.shapes.push(Shape::Raster {
        at: [plot.left, plot.top, plot.width(), plot.height()],
        columns: cells.columns,
        rows: cells.rows,
        cells: cells.colours(&colours),
    });
    upright_ticks(draft, &plot, &ticks);
    let across = axes::lying(&x, chart.x.unit, plot.width());
    axes::draw_lying(draft, &plot, &across, false);
    axes::floor(draft, &plot);
    let short = Axis {
        title: font::fitted(&chart.y.title, TEXT_SIZE, false, plot.width() / 2.0),
        ..Axis::default()
    };
    axes::titles(draft, &plot, &chart.x, &short);
    bar(draft, &plot, heat, &meaning);
    Some(())
}

/// Ticks without lines across, which would hide cells.
fn upright_ticks(draft: &mut Draft, plot: &Plot, ticks: &[super::super::scale::Tick]) {
    for tick in ticks {
        let y = plot.y(tick.at);
        draft.line((plot.left - 5.0, y), (plot.left, y), Ink::Axis);
        let place = (plot.left - 8.0, y + TEXT_SIZE * 0.35);
        draft.text(&tick.label, place, Ink::Muted, Anchor::End);
    }
}

fn bar(draft: &mut Draft, plot: &Plot, heat: &Heat, ticks: &[super::super::scale::Tick]) {
    let left = plot.right + GAP;
    let colour = |i: usize| Some(colour::heat(1.0 - i as f64 / (BAR_CELLS - 1) as f64));
    draft.shapes.push(Shape::Raster {
        at: [left, plot.top, BAR, plot.height()],
        columns: 1,
        rows: BAR_CELLS,
        cells: (0..BAR_CELLS).map(colour).collect(),
    });
    for tick in ticks {
        let y = plot.y(tick.at);
        draft.line((left + BAR, y), (left + BAR + 4.0, y), Ink::Axis);
        let place = (left + BAR + 8.0, y + TEXT_SIZE * 0.35);
        draft.text(&tick.label, place, Ink::Muted, Anchor::Start);
    }
    let title = font::fitted(
        &heat.legend.title,
        TEXT_SIZE,
        false,
        plot.width() / 2.0 - 20.0,
    );
    draft.text(&title, (WIDTH - MARGIN, TOP - 16.0), Ink::Text, Anchor::End);
}

/// Values that are each worth a pixel, from the lowest row.
struct Grid {
    columns: usize,
    rows: usize,
    values: Vec<f64>,
}

impl Grid {
    fn of(heat: &Heat) -> Option<Self> {
        let cells = heat.columns.checked_mul(heat.rows)?;
        if cells == 0 || heat.values.len() != cells {
            return None;
        }
        let (columns, rows) = (heat.columns.min(COLUMNS_MAX), heat.rows.min(ROWS_MAX));
        let mut values = vec![f64::NAN; columns * rows];
        for (row, line) in heat.values.chunks(heat.columns).enumerate() {
            // A product of a stored place and a small constant.
            let row = row * rows / heat.rows;
            for (column, value) in line.iter().enumerate() {
                let cell = &mut values[row * columns + column * columns / heat.columns];
                if value.is_finite() {
                    *cell = cell.max(*value);
                }
            }
        }
        Some(Self {
            columns,
            rows,
            values,
        })
    }

    fn colours(&self, range: &Range) -> Vec<Option<[u8; 3]>> {
        let colour = |value: &f64| range.at(*value).map(colour::heat);
        let lines = self.values.chunks(self.columns).rev();
        lines.flat_map(|line| line.iter().map(colour)).collect()
    }
}
