//! How long a connection may last.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// For everything that is not said to take longer.
const AT_FIRST: Duration = Duration::from_secs(60);

/// Until when a connection may last.
#[derive(Clone, Debug)]
pub(in crate::api) struct Patience(Arc<Mutex<Instant>>);

impl Patience {
    pub(super) fn new() -> Patience {
        Patience(Arc::new(Mutex::new(Instant::now() + AT_FIRST)))
    }

    /// It may last so long from now on.
    pub(in crate::api) fn renew(&self, more: Duration) {
        let mut until = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *until = Instant::now() + more;
    }

    fn until(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes of `work`, unless it takes too long.
    pub(super) async fn lasts<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        loop {
            let until = self.until();
            match timeout_at(until, &mut work).await {
                Ok(done) => return Some(done),
                Err(_) if self.until() > until => {}
                Err(_) => return None,
            }
        }
    }
}
