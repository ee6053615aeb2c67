//! Answers that have to be given by a certain time, whatever becomes of those
//! who work on them.
//!
//! Guarantees: an entry is taken exactly once: by the holder of its
//! [`Ticket`], by the watchdog once its time is over, or by nobody, and then it
//! is dropped with the ticket. There is a watchdog only while there is something to
//! watch, and for a moment after it; it wakes no more than once in a deadline's
//! time under load.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What is waiting, in the order in which it has to be answered.
#[derive(Debug)]
pub(super) struct Deadlines<R> {
    table: Arc<Table<R>>,
}

/// How long the watchdog waits for more.
const IDLE_WAIT: Duration = Duration::from_secs(10);

struct Table<R> {
    limit: Duration,
    on_late: Box<dyn Fn(R) + Send + Sync>,
    state: Mutex<State<R>>,
    changed: Condvar,
}

#[derive(Debug)]
struct State<R> {
    next: u64,
    /// By number, hence by time: all have the same limit.
    waiting: BTreeMap<u64, (Instant, R)>,
    /// Whether there is a watchdog.
    watched: bool,
    /// Whether it knows that something is waiting.
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
    pub(super) fn new(limit: Duration, on_late: impl Fn(R) + Send + Sync + 'static) -> Self {
        let state = State {
            next: 0,
            waiting: BTreeMap::new(),
            watched: false,
            armed: false,
            ended: false,
        };
        let table = Arc::new(Table {
            limit,
            on_late: Box::new(on_late),
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        Deadlines { table }
    }

    /// Tells since when the oldest entry waits, also when this is gone.
    pub(super) fn oldest(&self) -> impl Fn() -> Option<Instant> + Send + Sync + use<R> {
        let table = Arc::clone(&self.table);
        move || {
            let state = table.lock();
            state.waiting.values().next().map(|(since, _)| *since)
        }
    }

    /// Begins the time of `entry`.
    pub(super) fn enter(&self, entry: R) -> Ticket<R> {
        let mut state = self.table.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.insert(number, (Instant::now(), entry));
        let armed = std::mem::replace(&mut state.armed, true);
        if !state.watched {
            let watched = Arc::clone(&self.table);
            let started = std::thread::Builder::new()
                .name("deadlines".to_owned())
                .stack_size(128 * 1024)
                .spawn(move || watched.watch());
            match started {
                Ok(_) => state.watched = true,
                Err(error) => tracing::error!(%error, "no thread could be started for deadlines"),
            }
        } else if !armed {
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

    fn watch(&self) {
        let mut state = self.lock();
        while !state.ended {
            let first = state.waiting.first_key_value();
            let Some(since) = first.map(|(_, (since, _))| *since) else {
                state.armed = false;
                let idle = |state: &mut State<R>| !state.armed && !state.ended;
                let waited = self.changed.wait_timeout_while(state, IDLE_WAIT, idle);
                let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                state = now;
                if timeout.timed_out() {
                    break;
                }
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
                (self.on_late)(entry);
            }
            state = self.lock();
        }
        state.watched = false;
    }
}

impl<R> std::fmt::Debug for Table<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn who_is_in_time_gets_the_entry_and_the_watchdog_does_not() {
        let (late, was_late) = mpsc::channel();
        let deadlines = Deadlines::new(Duration::from_secs(3600), move |n: u32| {
            late.send(n).unwrap()
        });
        let oldest = deadlines.oldest();
        assert_eq!(oldest(), None);
        let (a, b) = (deadlines.enter(1), deadlines.enter(2));
        assert!(!a.is_late());
        let since = oldest().unwrap();
        assert_eq!((b.take(), oldest()), (Some(2), Some(since)));
        assert_eq!((a.take(), a.take(), oldest()), (Some(1), None, None));
        drop((a, b, deadlines, oldest));
        // The watchdog ends and takes its channel with it.
        assert!(was_late.recv().is_err());
    }

    #[test]
    fn what_is_late_is_taken_from_its_worker_in_order() {
        let (late, was_late) = mpsc::channel();
        let deadlines = Deadlines::new(Duration::from_millis(5), move |n: u32| {
            late.send(n).unwrap()
        });
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
        let deadlines = Deadlines::new(Duration::from_secs(3600), |_: Arc<()>| {});
        let entry = Arc::new(());
        drop(deadlines.enter(Arc::clone(&entry)));
        assert_eq!(Arc::strong_count(&entry), 1);
    }
}
