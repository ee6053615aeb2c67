//! `distrofs profile record`: what is read while something starts.
//!
//! A command runs under `distrofs run` in a process of its own, which records into an
//! unnamed file of this one: it ends up in namespaces in which the place of the profile
//! may not be seen.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Seek, Write, stdout};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

use super::show::Shown;
use super::{archive_of, is_mount, named, served};
use crate::budget::MemoryBudget;
use crate::cli::args::{Indexing, ProfileRecord};
use crate::cli::lab::collect::{Asking, Collector, Feed};
use crate::cli::lab::record::create;
use crate::cli::opening::{self, Opened, say_made};
use crate::cli::{Failure, text};
use crate::profile::{Place, Profile, Touched};
use crate::source::BlockSource;
use crate::store::{Image, keep_profile, profile_places};
use crate::sys::file::unnamed_file;
use crate::sys::signal::{Signals, unblock_in};
use crate::trace::Trace;
use crate::types::Digest;

/// This very program, even if its file was replaced.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// For the tables.
const BUDGET_BYTES: u64 = 16 << 20;

/// The largest trace: 10⁶ reads and more.
const TRACE_BYTES_MAX: u64 = 64 << 20;

/// How often it is looked whether the command ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long a command may take to end when it is asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(2);

pub(super) fn run(job: &ProfileRecord) -> Result<(), Failure> {
    if let Some(image) = &job.of.served {
        return served::record(image, job);
    }
    let image = named(job.image.as_deref())?;
    let archive = archive_of(image)?;
    let mounted = is_mount(image);
    match (mounted, job.command.is_empty()) {
        (true, false) => {
            return Err(
                "a command takes an archive: of a mount it is recorded what others read".into(),
            );
        }
        (false, true) => {
            return Err("give a command behind `--`, or where the archive is mounted".into());
        }
        _ => {}
    }
    let indexing = Indexing {
        index: job.index.clone(),
        ..Indexing::default()
    };
    let opened = opening::open(&archive, &indexing, false, &Arc::default())?;
    say_made(&opened.index);
    let trace = unnamed_file(&std::env::temp_dir())?;
    match mounted {
        true => of_mount(job, image, &path_of(&trace))?,
        false => of_command(job, image, &trace)?,
    }
    keep(job, &opened, trace)
}

/// A name for an open file that this process and its children can open.
fn path_of(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

/// Records what is read of a mount, until the time is over or a signal comes.
fn of_mount(job: &ProfileRecord, mount: &Path, trace: &Path) -> Result<(), Failure> {
    let mount = Asking::new(mount)?;
    let signals = Signals::block()?;
    let feeds = vec![Feed::Mounted(mount)];
    let mut collector = Collector::begin(feeds, || create(trace), TRACE_BYTES_MAX, "")?;
    let (ended, _watcher) = watched(signals)?;
    if job.limit.is_none() {
        eprintln!("distrofs: recording until Ctrl-C");
    }
    collector.until(&ended, job.limit, |_, _| {})?;
    let totals = collector.finish()?;
    told_of_lost(totals.left_out);
    Ok(())
}

/// Something that is set by the first signal, for as long as the other lives.
fn watched(signals: Signals) -> Result<(Arc<AtomicBool>, impl Drop), Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let watcher = signals.watch(move |_| told.store(true, Ordering::Relaxed))?;
    Ok((ended, watcher))
}

fn told_of_lost(left_out: u64) {
    if left_out > 0 {
        eprintln!(
            "distrofs: {} reads were too many to be noted: the profile lacks them",
            text::count(left_out)
        );
    }
}

/// Runs the command in a container, until it ends, the time is over or a signal comes.
fn of_command(job: &ProfileRecord, archive: &Path, trace: &File) -> Result<(), Failure> {
    // The child is to have it.
    fcntl_setfd(trace.as_fd(), FdFlags::empty())?;
    let signals = Signals::block()?;
    let mut command = Command::new(THIS_PROGRAM);
    command.arg("run").arg("--no-profile");
    command
        .arg("--trace")
        .arg(path_of(trace))
        .arg("--trace-quiet");
    if let Some(limit) = job.limit {
        command
            .arg("--trace-for")
            .arg(format!("{}ms", limit.as_millis()));
    }
    if let Some(index) = &job.index {
        command.arg("--index").arg(index);
    }
    for (option, value) in job.container.typed() {
        command.arg(option).arg(value);
    }
    command.arg(archive).arg("--").args(&job.command);
    unblock_in(&mut command);
    let child = command
        .spawn()
        .map_err(|cause| format!("cannot start the process that runs the command: {cause}"))?;
    let (ended, _watcher) = watched(signals)?;
    let (status, was_ended) = attend(child, job.limit, &ended)?;
    match status.code() {
        Some(0) => {}
        _ if was_ended => {}
        // What `run` itself could not do: it said why.
        Some(code) if code == i32::from(crate::sys::contain::FAILED) => {
            return Err("nothing was recorded".into());
        }
        _ => eprintln!("distrofs: the command ended with {status}: what it read is recorded"),
    }
    Ok(())
}

/// Waits until it ends, or ends it; its status, and whether it was ended.
fn attend(
    mut child: Child,
    limit: Option<Duration>,
    ended: &AtomicBool,
) -> Result<(ExitStatus, bool), Failure> {
    let start = Instant::now();
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, asked.is_some()));
        }
        let is_over = limit.is_some_and(|limit| start.elapsed() >= limit);
        match asked {
            None if is_over || ended.load(Ordering::Relaxed) => {
                let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // It may just have ended.
                    let _gone = kill_process(pid, Signal::TERM).is_err();
                }
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= GRACE => child.kill()?,
            _ => {}
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Makes a profile of a trace, and keeps it.
fn keep(job: &ProfileRecord, opened: &Opened, mut trace: File) -> Result<(), Failure> {
    trace.rewind()?;
    let trace = Trace::from_reader(BufReader::new(trace), true)?;
    told_of_lost(trace.totals().left_out);
    let budget = MemoryBudget::new(BUDGET_BYTES);
    let image = Image::open(&opened.archive, &opened.index, &budget, &Arc::default())?;
    let digest = opened.index.digest();
    let is_this = |recorded: &crate::trace::TracedImage| Digest::new(recorded.digest) == digest;
    if !trace.images().iter().all(is_this) {
        return Err("the archive was replaced since it was mounted: mount it again".into());
    }
    let source = image.source;
    let place = |at| {
        let block = source.block_at(at).ok()?;
        Some(Place {
            span: block.span,
            block: block.no,
            end: block.end(),
        })
    };
    let mut touched = Touched::default();
    for read in trace.records() {
        touched.note(&read, &place);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    let command = (!job.command.is_empty()).then(|| typed(&job.command));
    let spans = source.span_count();
    let profile = Profile::new(digest, spans, now, command.as_deref(), &touched)
        .ok_or("nothing was read: a mount is asked only for what the kernel does not hold")?;
    let places = profile_places(&opened.archive, &opened.index.place);
    let mode = opened.archive.metadata().mode();
    let kept = keep_profile(&places, &profile, mode)?;
    let shown = Shown::new(kept, &profile, Some((digest, spans, source.len())));
    if job.json {
        writeln!(stdout(), "{}", serde_json::to_string(&shown)?)?;
    } else {
        shown.tell();
    }
    Ok(())
}

fn typed(command: &[OsString]) -> String {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
