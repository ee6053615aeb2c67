//! Least recently used: the very map of the cache that serves.

use super::{Policy, Room, Unit};
use crate::cache::lru::ByteLru;

/// The map of the cache that serves, without the blocks.
#[derive(Debug)]
pub struct Lru {
    units: ByteLru<Unit, ()>,
    unit_bytes: u64,
}

impl Policy for Lru {
    fn new(room: Room) -> Self {
        Lru {
            units: ByteLru::new(room.cache_bytes),
            unit_bytes: room.unit_bytes,
        }
    }

    fn get(&mut self, unit: Unit) -> bool {
        self.units.get(&unit).is_some()
    }

    fn contains(&self, unit: Unit) -> bool {
        self.units.contains(&unit)
    }

    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>) {
        self.units
            .insert_with(unit, (), self.unit_bytes, |evicted| gone.push(evicted));
        if self.units.used_bytes() == 0 {
            gone.push(unit);
        }
    }

    fn kept(&self) -> usize {
        usize::try_from(self.units.used_bytes() / self.unit_bytes.max(1)).unwrap_or(usize::MAX)
    }
}
