//! A process that has no rights: another user, and nothing of this one's.
//!
//! Guarantees: it runs as the user and group that were said, without other groups
//! and capabilities, and can never get any (`no_new_privs`); of this process's
//! descriptors it has one and standard error. It is in its control groups before it
//! does anything.

#![expect(unsafe_code, reason = "what happens between fork(2) and execve(2)")]

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// How many descriptors it may have open: an image needs three.
const DESCRIPTORS_MAX: u64 = 65_536;

/// Variables of the environment that such a process has from this one.
const KEPT: [&str; 2] = ["DISTROFS_LOG", "RUST_BACKTRACE"];

/// Those that this process decided.
static PASSED_ON: OnceLock<Vec<(&'static str, String)>> = OnceLock::new();

/// Gives variables to the environment of every process that is started from now on.
/// Once.
pub fn pass_on(variables: Vec<(&'static str, String)>) -> io::Result<()> {
    let passed = PASSED_ON.set(variables);
    passed.map_err(|_| io::Error::other("what processes get was decided before"))
}

/// A process to be started.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// Its user, which is not root.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// This program's arguments.
    pub args: Vec<OsString>,
    /// What it gets as its standard input.
    pub given: BorrowedFd<'a>,
    /// Control groups to be in.
    pub groups: Vec<PathBuf>,
}

impl Spawn<'_> {
    /// Starts this very program again, even if its file was replaced.
    pub fn start(&self) -> io::Result<Child> {
        if self.uid == 0 || self.uid == u32::MAX {
            return Err(io::Error::other("it would run as root"));
        }
        let mut groups = Vec::new();
        for group in &self.groups {
            groups.push(open_group(group)?);
        }
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("distrofs")
            .args(&self.args)
            .env_clear()
            .current_dir("/")
            .stdin(self.given.try_clone_to_owned()?)
            .stdout(Stdio::null());
        for name in KEPT {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command.envs(PASSED_ON.get().into_iter().flatten().cloned());
        let (uid, gid) = (self.uid, self.gid);
        // SAFETY: only system calls are made, on numbers and memory that were there
        // before the fork: nothing is allocated and no lock is taken.
        unsafe {
            command.pre_exec(move || {
                for group in &mut groups {
                    group.write_all(b"0")?;
                }
                forget_rights(uid, gid)
            });
        }
        super::signal::unblock_in(&mut command);
        command.spawn()
    }
}

fn open_group(group: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .open(group.join("cgroup.procs"))
}

/// Makes this process one of another user, with nothing of root's, for good. Before it
/// has threads of its own.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    if uid == 0 || uid == u32::MAX || gid == u32::MAX {
        return Err(io::Error::other("it would run as root"));
    }
    forget_rights(uid, gid)
}

fn forget_rights(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: all take numbers, or memory of this function.
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(gid, gid, gid))?;
        check(libc::setresuid(uid, uid, uid))?;
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        let none = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        check(libc::setrlimit(libc::RLIMIT_CORE, &none))?;
        let mut open = none;
        check(libc::getrlimit(libc::RLIMIT_NOFILE, &mut open))?;
        open.rlim_cur = open.rlim_max.min(DESCRIPTORS_MAX);
        check(libc::setrlimit(libc::RLIMIT_NOFILE, &open))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Makes this process one that others of its user cannot look into (ptrace(2),
/// `/proc/PID/mem`).
pub fn hide() -> io::Result<()> {
    // SAFETY: it takes numbers.
    check(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) })
}
