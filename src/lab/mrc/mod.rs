//! The miss-ratio curve of LRU: the ratio for every size of cache, of one pass.
//!
//! What is counted are the blocks that reads ask for, in their order: the curve of a
//! cache that keeps what was asked for. The cache that serves also keeps what it
//! decodes on the way to that, so its figures differ; [`replay`](super::replay) has
//! them.
//!
//! Guarantees: memory is bounded by the distinct blocks for [`exact`] and by the sample
//! for [`sampled`] (beside a number for each span); time is `O(n log n)`.
//!
//! Sources: Mattson et al., "Evaluation techniques for storage hierarchies", IBM
//! Systems Journal 1970; Waldspurger et al., "Efficient MRC Construction with SHARDS",
//! FAST 2015, with its SHARDS-adj.

mod shards;
mod stack;

use super::LabError;
use super::layout::{Cut, Layout};
use super::policy::Unit;
use crate::trace::Trace;
use crate::types::BLOCK_BYTES;
use stack::Stack;

/// Of which caches.
#[derive(Clone, Debug)]
pub struct Options {
    /// Length of a block: a multiple of 16 KiB.
    pub block_bytes: u64,
    /// The sizes to answer for; if there are none, eight for each doubling, up to where
    /// all that is read has room.
    pub cache_bytes: Vec<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            block_bytes: BLOCK_BYTES.into(),
            cache_bytes: Vec::new(),
        }
    }
}

/// Which blocks are looked at.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sampling {
    /// This part of them, above 0 and at most 1.
    Rate(f64),
    /// So many of them at most, at a rate that falls as more are seen.
    Size(u32),
}

/// A miss-ratio curve.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Curve {
    /// Length of a block.
    pub block_bytes: u64,
    /// How blocks were sampled; not at all if the curve is exact.
    pub sampling: Option<Sampling>,
    /// Which part of the blocks was looked at in the end.
    pub rate: f64,
    /// How many blocks were asked for, each time counted.
    pub references: u64,
    /// How many of these were looked at.
    pub looked_at: u64,
    /// Sizes of cache, growing.
    pub points: Vec<Point>,
}

/// A point of it.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Point {
    /// What the cache may hold.
    pub cache_bytes: u64,
    /// Which part of the blocks it would not have had, 0 to 1.
    pub miss_ratio: f64,
}

/// The exact curve.
pub fn exact(trace: &Trace, options: &Options) -> Result<Curve, LabError> {
    let layout = layout(trace, options)?;
    let mut counted = Counted::new(&layout, options);
    let mut stack = Stack::new(layout.units());
    let references = each(trace, &layout, |unit| {
        match stack.touch(unit.0) {
            Some(distance) => counted.add(f64::from(distance), 1.0),
            None => counted.cold += 1.0,
        };
    });
    Ok(Curve {
        block_bytes: options.block_bytes,
        sampling: None,
        rate: 1.0,
        references,
        looked_at: references,
        points: counted.points(references),
    })
}

/// The curve by a sample of the blocks.
pub fn sampled(trace: &Trace, options: &Options, sampling: Sampling) -> Result<Curve, LabError> {
    let layout = layout(trace, options)?;
    let mut counted = Counted::new(&layout, options);
    let mut shards = shards::Shards::new(sampling)?;
    let references = each(trace, &layout, |unit| shards.reference(unit, &mut counted));
    // SHARDS-adj: what the sample has too much or too little of is of blocks that are
    // asked for all the time.
    counted.adjust(references);
    Ok(Curve {
        block_bytes: options.block_bytes,
        sampling: Some(sampling),
        rate: shards.rate(),
        references,
        looked_at: shards.looked_at(),
        points: counted.points(references),
    })
}

/// How far two curves with the same points are apart, on the average.
pub fn mean_absolute_error(one: &Curve, other: &Curve) -> f64 {
    let pairs = one.points.iter().zip(&other.points);
    let apart = pairs.map(|(a, b)| (a.miss_ratio - b.miss_ratio).abs());
    let (sum, count) = apart.fold((0.0, 0.0), |(sum, n), apart| (sum + apart, n + 1.0));
    if count > 0.0 { sum / count } else { 0.0 }
}

fn layout(trace: &Trace, options: &Options) -> Result<Layout, LabError> {
    let cut = Cut {
        block_bytes: options.block_bytes,
        span_bytes: None,
        is_ahead: false,
    };
    Layout::new(trace, cut)
}

/// Calls `reference` for each unit that is asked for; how many there were.
fn each(trace: &Trace, layout: &Layout, mut reference: impl FnMut(Unit)) -> u64 {
    let mut references = 0;
    for read in trace.records() {
        for cover in layout.covers(&read) {
            for at in cover.first..=cover.last {
                reference(cover.span.unit(at));
                references += 1;
            }
        }
    }
    references
}

/// How many references need how much room, by the points of the curve.
#[derive(Debug)]
struct Counted {
    /// How many units the cache of each point holds, growing.
    rooms: Vec<f64>,
    cache_bytes: Vec<u64>,
    /// How many found their unit in the cache of this point, and not in a smaller one.
    found: Vec<f64>,
    /// How many were the first of their unit, or need more room than all points have.
    cold: f64,
}

impl Counted {
    fn new(layout: &Layout, options: &Options) -> Self {
        let weight = layout.unit_weight_bytes();
        let mut cache_bytes = options.cache_bytes.clone();
        if cache_bytes.is_empty() {
            cache_bytes = grid(layout.units() as u64);
            cache_bytes.iter_mut().for_each(|units| *units *= weight);
        }
        cache_bytes.sort_unstable();
        cache_bytes.dedup();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 units")]
        let rooms = cache_bytes.iter().map(|bytes| (bytes / weight) as f64);
        Counted {
            rooms: rooms.collect(),
            found: vec![0.0; cache_bytes.len()],
            cache_bytes,
            cold: 0.0,
        }
    }

    /// Adds references that are hits where `distance` units have room.
    fn add(&mut self, distance: f64, references: f64) {
        let at = self.rooms.partition_point(|room| *room < distance);
        match self.found.get_mut(at) {
            Some(found) => *found += references,
            None => self.cold += references,
        }
    }

    /// Makes all of them as many as there were, with the nearest ones.
    fn adjust(&mut self, references: u64) {
        let counted = self.found.iter().sum::<f64>() + self.cold;
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        self.add(1.0, references as f64 - counted);
    }

    fn points(&self, references: u64) -> Vec<Point> {
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let all = references.max(1) as f64;
        let mut found = 0.0;
        let points = self.cache_bytes.iter().zip(&self.found);
        points
            .map(|(cache_bytes, here)| {
                found += here;
                Point {
                    cache_bytes: *cache_bytes,
                    miss_ratio: (1.0 - found / all).clamp(0.0, 1.0),
                }
            })
            .collect()
    }
}

/// Numbers of units: eight for each doubling, up to `most` and that as well.
fn grid(most: u64) -> Vec<u64> {
    let doublings = (0..64).map(|n| 1_u64 << n).take_while(|from| *from < most);
    let parts = doublings.flat_map(|from| (0..8).map(move |part| from + from * part / 8));
    let mut grid: Vec<u64> = parts.filter(|units| *units < most).collect();
    grid.push(most);
    grid.dedup();
    grid
}

#[cfg(test)]
mod tests;
