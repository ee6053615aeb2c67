//! [`Growth`]: how much there is of an archive that is still being written, and
//! [`Growing`]: such an archive as a scan reads it.
//!
//! Guarantees: what is read was written; who waits for bytes hears when they come,
//! when there will be none, and when nobody wants them any more. Waiting ends when
//! nothing comes for a while, and sooner if others wait for who reads.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::source::{ArchiveFile, ReadAt, SourceError};

/// How often who waits looks whether that is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How an archive ended: whole, or why not.
type End = Result<(), String>;

/// How much there is of it.
#[derive(Debug)]
pub(super) struct Growth {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    bytes: u64,
    grew: Instant,
    end: Option<End>,
    /// For how long somebody waited for bytes.
    waited: Duration,
    /// Whether bytes came too late for somebody.
    is_late: bool,
}

/// Why bytes are not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// There will be none.
    Ended,
    /// Nobody wants them any more.
    Unwanted,
    /// They did not come for too long.
    Late,
}

impl From<Missing> for io::Error {
    fn from(missing: Missing) -> Self {
        io::Error::other(match missing {
            Missing::Ended => "it ended before",
            Missing::Unwanted => "it was given up",
            Missing::Late => "it comes too slowly to be read meanwhile",
        })
    }
}

impl Growth {
    /// Of a file with nothing in it.
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                bytes: 0,
                grew: Instant::now(),
                end: None,
                waited: Duration::ZERO,
                is_late: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// So many bytes can be read now.
    pub(super) fn grew(&self, bytes: u64) {
        let mut state = self.state.lock();
        state.bytes = bytes;
        state.grew = Instant::now();
        self.changed.notify_all();
    }

    /// There will be no more. Only the first end counts.
    pub(super) fn end(&self, end: End) {
        self.state.lock().end.get_or_insert(end);
        self.changed.notify_all();
    }

    /// How much there is.
    pub(super) fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// Why there will not be all of it, if that is known.
    pub(super) fn failure(&self) -> Option<String> {
        match &self.state.lock().end {
            Some(Err(why)) => Some(why.clone()),
            _ => None,
        }
    }

    /// Whether bytes came too late for somebody.
    pub(super) fn is_late(&self) -> bool {
        self.state.lock().is_late
    }

    /// Waits for the end, however long that takes; whether it is whole.
    pub(super) fn wait_for_end(&self, is_wanted: &dyn Fn() -> bool) -> Result<(), Missing> {
        while is_wanted() {
            let mut state = self.state.lock();
            match &state.end {
                Some(Ok(())) => return Ok(()),
                Some(Err(_)) => return Err(Missing::Ended),
                None => drop(self.changed.wait_for(&mut state, LOOK_EVERY)),
            }
        }
        Err(Missing::Unwanted)
    }
}

/// When reading gives up waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience<'a> {
    /// When nothing came for so long, or when so long was waited in all while others
    /// wait.
    pub(super) most: Duration,
    /// Others who wait.
    pub(super) others: &'a AtomicUsize,
}

/// An archive that is still being written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Growing<'a> {
    /// How much there is.
    pub(super) growth: &'a Growth,
    /// How long it will be.
    pub(super) len: u64,
    /// When to give up.
    pub(super) patience: Patience<'a>,
}

impl Growing<'_> {
    /// Waits until the first `until` bytes are there.
    fn wait_for(&self, until: u64, is_wanted: &dyn Fn() -> bool) -> Result<(), Missing> {
        let has = |state: &State| state.bytes >= until;
        self.wait(&has, is_wanted)
    }

    /// Waits until it is known to be whole.
    pub(super) fn wait_for_end(&self, is_wanted: &dyn Fn() -> bool) -> Result<(), Missing> {
        let is_whole = |state: &State| state.end == Some(Ok(()));
        self.wait(&is_whole, is_wanted)
    }

    fn wait(
        &self,
        is_there: &dyn Fn(&State) -> bool,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), Missing> {
        let Patience { most, others } = self.patience;
        // Whether it is wanted is asked without the lock, as that may look here, too.
        while is_wanted() {
            let mut state = self.growth.state.lock();
            if is_there(&state) {
                return Ok(());
            }
            if state.end.is_some() {
                return Err(Missing::Ended);
            }
            let is_slow = state.waited >= most && others.load(Ordering::Relaxed) > 0;
            if is_slow || state.grew.elapsed() >= most {
                state.is_late = true;
                return Err(Missing::Late);
            }
            let began = Instant::now();
            let _later = self.growth.changed.wait_for(&mut state, LOOK_EVERY);
            state.waited += began.elapsed();
        }
        Err(Missing::Unwanted)
    }

    /// Its bytes as they come.
    pub(super) fn source<'b>(
        &'b self,
        file: File,
        metrics: &std::sync::Arc<crate::metrics::Metrics>,
        is_wanted: &'b (dyn Fn() -> bool + Sync),
    ) -> Waiting<'b> {
        Waiting {
            growing: self,
            file: ArchiveFile::of_len(file, self.len, std::sync::Arc::clone(metrics)),
            is_wanted,
        }
    }
}

/// The bytes of an archive that is still being written.
pub(super) struct Waiting<'a> {
    growing: &'a Growing<'a>,
    file: ArchiveFile,
    is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl ReadAt for Waiting<'_> {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let len = buf.len();
        let until = at.saturating_add(len as u64).min(self.file.len());
        let came = self.growing.wait_for(until, self.is_wanted);
        came.map_err(|missing| SourceError::Io {
            at,
            len,
            cause: missing.into(),
        })?;
        self.file.read_exact_at(at, buf)
    }

    fn will_need(&self, range: Range<u64>) {
        self.file.will_need(range);
    }

    fn forget(&self, range: Range<u64>) {
        self.file.forget(range);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn growing<'a>(growth: &'a Growth, most: Duration, others: &'a AtomicUsize) -> Growing<'a> {
        Growing {
            growth,
            len: 10,
            patience: Patience { most, others },
        }
    }

    #[test]
    fn bytes_are_read_when_they_come_and_not_before() {
        let (growth, others) = (Growth::new(), AtomicUsize::new(1));
        let growing = growing(&growth, LONG, &others);
        let mut file = tempfile::tempfile().unwrap();
        let source = growing.source(file.try_clone().unwrap(), &Arc::default(), &|| true);
        assert_eq!(source.len(), 10);
        std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut all = [0; 10];
                for (at, piece) in all.chunks_mut(4).enumerate() {
                    source.read_exact_at(at as u64 * 4, piece).unwrap();
                }
                growing.wait_for_end(&|| true).unwrap();
                all
            });
            for at in 0..10 {
                file.write_all(b"0123456789"[at..=at].as_ref()).unwrap();
                growth.grew(at as u64 + 1);
            }
            growth.end(Ok(()));
            growth.end(Err("not any more".to_owned()));
            assert_eq!(&reading.join().unwrap(), b"0123456789");
        });
        assert_eq!(growth.failure(), None);
        let outside = source.read_exact_at(9, &mut [0; 2]).unwrap_err();
        assert!(matches!(outside, SourceError::OutOfRange { .. }));
    }

    #[test]
    fn waiting_ends() {
        let (growth, nobody) = (Growth::new(), AtomicUsize::new(0));
        let patient = growing(&growth, LONG, &nobody);
        assert_eq!(patient.wait_for(1, &|| false), Err(Missing::Unwanted));
        assert!(!growth.is_late());
        let hasty = growing(&growth, Duration::ZERO, &nobody);
        assert_eq!(hasty.wait_for(1, &|| true), Err(Missing::Late));
        assert!(growth.is_late());
        growth.end(Err("the other end is gone".to_owned()));
        assert_eq!(patient.wait_for(1, &|| true), Err(Missing::Ended));
        assert_eq!(patient.wait_for_end(&|| true), Err(Missing::Ended));
        assert_eq!(growth.wait_for_end(&|| true), Err(Missing::Ended));
        assert_eq!(growth.failure().as_deref(), Some("the other end is gone"));
    }

    /// It comes, but slowly: only others who wait make that too long.
    #[test]
    fn others_who_wait_shorten_it() {
        let (growth, others) = (Growth::new(), AtomicUsize::new(0));
        let reads = growing(&growth, LONG, &others);
        growth.state.lock().waited = LONG;
        let looks = AtomicUsize::new(0);
        let for_a_while = || looks.fetch_add(1, Ordering::Relaxed) < 3;
        assert_eq!(reads.wait_for(2, &for_a_while), Err(Missing::Unwanted));
        others.store(1, Ordering::Relaxed);
        assert_eq!(reads.wait_for(2, &|| true), Err(Missing::Late));
    }
}
