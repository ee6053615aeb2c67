//! Finding readers whose next reads can be told, so that their next spans are
//! decoded ahead: those that read on, and those that stay in a neighbourhood, as a
//! program does that loads the modules of a directory.
//!
//! Guarantees: bounded state (a few readers per image, the oldest forgotten); a
//! reader of random places is rarely mistaken for another: a run counts only when
//! its reads follow each other closely for [`RUN_BYTES`], a neighbourhood only
//! where several of the last reads were.

/// Reads that start at most this far behind the end of the last one still
/// follow it: archive headers and small skipped files lie between.
const GAP_BYTES: u64 = 64 * 1024;

/// How much must have been read in one run before anything is decoded ahead: a
/// lone library or interpreter file should not pull in its neighbours.
const RUN_BYTES: u64 = 256 * 1024;

/// Reads that are at most this far apart are neighbours.
const NEAR_BYTES: u64 = 1024 * 1024;

/// How many neighbours make a neighbourhood.
const NEIGHBOURS: usize = 2;

/// How many readers are told apart; more than the session has workers.
const READERS: usize = 16;

/// What a read belongs to, if that tells what is read next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pattern {
    /// A long run of reads, each of which goes on where the last one ended.
    Run,
    /// Reads near to one another.
    Neighbourhood,
}

/// The readers of one image, most recent last.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    runs: Vec<Run>,
}

#[derive(Clone, Copy, Debug)]
struct Run {
    start: u64,
    end: u64,
}

impl Sequences {
    /// Records a read of `start..end`; answers what it belongs to.
    pub(crate) fn record(&mut self, start: u64, end: u64) -> Option<Pattern> {
        let is_near = |run: &&Run| start <= run.end + NEAR_BYTES && run.start <= end + NEAR_BYTES;
        let has_neighbours = self.runs.iter().filter(is_near).count() >= NEIGHBOURS;
        let follows = |run: &Run| start + GAP_BYTES >= run.end && start <= run.end + GAP_BYTES;
        let run = match self.runs.iter().rposition(follows) {
            Some(i) => {
                let run = self.runs.remove(i);
                Run {
                    start: run.start,
                    end: run.end.max(end),
                }
            }
            None => Run { start, end },
        };
        if self.runs.len() == READERS {
            self.runs.remove(0);
        }
        self.runs.push(run);
        if run.end - run.start >= RUN_BYTES {
            Some(Pattern::Run)
        } else {
            has_neighbours.then_some(Pattern::Neighbourhood)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_in_archive_order_is_found_after_its_run() {
        let mut sequences = Sequences::default();
        let found: Vec<_> = (0..100_u64)
            .map(|i| sequences.record(i * 10_000, i * 10_000 + 9_000))
            .collect();
        assert_eq!((found[0], found[20]), (None, None));
        assert!(found[30..].iter().all(|run| *run == Some(Pattern::Run)));
    }

    #[test]
    fn several_readers_are_told_apart() {
        let mut sequences = Sequences::default();
        let mut last = [None; 8];
        for i in 0..64_u64 {
            for (reader, found) in last.iter_mut().enumerate() {
                let at = reader as u64 * 100_000_000 + i * 8192;
                *found = sequences.record(at, at + 8192);
            }
        }
        assert_eq!(last, [Some(Pattern::Run); 8]);
    }

    #[test]
    fn a_reader_that_stays_near_is_found() {
        let mut sequences = Sequences::default();
        let reads = [700_000, 100_000, 900_000, 90_000_000, 400_000, 50_000_000];
        let found = reads.map(|at| sequences.record(at, at + 30_000).is_some());
        assert_eq!(found, [false, false, true, false, true, false]);
    }

    #[test]
    fn a_random_reader_is_neither() {
        let mut sequences = Sequences::default();
        let mut at = 1_u64;
        for _ in 0..10_000 {
            at = at
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let start = (at >> 20) % 1_000_000_000_000;
            assert_eq!(sequences.record(start, start + 4096), None);
        }
    }
}
