//! Single flight: at most one decode of a span at a time, with any number of
//! readers waiting for the blocks that it produces.
//!
//! Guarantees: [`Flights::join`] makes exactly one caller the leader of a
//! span; everybody else gets a handle to wait on. A flight ends when its
//! leader's guard is dropped, also by a panic, and then every waiter wakes. No
//! lock is held while the leader decodes. Lock order: a shard of the map, then
//! a flight's progress; never the other way round.

use std::sync::Arc;

use dashmap::{DashMap, Entry};
use parking_lot::{Condvar, Mutex};

use crate::types::{BlockNo, SpanNo};

/// The decodes that are under way, by span.
#[derive(Debug, Default)]
pub(super) struct Flights(DashMap<SpanNo, Arc<Flight>>);

/// One decode under way.
#[derive(Debug, Default)]
pub(super) struct Flight {
    progress: Mutex<Progress>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    /// The blocks produced so far are those below, from some block on.
    high_water: u32,
    ended: bool,
}

/// What a caller is in a flight.
pub(super) enum Role<'a> {
    Leader(Lead<'a>),
    Waiter(Arc<Flight>),
}

impl Flights {
    /// Joins the flight of `span`, or starts it.
    pub(super) fn join(&self, span: SpanNo) -> Role<'_> {
        match self.0.entry(span) {
            Entry::Occupied(entry) => Role::Waiter(Arc::clone(entry.get())),
            Entry::Vacant(entry) => {
                let flight = Arc::new(Flight::default());
                entry.insert(Arc::clone(&flight));
                Role::Leader(Lead {
                    flights: self,
                    span,
                    flight,
                })
            }
        }
    }
}

impl Flight {
    /// Waits until `block` has been produced or the flight has ended. Either
    /// way the caller looks into the cache again: the block may have been
    /// evicted, or the flight may have stopped short of it or begun behind it.
    pub(super) fn wait_for(&self, block: BlockNo) {
        let mut progress = self.progress.lock();
        while !progress.ended && progress.high_water <= block.0 {
            self.moved.wait(&mut progress);
        }
    }

    /// Waits for the end of the flight.
    pub(super) fn wait_for_end(&self) {
        let mut progress = self.progress.lock();
        while !progress.ended {
            self.moved.wait(&mut progress);
        }
    }
}

/// The leader's side of a flight; dropping it ends the flight.
pub(super) struct Lead<'a> {
    flights: &'a Flights,
    span: SpanNo,
    flight: Arc<Flight>,
}

impl Lead<'_> {
    /// Tells the waiters that all blocks up to `block` have been produced.
    pub(super) fn produced(&self, block: BlockNo) {
        self.flight.progress.lock().high_water = block.0 + 1;
        self.flight.moved.notify_all();
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.flights.0.remove(&self.span);
        self.flight.progress.lock().ended = true;
        self.flight.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_leads_and_the_others_wait() {
        let flights = Flights::default();
        let Role::Leader(lead) = flights.join(SpanNo(7)) else {
            panic!("the first leads")
        };
        assert!(
            matches!(flights.join(SpanNo(8)), Role::Leader(_)),
            "another span is free"
        );
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (0..4)
                .map(|i| {
                    let Role::Waiter(flight) = flights.join(SpanNo(7)) else {
                        panic!("led")
                    };
                    scope.spawn(move || flight.wait_for(BlockNo(i)))
                })
                .collect();
            lead.produced(BlockNo(1));
            drop(lead);
            for waiter in waiters {
                waiter.join().unwrap();
            }
        });
        assert!(
            matches!(flights.join(SpanNo(7)), Role::Leader(_)),
            "free again"
        );
    }

    #[test]
    fn a_panicking_leader_releases_its_waiters() {
        let flights = Flights::default();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let Role::Leader(_lead) = flights.join(SpanNo(1)) else {
                panic!("the first leads")
            };
            std::panic::resume_unwind(Box::new("decoder died"));
        }));
        assert!(result.is_err());
        assert!(matches!(flights.join(SpanNo(1)), Role::Leader(_)));
    }
}
