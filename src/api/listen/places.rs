//! Who is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// All of them, and how many there may be.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    taken: Mutex<Taken>,
    left: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    /// Those that are not known to be a customer, the oldest first.
    strangers: BTreeMap<u64, Option<AbortHandle>>,
    /// Those that are.
    customers: BTreeSet<u64>,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Seat);

/// Which place it is.
#[derive(Clone, Debug)]
pub(in crate::api) struct Seat {
    number: u64,
    places: Arc<Places>,
}

impl Places {
    pub(super) fn new(max: usize) -> Arc<Places> {
        Arc::new(Places {
            max,
            taken: Mutex::default(),
            left: Notify::new(),
        })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place: the stranger that was here first makes room if there is none.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            let left = self.left.notified();
            if let Some(place) = self.try_take() {
                return place;
            }
            left.await;
        }
    }

    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut taken = self.taken();
        if taken.customers.len() + taken.strangers.len() >= self.max {
            let (_, oldest) = taken.strangers.pop_first()?;
            if let Some(task) = oldest {
                task.abort();
            }
        }
        let number = taken.next;
        taken.next += 1;
        taken.strangers.insert(number, None);
        let places = Arc::clone(self);
        Some(Place(Seat { number, places }))
    }
}

impl Place {
    pub(super) fn seat(&self) -> Seat {
        self.0.clone()
    }
}

impl Seat {
    /// Which task is to end if somebody else needs the place.
    pub(super) fn is_of(&self, task: AbortHandle) {
        if let Some(known) = self.places.taken().strangers.get_mut(&self.number) {
            *known = Some(task);
        }
    }

    /// It is a customer's, and is kept.
    pub(in crate::api) fn keep(&self) {
        let mut taken = self.places.taken();
        if taken.strangers.remove(&self.number).is_some() {
            taken.customers.insert(self.number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Seat { number, places } = &self.0;
        let mut taken = places.taken();
        taken.strangers.remove(number);
        taken.customers.remove(number);
        drop(taken);
        places.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_make_room_and_customers_do_not() {
        let places = Places::new(2);
        let (first, second) = (places.try_take().unwrap(), places.try_take().unwrap());
        first.seat().keep();
        let third = places.try_take().unwrap();
        assert!(!places.taken().strangers.contains_key(&second.0.number));
        third.seat().keep();
        assert!(places.try_take().is_none());
        // It was thrown out already.
        second.seat().keep();
        drop(second);
        assert!(places.try_take().is_none());
        drop(first);
        let fourth = places.try_take().unwrap();
        drop((third, fourth));
        let taken = places.taken();
        assert!(taken.customers.is_empty() && taken.strangers.is_empty());
    }
}
