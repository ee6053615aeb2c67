//! Lists of units whose links are in one array for all lists of a policy.
//!
//! Invariant: a unit is in at most one of the lists that share their [`Links`]; whoever
//! uses them knows in which.

use super::Unit;

const NONE: u32 = u32::MAX;

/// The links of all units.
#[derive(Debug)]
pub(super) struct Links(Vec<Link>);

#[derive(Clone, Copy, Debug)]
struct Link {
    newer: u32,
    older: u32,
}

impl Links {
    pub(super) fn new(units: usize) -> Self {
        let none = Link {
            newer: NONE,
            older: NONE,
        };
        Links(vec![none; units])
    }

    /// The one that was put in after `unit`.
    pub(super) fn newer(&self, unit: Unit) -> Option<Unit> {
        known(self.0[unit.at()].newer)
    }
}

/// One list, from the newest to the oldest.
#[derive(Debug)]
pub(super) struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

impl List {
    pub(super) fn new() -> Self {
        List {
            newest: NONE,
            oldest: NONE,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn oldest(&self) -> Option<Unit> {
        known(self.oldest)
    }

    /// Puts in `unit`, which is in no list.
    pub(super) fn push(&mut self, links: &mut Links, unit: Unit) {
        links.0[unit.at()] = Link {
            newer: NONE,
            older: self.newest,
        };
        match known(self.newest) {
            Some(second) => links.0[second.at()].newer = unit.0,
            None => self.oldest = unit.0,
        }
        self.newest = unit.0;
        self.len += 1;
    }

    /// Takes out `unit`, which is in this list.
    pub(super) fn remove(&mut self, links: &mut Links, unit: Unit) {
        let Link { newer, older } = links.0[unit.at()];
        match known(newer) {
            Some(newer) => links.0[newer.at()].older = older,
            None => self.newest = older,
        }
        match known(older) {
            Some(older) => links.0[older.at()].newer = newer,
            None => self.oldest = newer,
        }
        self.len -= 1;
    }

    /// Takes out the oldest.
    pub(super) fn pop(&mut self, links: &mut Links) -> Option<Unit> {
        let oldest = self.oldest()?;
        self.remove(links, oldest);
        Some(oldest)
    }
}

fn known(link: u32) -> Option<Unit> {
    (link != NONE).then_some(Unit(link))
}
