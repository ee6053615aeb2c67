//! What every command on an archive begins with: open it, find or make its
//! index, say what was done.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::Indexing;
use super::progress::Bar;
use super::{Failure, text};
use crate::metrics::Metrics;
use crate::store::{Archive, IngestOptions, OpenedIndex, Reason};

/// An archive with its index, and how long that took.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) archive: Archive,
    pub(super) index: OpenedIndex,
    pub(super) took: Duration,
}

/// Opens `path`, indexing it if needed, with progress on a terminal.
pub(super) fn open(
    path: &Path,
    indexing: &Indexing,
    force: bool,
    metrics: &Arc<Metrics>,
) -> Result<Opened, Failure> {
    let start = Instant::now();
    let archive = Archive::open(path)?;
    let name = path.file_name().unwrap_or(path.as_os_str());
    let label = format!("indexing {}", text::printable(name.as_encoded_bytes()));
    let bar = std::sync::OnceLock::new();
    let total = archive.metadata().len();
    let index = archive.index(
        indexing.index.as_deref(),
        IngestOptions {
            span_bytes: indexing.span.0,
            ignore_zeros: indexing.ignore_zeros,
        },
        force,
        metrics,
        &|at| bar.get_or_init(|| Bar::new(&label, total)).at(at),
    )?;
    drop(bar);
    Ok(Opened {
        archive,
        index,
        took: start.elapsed(),
    })
}

/// Says on standard error what is worth knowing after an index was made
/// unasked: why, if not for the first time, and what is odd in the archive.
pub(super) fn say_made(index: &OpenedIndex) {
    let Some((reason, report)) = &index.made else {
        return;
    };
    if !matches!(reason, Reason::Missing | Reason::Forced) {
        eprintln!("distrofs: indexed again: {reason}");
    }
    for line in report.notes() {
        eprintln!("distrofs: {line}");
    }
}
