//! Decoders that wait where they stopped, so that a reader who goes on does not
//! decode anything twice. All sources of a process can share them.
//!
//! Guarantees: every decoder is paid for in the memory budget; whoever wants
//! one gets one, at worst after waiting for one that is in use to come back; at
//! most [`KEPT_MAX`] wait unused. Lock order: the one lock here is held for a
//! few comparisons, never while something is decoded, read or allocated.
//!
//! Invariant: where there is no decoder at all, `spare` holds the means for
//! one. So a wait always ends: somebody else is decoding.

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::SourceError;
use super::gzip::decoder::{DECODER_BYTES, GzipDecoder};
use crate::budget::{Kind, MemoryBudget, Reservation};

/// Decoders that are kept while nobody uses them: about as many files as are
/// read in order at the same time.
pub(crate) const KEPT_MAX: usize = 8;

/// A decoder and what pays for it.
#[derive(Debug)]
struct Seat {
    decoder: GzipDecoder,
    paid: Reservation,
    /// Whose stream it decoded.
    owner: u32,
}

#[derive(Debug)]
struct State {
    /// The one that was used least recently is first.
    kept: VecDeque<Seat>,
    spare: Option<Reservation>,
}

/// The decoders of a process, or of one source.
#[derive(Clone, Debug)]
pub struct Decoders(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    state: Mutex<State>,
    /// A decoder was kept, or one was given up.
    returned: Condvar,
    budget: MemoryBudget,
    owners: AtomicU32,
}

/// One source's use of them.
#[derive(Debug)]
pub(super) struct Share {
    pool: Arc<Pool>,
    owner: u32,
}

/// What a reader gets.
#[derive(Debug)]
pub(super) enum Lease<'a> {
    /// A decoder that stands in the range that was asked for.
    Standing(Held<'a>),
    /// A decoder that stands anywhere.
    Fresh(Held<'a>),
}

enum Found {
    Standing(Seat),
    /// The one to reuse.
    Fresh(Seat),
    Means(Reservation),
}

impl Decoders {
    /// None yet, with the means for one.
    pub fn new(budget: MemoryBudget) -> Result<Self, SourceError> {
        let spare = budget.reserve(Kind::Decoders, DECODER_BYTES);
        let spare =
            Some(spare.ok_or_else(|| no_memory("the memory budget has no room for a decoder"))?);
        let state = Mutex::new(State {
            kept: VecDeque::with_capacity(KEPT_MAX + 1),
            spare,
        });
        Ok(Self(Arc::new(Pool {
            state,
            returned: Condvar::new(),
            budget,
            owners: AtomicU32::new(0),
        })))
    }

    /// The memory that they are paid from.
    pub fn budget(&self) -> &MemoryBudget {
        &self.0.budget
    }

    /// Gives up those that wait unused.
    pub fn trim(&self) {
        let kept = std::mem::take(&mut self.0.lock().kept);
        for Seat { decoder, paid, .. } in kept {
            drop(decoder);
            self.0.give_up(paid);
        }
    }

    /// For a source that had none before.
    pub(super) fn share(&self) -> Share {
        Share {
            pool: Arc::clone(&self.0),
            owner: self.0.owners.fetch_add(1, Ordering::Relaxed),
        }
    }
}

impl Share {
    /// The memory that decoders are paid from.
    pub(super) fn budget(&self) -> &MemoryBudget {
        &self.pool.budget
    }

    /// The decoder that stands furthest within `places`, or any other.
    pub(super) fn lease(&self, places: RangeInclusive<u64>) -> Result<Lease<'_>, SourceError> {
        let pool = &*self.pool;
        let mut state = pool.lock();
        let found = loop {
            match state.find(self.owner, &places, &pool.budget) {
                Some(found) => break found,
                None => {
                    state = pool.returned.wait(state).unwrap_or_else(|e| e.into_inner());
                }
            }
        };
        drop(state);
        let held = |seat| Held {
            pool,
            seat: Some(seat),
        };
        match found {
            Found::Standing(seat) => Ok(Lease::Standing(held(seat))),
            Found::Fresh(mut seat) => {
                if seat.owner != self.owner {
                    // What it read is of another archive.
                    seat.decoder.forget();
                    seat.owner = self.owner;
                }
                Ok(Lease::Fresh(held(seat)))
            }
            Found::Means(paid) => {
                let decoder = GzipDecoder::new();
                let owner = self.owner;
                Ok(Lease::Fresh(held(Seat {
                    decoder,
                    paid,
                    owner,
                })))
            }
        }
    }

    /// How many decoders wait unused.
    #[cfg(test)]
    pub(super) fn kept(&self) -> usize {
        self.pool.lock().kept.len()
    }
}

impl Pool {
    fn keep(&self, seat: Seat) {
        let mut state = self.lock();
        state.kept.push_back(seat);
        let oldest = if state.kept.len() > KEPT_MAX {
            state.kept.pop_front()
        } else {
            None
        };
        drop(state);
        self.returned.notify_one();
        if let Some(Seat { decoder, paid, .. }) = oldest {
            drop(decoder);
            self.give_up(paid);
        }
    }

    /// Returns the means of a decoder that is gone.
    fn give_up(&self, paid: Reservation) {
        let mut state = self.lock();
        if state.spare.is_none() {
            state.spare = Some(paid);
        } else {
            drop(paid);
        }
        drop(state);
        self.returned.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held, and every state is consistent.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl State {
    fn find(
        &mut self,
        owner: u32,
        places: &RangeInclusive<u64>,
        budget: &MemoryBudget,
    ) -> Option<Found> {
        let standing =
            self.kept.iter().enumerate().filter(|(_, seat)| {
                seat.owner == owner && places.contains(&seat.decoder.position())
            });
        let furthest = standing
            .max_by_key(|(_, seat)| seat.decoder.position())
            .map(|(i, _)| i);
        if let Some(seat) = furthest.and_then(|i| self.kept.remove(i)) {
            return Some(Found::Standing(seat));
        }
        if self.kept.len() < KEPT_MAX {
            let paid = budget
                .reserve(Kind::Decoders, DECODER_BYTES)
                .or_else(|| self.spare.take());
            if let Some(paid) = paid {
                return Some(Found::Means(paid));
            }
        }
        self.kept.pop_front().map(Found::Fresh)
    }
}

/// A decoder in use. Dropped, it is given up, as after an error.
#[derive(Debug)]
pub(super) struct Held<'a> {
    pool: &'a Pool,
    /// Always there until it is kept or dropped.
    seat: Option<Seat>,
}

impl Held<'_> {
    /// The decoder.
    pub(super) fn decoder(&mut self) -> Result<&mut GzipDecoder, SourceError> {
        self.seat
            .as_mut()
            .map(|seat| &mut seat.decoder)
            .ok_or_else(|| no_memory("no decoder"))
    }

    /// Lets it wait where it stands for somebody who goes on from there.
    pub(super) fn keep(mut self) {
        if let Some(seat) = self.seat.take() {
            self.pool.keep(seat);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(Seat { decoder, paid, .. }) = self.seat.take() {
            drop(decoder);
            self.pool.give_up(paid);
        }
    }
}

fn no_memory(what: &'static str) -> SourceError {
    let cause = io::Error::new(io::ErrorKind::OutOfMemory, what);
    SourceError::Io {
        at: 0,
        len: 0,
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where no decoder stands that was never used.
    const NOWHERE: RangeInclusive<u64> = 1..=5;

    /// Bytes of decoders are ten 64ths of a budget.
    fn budget_for(decoders: u64) -> MemoryBudget {
        MemoryBudget::new((decoders * DECODER_BYTES).div_ceil(10) * 64)
    }

    fn fresh(pool: &Share) -> Held<'_> {
        match pool.lease(NOWHERE).unwrap() {
            Lease::Fresh(held) => held,
            Lease::Standing(_) => panic!("nothing stands there"),
        }
    }

    #[test]
    fn the_pool_keeps_a_few_and_gives_the_rest_back() {
        let budget = budget_for(30);
        let pool = Decoders::new(budget.clone()).unwrap().share();
        let held: Vec<_> = (0..20).map(|_| fresh(&pool)).collect();
        assert_eq!(budget.used_bytes(Kind::Decoders), 21 * DECODER_BYTES);
        held.into_iter().for_each(Held::keep);
        assert_eq!(pool.kept(), KEPT_MAX);
        let after = budget.used_bytes(Kind::Decoders);
        assert_eq!(after, (KEPT_MAX as u64 + 1) * DECODER_BYTES);
        drop(pool);
        assert_eq!(budget.used_bytes(Kind::Decoders), 0);
    }

    #[test]
    fn without_means_kept_ones_are_reused_and_then_waited_for() {
        let pool = Decoders::new(budget_for(2)).unwrap().share();
        fresh(&pool).keep();
        fresh(&pool).keep();
        let (first, second) = (fresh(&pool), fresh(&pool));
        assert_eq!(pool.kept(), 0);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| drop(fresh(&pool)));
            drop(first);
            waiting.join().unwrap();
        });
        drop(second);
        assert!(Decoders::new(MemoryBudget::new(1000)).is_err());
    }

    #[test]
    fn a_standing_decoder_is_found_by_its_place() {
        let pool = Decoders::new(budget_for(4)).unwrap().share();
        fresh(&pool).keep();
        assert!(matches!(pool.lease(NOWHERE), Ok(Lease::Fresh(_))));
        match pool.lease(0..=5).unwrap() {
            Lease::Standing(held) => held.keep(),
            Lease::Fresh(_) => panic!("one stands at 0"),
        }
    }

    #[test]
    fn sources_share_decoders_but_not_what_those_read() {
        let decoders = Decoders::new(budget_for(1)).unwrap();
        let (one, two) = (decoders.share(), decoders.share());
        fresh(&one).keep();
        assert!(matches!(two.lease(0..=5), Ok(Lease::Fresh(_))));
        fresh(&two).keep();
        assert!(matches!(two.lease(0..=5), Ok(Lease::Standing(_))));
        fresh(&one).keep();
        decoders.trim();
        assert_eq!(one.kept(), 0);
        fresh(&two).keep();
    }
}
