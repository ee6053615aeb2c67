//! What the supervisor is asked. What it tells of all is kept for a moment.
//!
//! Guarantees: one thread asks for each of the two kinds at a time, and whoever comes
//! meanwhile gets the same answer. Nothing is asked for again while an answer is
//! fresh. An answer takes a bounded time and has a bounded size, whatever a worker
//! says; one that does not answer does not keep the others from being told.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::{Mutex, Semaphore};

use super::{RunDirectory, families};
use crate::wire::client::{AskError, ask, ask_text};
use crate::wire::control::Request;
use crate::wire::report::Status;
use crate::wire::served::WorkerReport;

/// Questions of customers at a time.
const CUSTOMERS_MAX: usize = 8;

/// How long one may wait for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(10);

/// How long an answer to a customer may take: an image may have to be read for it.
const CUSTOMER_PATIENCE: Duration = Duration::from_secs(40);

/// The most that a customer is answered.
const CUSTOMER_BYTES_MAX: usize = 8 << 20;

/// How long an answer is fresh.
const FRESH: Duration = Duration::from_secs(1);

/// How long the supervisor may take, and all workers together.
const PATIENCE: Duration = Duration::from_secs(6);
const ALL_WITHIN: Duration = Duration::from_secs(8);

/// The most that the supervisor, and that a worker may say.
const STATUS_BYTES_MAX: usize = 16 << 20;
const REPORT_BYTES_MAX: usize = 4 << 20;

/// How everything is; or why that is not known.
pub(super) type Asked = Result<Arc<Status>, Arc<str>>;
type Text = Result<Bytes, Arc<str>>;

/// Why the service does not answer a customer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unasked {
    /// Others wait as well.
    #[error("Too many requests wait: try again")]
    Busy,
    /// It failed, or was refused.
    #[error(transparent)]
    Asked(#[from] AskError),
    /// It gave nothing.
    #[error("the service gave no answer: restart it with this version")]
    Nothing,
    /// A fault of this program.
    #[error("asking the service failed: see its log")]
    Bug,
}

/// Asks, and keeps answers.
#[derive(Debug)]
pub(super) struct Asker {
    run: Arc<RunDirectory>,
    health: Fresh<Asked>,
    metrics: Fresh<Text>,
    customers: Arc<Semaphore>,
}

/// An answer, while it is fresh.
#[derive(Debug)]
struct Fresh<T>(Mutex<Option<(Instant, T)>>);

impl<T: Clone + Send + 'static> Fresh<T> {
    async fn get(&self, ask: impl FnOnce() -> T + Send + 'static, failed: impl FnOnce() -> T) -> T {
        // Who comes while it is asked for waits here.
        let mut kept = self.0.lock().await;
        if let Some((asked, answer)) = &*kept
            && asked.elapsed() < FRESH
        {
            return answer.clone();
        }
        let answer = tokio::task::spawn_blocking(ask).await;
        let answer = answer.unwrap_or_else(|_| failed());
        *kept = Some((Instant::now(), answer.clone()));
        answer
    }
}

impl Asker {
    /// Of the service at `run`.
    pub(super) fn new(run: Arc<RunDirectory>) -> Asker {
        Asker {
            run,
            health: Fresh(Mutex::new(None)),
            metrics: Fresh(Mutex::new(None)),
            customers: Arc::new(Semaphore::new(CUSTOMERS_MAX)),
        }
    }

    /// What is answered by a text.
    pub(super) async fn text(&self, request: Request) -> Result<String, Unasked> {
        let ask = move |run: &Path| ask_text(run, &request, CUSTOMER_PATIENCE, CUSTOMER_BYTES_MAX);
        self.customer(move |run: &Path| Ok(ask(run)?)).await
    }

    /// What is answered by a descriptor.
    pub(super) async fn descriptor(&self, request: Request) -> Result<OwnedFd, Unasked> {
        self.customer(move |run| {
            let mut given = None;
            ask(run, &request, PATIENCE, |_, fd| {
                given = given.take().or(fd);
                Ok(())
            })?;
            given.ok_or(Unasked::Nothing)
        })
        .await
    }

    async fn customer<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Path) -> Result<T, Unasked> + Send + 'static,
    ) -> Result<T, Unasked> {
        let turn = Arc::clone(&self.customers).acquire_owned();
        let turn = tokio::time::timeout(TURN_WITHIN, turn).await;
        let turn = turn
            .map_err(|_| Unasked::Busy)?
            .map_err(|_| Unasked::Busy)?;
        let run = Arc::clone(&self.run);
        let asked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            job(&run.path)
        });
        asked.await.map_err(|_| Unasked::Bug)?
    }

    pub(super) async fn health(&self) -> Asked {
        let run = Arc::clone(&self.run);
        let ask = move || status(&run.path).map(Arc::new);
        self.health.get(ask, || Err(a_bug())).await
    }

    /// The text of all metrics.
    pub(super) async fn metrics(&self) -> Text {
        let run = Arc::clone(&self.run);
        let ask = move || {
            let status = status(&run.path)?;
            let reports = reports(&run.path, &status);
            Ok(Bytes::from(families::text(&status, &reports)))
        };
        self.metrics.get(ask, || Err(a_bug())).await
    }
}

fn a_bug() -> Arc<str> {
    Arc::from("asking the service failed: see its log")
}

fn status(run: &Path) -> Result<Status, Arc<str>> {
    let text = ask_text(run, &Request::Status, PATIENCE, STATUS_BYTES_MAX);
    let text = text.map_err(|error| Arc::from(error.to_string()))?;
    let odd = |error| format!("the service says something odd: {error}: restart it");
    serde_json::from_str(&text).map_err(|error| Arc::from(odd(error)))
}

/// What each worker says of itself; nothing for one that does not answer.
fn reports(run: &Path, status: &Status) -> Vec<Option<WorkerReport>> {
    let began = Instant::now();
    let report = |home: u32| {
        if began.elapsed() > ALL_WITHIN {
            return None;
        }
        let asked = ask_text(run, &Request::Report { home }, PATIENCE, REPORT_BYTES_MAX);
        let parsed = asked.and_then(|text| {
            let odd = |error: serde_json::Error| AskError::Link(error.into());
            serde_json::from_str(&text).map_err(odd)
        });
        parsed
            .inspect_err(|error| tracing::info!(home, %error, "a worker tells nothing"))
            .ok()
    };
    status.homes.iter().map(|home| report(home.home)).collect()
}
