//! Lines in the logs of containers, `logs/emperor.log` in their homes.
//!
//! That path is the customer's. So each line is written by a process of its own that
//! has the customer's rights and no others (`append`), and none of them is waited for
//! by anybody but a thread that does nothing else.
//!
//! Guarantees: asking for a line never waits; what is too much is dropped, and
//! counted. A line is one line, of printable characters, and of bounded length.

mod append;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fstat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

pub use append::{AppendError, append};

use crate::sys::clock::Ctime;
use crate::sys::packets::Packets;
use crate::sys::spawn::Spawn;
use crate::wire::report::Lines;

/// The command of this program that writes a line.
pub const APPEND: &str = "emperor-log";

/// Lines that may wait: each container of a full server gets some.
const WAITING_MAX: usize = 1024;

/// Of a text, so many characters are written.
const TEXT_CHARS_MAX: usize = 512;

/// How long writing a line may take.
const WITHIN: Timespec = Timespec {
    tv_sec: 5,
    tv_nsec: 0,
};

/// How long a writer may take to be told.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writers that hang in the kernel: with so many, there will be no more.
const HANGING_MAX: usize = 4;

/// What kind of line it is, which programs tell from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Notice,
    Alarm,
    /// An alarm of the platform's, whose text is known as it is.
    Danger,
}

struct Line {
    container: u32,
    text: String,
}

#[derive(Debug, Default)]
struct Counted {
    written: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

/// Where lines are asked for.
#[derive(Debug)]
pub(super) struct EmperorLog {
    lines: SyncSender<Line>,
    counted: Arc<Counted>,
}

impl EmperorLog {
    /// For the containers with homes in `homes`. Starts a thread.
    pub(super) fn start(homes: PathBuf) -> io::Result<EmperorLog> {
        let (lines, asked) = sync_channel(WAITING_MAX);
        let counted = Arc::new(Counted::default());
        let counts = Arc::clone(&counted);
        std::thread::Builder::new()
            .name("emperor.log".to_owned())
            .spawn(move || Writer::new(homes, counts).run(&asked))?;
        Ok(EmperorLog { lines, counted })
    }

    /// Has a line written, soon.
    pub(super) fn write(&self, container: u32, tone: Tone, text: &str) {
        let line = Line {
            container,
            text: line(&Ctime::now().to_string(), tone, text),
        };
        if self.lines.try_send(line).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn counted(&self) -> Lines {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Lines {
            written: count(&self.counted.written),
            failed: count(&self.counted.failed),
            dropped: count(&self.counted.dropped),
        }
    }
}

fn line(time: &str, tone: Tone, text: &str) -> String {
    let begin = match tone {
        Tone::Notice => "[distrofs]",
        Tone::Alarm => "ALARM: [distrofs]",
        Tone::Danger => "ALARM:",
    };
    let mut line = format!("{time} - {begin} ");
    let printable = |c: char| if c.is_control() { '?' } else { c };
    line.extend(text.chars().take(TEXT_CHARS_MAX).map(printable));
    line.push('\n');
    line
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Yes,
    /// Why is in the log already.
    No,
}

/// Writes lines, one after the other.
struct Writer {
    homes: PathBuf,
    counted: Arc<Counted>,
    hanging: Vec<Child>,
}

impl Writer {
    fn new(homes: PathBuf, counted: Arc<Counted>) -> Writer {
        Writer {
            homes,
            counted,
            hanging: Vec::new(),
        }
    }

    fn run(mut self, lines: &Receiver<Line>) {
        for line in lines {
            self.hanging
                .retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            if self.hanging.len() >= HANGING_MAX {
                self.counted.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let counter = match self.write(&line) {
                Ok(Written::Yes) => &self.counted.written,
                Ok(Written::No) => &self.counted.failed,
                Err(error) => {
                    tracing::info!(container = line.container, %error, "its log was not written");
                    &self.counted.failed
                }
            };
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&mut self, line: &Line) -> io::Result<Written> {
        let path = self.homes.join(line.container.to_string());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let home = rustix::fs::open(&path, flags, Mode::empty())?;
        let found = fstat(&home)?;
        if found.st_uid != line.container {
            return Err(io::Error::other("its home belongs to somebody else"));
        }
        let (ours, theirs) = Packets::pair()?;
        ours.set_sending(PATIENCE)?;
        let mut child = Spawn {
            uid: line.container,
            gid: found.st_gid,
            args: vec![APPEND.into(), path.into()],
            given: theirs.as_fd(),
            groups: Vec::new(),
        }
        .start()?;
        drop(theirs);
        let told = ours.send(line.text.as_bytes(), &[home.as_fd()]);
        let ended = told.and_then(|()| has_ended(&child));
        if !matches!(ended, Ok(true)) {
            // It may have ended, and then this fails.
            let _ended = child.kill().is_err();
            if let Ok(None) = child.try_wait() {
                self.hanging.push(child);
            }
            ended?;
            return Err(io::ErrorKind::TimedOut.into());
        }
        match child.wait()?.success() {
            true => Ok(Written::Yes),
            false => Ok(Written::No),
        }
    }
}

/// Whether a process ends soon.
fn has_ended(child: &Child) -> io::Result<bool> {
    let process: OwnedFd = pidfd_open(Pid::from_child(child), PidfdFlags::empty())?;
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    Ok(poll(&mut ended, Some(&WITHIN))? == 1)
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        let time = "Sun Jan  4 10:11:12 2026";
        let made = line(time, Tone::Notice, "mounted a on b");
        assert_eq!(made, format!("{time} - [distrofs] mounted a on b\n"));
        let made = line(time, Tone::Alarm, "a\nb\u{1b}[0m\0c");
        assert_eq!(made, format!("{time} - ALARM: [distrofs] a?b?[0m?c\n"));
        let made = line(time, Tone::Notice, &"é".repeat(10_000));
        assert_eq!(made.matches('é').count(), TEXT_CHARS_MAX);
    }

    #[test]
    fn what_is_too_much_is_dropped_and_counted() {
        let (lines, asked) = sync_channel(1);
        let counted = Arc::default();
        let log = EmperorLog { lines, counted };
        (0..3).for_each(|_| log.write(1, Tone::Notice, "text"));
        assert_eq!(log.counted().dropped, 2);
        assert_eq!(asked.try_iter().count(), 1);
    }
}
