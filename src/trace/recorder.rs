//! Noting reads while they are served, until somebody fetches them.
//!
//! Guarantees: a reader is never kept waiting; memory is bounded by [`NOTED_BYTES`] and
//! only taken while somebody records; what finds no room is counted. A recording whose
//! owner went away ends by itself. Lock order: one lock, held for the copying of some
//! bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::frame::Cursor;
use super::record::{Before, RECORD_BYTES_MAX, Read};
use super::watch;

/// How much may wait to be fetched: half a second of the fastest reader.
pub const NOTED_BYTES: usize = 512 << 10;

/// The most that is fetched at once.
pub const FETCHED_BYTES: usize = 12 << 10;

/// A recording that nobody fetches for so long has no owner any more.
const PATIENCE: Duration = Duration::from_secs(10);

/// Notes the reads of one mount.
#[derive(Debug, Default)]
pub struct Recorder {
    is_on: AtomicBool,
    state: Mutex<Option<Recording>>,
    recordings: std::sync::atomic::AtomicU32,
}

#[derive(Debug)]
struct Recording {
    number: u32,
    began: Instant,
    fetched: Instant,
    whole: VecDeque<Vec<u8>>,
    open: Vec<u8>,
    before: Before,
    left_out: u64,
}

/// What was fetched of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Records in the form of a frame; empty if there are none at the moment.
    pub payload: Vec<u8>,
    /// How many records had no room since the last time.
    pub left_out: u64,
    /// Whether more can be fetched at once.
    pub has_more: bool,
}

/// A read that was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Which file.
    pub ino: u64,
    /// From where.
    pub offset: u64,
    /// How much there was.
    pub len: usize,
    /// When it arrived.
    pub arrived: Instant,
}

impl Recorder {
    /// Begins a recording, whose number is answered; nothing if there is one already.
    pub fn begin(&self) -> Option<u32> {
        let mut state = self.state.lock();
        let now = Instant::now();
        if let Some(other) = &*state
            && now.duration_since(other.fetched) < PATIENCE
        {
            return None;
        }
        let number = self.recordings.fetch_add(1, Ordering::Relaxed) + 1;
        *state = Some(Recording {
            number,
            began: now,
            fetched: now,
            whole: VecDeque::new(),
            open: Vec::new(),
            before: Before::default(),
            left_out: 0,
        });
        self.is_on.store(true, Ordering::Relaxed);
        Some(number)
    }

    /// Takes what was noted; nothing if there is no such recording any more.
    pub fn fetch(&self, number: u32) -> Option<Fetched> {
        let mut state = self.state.lock();
        let recording = state.as_mut().filter(|one| one.number == number)?;
        recording.fetched = Instant::now();
        if recording.whole.is_empty() {
            recording.close();
        }
        Some(Fetched {
            payload: recording.whole.pop_front().unwrap_or_default(),
            left_out: std::mem::take(&mut recording.left_out),
            has_more: !recording.whole.is_empty(),
        })
    }

    /// Ends a recording; what was not fetched is gone.
    pub fn end(&self, number: u32) {
        let mut state = self.state.lock();
        if state.as_ref().is_some_and(|one| one.number == number) {
            self.is_on.store(false, Ordering::Relaxed);
            *state = None;
        }
    }

    /// Watches what this thread reads from here on, if anybody records.
    pub fn watch(&self) -> Option<Watched<'_>> {
        self.is_on.load(Ordering::Relaxed).then(|| {
            watch::begin();
            Watched { recorder: self }
        })
    }

    fn note(&self, asked: &Asked) {
        let mut state = self.state.lock();
        let Some(recording) = state.as_mut() else {
            return;
        };
        if recording.fetched.elapsed() >= PATIENCE {
            self.is_on.store(false, Ordering::Relaxed);
            *state = None;
            return;
        }
        recording.note(asked);
    }
}

impl Recording {
    fn note(&mut self, asked: &Asked) {
        let micros = |since: Duration| u64::try_from(since.as_micros()).unwrap_or(u64::MAX);
        let whole = Read {
            at_us: micros(asked.arrived.saturating_duration_since(self.began)),
            ino: asked.ino,
            offset: asked.offset,
            len: small(asked.len),
            us: u32::try_from(asked.arrived.elapsed().as_micros()).unwrap_or(u32::MAX),
            ..Read::default()
        };
        watch::end(|pieces| {
            if pieces.is_empty() {
                self.append(&whole);
            }
            for (n, piece) in pieces.iter().enumerate() {
                self.append(&Read {
                    offset: piece.offset,
                    len: small(piece.len),
                    stream: Some(piece.stream),
                    outcome: piece.outcome,
                    continues: n > 0,
                    us: if n > 0 { 0 } else { whole.us },
                    ..whole
                });
            }
        });
    }

    fn append(&mut self, read: &Read) {
        let noted = self.whole.len() * FETCHED_BYTES + self.open.len();
        if noted + RECORD_BYTES_MAX > NOTED_BYTES {
            self.left_out += 1;
            return;
        }
        self.before.encode(read, &mut self.open);
        if self.open.len() + RECORD_BYTES_MAX > FETCHED_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let next = Vec::with_capacity(FETCHED_BYTES);
            let whole = std::mem::replace(&mut self.open, next);
            self.whole.push_back(whole);
        }
        self.before = Before::default();
    }
}

/// A thread whose reads are watched, until this is gone.
#[derive(Debug)]
#[must_use]
pub struct Watched<'a> {
    recorder: &'a Recorder,
}

impl Watched<'_> {
    /// Notes what was read meanwhile, which was answered just now.
    pub fn answered(self, asked: &Asked) {
        self.recorder.note(asked);
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        watch::end(|_| ());
    }
}

/// Takes records apart that were fetched.
pub fn fetched(payload: &[u8]) -> Result<Vec<Read>, &'static str> {
    let (mut cursor, mut before) = (Cursor::new(payload), Before::default());
    let mut reads = Vec::with_capacity(payload.len() / 8);
    while !cursor.is_at_end() {
        reads.push(before.decode(&mut cursor)?);
    }
    Ok(reads)
}

fn small(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Outcome;

    fn asked(ino: u64) -> Asked {
        Asked {
            ino,
            offset: 0,
            len: 5000,
            arrived: Instant::now(),
        }
    }

    const HIT: Outcome = Outcome {
        hits: 1,
        joined: 0,
        misses: 0,
    };

    fn read_once(recorder: &Recorder, ino: u64) {
        if let Some(watched) = recorder.watch() {
            watch::at(0);
            watch::found(700, 3000, HIT);
            watch::at(4000);
            watch::found(90_000, 1000, HIT);
            watched.answered(&asked(ino));
        }
    }

    #[test]
    fn nothing_is_noted_unless_asked() {
        let recorder = Recorder::default();
        watch::found(1, 2, HIT);
        read_once(&recorder, 7);
        assert_eq!(recorder.fetch(1), None);
        assert!(recorder.state.lock().is_none());
    }

    #[test]
    fn what_is_read_is_fetched_in_pieces() {
        let recorder = Recorder::default();
        let number = recorder.begin().unwrap();
        assert_eq!(recorder.begin(), None, "one at a time");
        read_once(&recorder, 7);
        recorder.watch().unwrap().answered(&asked(8));
        let found = recorder.fetch(number).unwrap();
        let reads = fetched(&found.payload).unwrap();
        let places: Vec<_> = reads
            .iter()
            .map(|read| (read.ino, read.offset, read.len, read.stream, read.continues))
            .collect();
        let expected = [
            (7, 0, 3000, Some(700), false),
            (7, 4000, 1000, Some(90_000), true),
            (8, 0, 5000, None, false),
        ];
        assert_eq!(places, expected);
        assert_eq!((found.left_out, found.has_more), (0, false));
        assert_eq!(recorder.fetch(number).unwrap(), Fetched::default());
        recorder.end(number);
        read_once(&recorder, 9);
        assert_eq!(recorder.fetch(number), None);
    }

    #[test]
    fn what_nobody_fetches_is_counted_and_takes_bounded_memory() {
        let recorder = Recorder::default();
        let number = recorder.begin().unwrap();
        let many = 100_000;
        for ino in 0..many {
            read_once(&recorder, ino * 1_000_003);
        }
        let (mut records, mut left_out) = (0, 0);
        loop {
            let found = recorder.fetch(number).unwrap();
            assert!(found.payload.len() <= FETCHED_BYTES);
            records += fetched(&found.payload).unwrap().len() as u64;
            left_out += found.left_out;
            if !found.has_more && found.payload.is_empty() {
                break;
            }
        }
        assert_eq!(records + left_out, 2 * many);
        assert!(records > 0 && left_out > 0);
        // There is room again.
        read_once(&recorder, 1);
        assert!(!recorder.fetch(number).unwrap().payload.is_empty());
    }

    /// A read that found nothing cached was not noted, and its thread was watched from
    /// then on: each later read took memory, for ever.
    #[test]
    fn whatever_becomes_of_a_read_its_thread_is_not_watched_on() {
        let recorder = Recorder::default();
        let number = recorder.begin().unwrap();
        let seen_later = || {
            watch::found(1, 2, HIT);
            watch::kept()
        };
        drop(recorder.watch().unwrap());
        assert_eq!(seen_later(), 0, "not answered");
        let watched = recorder.watch().unwrap();
        recorder.end(number);
        watched.answered(&asked(7));
        assert_eq!(seen_later(), 0, "its recording was ended meanwhile");
        recorder.begin().unwrap();
        let watched = recorder.watch().unwrap();
        watch::found(1, 2, HIT);
        recorder.state.lock().as_mut().unwrap().fetched = Instant::now() - 2 * PATIENCE;
        watched.answered(&asked(7));
        assert_eq!(seen_later(), 0, "its owner went away");
        assert!(recorder.watch().is_none());
    }

    #[test]
    fn an_old_number_fetches_nothing_of_another() {
        let recorder = Recorder::default();
        let first = recorder.begin().unwrap();
        recorder.end(first);
        let second = recorder.begin().unwrap();
        assert!(second != first && recorder.fetch(first).is_none());
        recorder.end(first);
        assert!(recorder.fetch(second).is_some());
    }
}
