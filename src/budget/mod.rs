//! One byte budget for everything a serving process keeps in memory.
//!
//! Guarantees: the sum of all live reservations never exceeds the total; a
//! reservation returns its bytes when it is dropped. Lock-free.

mod block;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use block::FreeBlocks;
pub use block::{Block, BlockMut};

/// What a reservation is for; each kind is accounted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Decoded blocks in the cache.
    Blocks,
    /// Inflate states, their input buffers and restored windows.
    Decoders,
    /// Reply buffers and thread stacks.
    Buffers,
}

impl Kind {
    /// All kinds, in the order in which they are reported.
    pub const ALL: [Kind; 3] = [Kind::Blocks, Kind::Decoders, Kind::Buffers];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Blocks => "blocks",
            Kind::Decoders => "decoders",
            Kind::Buffers => "buffers",
        }
    }

    /// This kind's share of a total, in 64ths: 24 MiB of blocks, 10 of
    /// decoders and 8 of buffers where the total is 64 MiB. What is left is
    /// for the index pages, the allocator and the program itself.
    fn share_64ths(self) -> u64 {
        match self {
            Kind::Blocks => 24,
            Kind::Decoders => 10,
            Kind::Buffers => 8,
        }
    }
}

/// The budget of one process.
#[derive(Clone, Debug)]
pub struct MemoryBudget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total_bytes: u64,
    used_bytes: [AtomicU64; 3],
    free_blocks: Arc<FreeBlocks>,
}

impl MemoryBudget {
    /// A budget of `total_bytes` for everything.
    pub fn new(total_bytes: u64) -> Self {
        let blocks = total_bytes / 64 * Kind::Blocks.share_64ths();
        Self(Arc::new(Inner {
            total_bytes,
            used_bytes: Default::default(),
            free_blocks: Arc::new(FreeBlocks::new(blocks)),
        }))
    }

    /// Memory for a block of `len` bytes. Whoever keeps blocks reserves for
    /// them; those on their way to somebody are few and not reserved.
    pub fn block(&self, len: u32) -> BlockMut {
        self.0.free_blocks.take(len)
    }

    /// Gives back to the system the memory of blocks that nobody holds.
    pub fn release_blocks(&self) {
        self.0.free_blocks.release();
    }

    /// The total that was promised.
    pub fn total_bytes(&self) -> u64 {
        self.0.total_bytes
    }

    /// The most that reservations of `kind` may add up to.
    pub fn limit_bytes(&self, kind: Kind) -> u64 {
        self.0.total_bytes / 64 * kind.share_64ths()
    }

    /// What reservations of `kind` add up to now.
    pub fn used_bytes(&self, kind: Kind) -> u64 {
        self.0.used_bytes[kind as usize].load(Ordering::Relaxed)
    }

    /// Reserves `bytes`, or nothing if that would exceed the share of `kind`.
    pub fn reserve(&self, kind: Kind, bytes: u64) -> Option<Reservation> {
        let limit = self.limit_bytes(kind);
        self.0.used_bytes[kind as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
                used.checked_add(bytes).filter(|sum| *sum <= limit)
            })
            .ok()?;
        Some(Reservation {
            budget: self.clone(),
            kind,
            bytes,
        })
    }
}

/// Bytes set aside; dropping it gives them back.
#[derive(Debug)]
pub struct Reservation {
    budget: MemoryBudget,
    kind: Kind,
    bytes: u64,
}

impl Reservation {
    /// How many bytes this holds.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.0.used_bytes[self.kind as usize].fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_share_is_never_exceeded_and_comes_back_on_drop() {
        let budget = MemoryBudget::new(64 * MIB);
        assert_eq!(budget.limit_bytes(Kind::Blocks), 24 * MIB);
        let held = budget.reserve(Kind::Blocks, 20 * MIB).unwrap();
        assert!(budget.reserve(Kind::Blocks, 5 * MIB).is_none());
        assert!(budget.reserve(Kind::Blocks, u64::MAX).is_none());
        assert!(budget.reserve(Kind::Decoders, 5 * MIB).is_some());
        drop(held);
        assert_eq!(budget.used_bytes(Kind::Blocks), 0);
    }

    #[test]
    fn the_shares_leave_room_for_the_rest() {
        let shares: u64 = Kind::ALL.iter().map(|kind| kind.share_64ths()).sum();
        assert!(
            shares <= 48,
            "a quarter is for index pages, allocator and program"
        );
    }
}
