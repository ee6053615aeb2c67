//! What a trace shows by itself: how fast reads were answered, where in the archives
//! they were, and which files they were of.
//!
//! Units: microseconds and bytes. One pass; memory is bounded by the sizes of the heat
//! map and by a million files.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde::Serialize;

use super::times::{Clocked, Times};
use crate::trace::{Read, Trace, TracedImage};

/// Files that are told apart; further ones are counted together.
const FILES_MAX: usize = 1 << 20;

/// Files that are named.
const FILES_NAMED: usize = 20;

/// How many images have a heat map: the first that are read.
pub const HEATS_MAX: usize = 32;

/// What a heat map is divided into.
const HEAT_COLUMNS: usize = 200;
const HEAT_ROWS: usize = 100;

/// What a trace shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Reads; pieces of one are one.
    pub reads: u64,
    /// Bytes of files that were read.
    pub bytes: u64,
    /// Bytes of holes among them.
    pub hole_bytes: u64,
    /// How long it took until the last read arrived.
    pub duration_us: u64,
    /// Blocks that were cached, decoded by another reader already, or had to be decoded.
    pub hits: u64,
    /// See `hits`.
    pub joined: u64,
    /// See `hits`.
    pub misses: u64,
    /// How fast reads were answered.
    pub latencies: Vec<Latency>,
    /// Where in the archives reads were, and when.
    pub heat: Vec<Heat>,
    /// The files of which most was read.
    pub files: Vec<FileSeen>,
    /// How many files were read.
    pub file_count: u64,
}

impl Seen {
    /// The part of all blocks that were cached; nothing if there were none.
    pub fn hit_ratio(&self) -> Option<f64> {
        let asked = self.hits + self.joined + self.misses;
        (asked > 0).then(|| self.hits as f64 / asked as f64)
    }
}

/// How fast reads of one kind were answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// `cached` if no block of a read had to be decoded, or `decoded`.
    pub kind: &'static str,
    /// How many reads.
    pub reads: u64,
    /// How long they took.
    pub times: Times,
}

/// Bytes that were read of an image, by time (columns) and place in its archive (rows).
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Heat {
    /// The image's name.
    pub image: String,
    /// How long its archive is.
    pub archive_bytes: u64,
    /// How many columns a row has.
    pub columns: usize,
    /// How many rows.
    pub rows: usize,
    /// Bytes, row by row, the beginning of the archive first.
    pub bytes: Vec<u64>,
}

/// A file that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FileSeen {
    /// The number of its image.
    pub image: u32,
    /// Its inode.
    pub ino: u64,
    /// How often.
    pub reads: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Looks at all of a trace.
pub fn look(trace: &Trace) -> Seen {
    let mut seen = Seen::default();
    for read in trace.records() {
        seen.duration_us = seen.duration_us.max(read.at_us);
    }
    let duration = seen.duration_us.max(1);
    let mut heat = BTreeMap::new();
    let mut files: HashMap<(u32, u64), (u64, u64)> = HashMap::new();
    let mut times = KINDS.map(|_| Clocked::new());
    let mut whole: Option<Read> = None;
    for read in trace.records() {
        let len = u64::from(read.len);
        seen.bytes += len;
        seen.hits += u64::from(read.outcome.hits);
        seen.joined += u64::from(read.outcome.joined);
        seen.misses += u64::from(read.outcome.misses);
        match read.stream {
            None => seen.hole_bytes += len,
            Some(stream) => {
                let at = usize::try_from(read.image).unwrap_or(usize::MAX);
                if let Some(image) = trace.images().get(at)
                    && (heat.len() < HEATS_MAX || heat.contains_key(&at))
                {
                    let place = archive_place(image, stream);
                    let heat = heat.entry(at).or_insert_with(|| empty(image));
                    heat.add(read.at_us, duration, place, len);
                }
            }
        }
        if files.len() < FILES_MAX || files.contains_key(&(read.image, read.ino)) {
            let file = files.entry((read.image, read.ino)).or_default();
            file.0 += u64::from(!read.continues);
            file.1 += len;
        }
        match &mut whole {
            Some(whole) if read.continues => {
                let (sum, more) = (&mut whole.outcome, read.outcome);
                sum.hits = sum.hits.saturating_add(more.hits);
                sum.joined = sum.joined.saturating_add(more.joined);
                sum.misses = sum.misses.saturating_add(more.misses);
            }
            _ => {
                if let Some(before) = whole.replace(read) {
                    clock(&mut times, &before);
                    seen.reads += 1;
                }
            }
        }
    }
    if let Some(last) = whole {
        clock(&mut times, &last);
        seen.reads += 1;
    }
    let latencies = KINDS.into_iter().zip(&times).map(|(kind, clocked)| {
        let times = clocked.times();
        Latency {
            kind,
            reads: times.buckets.iter().map(|(_, reads)| reads).sum(),
            times,
        }
    });
    seen.latencies = latencies.collect();
    seen.heat = heat.into_values().collect();
    seen.file_count = files.len() as u64;
    seen.files = most_read(files);
    seen
}

/// How the slowest of a read's blocks was found.
const KINDS: [&str; 3] = ["cached", "being decoded", "decoded"];

/// Holes have no blocks, and a trace that was made up has no times.
fn clock(times: &mut [Clocked; KINDS.len()], read: &Read) {
    let found = &read.outcome;
    let kind = match (found.hits, found.joined, found.misses) {
        (0, 0, 0) => return,
        (_, 0, 0) => 0,
        (_, _, 0) => 1,
        _ => 2,
    };
    if let Some(times) = times.get_mut(kind) {
        times.add(Duration::from_micros(read.us.into()));
    }
}

fn most_read(files: HashMap<(u32, u64), (u64, u64)>) -> Vec<FileSeen> {
    let mut files: Vec<FileSeen> = files
        .into_iter()
        .map(|((image, ino), (reads, bytes))| FileSeen {
            image,
            ino,
            reads,
            bytes,
        })
        .collect();
    files.sort_by_key(|file| (std::cmp::Reverse(file.bytes), file.image, file.ino));
    files.truncate(FILES_NAMED);
    files
}

fn empty(image: &TracedImage) -> Heat {
    Heat {
        image: image.name.clone(),
        archive_bytes: image.archive_bytes,
        columns: HEAT_COLUMNS,
        rows: HEAT_ROWS,
        bytes: vec![0; HEAT_COLUMNS * HEAT_ROWS],
    }
}

/// Where in its archive a byte of the stream is, about.
pub fn archive_place(image: &TracedImage, stream: u64) -> u64 {
    let behind = image.spans.partition_point(|span| span.stream <= stream);
    let Some(span) = behind.checked_sub(1).and_then(|at| image.spans.get(at)) else {
        return 0;
    };
    let next = image.spans.get(behind);
    let stream_end = next.map_or(image.stream_bytes, |next| next.stream);
    let archive_end = next.map_or(image.archive_bytes, |next| next.archive);
    let len = u128::from(stream_end.saturating_sub(span.stream).max(1));
    let coded = u128::from(archive_end.saturating_sub(span.archive));
    let within = coded * u128::from(stream - span.stream) / len;
    span.archive
        .saturating_add(u64::try_from(within).unwrap_or(u64::MAX))
}

impl Heat {
    fn add(&mut self, at_us: u64, duration_us: u64, place: u64, bytes: u64) {
        let part = |value: u64, of: u64, parts: usize| {
            let scaled = u128::from(value) * parts as u128 / u128::from(of.max(1));
            usize::try_from(scaled).unwrap_or(usize::MAX).min(parts - 1)
        };
        let column = part(at_us, duration_us, self.columns);
        let row = part(place, self.archive_bytes, self.rows);
        if let Some(cell) = self.bytes.get_mut(row * self.columns + column) {
            *cell = cell.saturating_add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Origin, Outcome, SpanStart, TraceWriter};

    fn image() -> TracedImage {
        TracedImage {
            digest: [1; 32],
            name: "image".to_owned(),
            stream_bytes: 1000,
            archive_bytes: 400,
            spans: vec![
                SpanStart {
                    stream: 0,
                    archive: 100,
                },
                SpanStart {
                    stream: 500,
                    archive: 200,
                },
            ],
        }
    }

    #[test]
    fn places_are_within_their_spans() {
        let image = image();
        let places = [0, 250, 499, 500, 750, 999].map(|at| archive_place(&image, at));
        assert_eq!(places, [100, 150, 199, 200, 300, 399]);
    }

    #[test]
    fn a_trace_is_summed_up() {
        let mut writer = TraceWriter::new(Vec::new(), &Origin::default(), u64::MAX).unwrap();
        writer.image(&image()).unwrap();
        let hit = Outcome {
            hits: 2,
            ..Outcome::default()
        };
        let miss = Outcome {
            misses: 1,
            ..Outcome::default()
        };
        let read = Read {
            ino: 7,
            len: 100,
            stream: Some(0),
            outcome: hit,
            us: 10,
            ..Read::default()
        };
        let piece = Read {
            continues: true,
            us: 0,
            outcome: miss,
            stream: Some(900),
            ..read
        };
        let hole = Read {
            at_us: 1000,
            ino: 8,
            stream: None,
            outcome: Outcome::default(),
            us: 1,
            ..read
        };
        let waited = Read {
            at_us: 1000,
            us: 20,
            len: 0,
            outcome: Outcome {
                joined: 1,
                ..Outcome::default()
            },
            ..read
        };
        for read in [read, piece, hole, waited] {
            assert!(writer.read(&read).unwrap());
        }
        let (bytes, _) = writer.finish(2000).unwrap();
        let seen = look(&Trace::from_reader(&bytes[..], false).unwrap());
        assert_eq!((seen.reads, seen.bytes, seen.hole_bytes), (3, 300, 100));
        assert_eq!((seen.hits, seen.misses, seen.duration_us), (2, 1, 1000));
        let [cached, joined, decoded] = &seen.latencies[..] else {
            panic!("three kinds")
        };
        assert_eq!((cached.reads, joined.reads), (0, 1), "a hole has no blocks");
        assert_eq!(joined.times.wall_us, 20);
        assert_eq!((decoded.reads, decoded.times.wall_us), (1, 10));
        let heat = &seen.heat[0];
        assert_eq!(heat.bytes.iter().sum::<u64>(), 200);
        assert_eq!((heat.bytes[25 * 200], heat.bytes[90 * 200]), (100, 100));
        assert_eq!(seen.file_count, 2);
        assert_eq!(
            seen.files[0],
            FileSeen {
                image: 0,
                ino: 7,
                reads: 2,
                bytes: 200
            }
        );
        assert_eq!(seen.hit_ratio(), Some(2.0 / 4.0));
    }
}
