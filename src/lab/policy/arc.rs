//! Adaptive replacement: those used once and those used again, each least recently
//! used first, and between them a border that moves to where misses would have been
//! hits.
//!
//! Source: Megiddo and Modha, "ARC: A Self-Tuning, Low Overhead Replacement Cache",
//! FAST 2003, figure 4. Units weigh the same here, so its pages are units and its `c`
//! is how many fit. What is decoded on the way to a unit comes in as if asked once.

use super::list::{Links, List};
use super::{Policy, Room, Unit};

/// ARC.
#[derive(Debug)]
pub struct Arc {
    links: Links,
    /// T1: used once.
    once: List,
    /// T2: used again.
    again: List,
    /// B1: left `once`, only the name is known.
    left_once: List,
    /// B2: left `again`.
    left_again: List,
    place: Vec<Place>,
    /// p: how many in `once` there should be.
    once_wanted: usize,
    /// c.
    kept_max: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Unknown,
    Once,
    Again,
    LeftOnce,
    LeftAgain,
}

impl Arc {
    /// REPLACE: makes room for one.
    fn replace(&mut self, left_again: bool, gone: &mut Vec<Unit>) {
        if self.kept() < self.kept_max {
            return;
        }
        let once = self.once.len();
        let from_once =
            once > 0 && (once > self.once_wanted || (left_again && once == self.once_wanted));
        let (from, to, place) = if from_once || self.again.len() == 0 {
            (&mut self.once, &mut self.left_once, Place::LeftOnce)
        } else {
            (&mut self.again, &mut self.left_again, Place::LeftAgain)
        };
        if let Some(unit) = from.pop(&mut self.links) {
            to.push(&mut self.links, unit);
            self.place[unit.at()] = place;
            gone.push(unit);
        }
    }

    /// Case IV: `unit` is not known.
    fn insert_unknown(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        let known_once = self.once.len() + self.left_once.len();
        if known_once >= self.kept_max {
            if self.once.len() < self.kept_max {
                self.forget(Place::LeftOnce);
                self.replace(false, gone);
            } else {
                gone.extend(self.forget(Place::Once));
            }
        } else if known_once + self.again.len() + self.left_again.len() >= self.kept_max {
            if known_once + self.again.len() + self.left_again.len() >= 2 * self.kept_max {
                self.forget(Place::LeftAgain);
            }
            self.replace(false, gone);
        }
        self.once.push(&mut self.links, unit);
        self.place[unit.at()] = Place::Once;
    }

    /// Drops the oldest of a list, with its name.
    fn forget(&mut self, of: Place) -> Option<Unit> {
        let list = match of {
            Place::Once => &mut self.once,
            Place::LeftOnce => &mut self.left_once,
            Place::LeftAgain => &mut self.left_again,
            Place::Again | Place::Unknown => return None,
        };
        let unit = list.pop(&mut self.links)?;
        self.place[unit.at()] = Place::Unknown;
        Some(unit)
    }

    fn push_again(&mut self, unit: Unit) {
        self.again.push(&mut self.links, unit);
        self.place[unit.at()] = Place::Again;
    }
}

impl Policy for Arc {
    fn new(room: Room) -> Self {
        Arc {
            links: Links::new(room.units),
            once: List::new(),
            again: List::new(),
            left_once: List::new(),
            left_again: List::new(),
            place: vec![Place::Unknown; room.units],
            once_wanted: 0,
            kept_max: room.kept_max(),
        }
    }

    fn get(&mut self, unit: Unit) -> bool {
        match self.place[unit.at()] {
            Place::Once => self.once.remove(&mut self.links, unit),
            Place::Again => self.again.remove(&mut self.links, unit),
            _ => return false,
        }
        self.push_again(unit);
        true
    }

    fn contains(&self, unit: Unit) -> bool {
        matches!(self.place[unit.at()], Place::Once | Place::Again)
    }

    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        if self.kept_max == 0 {
            gone.push(unit);
            return;
        }
        let (once, again) = (self.left_once.len(), self.left_again.len());
        match self.place[unit.at()] {
            Place::Once | Place::Again => (),
            Place::LeftOnce => {
                let step = (again / once.max(1)).max(1);
                self.once_wanted = self.kept_max.min(self.once_wanted + step);
                self.replace(false, gone);
                self.left_once.remove(&mut self.links, unit);
                self.push_again(unit);
            }
            Place::LeftAgain => {
                let step = (once / again.max(1)).max(1);
                self.once_wanted = self.once_wanted.saturating_sub(step);
                self.replace(true, gone);
                self.left_again.remove(&mut self.links, unit);
                self.push_again(unit);
            }
            Place::Unknown => self.insert_unknown(unit, gone),
        }
    }

    fn kept(&self) -> usize {
        self.once.len() + self.again.len()
    }
}
