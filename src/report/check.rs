//! Bounds on a report that somebody else wrote.

use super::error::ReportError;
use super::model::{Chart, Document, Item, Marks, Table};

/// More sections nobody reads.
const SECTIONS_MAX: usize = 256;
/// Facts, or tables and charts in a section, or paragraphs.
const ITEMS_MAX: usize = 256;
/// Columns of a table.
const COLUMNS_MAX: usize = 256;
/// Cells of a table, points of a line, values of a heat map.
const VALUES_MAX: usize = 4_000_000;
/// More lines or bars in a group nobody tells apart.
const SERIES_MAX: usize = 64;
/// More groups of bars than pixels.
const GROUPS_MAX: usize = 512;

/// That a report is within its bounds and its lengths agree.
pub(super) fn document(document: &Document) -> Result<(), ReportError> {
    at_most("about", document.about.len(), ITEMS_MAX)?;
    at_most("sections", document.sections.len(), SECTIONS_MAX)?;
    for (i, section) in document.sections.iter().enumerate() {
        let place = format!("sections[{i}]");
        at_most(&format!("{place}.text"), section.text.len(), ITEMS_MAX)?;
        at_most(&format!("{place}.items"), section.items.len(), ITEMS_MAX)?;
        for (j, item) in section.items.iter().enumerate() {
            match item {
                Item::Table(t) => table(&format!("{place}.items[{j}].table"), t)?,
                Item::Chart(c) => chart(&format!("{place}.items[{j}].chart"), c)?,
            }
        }
    }
    Ok(())
}

fn table(place: &str, table: &Table) -> Result<(), ReportError> {
    let columns = table.columns.len();
    at_most(&format!("{place}.columns"), columns, COLUMNS_MAX)?;
    let rows_max = VALUES_MAX / columns.max(1);
    at_most(&format!("{place}.rows"), table.rows.len(), rows_max)?;
    for (i, row) in table.rows.iter().enumerate() {
        equal(|| format!("{place}.rows[{i}]"), row.len(), columns)?;
    }
    Ok(())
}

fn chart(place: &str, chart: &Chart) -> Result<(), ReportError> {
    match &chart.marks {
        Marks::Lines(lines) => {
            let place = format!("{place}.marks.lines.series");
            at_most(&place, lines.series.len(), SERIES_MAX)?;
            for (i, series) in lines.series.iter().enumerate() {
                let place = format!("{place}[{i}].points");
                at_most(&place, series.points.len(), VALUES_MAX)?;
            }
        }
        Marks::Bars(bars) => {
            let place = format!("{place}.marks.bars");
            at_most(&format!("{place}.groups"), bars.groups.len(), GROUPS_MAX)?;
            at_most(&format!("{place}.series"), bars.series.len(), SERIES_MAX)?;
            for (i, (_, values)) in bars.series.iter().enumerate() {
                let place = || format!("{place}.series[{i}]");
                equal(place, values.len(), bars.groups.len())?;
            }
        }
        Marks::Heat(heat) => {
            let place = format!("{place}.marks.heat.values");
            at_most(&place, heat.values.len(), VALUES_MAX)?;
            let expected = heat.columns.saturating_mul(heat.rows);
            equal(|| place, heat.values.len(), expected)?;
        }
    }
    Ok(())
}

fn at_most(place: &str, found: usize, most: usize) -> Result<(), ReportError> {
    if found <= most {
        return Ok(());
    }
    Err(ReportError::TooMany {
        place: place.to_owned(),
        found,
        most,
    })
}

fn equal(place: impl FnOnce() -> String, found: usize, expected: usize) -> Result<(), ReportError> {
    if found == expected {
        return Ok(());
    }
    Err(ReportError::Length {
        place: place(),
        found,
        expected,
    })
}
