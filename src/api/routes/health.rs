//! How everything is doing, for who watches over it.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::super::answer::json;
use super::super::ask::Asked;
use super::super::exposition;
use super::Shared;

pub(super) async fn healthz(State(service): Shared) -> Response {
    let asked = service.asker.health().await;
    let (status, body) = health(&asked);
    json(status, &body)
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

pub(super) async fn metrics(State(service): Shared) -> Response {
    match service.asker.metrics().await {
        Ok(text) => {
            let headers = [(CONTENT_TYPE, exposition::CONTENT_TYPE)];
            (headers, text).into_response()
        }
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

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
