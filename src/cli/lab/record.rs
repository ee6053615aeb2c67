//! `distrofs lab record`: which reads reach a mount's daemon.

use std::fs::File;
use std::io::{IsTerminal, stderr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;

use super::collect::{Asking, Collector, Feed};
use crate::cli::args::LabRecord;
use crate::cli::{Failure, text};
use crate::sys::signal::Signals;
use crate::trace::Totals;

/// Opens the file that a trace is written to.
pub(in crate::cli) fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// What is told in the end.
#[derive(Debug, Serialize)]
pub(in crate::cli) struct Recorded {
    records: u64,
    pub(in crate::cli) left_out: u64,
    seconds: f64,
    bytes: u64,
}

pub(super) fn run(job: &LabRecord) -> Result<(), Failure> {
    let feeds = job.mounts.iter().map(|path| {
        let mount = Asking::new(path);
        let mount = mount.map_err(|error| format!("{}: {error}", path.display()));
        mount.map(Feed::Mounted)
    });
    let feeds = feeds.collect::<Result<Vec<_>, _>>()?;
    let signals = Signals::block()?;
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let mut collector = Collector::begin(feeds, || create(&job.out), job.max.0, &command)?;
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let _watcher = signals.watch(move |_| told.store(true, Ordering::Relaxed))?;
    if job.limit.is_none() && !job.json {
        eprintln!("distrofs: recording until Ctrl-C");
    }
    let shows = stderr().is_terminal() && !job.json;
    let mut shown = Duration::ZERO;
    collector.until(&ended, job.limit, |records, since| {
        if shows && since >= shown + Duration::from_secs(1) {
            shown = since;
            let seconds = text::duration(since.as_secs_f64());
            eprint!("\r\x1b[K{} reads in {seconds}", text::count(records));
        }
    })?;
    if shows {
        eprint!("\r\x1b[K");
    }
    let told = collector.finish()?;
    tell(&job.out, &told, job.json)
}

impl Recorded {
    /// Of a trace that is whole.
    pub(in crate::cli) fn new(totals: Totals, file: &File) -> Result<Recorded, Failure> {
        Ok(Recorded {
            records: totals.records,
            left_out: totals.left_out,
            seconds: Duration::from_micros(totals.duration_us).as_secs_f64(),
            bytes: file.metadata()?.len(),
        })
    }
}

/// Says what was recorded.
pub(in crate::cli) fn tell(trace: &Path, told: &Recorded, json: bool) -> Result<(), Failure> {
    if json {
        println!("{}", serde_json::to_string(&told)?);
        return Ok(());
    }
    eprintln!(
        "distrofs: {} records of {} in {}, {}",
        text::count(told.records),
        text::duration(told.seconds),
        trace.display(),
        text::bytes(told.bytes),
    );
    if told.left_out > 0 {
        eprintln!(
            "distrofs: {} records were left out: the file (--max) or the memory for them was full",
            text::count(told.left_out)
        );
    }
    Ok(())
}
