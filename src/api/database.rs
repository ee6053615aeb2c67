//! The registry, for many requests at a time.
//!
//! Guarantees: a request waits a bounded time for its turn; who reads is not kept
//! waiting by who writes. A connection that failed is made again for the next
//! request, so that a database that is mended is used without a restart.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::answer::{Answer, Refused};
use crate::registry::{Registry, RegistryError};

/// Connections that read at a time. One writes.
const READERS: usize = 2;

/// How long a request may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// Connections to the registry.
#[derive(Debug)]
pub(super) struct Database {
    readers: Arc<Pool>,
    writer: Arc<Pool>,
}

#[derive(Debug)]
struct Pool {
    directory: PathBuf,
    turns: Arc<Semaphore>,
    idle: Mutex<Vec<Registry>>,
}

impl Database {
    /// Of the registry in `directory`. It need not be there yet.
    pub(super) fn new(directory: PathBuf) -> Database {
        let pool = |connections| {
            Arc::new(Pool {
                directory: directory.clone(),
                turns: Arc::new(Semaphore::new(connections)),
                idle: Mutex::default(),
            })
        };
        Database {
            readers: pool(READERS),
            writer: pool(1),
        }
    }

    /// Asks the registry.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Answer<T> {
        use_one(&self.readers, |registry| ask(registry)).await
    }

    /// Changes the registry: when this returns, the change is on the disk.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> Answer<T> {
        use_one(&self.writer, change).await
    }
}

async fn use_one<T: Send + 'static>(
    pool: &Arc<Pool>,
    job: impl FnOnce(&mut Registry) -> Result<T, RegistryError> + Send + 'static,
) -> Answer<T> {
    let busy = || Refused::Unavailable("Too many requests wait: try again".to_owned());
    let turn = tokio::time::timeout(TURN_WITHIN, Arc::clone(&pool.turns).acquire_owned());
    let turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
    let pool = Arc::clone(pool);
    let done = tokio::task::spawn_blocking(move || {
        // Also if who asked is gone meanwhile.
        let _turn = turn;
        let idle = pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut registry = match idle {
            Some(registry) => registry,
            None => Registry::open(&pool.directory)?,
        };
        let done = job(&mut registry);
        if matches!(done, Ok(_) | Err(RegistryError::Refused(_))) {
            let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
            idle.push(registry);
        }
        done
    });
    match done.await {
        Ok(done) => Ok(done?),
        Err(error) => {
            tracing::error!(%error, "a request failed: this is a bug");
            Err(Refused::Unavailable("This failed: see the log".to_owned()))
        }
    }
}
