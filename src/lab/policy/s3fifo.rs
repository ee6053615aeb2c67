//! S3-FIFO: a small queue for what is new, a large one for what was used again, and
//! the names of what left the small one.
//!
//! Source: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023,
//! algorithm 1: a tenth of the room for the small queue, two bits that count uses, as
//! many names of those that left as the large queue has room for.

use super::list::{Links, List};
use super::{Policy, Room, Unit};

/// Uses are counted up to here.
const USES_MAX: u8 = 3;

/// S3-FIFO.
#[derive(Debug)]
pub struct S3Fifo {
    links: Links,
    small: List,
    large: List,
    state: Vec<State>,
    /// Where in the order of those that left the small queue a unit is, from 1; 0 if
    /// it did not leave or came back.
    left: Vec<u64>,
    left_count: u64,
    small_max: usize,
    large_max: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    is_kept: bool,
    uses: u8,
}

impl S3Fifo {
    fn kept_max(&self) -> usize {
        self.small_max + self.large_max
    }

    /// Whether `unit` left the small queue lately.
    fn left_lately(&self, unit: Unit) -> bool {
        let at = self.left[unit.at()];
        at != 0 && self.left_count - at < self.large_max as u64
    }

    fn evict(&mut self) -> Option<Unit> {
        if self.small.len() >= self.small_max
            && let Some(gone) = self.evict_small()
        {
            return Some(gone);
        }
        self.evict_large()
    }

    /// Moves what was used to the large queue until something leaves.
    fn evict_small(&mut self) -> Option<Unit> {
        while let Some(unit) = self.small.pop(&mut self.links) {
            if self.state[unit.at()].uses > 1 {
                self.state[unit.at()].uses = 0;
                self.large.push(&mut self.links, unit);
                if self.large.len() > self.large_max {
                    return self.evict_large();
                }
            } else {
                self.left_count += 1;
                self.left[unit.at()] = self.left_count;
                self.state[unit.at()] = State::default();
                return Some(unit);
            }
        }
        None
    }

    fn evict_large(&mut self) -> Option<Unit> {
        while let Some(unit) = self.large.pop(&mut self.links) {
            let state = &mut self.state[unit.at()];
            if state.uses == 0 {
                *state = State::default();
                return Some(unit);
            }
            state.uses -= 1;
            self.large.push(&mut self.links, unit);
        }
        None
    }
}

impl Policy for S3Fifo {
    fn new(room: Room) -> Self {
        let kept_max = room.kept_max();
        let small_max = (kept_max / 10).max(1).min(kept_max);
        S3Fifo {
            links: Links::new(room.units),
            small: List::new(),
            large: List::new(),
            state: vec![State::default(); room.units],
            left: vec![0; room.units],
            left_count: 0,
            small_max,
            large_max: kept_max - small_max,
        }
    }

    fn get(&mut self, unit: Unit) -> bool {
        let state = &mut self.state[unit.at()];
        if state.is_kept {
            state.uses = USES_MAX.min(state.uses + 1);
        }
        state.is_kept
    }

    fn contains(&self, unit: Unit) -> bool {
        self.state[unit.at()].is_kept
    }

    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        if self.contains(unit) {
            return;
        }
        if self.kept_max() == 0 {
            gone.push(unit);
            return;
        }
        let comes_back = self.left_lately(unit);
        while self.kept() >= self.kept_max()
            && let Some(evicted) = self.evict()
        {
            gone.push(evicted);
        }
        if comes_back {
            self.left[unit.at()] = 0;
            self.large.push(&mut self.links, unit);
        } else {
            self.small.push(&mut self.links, unit);
        }
        self.state[unit.at()] = State {
            is_kept: true,
            uses: 0,
        };
    }

    fn kept(&self) -> usize {
        self.small.len() + self.large.len()
    }
}
