//! Tables for people: columns as wide as what is in them.

use std::io::{self, Write};

/// On which side of its column a text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Texts.
    Left,
    /// Numbers.
    Right,
}

/// Rows of as many texts as there are columns. The last column may be wide: it
/// is not padded.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    /// Text that stands below the last column of the row before.
    Below(String),
}

impl Table {
    /// An empty table. Without titles there is no line of them.
    pub fn new<const N: usize>(columns: [(&'static str, Align); N]) -> Self {
        Self {
            columns: columns
                .map(|(title, align)| (title.to_owned(), align))
                .into(),
            rows: Vec::new(),
        }
    }

    /// A table whose columns and rows are only known when it is made; each row has
    /// a cell for each column.
    pub fn of(columns: Vec<(String, Align)>, rows: Vec<Vec<String>>) -> Self {
        Self {
            columns,
            rows: rows.into_iter().map(Row::Cells).collect(),
        }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.columns.len());
        self.rows.push(Row::Cells(cells.into()));
    }

    /// Adds text below the last column.
    pub fn below(&mut self, text: &str) {
        self.rows.push(Row::Below(text.to_owned()));
    }

    /// Writes it, each line behind `indent`.
    pub fn write(&self, out: &mut dyn Write, indent: &str) -> io::Result<()> {
        let titles: Vec<String> = self.columns.iter().map(|c| c.0.clone()).collect();
        let mut widths: Vec<usize> = titles.iter().map(|title| width(title)).collect();
        for row in &self.rows {
            if let Row::Cells(cells) = row {
                for (most, cell) in widths.iter_mut().zip(cells) {
                    *most = width(cell).max(*most);
                }
            }
        }
        if titles.iter().any(|title| !title.is_empty()) {
            self.line(out, indent, &widths, &titles)?;
        }
        let before_last = widths.len().saturating_sub(1);
        let margin: usize = widths[..before_last].iter().map(|width| width + 2).sum();
        for row in &self.rows {
            match row {
                Row::Cells(cells) => self.line(out, indent, &widths, cells)?,
                Row::Below(text) => writeln!(out, "{indent}{:margin$}{text}", "")?,
            }
        }
        Ok(())
    }

    fn line(
        &self,
        out: &mut dyn Write,
        indent: &str,
        widths: &[usize],
        cells: &[String],
    ) -> io::Result<()> {
        let mut line = indent.to_owned();
        for (i, ((cell, most), (_, align))) in
            cells.iter().zip(widths).zip(&self.columns).enumerate()
        {
            let pad = " ".repeat(most - width(cell).min(*most));
            if i > 0 {
                line.push_str("  ");
            }
            match align {
                Align::Left => line.extend([cell, &*pad]),
                Align::Right => line.extend([&*pad, cell]),
            }
        }
        writeln!(out, "{}", line.trim_end())
    }
}

fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_what_is_in_them() {
        let mut table = Table::new([
            ("name", Align::Left),
            ("n", Align::Right),
            ("", Align::Left),
        ]);
        table.row(["a".into(), "1,000".into(), "x".into()]);
        table.below("more");
        table.row(["längst".into(), "1".into(), String::new()]);
        let mut out = Vec::new();
        table.write(&mut out, " ").unwrap();
        let lines = [
            " name        n",
            " a       1,000  x",
            "                more",
            " längst      1",
            "",
        ];
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    }
}
