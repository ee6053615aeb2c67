//! SIEVE: a queue, and a hand that goes from the oldest to the newest and takes what
//! was not used since it came by the last time.
//!
//! Source: Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024, algorithm 1.

use super::list::{Links, List};
use super::{Policy, Room, Unit};

/// SIEVE.
#[derive(Debug)]
pub struct Sieve {
    links: Links,
    queue: List,
    hand: Option<Unit>,
    state: Vec<State>,
    kept_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Absent,
    Kept,
    Used,
}

impl Sieve {
    fn evict(&mut self) -> Option<Unit> {
        let mut at = self.hand.or_else(|| self.queue.oldest())?;
        while self.state[at.at()] == State::Used {
            self.state[at.at()] = State::Kept;
            at = self.links.newer(at).or_else(|| self.queue.oldest())?;
        }
        self.hand = self.links.newer(at);
        self.queue.remove(&mut self.links, at);
        self.state[at.at()] = State::Absent;
        Some(at)
    }
}

impl Policy for Sieve {
    fn new(room: Room) -> Self {
        Sieve {
            links: Links::new(room.units),
            queue: List::new(),
            hand: None,
            state: vec![State::Absent; room.units],
            kept_max: room.kept_max(),
        }
    }

    fn get(&mut self, unit: Unit) -> bool {
        let state = &mut self.state[unit.at()];
        if *state == State::Absent {
            return false;
        }
        *state = State::Used;
        true
    }

    fn contains(&self, unit: Unit) -> bool {
        self.state[unit.at()] != State::Absent
    }

    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        if self.contains(unit) {
            return;
        }
        if self.kept_max == 0 {
            gone.push(unit);
            return;
        }
        if self.queue.len() == self.kept_max {
            gone.extend(self.evict());
        }
        self.queue.push(&mut self.links, unit);
        self.state[unit.at()] = State::Kept;
    }

    fn kept(&self) -> usize {
        self.queue.len()
    }
}
