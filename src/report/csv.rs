//! Tables as CSV, for programs and spreadsheets.
//!
//! RFC 4180, in UTF-8. Numbers are raw: their unit stands in the title of their
//! column. A text that a spreadsheet would take for a formula begins with `'`, since
//! it may come from a customer; what a terminal would obey is escaped.

use std::fmt::Write as _;

use super::model::{Cell, Table};
use super::value;
use crate::text::is_hidden;

/// A table with a line of titles.
pub fn write(table: &Table) -> String {
    let mut text = String::new();
    let titles = table.columns.iter().map(|column| {
        let unit = value::unit_name(column.unit);
        let unit = unit.map_or(String::new(), |unit| format!(" ({unit})"));
        guarded(&format!("{}{unit}", column.title))
    });
    line(&mut text, titles);
    for row in &table.rows {
        let missing = table.columns.len().saturating_sub(row.len());
        let cells = row.iter().map(cell);
        line(&mut text, cells.chain((0..missing).map(|_| String::new())));
    }
    text
}

fn line(text: &mut String, fields: impl Iterator<Item = String>) {
    for (i, field) in fields.enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&field);
    }
    text.push_str("\r\n");
}

fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => guarded(text),
        Cell::Integer(n) | Cell::Bytes(n) => n.to_string(),
        Cell::Real(v) | Cell::Percent(v) | Cell::Micros(v) if v.is_finite() => v.to_string(),
        Cell::Real(_) | Cell::Percent(_) | Cell::Micros(_) | Cell::Missing => String::new(),
    }
}

/// Source of the signs: OWASP, "CSV Injection".
fn guarded(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '＝', '＋', '－', '＠']);
    let mut safe = String::with_capacity(text.len() + 1);
    if formula {
        safe.push('\'');
    }
    for c in text.chars() {
        // It may be shown by a terminal.
        if c != '\n' && is_hidden(c) {
            let _infallible = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    let text = safe;
    if text.contains(['"', ',', '\r', '\n', ';']) || text.trim() != text {
        return format!("\"{}\"", text.replace('"', "\"\""));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Column, Unit};

    #[test]
    fn fields_are_quoted_and_formulas_are_text() {
        let column = |title: &str, unit| Column {
            title: title.to_owned(),
            unit,
            ..Column::default()
        };
        let text = |text: &str| Cell::Text(text.to_owned());
        let table = Table {
            name: "t".to_owned(),
            columns: vec![column("name", Unit::None), column("size", Unit::Bytes)],
            rows: vec![
                vec![text("a,\"b\"\n"), Cell::Bytes(1 << 20)],
                vec![text("=1+1"), Cell::Real(-0.5)],
                vec![text("@SUM(A1)"), Cell::Micros(f64::NAN)],
                vec![text("-x, y")],
                vec![text("\u{1b}[31m\u{202e}a")],
            ],
        };
        let lines = "name,size (bytes)\r\n\"a,\"\"b\"\"\n\",1048576\r\n'=1+1,-0.5\r\n\
                     '@SUM(A1),\r\n\"'-x, y\",\r\n\\u{1b}[31m\\u{202e}a,\r\n";
        assert_eq!(write(&table), lines);
    }
}
