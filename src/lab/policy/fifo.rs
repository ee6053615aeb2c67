//! First in, first out.

use std::collections::VecDeque;

use super::{Policy, Room, Unit};

/// A queue; a use changes nothing.
#[derive(Debug)]
pub struct Fifo {
    queue: VecDeque<Unit>,
    is_kept: Vec<bool>,
    kept_max: usize,
}

impl Policy for Fifo {
    fn new(room: Room) -> Self {
        Fifo {
            queue: VecDeque::new(),
            is_kept: vec![false; room.units],
            kept_max: room.kept_max(),
        }
    }

    fn get(&mut self, unit: Unit) -> bool {
        self.contains(unit)
    }

    fn contains(&self, unit: Unit) -> bool {
        self.is_kept[unit.at()]
    }

    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        if std::mem::replace(&mut self.is_kept[unit.at()], true) {
            return;
        }
        self.queue.push_back(unit);
        if self.queue.len() > self.kept_max
            && let Some(oldest) = self.queue.pop_front()
        {
            self.is_kept[oldest.at()] = false;
            gone.push(oldest);
        }
    }

    fn kept(&self) -> usize {
        self.queue.len()
    }
}
