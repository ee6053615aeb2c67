//! `distrofs inspect`: whether containers can start from an image, and what in
//! it its owner should know. The work is done in [`crate::inspect`]; here it is
//! put together and printed.
//!
//! Guarantees: what may be long (paths, packages) goes from the index to the
//! output one by one, so that memory does not grow with the image.

mod json;
mod people;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::opening::{self, Opened, say_made};
use super::{Failure, Verdict, args, served};
use crate::budget::MemoryBudget;
use crate::index::EntryName;
use crate::inspect::packages::{Database, databases};
use crate::inspect::report::root_of;
use crate::inspect::{Row, State, Subject, Survey, requirements};
use crate::metrics::Metrics;
use crate::source::{BlockSource, DirectReader, Kind};
use crate::store::Image;
use crate::types::Timestamp;

const BUDGET_BYTES: u64 = 64 << 20;

/// Paths, and owners, that are named without `--all`.
const NAMED_MAX: usize = 20;

const SECONDS_A_DAY: i64 = 86_400;

/// Everything that was found out before printing.
struct Report<'a> {
    job: &'a args::Inspect,
    opened: &'a Opened,
    kind: Kind,
    subject: &'a Subject,
    rows: Vec<Row>,
    survey: Survey,
    databases: Vec<Database>,
    /// Where a package database may be copied to.
    scratch: Vec<PathBuf>,
    now: jiff::Timestamp,
}

pub(super) fn run(job: &args::Inspect) -> Result<Verdict, Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, false, &metrics)?;
    say_made(&opened.index);
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let Image { index, source } = Image::open(&opened.archive, &opened.index, &budget, &metrics)?;
    let (kind, root) = (source.kind(), served::root(job.root.as_deref(), &index)?);
    let blocks: Arc<dyn BlockSource> = source;
    let content = Arc::new(DirectReader::new(blocks));
    let subject = Subject::new(index, content, root, metrics)?;
    let report = Report {
        rows: requirements(&subject, job.uid)?,
        survey: Survey::of(&subject)?,
        databases: databases(&subject)?,
        scratch: scratch(&opened.index.place),
        now: jiff::Timestamp::now(),
        job,
        opened: &opened,
        kind,
        subject: &subject,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    if job.json {
        json::write(&report, &mut out)?;
    } else {
        people::write(&report, &mut out)?;
    }
    out.flush()?;
    if !subject.index().intact() {
        return Err("the index changed while it was read: inspect again".into());
    }
    Ok(match report.count(State::Missing) {
        0 => Verdict::Good,
        _ => Verdict::Bad,
    })
}

impl Report<'_> {
    /// Rows in this state.
    fn count(&self, state: State) -> usize {
        self.rows.iter().filter(|row| row.state == state).count()
    }

    /// How many paths or owners to name.
    fn named_max(&self) -> usize {
        if self.job.all { usize::MAX } else { NAMED_MAX }
    }

    /// The archive's SHA-256, as its index has it.
    fn sha256(&self) -> String {
        let digest = self.opened.index.sidecar.identity().sha256;
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Whole days since `time`; negative in the future.
    fn days_since(&self, time: Timestamp) -> i64 {
        let seconds = self.now.as_second().saturating_sub(time.secs);
        seconds.div_euclid(SECONDS_A_DAY)
    }

    /// The path in the archive of what is the root.
    fn root(&self) -> String {
        match &self.job.root {
            Some(path) => EntryName::new(path.as_encoded_bytes()).to_string(),
            None => root_of(self.subject),
        }
    }
}

/// Beside the index, which is on a disk with room, or else where the system
/// keeps temporary files.
fn scratch(place: &Path) -> Vec<PathBuf> {
    let beside = place.parent().map(Path::to_owned);
    beside.into_iter().chain([std::env::temp_dir()]).collect()
}
