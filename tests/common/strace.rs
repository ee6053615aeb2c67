//! Faults in system calls of a process that runs already.
//!
//! Guarantees: when a [`Strace`] is dropped, also by a panic, the process is left
//! alone.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::program::{eventually, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// `strace`, attached to a process.
pub(crate) struct Strace {
    child: Child,
    _dir: tempfile::TempDir,
}

impl Strace {
    /// Has `fault` happen in system calls of `process` about the file at `path`, as
    /// `inject=` of strace(1) takes it. When this returns, it does; nothing if the
    /// process is gone.
    #[track_caller]
    pub(crate) fn inject(process: Pid, path: &Path, fault: &str) -> Option<Self> {
        let dir = super::temp_dir();
        let (said, traced) = (dir.path().join("said"), dir.path().join("traced"));
        let mut command = Command::new("strace");
        command
            .args(["-f", "-p", &process.as_raw_nonzero().to_string(), "-o"])
            .arg(traced)
            .arg("-P")
            .arg(path)
            .args(["-e", &format!("inject={fault}")])
            .stderr(File::create(&said).expect("make a file"));
        let child = command.spawn().expect("start strace");
        let mut strace = Self { child, _dir: dir };
        let text = |said: &PathBuf| fs::read_to_string(said).unwrap_or_default();
        let done = eventually(LIMIT, || {
            text(&said).contains("attached")
                || strace.child.try_wait().expect("wait for strace").is_some()
        });
        assert!(done, "strace is not attached: {}", text(&said));
        let is_attached = text(&said).contains(" attached");
        is_attached.then_some(strace)
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            super::attempt(kill_process(Pid::from_child(&self.child), Signal::TERM));
            if wait(&mut self.child, LIMIT).is_none() {
                super::attempt(self.child.kill());
                super::attempt(self.child.wait());
            }
        }
    }
}
