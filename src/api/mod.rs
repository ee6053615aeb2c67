//! The process that answers HTTP: `/metrics` and `/healthz`, so far.
//!
//! It has no rights: no user's files, no capabilities, no connections of its own
//! making. What it tells it asks the supervisor, as any command does.
//!
//! Guarantees: whoever connects can neither keep it busy nor make it large: so many
//! connections at a time, each for so long, for one request with so many headers;
//! and the supervisor is asked no more often than once in a while, however many ask
//! this. Serving images never depends on it.
//!
//! | module | what it is |
//! |---|---|
//! | `listen` | connections, and their bounds |
//! | `ask` | what the supervisor tells, and for how long that is true |
//! | `families` | the metrics that there are |
//! | `exposition` | the text format of Prometheus |

mod ask;
mod exposition;
mod families;
mod listen;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::sys::confine::confine;
use crate::sys::packets::Packets;
use crate::sys::spawn;
use ask::{Asked, Asker};

/// What it is to do.
#[derive(Clone, Debug)]
pub struct Job {
    /// The directory of the service's sockets, for those who list processes: a
    /// descriptor of it comes from the supervisor.
    pub run: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Something of the system.
    #[error("cannot {doing}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
}

/// Answers until the supervisor, which is at the other end of `supervisor`, is gone.
pub fn run(job: &Job, supervisor: Packets) -> Result<(), ApiError> {
    let system = |doing| move |cause| ApiError::System { doing, cause };
    spawn::hide().map_err(system("hide"))?;
    let run = run_directory(&supervisor).map_err(system("learn where to ask"))?;
    let listener = listen::bind(job.listen, &supervisor).map_err(system("listen"))?;
    // From here on there is nothing to open.
    if !confine(&[]).map_err(system("give up what it may reach"))? {
        tracing::warn!("this kernel has no Landlock: what users may do is all that confines");
    }
    tracing::debug!(run = %job.run.display(), "asking there");
    std::thread::Builder::new()
        .name("supervisor".to_owned())
        .spawn(move || {
            let _over = supervisor.receive().is_err();
            std::process::exit(0);
        })
        .map_err(system("start a thread"))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(ask::THREADS_MAX)
        .thread_stack_size(ask::STACK_BYTES)
        .build()
        .map_err(system("begin"))?;
    let router = router(Arc::new(Asker::new(run)));
    let served = runtime.block_on(listen::serve(listener, router));
    served.map_err(system("listen"))
}

/// Where the service's sockets are, by the descriptor that the supervisor gives.
fn run_directory(supervisor: &Packets) -> io::Result<RunDirectory> {
    let packet = supervisor.receive()?;
    let fd = packet.and_then(|packet| packet.fds.into_iter().next());
    let fd = fd.ok_or_else(|| io::Error::other("the service ended"))?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into();
    Ok(RunDirectory { path, _fd: fd })
}

/// The directory of the service's sockets.
#[derive(Debug)]
struct RunDirectory {
    path: PathBuf,
    /// Keeps the path alive.
    _fd: OwnedFd,
}

fn router(asker: Arc<Asker>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(metrics))
        .with_state(asker)
}

async fn healthz(State(asker): State<Arc<Asker>>) -> Response {
    let asked = asker.health().await;
    let (status, body) = health(&asked);
    let headers = [(CONTENT_TYPE, "application/json")];
    (status, headers, body.to_string()).into_response()
}

/// Whether all is well, in short.
fn health(asked: &Asked) -> (StatusCode, serde_json::Value) {
    let reason = match asked {
        Ok(status) => {
            let without = status.homes.iter().filter(|home| home.worker.is_none());
            let without: Vec<_> = without.map(|home| home.home.to_string()).collect();
            if without.is_empty() {
                let body = serde_json::json!({"status": "ok", "homes": status.homes.len()});
                return (StatusCode::OK, body);
            }
            format!("without a worker: home {}", without.join(", home "))
        }
        Err(error) => error.to_string(),
    };
    let body = serde_json::json!({"status": "failing", "reason": reason});
    (StatusCode::SERVICE_UNAVAILABLE, body)
}

async fn metrics(State(asker): State<Arc<Asker>>) -> Response {
    match asker.metrics().await {
        Ok(text) => {
            let headers = [(CONTENT_TYPE, exposition::CONTENT_TYPE)];
            (headers, text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::report::{HomeStatus, Status, Views};

    #[test]
    fn a_home_without_a_worker_is_no_health() {
        let home = |home, worker| HomeStatus {
            home,
            worker,
            restarts: 0,
            memory_bytes: None,
            memory_limit_bytes: 0,
            other_processes: 0,
            views: Views::default(),
            images: Vec::new(),
            tombstones: Vec::new(),
        };
        let mut status = Status::default();
        status.homes.push(home(30_000, Some(7)));
        let (code, body) = health(&Ok(Arc::new(status.clone())));
        assert_eq!((code, &body["homes"]), (StatusCode::OK, &1.into()));
        status.homes.push(home(30_001, None));
        let (code, body) = health(&Ok(Arc::new(status)));
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["reason"], "without a worker: home 30001");
        let (code, body) = health(&Err(Arc::from("nobody answers")));
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["reason"], "nobody answers");
    }
}
