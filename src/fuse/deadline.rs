//! Answers that have to be given by a certain time, whatever becomes of those
//! who work on them.
//!
//! Guarantees: an entry is taken exactly once: by the holder of its
//! [`Ticket`], by the watchdog once its time is over, or by nobody, and then it
//! is dropped with the ticket. The watchdog sleeps while there is nothing to
//! watch, and wakes no more than once in a deadline's time under load.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is waiting, in the order in which it has to be answered.
#[derive(Debug)]
pub(super) struct Deadlines<R> {
    table: Arc<Table<R>>,
}

#[derive(Debug)]
struct Table<R> {
    limit: Duration,
    state: Mutex<State<R>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<R> {
    next: u64,
    /// By number, hence by time: all have the same limit.
    waiting: BTreeMap<u64, (Instant, R)>,
    /// Whether the watchdog knows that something is waiting.
    armed: bool,
    ended: bool,
}

/// The right to one entry.
#[derive(Debug)]
pub(super) struct Ticket<R> {
    number: u64,
    table: Arc<Table<R>>,
}

impl<R: Send + 'static> Deadlines<R> {
    /// Gives everything that waits longer than `limit` to `on_late`.
    pub(super) fn start(
        limit: Duration,
        on_late: impl Fn(R) + Send + 'static,
    ) -> io::Result<Deadlines<R>> {
        let state = State {
            next: 0,
            waiting: BTreeMap::new(),
            armed: false,
            ended: false,
        };
        let table = Arc::new(Table {
            limit,
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&table);
        std::thread::Builder::new()
            .name("deadlines".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || watched.watch(&on_late))?;
        Ok(Deadlines { table })
    }

    /// Begins the time of `entry`.
    pub(super) fn enter(&self, entry: R) -> Ticket<R> {
        let mut state = self.table.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, (Instant::now(), entry));
        if !std::mem::replace(&mut state.armed, true) {
            self.table.changed.notify_one();
        }
        Ticket {
            number,
            table: Arc::clone(&self.table),
        }
    }
}

impl<R> Drop for Deadlines<R> {
    fn drop(&mut self) {
        self.table.lock().ended = true;
        self.table.changed.notify_one();
    }
}

impl<R> Ticket<R> {
    /// Whether the time is over, so that work for the entry would be in vain.
    pub(super) fn is_late(&self) -> bool {
        !self.table.lock().waiting.contains_key(&self.number)
    }

    /// The entry, unless its time is over.
    pub(super) fn take(&self) -> Option<R> {
        self.table
            .lock()
            .waiting
            .remove(&self.number)
            .map(|(_, entry)| entry)
    }
}

impl<R> Drop for Ticket<R> {
    fn drop(&mut self) {
        // Outside of the lock: dropping an entry may answer it.
        drop(self.take());
    }
}

impl<R> Table<R> {
    fn lock(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, on_late: &dyn Fn(R)) {
        let mut state = self.lock();
        while !state.ended {
            let first = state.waiting.first_key_value();
            let Some(since) = first.map(|(_, (since, _))| *since) else {
                state.armed = false;
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = self.limit.saturating_sub(since.elapsed());
            if !left.is_zero() {
                let woken = self.changed.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            let late = state.waiting.pop_first();
            drop(state);
            if let Some((_, (_, entry))) = late {
                on_late(entry);
            }
            state = self.lock();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_is_in_time_gets_the_entry_and_the_watchdog_does_not() {
        let (late, was_late) = mpsc::channel();
        let deadlines = Deadlines::start(Duration::from_secs(3600), move |n: u32| {
            late.send(n).unwrap()
        })
        .unwrap();
        let (a, b) = (deadlines.enter(1), deadlines.enter(2));
        assert!(!a.is_late());
        assert_eq!((b.take(), a.take(), a.take()), (Some(2), Some(1), None));
        drop((a, b, deadlines));
        // The watchdog ends and takes its channel with it.
        assert!(was_late.recv().is_err());
    }

    #[test]
    fn what_is_late_is_taken_from_its_worker_in_order() {
        let (late, was_late) = mpsc::channel();
        let deadlines = Deadlines::start(Duration::from_millis(5), move |n: u32| {
            late.send(n).unwrap()
        })
        .unwrap();
        let tickets = [deadlines.enter(1), deadlines.enter(2)];
        assert_eq!((was_late.recv().unwrap(), was_late.recv().unwrap()), (1, 2));
        assert!(
            tickets
                .iter()
                .all(|ticket| ticket.is_late() && ticket.take().is_none())
        );
        // And once more after it had nothing to do.
        let _ticket = deadlines.enter(3);
        assert_eq!(was_late.recv().unwrap(), 3);
    }

    #[test]
    fn a_dropped_ticket_drops_its_entry() {
        let deadlines = Deadlines::start(Duration::from_secs(3600), |_: Arc<()>| {}).unwrap();
        let entry = Arc::new(());
        drop(deadlines.enter(Arc::clone(&entry)));
        assert_eq!(Arc::strong_count(&entry), 1);
    }
}
