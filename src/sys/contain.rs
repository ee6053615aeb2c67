//! A process in namespaces of its own: the first one there, with all that it
//! starts.
//!
//! Guarantees: it ends with the thread that made it, however that ends, and all
//! processes in its namespace end with it; what it mounts is seen by none outside
//! and goes with it.

#![expect(
    unsafe_code,
    reason = "clone(2) and waitpid(2) have no safe wrapper here"
)]

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use super::daemon::refuse_threads;
use super::signal::Signals;

/// A child process.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
}

/// Starts `work` as the first process of new mount, pid, ipc and uts namespaces,
/// and returns a socket to it, whose other end `work` gets. It ends with the status
/// that `work` returns. Has to be called before any thread is started.
pub fn contained(work: impl FnOnce(UnixStream) -> u8) -> io::Result<(Child, UnixStream)> {
    refuse_threads()?;
    let (ours, theirs) = UnixStream::pair()?;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS
        | libc::SIGCHLD;
    // SAFETY: without a stack and without CLONE_VM this is fork(2): the child gets
    // a copy of this thread, the only one, so that no lock is held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match libc::pid_t::try_from(pid) {
        Ok(0) => {
            drop(ours);
            std::process::exit(begin(work, theirs).into())
        }
        Ok(pid @ 1..) => Ok((Child { pid }, ours)),
        _ => Err(io::Error::last_os_error()),
    }
}

fn begin(work: impl FnOnce(UnixStream) -> u8, socket: UnixStream) -> u8 {
    // A parent that ended before this is noticed by the end of its socket.
    match end_with_parent() {
        Ok(()) => work(socket),
        Err(error) => {
            eprintln!("distrofs: cannot be told of the end of another process: {error}");
            FAILED
        }
    }
}

/// Status of what could not be begun.
pub const FAILED: u8 = 125;

impl From<std::process::Child> for Child {
    fn from(child: std::process::Child) -> Self {
        Self {
            pid: child.id().cast_signed(),
        }
    }
}

impl Child {
    /// Passes signals on until it ends; its status, which for death by a signal is
    /// 128 and the signal's number, as shells have it. `signals` are those of
    /// [`Signals::block_passed_on`], from before it was started. Other children of
    /// this process are reaped.
    pub fn attend(&self, signals: &mut Signals) -> io::Result<u8> {
        loop {
            let signal = signals.wait()?;
            if signal == libc::SIGCHLD {
                if let Some(status) = self.reap()? {
                    return Ok(status);
                }
            } else if let (Some(pid), Some(signal)) =
                (Pid::from_raw(self.pid), Signal::from_named_raw(signal))
            {
                // It may be gone, which is the next to be heard.
                let _gone = kill_process(pid, signal).is_err();
            }
        }
    }

    /// Reaps all children that ended; the status of this one if it did.
    fn reap(&self) -> io::Result<Option<u8>> {
        let mut found = None;
        loop {
            let mut status = 0;
            // SAFETY: the pointer is to a live integer.
            match unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) } {
                0 => return Ok(found),
                pid if pid == self.pid => found = Some(status_code(status)),
                1.. => {}
                _ => {
                    let cause = io::Error::last_os_error();
                    match cause.raw_os_error() {
                        Some(libc::EINTR) => {}
                        // It is this one that is waited for: without, something is wrong.
                        Some(libc::ECHILD) if found.is_some() => return Ok(found),
                        _ => return Err(cause),
                    }
                }
            }
        }
    }
}

/// A status of waitpid(2) as shells have it.
pub(super) fn status_code(status: libc::c_int) -> u8 {
    let code = if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    };
    u8::try_from(code).unwrap_or(1)
}

/// Keeps from programs that this process executes all descriptors but the three
/// standard ones: whatever somebody left open, a directory of the host perhaps.
pub fn keep_descriptors() -> io::Result<()> {
    // SAFETY: nothing is closed before a program is executed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    if done == 0 {
        return Ok(());
    }
    // Before Linux 5.11.
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<RawFd>().ok());
        if let Some(fd @ 3..) = number {
            // SAFETY: a descriptor of that number is open, or the call fails.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// Makes this process, which has one thread, user and group 0 of a new user
/// namespace, with the rights of root over mounts that it makes.
pub fn become_root_of_own() -> io::Result<()> {
    refuse_threads()?;
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    super::namespace::unshare_user()?;
    map_ids(0, uid.as_raw(), gid.as_raw())
}

/// In a new user namespace below the one that this process is root of, makes its
/// user and group `uid`.
pub fn become_user_of_own(uid: u32) -> io::Result<()> {
    super::namespace::unshare_user()?;
    map_ids(uid, 0, 0)?;
    // Changing users may have undone it.
    Ok(end_with_parent()?)
}

fn end_with_parent() -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))
}

fn map_ids(inner: u32, uid: u32, gid: u32) -> io::Result<()> {
    // Without this a group could be given up that denies something.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{inner} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{inner} {gid} 1"))
}
