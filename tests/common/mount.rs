//! A mount that cannot outlive its test.
//!
//! Guarantees: when a [`Mount`] is dropped, also by a panic, it is unmounted
//! and its daemon is gone. A mount that is still there after `LIMIT` is
//! aborted, so that a test blocked in a system call on it fails instead of
//! hanging.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use distrofs::metrics::Snapshot;
use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use super::program::{Ran, binary, distrofs, eventually, run};

/// No test needs a mount for so long.
const LIMIT: Duration = Duration::from_secs(240);

/// How long a daemon may take to end after its mount is gone.
pub(crate) const END_LIMIT: Duration = Duration::from_secs(10);

/// A filesystem in memory on a directory.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    #[track_caller]
    pub(crate) fn new(at: &Path, options: &str) -> Tmpfs {
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(at))
        .ok();
        Tmpfs(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        super::attempt(unmount(&self.0, UnmountFlags::DETACH));
    }
}

/// A mounted archive.
pub(crate) struct Mount {
    guard: MountPoint,
    /// What `distrofs mount` said.
    pub(crate) said: Ran,
}

impl Mount {
    /// Mounts `archive` with the options given; `distrofs mount` has to succeed.
    #[track_caller]
    pub(crate) fn new<S: AsRef<OsStr>>(
        archive: &Path,
        options: impl IntoIterator<Item = S>,
    ) -> Self {
        Self::by(distrofs(["mount"]), archive, options)
    }

    /// The same by a command that ends in `mount`.
    #[track_caller]
    pub(crate) fn by<S: AsRef<OsStr>>(
        mut command: Command,
        archive: &Path,
        options: impl IntoIterator<Item = S>,
    ) -> Self {
        let guard = MountPoint::new();
        command.args(options).arg(archive).arg(guard.path());
        let said = run(&mut command).ok();
        Self { guard, said }
    }

    /// The most memory that the daemon had resident until now, in bytes.
    #[track_caller]
    pub(crate) fn peak_bytes(&self) -> u64 {
        super::program::peak_bytes(self.daemon().as_raw_nonzero())
    }

    /// The mount point.
    pub(crate) fn path(&self) -> &Path {
        self.guard.path()
    }

    /// The daemon's process.
    #[track_caller]
    pub(crate) fn daemon(&self) -> Pid {
        match self.guard.daemons()[..] {
            [one] => one,
            ref others => panic!("one daemon expected, found {others:?}"),
        }
    }

    /// The daemon's counters now.
    #[track_caller]
    pub(crate) fn stats(&self) -> Snapshot {
        stats(self.path())
    }

    /// Unmounts as `umount` does and asserts that the daemon ends.
    #[track_caller]
    pub(crate) fn end(self) {
        unmount_unused(self.path());
        self.guard.assert_gone();
    }

    /// Asserts that mount and daemon end by themselves.
    #[track_caller]
    pub(crate) fn assert_ends(self) {
        self.guard.assert_gone();
    }
}

/// Unmounts what nobody uses. A program that another test is just starting has
/// this process's open files for a moment more.
#[track_caller]
pub(crate) fn unmount_unused(point: &Path) {
    let mut ended = Ok(());
    eventually(END_LIMIT, || {
        ended = unmount(point, UnmountFlags::empty());
        ended != Err(rustix::io::Errno::BUSY)
    });
    ended.unwrap_or_else(|e| panic!("unmount {}: {e}", point.display()));
}

/// The counters of the daemon that serves `point`.
#[track_caller]
pub(crate) fn stats(point: &Path) -> Snapshot {
    let said = run(distrofs(["stats", "--json"]).arg(point)).ok();
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("no statistics ({e}): {said:#?}"))
}

/// A directory to mount on; whatever is mounted there goes with it.
pub(crate) struct MountPoint {
    point: PathBuf,
    over: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
}

impl MountPoint {
    /// A new, empty directory.
    pub(crate) fn new() -> Self {
        super::need_real_mounts();
        let dir = super::temp_dir();
        let point = dir
            .path()
            .canonicalize()
            .expect("resolve the mount point")
            .join("mnt");
        fs::create_dir(&point).expect("make the mount point");
        let (over, wait) = channel();
        let watched = point.clone();
        let watchdog = spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                eprintln!(
                    "{}: mounted for longer than {LIMIT:?}, aborted",
                    watched.display()
                );
                kill_daemons(&watched);
                super::attempt(unmount(
                    &watched,
                    UnmountFlags::FORCE | UnmountFlags::DETACH,
                ));
            }
        });
        Self {
            point,
            over: Some(over),
            watchdog: Some(watchdog),
            _dir: dir,
        }
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    /// The processes that serve it.
    pub(crate) fn daemons(&self) -> Vec<Pid> {
        daemons(&self.point)
    }

    /// Whether something is mounted on it.
    pub(crate) fn is_mounted(&self) -> bool {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
        let point = self.point.to_str().expect("a plain name");
        mounts
            .lines()
            .any(|line| line.split(' ').nth(4) == Some(point))
    }

    /// Asserts that nothing is mounted and nobody serves any more, or soon so.
    #[track_caller]
    pub(crate) fn assert_gone(&self) {
        assert!(
            eventually(END_LIMIT, || !self.is_mounted()),
            "still mounted"
        );
        assert!(
            eventually(END_LIMIT, || self.daemons().is_empty()),
            "the daemon still runs: {:?}",
            self.daemons()
        );
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        while self.is_mounted() && unmount(&self.point, UnmountFlags::DETACH).is_ok() {}
        if !eventually(END_LIMIT, || self.daemons().is_empty()) {
            kill_daemons(&self.point);
        }
        drop(self.over.take());
        if let Some(watchdog) = self.watchdog.take() {
            super::attempt(watchdog.join());
        }
    }
}

fn kill_daemons(point: &Path) {
    for pid in daemons(point) {
        super::attempt(kill_process(pid, Signal::KILL));
    }
}

/// The processes of the program under test, or of a copy of it that may be gone, whose
/// command line names `point`.
fn daemons(point: &Path) -> Vec<Pid> {
    processes(|argument| argument == point)
}

/// The same of all that name something below `dir`.
pub(crate) fn daemons_below(dir: &Path) -> Vec<Pid> {
    processes(|argument| argument.starts_with(dir))
}

fn processes(is_named: impl Fn(&Path) -> bool) -> Vec<Pid> {
    let binary = binary();
    let name = binary.file_name().expect("a name").as_bytes();
    let is_it = |exe: PathBuf| {
        let exe = exe.file_name().unwrap_or_default().as_bytes();
        exe.strip_suffix(b" (deleted)").unwrap_or(exe) == name
    };
    let serves = |pid: &Pid| {
        let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
        let names = |line: Vec<u8>| {
            line.split(|b| *b == 0)
                .any(|argument| is_named(Path::new(OsStr::from_bytes(argument))))
        };
        fs::read_link(proc.join("exe")).is_ok_and(is_it)
            && fs::read(proc.join("cmdline")).is_ok_and(names)
    };
    let processes = fs::read_dir("/proc").expect("read /proc");
    let number = |name: &OsStr| Pid::from_raw(name.to_str()?.parse().ok()?);
    processes
        .filter_map(|entry| number(&entry.ok()?.file_name()))
        .filter(serves)
        .collect()
}
