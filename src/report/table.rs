//! Tables for a terminal.

use crate::text::table as columns;

use super::model::{Align, Table};
use super::value;
use crate::text::is_hidden;

/// Narrower columns say nothing.
const COLUMN_MIN: usize = 8;
/// Between two columns.
const GAP: usize = 2;

/// A table at most `width` characters wide if its texts can be cut so far; in bold
/// titles with `color`. Control characters of names come out escaped.
pub fn terminal(table: &Table, width: usize, color: bool) -> String {
    let mut cells: Vec<Vec<String>> = Vec::with_capacity(table.rows.len() + 1);
    cells.push(table.columns.iter().map(|c| visible(&c.title)).collect());
    for row in &table.rows {
        let shown = row.iter().map(|cell| visible(&value::cell(cell)));
        let missing = std::iter::repeat_with(|| value::MISSING.to_owned());
        cells.push(shown.chain(missing).take(table.columns.len()).collect());
    }
    fit(&mut cells, table, width);
    let titles = cells.remove(0);
    let sides = table.columns.iter().map(|column| match column.align {
        Align::Left => columns::Align::Left,
        Align::Right => columns::Align::Right,
    });
    let drawn = columns::Table::of(titles.into_iter().zip(sides).collect(), cells);
    let mut out = Vec::new();
    // A vector takes all that is written.
    let _infallible = drawn.write(&mut out, "");
    let text = String::from_utf8_lossy(&out).into_owned();
    match text.split_once('\n') {
        Some((titles, rows)) if color => format!("\x1b[1m{titles}\x1b[0m\n{rows}"),
        _ => text,
    }
}

/// Cuts the widest columns of texts until a line fits.
fn fit(cells: &mut [Vec<String>], table: &Table, width: usize) {
    let count = table.columns.len();
    let mut widths = vec![0; count];
    for row in cells.iter() {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = cell.chars().count().max(*most);
        }
    }
    let texts: Vec<usize> = (0..count)
        .filter(|i| table.columns[*i].align == Align::Left)
        .collect();
    loop {
        let total = widths.iter().sum::<usize>() + GAP * count.saturating_sub(1);
        let widest = texts.iter().copied().max_by_key(|i| widths[*i]);
        let Some(widest) = widest.filter(|i| total > width && widths[*i] > COLUMN_MIN) else {
            break;
        };
        // As far as the next is wide, or as far as is needed.
        let others = texts.iter().filter(|i| **i != widest).map(|i| widths[*i]);
        let next = others.max().unwrap_or(0).min(widths[widest] - 1);
        let needed = widths[widest].saturating_sub(total - width);
        widths[widest] = next.max(needed).max(COLUMN_MIN);
    }
    for row in cells {
        for (most, cell) in widths.iter().zip(row) {
            if cell.chars().count() > *most {
                let kept: String = cell.chars().take(most.saturating_sub(1)).collect();
                *cell = format!("{kept}…");
            }
        }
    }
}

fn visible(text: &str) -> String {
    let shown = crate::text::printable(text.as_bytes());
    let mut safe = String::with_capacity(shown.len());
    for c in shown.chars() {
        if is_hidden(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Cell, Column};

    fn table(name: &str) -> Table {
        let column = |title: &str, align| Column {
            title: title.to_owned(),
            align,
            ..Column::default()
        };
        Table {
            name: "t".to_owned(),
            columns: vec![
                column("policy", Align::Left),
                column("misses", Align::Right),
            ],
            rows: vec![
                vec![Cell::Text(name.to_owned()), Cell::Integer(1234)],
                vec![Cell::Text("lru".to_owned())],
            ],
        }
    }

    #[test]
    fn columns_are_aligned_and_cut_to_the_width() {
        assert_eq!(
            terminal(&table("s3-fifo"), 80, false),
            "policy   misses\ns3-fifo   1,234\nlru           –\n"
        );
        let long = terminal(&table(&"long ".repeat(100)), 30, false);
        assert!(
            long.lines().all(|line| line.chars().count() <= 30),
            "{long}"
        );
        assert!(long.contains('…'));
        assert!(terminal(&table("a"), 80, true).starts_with("\x1b[1mpolicy"));
    }

    #[test]
    fn a_name_cannot_speak_to_the_terminal() {
        let shown = terminal(&table("\x1b[2J\n\u{202e}"), 80, false);
        assert!(shown.contains("\\u{1b}[2J\\n\\u{202e}"), "{shown}");
        assert_eq!(shown.lines().count(), 3);
    }
}
