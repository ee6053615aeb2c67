//! What `inspect --json` prints: one object. Its names are an interface,
//! documented in `docs/json.md`.

use std::io::{self, Write};

use serde::Serialize;

use super::Report;
use crate::cli::Failure;
use crate::inspect::report::{Found, Limits, Report as Json};

#[derive(Serialize)]
struct Printed<'a> {
    archive: String,
    kind: &'static str,
    archive_bytes: u64,
    sha256: String,
    index: String,
    root: String,
    #[serde(flatten)]
    found: Found<'a>,
}

pub(super) fn write(report: &Report<'_>, out: &mut dyn Write) -> Result<(), Failure> {
    let archive = &report.opened.archive;
    let limits = Limits {
        paths: report.named_max(),
        path_bytes: usize::MAX,
        packages: report.job.packages.then_some(usize::MAX),
        package_bytes: usize::MAX,
    };
    let found = (&*report.rows, &report.survey, &*report.databases);
    let now = report.now.as_second();
    let json = Json::new(report.subject, found, &report.scratch, now, limits);
    let printed = Printed {
        archive: archive.path().display().to_string(),
        kind: report.kind.name(),
        archive_bytes: archive.metadata().len(),
        sha256: report.sha256(),
        index: report.opened.index.place.display().to_string(),
        root: report.root(),
        found: json.found(),
    };
    serde_json::to_writer(&mut *out, &printed).map_err(io::Error::from)?;
    writeln!(out)?;
    Ok(())
}
