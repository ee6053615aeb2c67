//! Signals that ask a serving process to end, as events for one thread.
//!
//! Guarantees: after [`Signals::block`] no thread started later is interrupted
//! by them; each is reported once, in order; the watching thread ends when its
//! [`Watcher`] is dropped.

#![expect(
    unsafe_code,
    reason = "signal masks and signalfd(2) have no safe wrapper here"
)]

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// What asks a process to end: `kill`, Ctrl-C, a closed terminal.
const WATCHED: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// The number of `SIGHUP`.
pub const HANGUP: i32 = libc::SIGHUP;

/// What a program expects to get that somebody else runs for its user, and the end
/// of a child.
const PASSED_ON: [i32; 11] = [
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGALRM,
    libc::SIGCHLD,
];

/// The signals, blocked and waiting to be read.
#[derive(Debug)]
pub struct Signals {
    events: File,
}

impl Signals {
    /// Blocks the signals in this thread and in all that it starts from now on;
    /// to be called before any of those that serve.
    pub fn block() -> io::Result<Signals> {
        Self::block_all(&WATCHED)
    }

    /// The same with all that is passed on to a child, and `SIGCHLD`.
    pub fn block_passed_on() -> io::Result<Signals> {
        // Whoever started this process may have had it ignored: children would then
        // end unheard.
        // SAFETY: the default action is no function of this process.
        if unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
        Self::block_all(&PASSED_ON)
    }

    fn block_all(signals: &[i32]) -> io::Result<Signals> {
        // SAFETY: the set is initialized by sigemptyset before it is used, and
        // the descriptor that signalfd returns belongs to nobody else.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            for signal in signals {
                libc::sigaddset(&mut set, *signal);
            }
            let code = libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
            if code != 0 {
                return Err(io::Error::from_raw_os_error(code));
            }
            let fd = libc::signalfd(-1, &set, libc::SFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        Ok(Signals { events: fd.into() })
    }

    /// Waits for the next one; its number.
    pub fn wait(&mut self) -> io::Result<i32> {
        let mut event = [0; size_of::<libc::signalfd_siginfo>()];
        self.events.read_exact(&mut event)?;
        // SAFETY: the bytes are such a struct, and may be unaligned.
        let event: libc::signalfd_siginfo =
            unsafe { std::ptr::read_unaligned(event.as_ptr().cast()) };
        Ok(i32::try_from(event.ssi_signo).unwrap_or(0))
    }

    /// Calls `on_signal` in a thread of its own with the number of each signal
    /// that comes, until the watcher is dropped.
    pub fn watch(self, mut on_signal: impl FnMut(i32) + Send + 'static) -> io::Result<Watcher> {
        let (end, keep) = io::pipe()?;
        let mut signals = self;
        let thread = std::thread::Builder::new()
            .name("signals".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || {
                while wait(&signals.events, &end).unwrap_or(false) {
                    match signals.wait() {
                        Ok(signal) => on_signal(signal),
                        Err(_) => return,
                    }
                }
            })?;
        Ok(Watcher {
            keep: Some(keep),
            thread: Some(thread),
        })
    }
}

/// Has the program that `command` starts get all signals, though this process
/// blocks some.
pub fn unblock_in(command: &mut Command) {
    let unblock = || {
        // SAFETY: the set is initialized by sigemptyset before it is used.
        let code = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut set);
            libc::pthread_sigmask(libc::SIG_SETMASK, &set, std::ptr::null_mut())
        };
        match code {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    };
    // SAFETY: these two functions may be called between fork and exec.
    unsafe { command.pre_exec(unblock) };
}

/// Waits for a signal (true) or for the end of the watcher (false).
fn wait(events: &File, end: &io::PipeReader) -> io::Result<bool> {
    let mut fds = [
        PollFd::new(events, PollFlags::IN),
        PollFd::new(end, PollFlags::IN),
    ];
    loop {
        match poll(&mut fds, None) {
            Ok(_) => return Ok(fds[1].revents().is_empty()),
            Err(Errno::INTR) => {}
            Err(cause) => return Err(cause.into()),
        }
    }
}

/// The thread that waits for signals; dropping this ends it.
#[derive(Debug)]
pub struct Watcher {
    keep: Option<io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        // Closing the pipe is what the thread waits for.
        drop(self.keep.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the signal thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// The watching thread, once it has got its name.
    fn watching_thread() -> i32 {
        loop {
            for task in std::fs::read_dir("/proc/self/task").unwrap() {
                let path = task.unwrap().path();
                let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
                if name.trim() == "signals" {
                    return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                }
            }
        }
    }

    /// The signal is sent to the watching thread alone: sent to the process it
    /// would find the other tests' threads, which do not block it.
    #[test]
    fn a_blocked_signal_is_reported_and_the_watcher_ends() {
        let (tell, told) = mpsc::channel();
        let watcher = std::thread::spawn(move || {
            let signals = Signals::block().unwrap();
            signals
                .watch(move |signal| tell.send(signal).unwrap())
                .unwrap()
        });
        let watcher = watcher.join().unwrap();
        let pid = libc::pid_t::try_from(std::process::id()).unwrap();
        // SAFETY: tgkill takes three integers.
        unsafe { libc::syscall(libc::SYS_tgkill, pid, watching_thread(), libc::SIGTERM) };
        assert_eq!(told.recv().unwrap(), libc::SIGTERM);
        drop(watcher);
        assert!(told.recv().is_err());
    }
}
