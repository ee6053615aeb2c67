//! `distrofs lab plot`: documents that scripts wrote, drawn.

use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

use super::output;
use crate::cli::Failure;
use crate::cli::args::LabPlot;
use crate::report::{Chart, Document, Theme, from_json, html, png, svg};
use crate::text::printable;

/// The largest document that is read.
const BYTES_MAX: u64 = 64 << 20;

pub(super) fn run(job: &LabPlot) -> Result<(), Failure> {
    let document = read(&job.file)?;
    let extension = job.out.extension().and_then(|end| end.to_str());
    let bytes = match extension {
        Some("html") => html::document(&document).into_bytes(),
        Some("svg") => svg::chart(chart(job, &document)?, Theme::Light).into_bytes(),
        Some("png") => png::chart(chart(job, &document)?, output::PNG_SCALE),
        _ => return Err("name a file that ends in .svg, .png or .html with -o".into()),
    };
    output::write(&job.out, &bytes)
}

fn read(path: &Path) -> Result<Document, Failure> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let from: Box<dyn Read> = match path.as_os_str() == "-" {
        true => Box::new(stdin().lock()),
        false => Box::new(File::open(path).map_err(|error| named(&error))?),
    };
    let mut text = String::new();
    let read = from.take(BYTES_MAX + 1).read_to_string(&mut text);
    if read.map_err(|error| named(&error))? as u64 > BYTES_MAX {
        return Err(named(&"is longer than 64 MiB").into());
    }
    from_json(&text).map_err(|error| shown(&named(&error)).into())
}

fn chart<'a>(job: &LabPlot, document: &'a Document) -> Result<&'a Chart, Failure> {
    let wanted = job.chart.as_deref();
    let found = output::charts(document).find(|chart| wanted.is_none_or(|name| chart.name == name));
    found.ok_or_else(|| {
        let names: Vec<_> = output::charts(document).map(|chart| &*chart.name).collect();
        shown(&format!("no such chart; there are: {}", names.join(", "))).into()
    })
}

/// What is said of a document may repeat what is in it.
fn shown(error: &str) -> String {
    printable(error.as_bytes()).into_owned()
}
