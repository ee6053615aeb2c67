//! `distrofs stats`: what a mount counts, asked from its daemon through the
//! mount itself.

mod print;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::{Failure, args};
use crate::sys::signal::Signals;
use crate::sys::{ioctl, mountinfo};
use crate::wire::served::Report;
use print::Since;

/// To the upper left corner, and nothing below: what was there is drawn over.
const REDRAW: &str = "\x1b[H\x1b[J";

pub(super) fn run(job: &args::Stats) -> Result<(), Failure> {
    match job.watch {
        Some(interval) => watch(job, interval),
        None => {
            let (bytes, report) = ask(&job.mountpoint)?;
            let mut out = io::stdout().lock();
            if job.json {
                out.write_all(&bytes)?;
                writeln!(out)?;
            } else {
                print::print(&report, None, &mut out)?;
            }
            Ok(())
        }
    }
}

/// Prints again and again, until a signal comes or the mount goes.
fn watch(job: &args::Stats, interval: Duration) -> Result<(), Failure> {
    let mut out = io::stdout();
    let redraws = out.is_terminal() && !job.json;
    let (bytes, mut report) = ask(&job.mountpoint)?;
    let mut asked = Instant::now();
    show(job, &bytes, &report, None, &mut out)?;
    let (tell, told) = channel();
    let signals = Signals::block()?;
    let mut is_told = false;
    let _watcher = signals.watch(move |_| {
        // A daemon that hangs keeps the main thread waiting for its answer.
        if is_told || tell.send(()).is_err() {
            std::process::exit(0);
        }
        is_told = true;
    })?;
    while told.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        let before = std::mem::take(&mut report);
        let bytes;
        (bytes, report) = match ask(&job.mountpoint) {
            Ok(found) => found,
            Err(_) if is_gone(&job.mountpoint) => {
                eprintln!(
                    "distrofs: {} is not mounted any more",
                    job.mountpoint.display()
                );
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        let since = Since {
            report: &before,
            seconds: now.duration_since(asked).as_secs_f64(),
        };
        asked = now;
        if redraws {
            write!(out, "{REDRAW}")?;
        } else if !job.json {
            writeln!(out)?;
        }
        show(job, &bytes, &report, Some(&since), &mut out)?;
    }
    Ok(())
}

fn show(
    job: &args::Stats,
    bytes: &[u8],
    report: &Report,
    since: Option<&Since<'_>>,
    out: &mut dyn Write,
) -> io::Result<()> {
    if job.json {
        out.write_all(bytes)?;
        writeln!(out)?;
    } else {
        // At once, so that a terminal does not flicker.
        let mut text = Vec::new();
        print::print(report, since, &mut text)?;
        out.write_all(&text)?;
    }
    out.flush()
}

fn ask(mountpoint: &Path) -> Result<(Vec<u8>, Report), Failure> {
    let bytes = ioctl::mount_report(mountpoint)
        .map_err(|error| format!("{}: {error}", mountpoint.display()))?;
    let report = serde_json::from_slice(&bytes)?;
    Ok((bytes, report))
}

/// Whether nothing of ours is mounted there, or its daemon ended.
fn is_gone(mountpoint: &Path) -> bool {
    let mounted = mountinfo::resolve(mountpoint).and_then(|target| mountinfo::find(&target));
    match mounted {
        Ok(Some(mount)) if mountinfo::is_distrofs(&mount.fs_type) => {
            mountpoint.metadata().is_err_and(|error| {
                matches!(
                    error.kind(),
                    io::ErrorKind::NotConnected | io::ErrorKind::ConnectionAborted
                )
            })
        }
        _ => true,
    }
}
