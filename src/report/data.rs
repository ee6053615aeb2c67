//! The numbers of a chart as a table: for those who cannot see it, and for CSV.

use super::model::{Align, Axis, Bars, Cell, Chart, Column, Heat, Lines, Marks, Table, Unit};

/// The numbers of a chart, at most so many rows of them, and how many rows were
/// left out.
pub fn chart_table(chart: &Chart, rows_max: usize) -> (Table, usize) {
    let (columns, count) = match &chart.marks {
        Marks::Lines(lines) => {
            let columns = vec![text("series"), number(&chart.x), number(&chart.y)];
            (columns, lines.series.iter().map(|s| s.points.len()).sum())
        }
        Marks::Bars(bars) => {
            let mut columns = vec![text(or(&chart.x.title, "group"))];
            columns.extend(bars.series.iter().map(|(name, _)| Column {
                title: name.clone(),
                unit: chart.y.unit,
                align: Align::Right,
            }));
            (columns, bars.groups.len())
        }
        Marks::Heat(heat) => {
            let columns = vec![number(&chart.x), number(&chart.y), number(&heat.legend)];
            (
                columns,
                heat.values.iter().filter(|v| v.is_finite()).count(),
            )
        }
    };
    let rows: Vec<Vec<Cell>> = match &chart.marks {
        Marks::Lines(lines) => of_lines(lines, chart).take(rows_max).collect(),
        Marks::Bars(bars) => of_bars(bars, chart).take(rows_max).collect(),
        Marks::Heat(heat) => of_heat(heat, chart).take(rows_max).collect(),
    };
    let left_out = count - rows.len().min(count);
    let table = Table {
        name: chart.name.clone(),
        columns,
        rows,
    };
    (table, left_out)
}

fn of_lines<'a>(lines: &'a Lines, chart: &'a Chart) -> impl Iterator<Item = Vec<Cell>> + 'a {
    lines.series.iter().flat_map(move |series| {
        series.points.iter().map(move |&(x, y)| {
            vec![
                Cell::Text(series.name.clone()),
                cell(x, chart.x.unit),
                cell(y, chart.y.unit),
            ]
        })
    })
}

fn of_bars<'a>(bars: &'a Bars, chart: &'a Chart) -> impl Iterator<Item = Vec<Cell>> + 'a {
    bars.groups.iter().enumerate().map(move |(i, group)| {
        let value = |(_, values): &(String, Vec<Option<f64>>)| match values.get(i) {
            Some(Some(value)) => cell(*value, chart.y.unit),
            _ => Cell::Missing,
        };
        let values = bars.series.iter().map(value);
        [Cell::Text(group.clone())]
            .into_iter()
            .chain(values)
            .collect()
    })
}

/// The middle of each cell, and its value.
fn of_heat<'a>(heat: &'a Heat, chart: &'a Chart) -> impl Iterator<Item = Vec<Cell>> + 'a {
    let middle = |(from, to): (f64, f64), i: usize, of: usize| {
        from + (to - from) * (i as f64 + 0.5) / of as f64
    };
    let columns = heat.columns.max(1);
    let cells = heat.values.iter().enumerate();
    cells.filter(|(_, v)| v.is_finite()).map(move |(i, v)| {
        vec![
            cell(middle(heat.x, i % columns, columns), chart.x.unit),
            cell(middle(heat.y, i / columns, heat.rows), chart.y.unit),
            cell(*v, heat.legend.unit),
        ]
    })
}

fn text(title: &str) -> Column {
    Column {
        title: title.to_owned(),
        ..Column::default()
    }
}

fn number(axis: &Axis) -> Column {
    Column {
        title: or(&axis.title, "value").to_owned(),
        unit: axis.unit,
        align: Align::Right,
    }
}

fn or<'a>(title: &'a str, other: &'a str) -> &'a str {
    if title.is_empty() { other } else { title }
}

fn cell(value: f64, unit: Unit) -> Cell {
    match unit {
        _ if !value.is_finite() => Cell::Missing,
        Unit::Bytes if (0.0..9e15).contains(&value) =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 0 and 9e15"
            )]
            Cell::Bytes(value.round() as u64)
        }
        Unit::Percent => Cell::Percent(value),
        Unit::Micros => Cell::Micros(value),
        Unit::None | Unit::Bytes | Unit::Seconds | Unit::Ratio => Cell::Real(value),
    }
}
