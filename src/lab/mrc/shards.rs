//! SHARDS: stack distances of the blocks whose hash is below a threshold, as long as
//! if all blocks were looked at.

use std::collections::{BinaryHeap, HashMap};

use super::{Counted, Sampling, Stack};
use crate::lab::LabError;
use crate::lab::policy::Unit;
use crate::lab::random::mix;

/// P of the paper: hashes are below this.
const HASHES: u32 = 1 << 24;

/// A sample of the blocks.
#[derive(Debug)]
pub(super) struct Shards {
    /// T of the paper: sampled are blocks with a hash below this.
    threshold: u32,
    size_max: usize,
    stack: Stack,
    /// The sampled ones, and their numbers in the stack.
    members: HashMap<Unit, u32>,
    /// The same, the largest hash first; empty where the rate is fixed.
    by_hash: BinaryHeap<(u32, Unit)>,
    unused: Vec<u32>,
    looked_at: u64,
}

impl Shards {
    pub(super) fn new(sampling: Sampling) -> Result<Self, LabError> {
        let (threshold, size_max) = match sampling {
            Sampling::Rate(rate) => (threshold_of(rate), usize::MAX),
            Sampling::Size(size) => (HASHES, size as usize),
        };
        if threshold == 0 || size_max == 0 {
            return Err(LabError::Setting {
                what: "a sample",
                found: 0,
                must: "of some blocks: a rate above 0 and at most 1, or a size above 0",
            });
        }
        Ok(Shards {
            threshold,
            size_max,
            stack: Stack::new(0),
            members: HashMap::new(),
            by_hash: BinaryHeap::new(),
            unused: Vec::new(),
            looked_at: 0,
        })
    }

    /// Which part of the blocks is sampled now.
    pub(super) fn rate(&self) -> f64 {
        f64::from(self.threshold) / f64::from(HASHES)
    }

    pub(super) fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// A block is asked for.
    pub(super) fn reference(&mut self, unit: Unit, counted: &mut Counted) {
        let hash = hash_of(unit);
        if hash >= self.threshold {
            return;
        }
        self.looked_at += 1;
        // Each stands for as many as are not looked at. The paper makes earlier ones
        // smaller when the rate falls, which comes to the same.
        let (rate, weight) = (self.rate(), 1.0 / self.rate());
        let next = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        let mut is_new = false;
        let member = *self.members.entry(unit).or_insert_with(|| {
            is_new = true;
            self.unused.pop().unwrap_or(next)
        });
        match self.stack.touch(member) {
            // The one itself is one, however many are not looked at.
            Some(distance) => counted.add(1.0 + f64::from(distance - 1) / rate, weight),
            None => counted.cold += weight,
        }
        if is_new && self.size_max != usize::MAX {
            self.by_hash.push((hash, unit));
            self.shrink();
        }
    }

    /// Makes the rate smaller until the sample is no larger than it may be.
    fn shrink(&mut self) {
        while self.members.len() > self.size_max
            && let Some((largest, _)) = self.by_hash.peek().copied()
        {
            self.threshold = largest;
            while self
                .by_hash
                .peek()
                .is_some_and(|(hash, _)| *hash >= largest)
                && let Some((_, unit)) = self.by_hash.pop()
            {
                if let Some(member) = self.members.remove(&unit) {
                    self.stack.remove(member);
                    self.unused.push(member);
                }
            }
        }
    }
}

fn hash_of(unit: Unit) -> u32 {
    u32::try_from(mix(unit.0.into()) >> 40).unwrap_or(HASHES)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked to be within 0 and 2^24"
)]
fn threshold_of(rate: f64) -> u32 {
    match rate > 0.0 && rate <= 1.0 {
        true => ((rate * f64::from(HASHES)) as u32).max(1),
        false => 0,
    }
}
