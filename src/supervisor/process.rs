//! The process of a worker.

use std::fs;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sys::breadcrumbs::{Found, Trail};
use crate::sys::spawn::Spawn;
use crate::wire::Begin;

/// A worker that lived this long was no failure to start one.
const LIVED: Duration = Duration::from_secs(1);

/// How long the first, and the longest pause is, of workers that die at once. A few
/// may: somebody kills them, and who waits for an image must not wait for long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(10);
const FREE: u32 = 50;

/// How long one may take to end.
const END_WITHIN: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

/// The command of this program that is a worker.
pub const WORKER: &str = "worker";

/// The process of the moment.
#[derive(Debug)]
pub(super) struct Process {
    child: Option<Child>,
    /// Where the child marks what it does.
    trail: Option<Trail>,
    adopted: Option<OwnedFd>,
    started: Instant,
    /// How many died at once, one after the other.
    short: u32,
}

impl Process {
    pub(super) fn new() -> Self {
        Process {
            child: None,
            trail: None,
            adopted: None,
            started: Instant::now(),
            short: 0,
        }
    }

    pub(super) fn start(
        &mut self,
        begin: &Begin,
        home: &Path,
        groups: &[PathBuf],
        given: BorrowedFd<'_>,
        trail: Trail,
    ) -> io::Result<()> {
        self.started = Instant::now();
        let spawn = Spawn {
            uid: begin.uid,
            gid: begin.gid,
            args: vec![WORKER.into(), home.into()],
            given,
            groups: groups.to_vec(),
        };
        self.child = Some(spawn.start()?);
        self.trail = Some(trail);
        Ok(())
    }

    /// Whether it was started by a supervisor before this one, and is not known yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.child.is_none() && self.adopted.is_none()
    }

    /// Takes what says it is process `pid` for the worker, if it is one of user `uid`.
    /// A worker that lies can have its own user's processes killed, which it could
    /// do itself.
    pub(super) fn adopt(&mut self, pid: u32, uid: u32) {
        let adopted = Pid::from_raw(pid.cast_signed())
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        // Looked at after it was opened: the number was not given away before.
        // (Whose its directory is does not tell: it is one that nobody may look into.)
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let owner = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let owner = owner.and_then(|ids| ids.split_whitespace().next()?.parse().ok());
        if owner == Some(uid) {
            self.adopted = adopted;
        } else {
            tracing::warn!(pid, uid, "a worker says it is somebody else");
        }
    }

    /// Sees to it that it has ended: two must not serve one connection. How it ended
    /// and what it was doing, if this process started it: of others the kernel does
    /// not tell.
    pub(super) fn end(&mut self) -> Option<(ExitStatus, Found)> {
        let mut end = None;
        if let Some(mut child) = self.child.take() {
            // It may have ended, and then this changes nothing.
            let _ended = child.kill().is_err();
            let trail = self.trail.take();
            match (child.wait(), trail.map(|trail| trail.found())) {
                (Ok(status), Some(Ok(found))) => end = Some((status, found)),
                (Err(error), _) => tracing::error!(%error, "cannot wait for a worker"),
                (_, Some(Err(error))) => tracing::error!(%error, "what a worker did is not known"),
                (Ok(_), None) => {}
            }
        }
        if let Some(process) = self.adopted.take() {
            let _ended = pidfd_send_signal(&process, Signal::KILL).is_err();
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            if !poll(&mut ended, Some(&END_WITHIN)).is_ok_and(|ready| ready == 1) {
                tracing::error!("a worker does not end");
            }
            tracing::info!("why a worker ended that another supervisor started is not known");
        }
        end
    }

    /// How long to wait before the next one is started.
    pub(super) fn pause(&mut self) -> Duration {
        if self.started.elapsed() >= LIVED {
            self.short = 0;
            return Duration::ZERO;
        }
        self.short += 1;
        let Some(over) = self.short.checked_sub(FREE) else {
            return Duration::ZERO;
        };
        PAUSE_MAX.min(PAUSE_MIN.saturating_mul(1 << over.min(10)))
    }
}
