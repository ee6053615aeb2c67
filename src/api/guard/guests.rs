//! Customers who are being answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::registry::CustomerId;

/// Requests of one customer at a time: nobody keeps others out.
const OF_CUSTOMER_MAX: usize = 512;

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<BTreeMap<i64, usize>>);

/// A customer, while a request is answered.
#[derive(Debug)]
pub(in crate::api) struct Guest {
    customer: CustomerId,
    guests: Arc<Guests>,
}

impl Guests {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<i64, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more request, unless there are too many.
    pub(super) fn admit(self: &Arc<Self>, customer: CustomerId) -> Option<Guest> {
        let mut counts = self.counts();
        let count = counts.entry(customer.0).or_default();
        if *count >= OF_CUSTOMER_MAX {
            return None;
        }
        *count += 1;
        let guests = Arc::clone(self);
        Some(Guest { customer, guests })
    }
}

impl Guest {
    /// Who it is.
    pub(in crate::api) fn customer(&self) -> CustomerId {
        self.customer
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut counts = self.guests.counts();
        match counts.get_mut(&self.customer.0) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.customer.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_who_asks_all_the_time_keeps_nobody_else_out() {
        let guests = Arc::new(Guests::default());
        let admit = |id| guests.admit(CustomerId(id));
        let all: Vec<_> = (0..1000).map_while(|_| admit(1)).collect();
        assert_eq!(all.len(), OF_CUSTOMER_MAX);
        assert_eq!(admit(2).unwrap().customer().0, 2);
        drop(all);
        assert!(admit(1).is_some());
        assert!(guests.counts().is_empty());
    }
}
