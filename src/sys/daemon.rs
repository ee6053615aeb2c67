//! Going into the background only once the work has proved to go well.
//!
//! Guarantees: the caller's terminal stays with the working process, Ctrl-C
//! and error messages included, until it says that it is ready; the waiting
//! process ends with status 0 then, or with the worker's status if that ends
//! before.

#![expect(
    unsafe_code,
    reason = "fork(2) and waitpid(2) have no safe wrapper here"
)]

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use super::contain::status_code;

/// The worker's promise to say when it is ready.
#[derive(Debug)]
pub struct Ready(Option<io::PipeWriter>);

impl Ready {
    /// For work that stays in the foreground: being ready changes nothing.
    pub fn foreground() -> Ready {
        Ready(None)
    }

    /// Leaves the terminal (own session, `/` as directory, standard streams on
    /// `/dev/null`) and lets the process that waits end with success.
    pub fn tell(self) -> io::Result<()> {
        let Some(mut pipe) = self.0 else {
            return Ok(());
        };
        rustix::process::setsid()?;
        std::env::set_current_dir("/")?;
        let null = OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")?;
        rustix::stdio::dup2_stdin(null.as_fd())?;
        rustix::stdio::dup2_stdout(null.as_fd())?;
        rustix::stdio::dup2_stderr(null.as_fd())?;
        pipe.write_all(&[1])
    }
}

/// Runs `work` in a child of this process and returns the status with which
/// this process is to end: 0 as soon as the child is ready, the child's own if
/// it ends before. Has to be called before any thread is started.
pub fn background(work: impl FnOnce(Ready) -> u8) -> io::Result<u8> {
    refuse_threads()?;
    let (mut told, tell) = io::pipe()?;
    // SAFETY: this is the only thread, so that no lock is held by another one
    // whose copy in the child would never let it go.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(told);
            std::process::exit(work(Ready(Some(tell))).into())
        }
        child => {
            drop(tell);
            if told.read(&mut [0])? == 1 {
                Ok(0)
            } else {
                status_of(child)
            }
        }
    }
}

pub(super) fn refuse_threads() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads == 1 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "cannot start a process with {threads} threads"
    )))
}

/// Waits for the end of a child; death by signal is 128 and its number, as
/// shells have it.
pub(super) fn status_of(child: libc::pid_t) -> io::Result<u8> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let cause = io::Error::last_os_error();
        if cause.kind() != io::ErrorKind::Interrupted {
            return Err(cause);
        }
    }
    Ok(status_code(status))
}
