//! `distrofs verify`: every checksum of an archive and its index.
//!
//! Guarantees: changes nothing, except that it makes an index where there is
//! none, as every command does. An index that is damaged or of another archive
//! is told, not made again.

mod damage;
mod print;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Serialize;

use super::opening::{self, say_made};
use super::progress::Bar;
use super::{Failure, Verdict, args, text};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::source::{BlockSource, Kind};
use crate::store::{
    Archive, Image, OpenedIndex, Reason, StoreError, verify_archive, verify_blocks,
};

const BUDGET_BYTES: u64 = 16 << 20;

const INDEX_AGAIN: &str = "make the index again: distrofs index --force";
const ARCHIVE_AGAIN: &str = "compare the archive with the original and upload it again; if it was replaced on purpose: distrofs index";

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Damaged,
    /// It could not be made, because of what another check found, or has
    /// nothing to check.
    Skipped,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    advice: Option<&'static str>,
}

impl Check {
    fn ok(what: &'static str, found: String) -> Self {
        let (state, advice) = (State::Ok, None);
        Self {
            what,
            state,
            found,
            advice,
        }
    }

    fn damaged(what: &'static str, found: String, advice: &'static str) -> Self {
        Self {
            what,
            state: State::Damaged,
            found,
            advice: Some(advice),
        }
    }

    fn skipped(what: &'static str, found: &str) -> Self {
        Self {
            what,
            state: State::Skipped,
            found: found.to_owned(),
            advice: None,
        }
    }
}

/// What is printed, also as JSON: the field names are an interface.
#[derive(Debug, Serialize)]
struct Printed {
    archive: String,
    archive_bytes: u64,
    index: Option<String>,
    checks: Vec<Check>,
    damage: damage::Damage,
    seconds: f64,
}

pub(super) fn run(job: &args::Verify) -> Result<Verdict, Failure> {
    let start = Instant::now();
    let metrics = Arc::new(Metrics::default());
    let archive = Archive::open(&job.archive)?;
    let mut checks = Vec::new();
    let index = find(job, &archive, &metrics, &mut checks)?;
    let (damage, compressed) = match &index {
        Some(index) => of_index(&archive, index, &metrics, &mut checks)?,
        None => (damage::Damage::default(), true),
    };
    of_archive(&archive, index.as_ref(), compressed, &metrics, &mut checks)?;
    if !archive.unchanged() {
        return Err(StoreError::Changed {
            path: archive.path().to_owned(),
        }
        .into());
    }
    let printed = Printed {
        archive: archive.path().display().to_string(),
        archive_bytes: archive.metadata().len(),
        index: index.map(|index| index.place.display().to_string()),
        checks,
        damage,
        seconds: start.elapsed().as_secs_f64(),
    };
    print::print(&printed, job.json)?;
    let is_damaged = |check: &Check| check.state == State::Damaged;
    Ok(match printed.checks.iter().any(is_damaged) {
        true => Verdict::Bad,
        false => Verdict::Good,
    })
}

/// The index that is there; one is made only where there is none.
fn find(
    job: &args::Verify,
    archive: &Archive,
    metrics: &Arc<Metrics>,
    checks: &mut Vec<Check>,
) -> Result<Option<OpenedIndex>, Failure> {
    const WHAT: &str = "index file";
    match archive.existing_index(job.indexing.index.as_deref())? {
        Ok(found) => Ok(Some(found)),
        Err((_, Reason::Missing)) => {
            let opened = opening::open(&job.archive, &job.indexing, false, metrics)?;
            say_made(&opened.index);
            Ok(Some(opened.index))
        }
        Err((place, Reason::Stale)) => {
            let found = format!("{} is of another archive", place.display());
            checks.push(Check::damaged(WHAT, found, ARCHIVE_AGAIN));
            Ok(None)
        }
        Err((place, why)) => {
            let found = format!("{}: {why}", place.display());
            checks.push(Check::damaged(WHAT, found, INDEX_AGAIN));
            Ok(None)
        }
    }
}

/// The checks of an index and of what it says about the archive; whether that
/// is compressed.
fn of_index(
    archive: &Archive,
    index: &OpenedIndex,
    metrics: &Arc<Metrics>,
    checks: &mut Vec<Check>,
) -> Result<(damage::Damage, bool), Failure> {
    let size = text::bytes(index.sidecar.len());
    checks.push(match index.sidecar.verify() {
        Ok(()) => Check::ok("index file", format!("all sections of {size}")),
        Err(error) => Check::damaged("index file", error.to_string(), INDEX_AGAIN),
    });
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let Image {
        index: tables,
        source,
    } = match Image::open(archive, index, &budget, metrics) {
        Ok(image) => image,
        Err(error) => {
            checks.push(Check::damaged(
                "index tables",
                error.to_string(),
                INDEX_AGAIN,
            ));
            checks.push(Check::skipped("content", "without an index"));
            return Ok((damage::Damage::default(), true));
        }
    };
    let entries = text::count(tables.summary().entries);
    let sound = tables.verify(source.len());
    checks.push(match &sound {
        Ok(()) if !tables.intact() => Check::damaged(
            "index tables",
            "its file was changed while it was read".to_owned(),
            INDEX_AGAIN,
        ),
        Ok(()) => Check::ok("index tables", format!("all of {entries} entries")),
        Err(error) => Check::damaged("index tables", error.to_string(), INDEX_AGAIN),
    });
    let bar = Bar::new(&label("content of", archive.path()), source.len());
    let done = AtomicU64::new(0);
    let blocks = verify_blocks(archive, index, metrics, &|bytes| {
        bar.at(done.fetch_add(bytes, Ordering::Relaxed) + bytes);
    })?;
    drop(bar);
    let right = text::count(blocks.right_blocks);
    // Counted where they are restored, so that it is known that all were.
    let restored = match source.kind() {
        Kind::Plain => String::new(),
        Kind::Gzip => {
            let count = metrics.counters.checkpoint_restores.get();
            format!(" from {} checkpoints", text::count(count))
        }
    };
    checks.push(match blocks.damaged_ranges {
        0 => Check::ok("content", format!("{right} blocks{restored}")),
        n => Check::damaged(
            "content",
            format!(
                "{} places, {} bytes that cannot be served",
                text::count(n),
                text::count(blocks.damaged_bytes)
            ),
            "if the archive is as it was, make the index again: distrofs index --force; else upload it again",
        ),
    });
    let tables = sound.is_ok().then_some(&tables);
    let damage = damage::Damage::of(&blocks, tables)?;
    Ok((damage, source.kind() == Kind::Gzip))
}

/// The checks that read the archive as it is.
fn of_archive(
    archive: &Archive,
    index: Option<&OpenedIndex>,
    compressed: bool,
    metrics: &Arc<Metrics>,
    checks: &mut Vec<Check>,
) -> Result<(), Failure> {
    let bar = Bar::new(&label("archive", archive.path()), archive.metadata().len());
    let report = verify_archive(archive, compressed, metrics, &|at| bar.at(at))?;
    drop(bar);
    checks.push(match report.members {
        None => Check::skipped("gzip members", "the archive is not compressed"),
        Some(Ok(scan)) if scan.kind == Kind::Plain => {
            Check::skipped("gzip members", "the archive is not compressed")
        }
        Some(Ok(scan)) => {
            let garbage = scan.garbage_at.map_or(String::new(), |at| {
                format!("; what follows from offset {at} on is no gzip data and is ignored")
            });
            let members = text::count(scan.members);
            Check::ok(
                "gzip members",
                format!("{members}, CRC-32 and length{garbage}"),
            )
        }
        Some(Err(error)) => Check::damaged("gzip members", error.to_string(), ARCHIVE_AGAIN),
    });
    let sha256 = match report.sha256 {
        Ok(sha256) => sha256,
        Err(error) => {
            checks.push(Check::damaged("SHA-256", error.to_string(), ARCHIVE_AGAIN));
            return Ok(());
        }
    };
    let hex =
        |digest: &[u8; 32]| -> String { digest.iter().map(|byte| format!("{byte:02x}")).collect() };
    let Some(index) = index else {
        let found = format!("{}, which no index can confirm", hex(&sha256));
        checks.push(Check::skipped("SHA-256", &found));
        return Ok(());
    };
    let indexed = index.sidecar.identity().sha256;
    checks.push(if sha256 == indexed {
        Check::ok("SHA-256", hex(&sha256))
    } else {
        let found = format!(
            "{}, but {} when it was indexed",
            hex(&sha256),
            hex(&indexed)
        );
        Check::damaged("SHA-256", found, ARCHIVE_AGAIN)
    });
    Ok(())
}

fn label(what: &str, archive: &Path) -> String {
    let name = archive.file_name().unwrap_or(archive.as_os_str());
    let name = text::printable(name.as_encoded_bytes());
    format!("verifying {what} {name}")
}
