//! OPT: how many hits any policy could have had at most.
//!
//! # What it is
//!
//! Belady's rule keeps what is asked for next. It is not a bound here as it stands: a
//! miss decodes a run and inserts all of it, so a block can be a hit that nobody asked
//! for before. This bound relaxes what is possible to something that can be solved
//! exactly.
//!
//! *When a unit can be produced.* A read decodes in a span at most up to the last unit
//! of that span that it covers, beginning somewhere in the span, and in a plain image
//! only what it covers. So a unit `u` can be produced by read `r` only if `r` covers in
//! the span of `u` some unit at or behind `u` (in a plain image: `u` itself), or if the
//! span of `u` is decoded ahead after `r`, which depends on the reads alone. Call this
//! "`r` offers `u`".
//!
//! *What a hit takes.* A unit that read `i` looks up and finds was not produced by `i`
//! itself: the runs of a read end at the last missing unit that it covers, and what a
//! run produces from the wanted unit on is handed over and counted as missed, never
//! looked up. So it was produced by an earlier read, at the latest by `j`, the last one
//! before `i` that offers `u`, and it is kept since: at the end of each of the reads
//! `j, j+1, …, i-1`.
//!
//! *The bound.* Each lookup is thus an interval `[j, i)`; without such a `j` it is a
//! miss for everybody. At the end of each read at most `C` units are kept, so the hits
//! of any policy are intervals of which no more than `C` overlap anywhere (those of one
//! unit do not overlap: `i` offers what it looks up). The bound is the largest number
//! of such intervals. It may take what no policy could: that each read which offers a
//! unit really decodes it.
//!
//! Where a read covers one unit and nothing else is decoded, this is the optimum of
//! Belady with the choice not to keep.
//!
//! # How it is found
//!
//! As many jobs as possible on `C` machines, each with a fixed beginning and end: take
//! the jobs in the order of their ends and give each to the free machine that became
//! free last, or to none (Faigle and Nawijn 1995; Carlisle and Lloyd 1995). The ends
//! are in the order of the reads, so one pass is enough and nothing of the future is
//! needed. The machine is found with a union-find over reads, since a machine becomes
//! free at the present read only: almost constant time, twelve bytes for each read.

use super::Unit;

/// How many hits there can be.
#[derive(Debug)]
pub struct Bound {
    /// The read that offered a unit last, from 1; 0 if none did.
    offered: Vec<u32>,
    /// How many machines became free at a read; at 0 those that were never used.
    free: Vec<u32>,
    /// A read at or before this one where machines are free; of those without free
    /// machines another one, towards the beginning.
    towards: Vec<u32>,
    hits: u64,
}

impl Bound {
    /// For `kept_max` units that can be kept, of `units`.
    pub fn new(kept_max: usize, units: usize) -> Self {
        Bound {
            offered: vec![0; units],
            free: vec![u32::try_from(kept_max).unwrap_or(u32::MAX)],
            towards: vec![0],
            hits: 0,
        }
    }

    /// The next read begins.
    pub fn begin(&mut self) {
        let now = u32::try_from(self.free.len()).unwrap_or(u32::MAX);
        self.free.push(0);
        self.towards.push(now);
    }

    /// The present read looks up `unit`; answers whether that can be a hit.
    pub fn look_up(&mut self, unit: Unit) -> bool {
        let offered = self.offered[unit.at()];
        if offered == 0 {
            return false;
        }
        let found = self.find(offered);
        let Some(free) = self.free[found as usize].checked_sub(1) else {
            return false;
        };
        self.free[found as usize] = free;
        if free == 0 && found > 0 {
            self.towards[found as usize] = found - 1;
        }
        if let Some(now) = self.free.last_mut() {
            *now += 1;
        }
        self.hits += 1;
        true
    }

    /// The present read, or what is decoded ahead after it, may produce these.
    pub fn offer(&mut self, units: std::ops::RangeInclusive<Unit>) {
        let now = u32::try_from(self.free.len() - 1).unwrap_or(u32::MAX);
        self.offered[units.start().at()..=units.end().at()].fill(now);
    }

    /// How many lookups could be hits.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// The last read at or before `at` where machines became free that still are.
    fn find(&mut self, at: u32) -> u32 {
        let mut at = at;
        // A read at which nothing became free points at itself until it is passed.
        loop {
            let next = self.towards[at as usize];
            if next == at {
                if self.free[at as usize] > 0 || at == 0 {
                    return at;
                }
                self.towards[at as usize] = at - 1;
                continue;
            }
            let after = self.towards[next as usize];
            self.towards[at as usize] = after;
            at = after;
        }
    }
}
