//! `distrofs index`: makes the index of an archive, or says that it is there.

use std::sync::Arc;

use serde::Serialize;

use super::opening::{self, Opened};
use super::{Failure, args, text};
use crate::budget::MemoryBudget;
use crate::index::{Index, Summary};
use crate::metrics::Metrics;
use crate::source::{BlockSource, StreamSource};
use crate::store::Image;

/// What opening the tables may take; nothing is decoded here.
const BUDGET_BYTES: u64 = 64 << 20;

/// What is printed, also as JSON: the field names are an interface.
#[derive(Debug, Serialize)]
struct Printed<'a> {
    archive: String,
    /// `tar` or `gzip`.
    kind: &'static str,
    archive_bytes: u64,
    stream_bytes: u64,
    members: u64,
    spans: u32,
    entries: u64,
    files: u64,
    directories: u64,
    symlinks: u64,
    hard_links: u64,
    devices: u64,
    content_bytes: u64,
    index: String,
    index_bytes: u64,
    /// Whether it was made by this call.
    made: bool,
    /// Why it was made.
    reason: Option<String>,
    seconds: f64,
    notes: &'a [String],
}

pub(super) fn run(job: &args::Index) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, job.force, &metrics)?;
    let image = Image::open(
        &opened.archive,
        &opened.index,
        &MemoryBudget::new(BUDGET_BYTES),
        &metrics,
    )?;
    let notes = opened
        .index
        .made
        .as_ref()
        .map(|(_, report)| report.notes())
        .unwrap_or_default();
    let printed = printed(&opened, &image.index, &image.source, &notes);
    if job.json {
        println!("{}", serde_json::to_string(&printed)?);
    } else {
        print_text(&printed);
    }
    Ok(())
}

fn printed<'a>(
    opened: &Opened,
    index: &Index,
    stream: &StreamSource,
    notes: &'a [String],
) -> Printed<'a> {
    let Summary {
        entries,
        files,
        directories,
        symlinks,
        hard_links,
        devices,
        content_bytes,
        ..
    } = index.summary();
    let reason = opened
        .index
        .made
        .as_ref()
        .map(|(reason, _)| reason.to_string());
    Printed {
        archive: opened.archive.path().display().to_string(),
        kind: stream.kind().name(),
        archive_bytes: opened.archive.metadata().len(),
        stream_bytes: stream.len(),
        members: stream.members(),
        spans: stream.span_count(),
        entries,
        files,
        directories,
        symlinks,
        hard_links,
        devices,
        content_bytes,
        index: opened.index.place.display().to_string(),
        index_bytes: opened.index.sidecar.len(),
        made: reason.is_some(),
        reason,
        seconds: opened.took.as_secs_f64(),
        notes,
    }
}

fn print_text(p: &Printed<'_>) {
    println!(
        "{}: {}, {} entries, {} in {}, {} spans",
        p.archive,
        p.kind,
        text::count(p.entries),
        text::bytes(p.stream_bytes),
        text::bytes(p.archive_bytes),
        text::count(u64::from(p.spans)),
    );
    println!(
        "{} files, {} directories, {} symlinks, {} further hard links, {} device nodes{}",
        text::count(p.files),
        text::count(p.directories),
        text::count(p.symlinks),
        text::count(p.hard_links),
        text::count(p.devices),
        if p.devices > 0 {
            " (left out unless mounted with --devices)"
        } else {
            ""
        },
    );
    let percent = p.index_bytes as f64 * 100.0 / p.archive_bytes.max(1) as f64;
    let size = format!(
        "{} ({percent:.1} % of the archive)",
        text::bytes(p.index_bytes)
    );
    match &p.reason {
        Some(reason) => {
            println!("{}: made in {:.2} s, {size}: {reason}", p.index, p.seconds);
        }
        None => println!("{}: valid, kept, {size}", p.index),
    }
    for note in p.notes {
        println!("note: {note}");
    }
}
