//! Where results go: tables on the terminal, JSON, CSV, charts in files, one page of
//! everything.

use std::fs;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use serde::Serialize;

use crate::cli::Failure;
use crate::cli::args::Shown;
use crate::report::{Chart, Document, Item, Section, Table, Theme, csv, html, png, svg, table};
use crate::text;
use crate::trace::Trace;
use crate::types::Timestamp;

/// Of the terminal, where that is not known.
const WIDTH: usize = 100;

/// Pixels of a PNG for each of an SVG.
pub(super) const PNG_SCALE: f64 = 2.0;

/// Shows what was found: `facts` for scripts, `document` for people.
pub(super) fn show(
    shown: &Shown,
    facts: &impl Serialize,
    document: &Document,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if shown.json {
        writeln!(out, "{}", serde_json::to_string(facts)?)?;
    } else if shown.csv {
        for (number, table) in tables(document).enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            out.write_all(csv::write(table).as_bytes())?;
        }
    } else {
        print(document, &mut out)?;
    }
    if let Some(path) = &shown.report {
        write(path, html::document(document).as_bytes())?;
    }
    if let Some(directory) = &shown.plots {
        fs::create_dir_all(directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        for chart in charts(document) {
            let path = directory.join(&chart.name);
            let svg = svg::chart(chart, Theme::Light);
            write(&path.with_extension("svg"), svg.as_bytes())?;
            write(&path.with_extension("png"), &png::chart(chart, PNG_SCALE))?;
        }
    }
    Ok(())
}

fn print(document: &Document, out: &mut dyn Write) -> io::Result<()> {
    let color = io::stdout().is_terminal();
    // Charts are for --report and --plots.
    let is_shown = |section: &&Section| {
        !section.text.is_empty() || section.items.iter().any(|item| as_table(item).is_some())
    };
    let sections = document.sections.iter().filter(is_shown);
    for (number, section) in sections.enumerate() {
        if number > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", section.heading)?;
        for paragraph in &section.text {
            writeln!(out, "{paragraph}")?;
        }
        for table in section.items.iter().filter_map(as_table) {
            write!(out, "{}", table::terminal(table, WIDTH, color))?;
        }
    }
    Ok(())
}

/// Writes a file whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let named = |error: io::Error| format!("{}: {error}", path.display());
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    fs::write(&name, bytes).map_err(named)?;
    fs::rename(&name, path).map_err(named)?;
    Ok(())
}

pub(super) fn charts(document: &Document) -> impl Iterator<Item = &Chart> {
    let items = document.sections.iter().flat_map(|section| &section.items);
    items.filter_map(|item| match item {
        Item::Chart(chart) => Some(chart),
        Item::Table(_) => None,
    })
}

fn tables(document: &Document) -> impl Iterator<Item = &Table> {
    let items = document.sections.iter().flat_map(|section| &section.items);
    items.filter_map(as_table)
}

fn as_table(item: &Item) -> Option<&Table> {
    match item {
        Item::Table(table) => Some(table),
        Item::Chart(_) => None,
    }
}

fn recorded_at(seconds: u64) -> String {
    let time = Timestamp {
        secs: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    };
    text::time(time) + " UTC"
}

/// A document about a trace.
pub(super) fn document(
    title: &str,
    path: &Path,
    trace: &Trace,
    sections: Vec<Section>,
) -> Document {
    let origin = trace.origin();
    let totals = trace.totals();
    let mut about = vec![
        ("trace".to_owned(), path.display().to_string()),
        ("records".to_owned(), totals.records.to_string()),
        ("made by".to_owned(), origin.program.clone()),
    ];
    let names = trace.images().iter().map(|image| image.name.as_str());
    about.push(("images".to_owned(), names.collect::<Vec<_>>().join(", ")));
    if let Some(command) = &origin.command {
        about.push(("recorded by".to_owned(), command.clone()));
    }
    if let Some(at) = origin.recorded_at {
        about.push(("recorded at".to_owned(), recorded_at(at)));
    }
    if totals.left_out > 0 {
        about.push((
            "left out".to_owned(),
            format!("{} records", totals.left_out),
        ));
    }
    if !trace.is_whole() {
        about.push(("whole".to_owned(), "no, it was cut off".to_owned()));
    }
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    about.push(("command".to_owned(), command));
    Document {
        title: title.to_owned(),
        about,
        sections,
    }
}
