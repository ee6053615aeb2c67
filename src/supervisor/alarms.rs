//! Alarms that wait for the registry.
//!
//! Guarantees: raising one never waits for anybody. Those that wait are kept over a
//! restart; of too many, the oldest go. The same alarm of a container is raised once a
//! minute. Numbers grow for ever, so that each is stored once.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::types::Raised;

/// How many may wait.
const WAITING_MAX: usize = 10_000;

/// How many are told at a time.
const TOLD_MAX: usize = 500;

/// The same alarm of a container is not raised again within this time.
const ONCE_WITHIN: Duration = Duration::from_secs(60);

/// How many are remembered for that.
const RECENT_MAX: usize = 20_000;

/// The file in the state directory, and what it may take.
const FILE: &str = "alarms.jsonl";
const FILE_BYTES_MAX: u64 = 32 << 20;

/// Those that wait.
#[derive(Debug)]
pub(super) struct Alarms {
    file: PathBuf,
    spool: Mutex<Spool>,
    raised: Condvar,
}

#[derive(Debug, Default)]
struct Spool {
    waiting: VecDeque<Raised>,
    last: u64,
    recent: BTreeMap<(u32, String), Instant>,
}

impl Alarms {
    /// Those that are kept in the directory `state`.
    pub(super) fn open(state: &Path) -> Alarms {
        let file = state.join(FILE);
        let (waiting, is_whole) = read(&file).unwrap_or_else(|error| {
            tracing::error!(%error, "alarms that waited are lost");
            (VecDeque::new(), false)
        });
        // What is appended to a line that was cut would be lost with it.
        if !is_whole && let Err(error) = write(&file, &waiting) {
            tracing::error!(%error, "alarms that wait are not kept over a restart");
        }
        let last = waiting.back().map_or(0, |alarm| alarm.number);
        Alarms {
            file,
            spool: Mutex::new(Spool {
                waiting,
                last,
                recent: BTreeMap::new(),
            }),
            raised: Condvar::new(),
        }
    }

    fn spool(&self) -> MutexGuard<'_, Spool> {
        self.spool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u64 {
        u64::try_from(self.spool().waiting.len()).unwrap_or(u64::MAX)
    }

    /// Raises an alarm.
    pub(super) fn raise(&self, container: u32, text: &str) {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut spool = self.spool();
        let key = (container, text.to_owned());
        let last = spool.recent.get(&key);
        if last.is_some_and(|last| last.elapsed() < ONCE_WITHIN) {
            return;
        }
        if spool.recent.len() >= RECENT_MAX {
            spool.recent.retain(|_, last| last.elapsed() < ONCE_WITHIN);
        }
        if spool.recent.len() < RECENT_MAX {
            spool.recent.insert(key, Instant::now());
        }
        let micros = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let alarm = Raised {
            number: micros.max(spool.last.saturating_add(1)),
            container,
            unix: now.as_secs(),
            text: text.to_owned(),
        };
        spool.last = alarm.number;
        let appended = append(&self.file, &alarm);
        spool.waiting.push_back(alarm);
        let is_too_many = spool.waiting.len() > WAITING_MAX;
        if is_too_many {
            spool.waiting.pop_front();
        }
        let kept = match appended {
            Ok(bytes) if bytes > FILE_BYTES_MAX / 2 => write(&self.file, &spool.waiting),
            appended => appended.map(drop),
        };
        if let Err(error) = kept {
            tracing::error!(%error, "an alarm that waits is not kept over a restart");
        }
        drop(spool);
        self.raised.notify_all();
    }

    /// Forgets those that were taken, up to a number; of the others some, after a
    /// moment if there is none at once.
    pub(super) fn take(&self, taken: u64, within: Duration) -> Vec<Raised> {
        let mut spool = self.spool();
        let before = spool.waiting.len();
        spool.waiting.retain(|alarm| alarm.number > taken);
        // Of a database that was there before this spool, none is to have the same.
        spool.last = spool.last.max(taken);
        if spool.waiting.len() != before
            && let Err(error) = write(&self.file, &spool.waiting)
        {
            tracing::warn!(%error, "alarms that were taken will be told again");
        }
        let waited = self
            .raised
            .wait_timeout_while(spool, within, |spool| spool.waiting.is_empty());
        let (spool, _) = waited.unwrap_or_else(PoisonError::into_inner);
        spool.waiting.iter().take(TOLD_MAX).cloned().collect()
    }
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.create(true).mode(0o600);
    options
}

/// Those that are in the file, and whether nothing else is.
fn read(file: &Path) -> io::Result<(VecDeque<Raised>, bool)> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((VecDeque::new(), true));
        }
        opened => opened?,
    };
    let mut bytes = Vec::new();
    opened.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let (mut waiting, mut is_whole) = (VecDeque::new(), true);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        // The last line may have been cut.
        match serde_json::from_slice(line) {
            Ok(alarm) if line.ends_with(b"\n") => waiting.push_back(alarm),
            _ => is_whole = false,
        }
        if waiting.len() > WAITING_MAX {
            waiting.pop_front();
        }
    }
    Ok((waiting, is_whole))
}

fn line(alarm: &Raised) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(alarm)?;
    line.push(b'\n');
    Ok(line)
}

/// Adds a line; how long the file is then.
fn append(file: &Path, alarm: &Raised) -> io::Result<u64> {
    let mut opened = options().append(true).open(file)?;
    opened.write_all(&line(alarm)?)?;
    Ok(opened.metadata()?.len())
}

fn write(file: &Path, waiting: &VecDeque<Raised>) -> io::Result<()> {
    let new = file.with_extension("jsonl.new");
    let mut made = options().write(true).truncate(true).open(&new)?;
    let mut text = Vec::new();
    for alarm in waiting {
        text.extend(line(alarm)?);
    }
    made.write_all(&text)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn texts(alarms: &[Raised]) -> Vec<&str> {
        alarms.iter().map(|alarm| &*alarm.text).collect()
    }

    #[test]
    fn alarms_wait_until_they_are_taken() {
        let state = tempfile::tempdir().unwrap();
        let alarms = Alarms::open(state.path());
        for text in ["a", "b", "a"] {
            alarms.raise(1, text);
        }
        alarms.raise(2, "a");
        let told = alarms.take(0, NOW);
        assert_eq!(texts(&told), ["a", "b", "a"]);
        assert_eq!(texts(&alarms.take(0, NOW)), ["a", "b", "a"]);
        // Also over a restart, with a line that was cut.
        let mut file = File::options()
            .append(true)
            .open(state.path().join(FILE))
            .unwrap();
        file.write_all(b"{\"number\":").unwrap();
        // Nor is one lost that is raised after that.
        Alarms::open(state.path()).raise(1, "after");
        let again = Alarms::open(state.path());
        let after = again.take(told[0].number, NOW);
        assert_eq!(after[..2], told[1..]);
        assert_eq!(texts(&after[2..]), ["after"]);
        let told = after;
        again.raise(1, "c");
        let last = again.take(told[2].number, NOW);
        assert_eq!(texts(&last), ["c"]);
        assert!(last[0].number > told[2].number);
        assert_eq!(again.take(last[0].number, NOW), []);
        let empty = Alarms::open(state.path());
        assert_eq!(empty.waiting(), 0);
        // A database that was restored from later may have taken more.
        empty.take(u64::MAX - 10, NOW);
        empty.raise(1, "d");
        assert_eq!(texts(&empty.take(u64::MAX - 10, NOW)), ["d"]);
    }

    #[test]
    fn of_too_many_the_oldest_go() {
        let state = tempfile::tempdir().unwrap();
        let alarms = Alarms::open(state.path());
        for number in 0..=WAITING_MAX {
            alarms.raise(1, &number.to_string());
        }
        let first = alarms.take(0, NOW);
        assert_eq!((first.len(), &*first[0].text), (TOLD_MAX, "1"));
        let again = Alarms::open(state.path());
        assert_eq!(again.take(0, NOW), first);
    }
}
