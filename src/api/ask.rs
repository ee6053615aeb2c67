//! What the supervisor tells, kept for a moment.
//!
//! Guarantees: one thread asks for each of the two kinds at a time, and whoever comes
//! meanwhile gets the same answer. Nothing is asked for again while an answer is
//! fresh. An answer takes a bounded time and has a bounded size, whatever a worker
//! says; one that does not answer does not keep the others from being told.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use tokio::sync::Mutex;

use super::{RunDirectory, families};
use crate::wire::client::{AskError, ask_text};
use crate::wire::control::Request;
use crate::wire::report::Status;
use crate::wire::served::WorkerReport;

/// One for each kind of answer.
pub(super) const THREADS_MAX: usize = 2;
pub(super) const STACK_BYTES: usize = 256 * 1024;

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

/// Asks, and keeps answers.
pub(super) struct Asker {
    run: Arc<RunDirectory>,
    health: Fresh<Asked>,
    metrics: Fresh<Text>,
}

/// An answer, while it is fresh.
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
    pub(super) fn new(run: RunDirectory) -> Asker {
        Asker {
            run: Arc::new(run),
            health: Fresh(Mutex::new(None)),
            metrics: Fresh(Mutex::new(None)),
        }
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
