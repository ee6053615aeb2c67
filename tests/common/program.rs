//! Runs programs to their end, with a limit on how long that may take.

use std::ffi::OsStr;
use std::fmt::Display;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// No program that a test runs takes this long unless it hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// The program under test: what `scripts/test` built, or what cargo did.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("DISTROFS_TEST_BINARY").map_or_else(
        || PathBuf::from(env!("CARGO_BIN_EXE_distrofs")),
        PathBuf::from,
    );
    path.canonicalize()
        .unwrap_or_else(|e| panic!("no binary at {}: {e}", path.display()))
}

/// The session of a process (`self` for this one): 0 where its leader is outside
/// of this process's pid namespace, as in a container that was started by
/// somebody else. Rust's wrappers of getsid(2) take that for impossible.
pub(crate) fn session(process: impl Display) -> i32 {
    let path = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    // The second field is the name, in parentheses, and may hold anything.
    let after_name = stat.rsplit(')').next().expect("fields behind the name");
    after_name
        .split_whitespace()
        .nth(3)
        .and_then(|field| field.parse().ok())
        .unwrap_or_else(|| panic!("no session in {stat:?}"))
}

/// The most memory that a process had resident until now, in bytes.
#[track_caller]
pub(crate) fn peak_bytes(process: impl Display) -> u64 {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {path}: {e}"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.map(|line| line.trim().trim_end_matches(" kB"));
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).expect("a VmHWM");
    kib * 1024
}

/// How a program ended and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Asserts that it succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert!(self.status.success(), "failed: {self:#?}");
        self
    }

    /// Asserts that it ended with exit status `code` and said each of `words`
    /// on its standard error.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:#?}");
        for word in words {
            assert!(
                self.stderr.contains(word),
                "does not say {word:?}: {self:#?}"
            );
        }
        self
    }

    /// The standard output as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("not JSON ({e}): {self:#?}"))
    }
}

/// A command of the program under test.
pub(crate) fn distrofs<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    command
}

/// A command of the program under test that the kernel gives no more than
/// `bytes` of memory: what it asks for beyond is refused.
pub(crate) fn distrofs_within<S: AsRef<OsStr>>(
    bytes: u64,
    args: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -d {} && exec \"$@\"", bytes / 1024);
    command.args(["-c", &limit, "sh"]).arg(binary()).args(args);
    command
}

/// Runs a command to its end, with this as its input.
#[track_caller]
pub(crate) fn run_with_input(command: &mut Command, input: &[u8]) -> Ran {
    let mut file = tempfile::tempfile().expect("make a file");
    file.write_all(input).expect("write a file");
    file.rewind().expect("go to its start");
    run_from(command, file.into(), LIMIT)
}

/// Runs a command that may take longer than others.
#[track_caller]
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Ran {
    run_from(command, Stdio::null(), limit)
}

/// Runs a command to its end. Its output goes to files, not pipes: a daemon
/// that it leaves running keeps nobody waiting.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    run_from(command, Stdio::null(), LIMIT)
}

#[track_caller]
fn run_from(command: &mut Command, input: Stdio, limit: Duration) -> Ran {
    let line = format!("{command:?}");
    let mut stdout = tempfile::tempfile().expect("make a temporary file");
    let mut stderr = tempfile::tempfile().expect("make a temporary file");
    let started = command
        .stdin(input)
        .stdout(stdout.try_clone().expect("duplicate a descriptor"))
        .stderr(stderr.try_clone().expect("duplicate a descriptor"))
        .spawn();
    let mut child = started.unwrap_or_else(|e| panic!("cannot start {line}: {e}"));
    let Some(status) = wait(&mut child, limit) else {
        super::attempt(child.kill());
        super::attempt(child.wait());
        panic!(
            "did not end within {limit:?}: {line}\n{}",
            contents(&mut stderr)
        );
    };
    Ran {
        line,
        status,
        stdout: contents(&mut stdout),
        stderr: contents(&mut stderr),
    }
}

/// Waits for a child to end, but not longer than `limit`.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Option<ExitStatus> {
    let mut status = None;
    eventually(limit, || {
        status = child.try_wait().expect("wait for a child");
        status.is_some()
    });
    status
}

/// Asks until the answer is yes or `limit` is over; whether it was yes.
pub(crate) fn eventually(limit: Duration, mut yes: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + limit;
    loop {
        if yes() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        sleep(Duration::from_millis(5));
    }
}

fn contents(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().expect("rewind a temporary file");
    file.read_to_end(&mut bytes).expect("read a temporary file");
    String::from_utf8_lossy(&bytes).into_owned()
}
