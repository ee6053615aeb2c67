//! What is answered: statuses, and errors as clients of the platform know them.
//!
//! Guarantees: an error says nothing that tells "not yours" from "not there", and
//! nothing of the system; what happened is in the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::ext::ReasonPhrase;
use serde::Serialize;
use utoipa::ToSchema;

use super::ask::Unasked;
use crate::registry::RegistryError;

/// An error, as it is answered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// What is wrong.
    pub(super) error: String,
}

/// What was done.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MessageBody {
    /// `Ok` or `Created`.
    pub(super) message: &'static str,
}

/// Why a request is not answered as was hoped.
#[derive(Debug)]
pub(super) enum Refused {
    /// Nobody, or somebody with a wrong password.
    Unauthorized,
    /// It is not theirs, or not there, or cannot be.
    Forbidden,
    /// It is not understood.
    Bad(&'static str),
    /// There is nothing by this name.
    NoSuchPlace,
    /// There is none of what was asked for, and why.
    Absent(String),
    /// That cannot be done with it.
    NotSo,
    /// The body is too long.
    TooLong,
    /// It took too long to come.
    TooSlow,
    /// No such range.
    Range,
    /// An archive that can never be an image.
    NoImage(String),
    /// Too many wrong passwords.
    TooMany,
    /// Not now.
    Unavailable(String),
}

/// What is answered, or why not.
pub(super) type Answer<T = Response> = Result<T, Refused>;

/// How long the same fault is not said again.
const ONCE_WITHIN: Duration = Duration::from_secs(10);

/// When a client may try again.
const AGAIN_SECONDS: u16 = 5;
const AGAIN_TRY_SECONDS: u16 = 60;

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Refused::Unauthorized => StatusCode::UNAUTHORIZED,
            Refused::Forbidden => StatusCode::FORBIDDEN,
            Refused::Bad(_) => StatusCode::BAD_REQUEST,
            Refused::NoSuchPlace | Refused::Absent(_) => StatusCode::NOT_FOUND,
            Refused::NotSo => StatusCode::METHOD_NOT_ALLOWED,
            Refused::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Refused::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Refused::Range => StatusCode::RANGE_NOT_SATISFIABLE,
            Refused::NoImage(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Refused::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.status();
        let (header, error) = match self {
            Refused::Unauthorized => {
                let realm = HeaderValue::from_static("Basic realm=\"uwsgi.it api\"");
                (Some((WWW_AUTHENTICATE, realm)), "Unauthorized".to_owned())
            }
            Refused::Forbidden => (None, "Forbidden".to_owned()),
            Refused::Bad(what) => (None, what.to_owned()),
            Refused::NoSuchPlace => (None, "Not found".to_owned()),
            Refused::NotSo => (None, "Method not allowed".to_owned()),
            Refused::TooLong => (None, "Request entity too large".to_owned()),
            Refused::TooSlow => (None, "Request timeout".to_owned()),
            Refused::Range => (None, "Requested range not satisfiable".to_owned()),
            Refused::NoImage(why) | Refused::Absent(why) => (None, why),
            Refused::TooMany => {
                let again = (RETRY_AFTER, AGAIN_TRY_SECONDS.into());
                (Some(again), "Too many requests".to_owned())
            }
            Refused::Unavailable(why) => (Some((RETRY_AFTER, AGAIN_SECONDS.into())), why),
        };
        let mut response = json(status, &ErrorBody { error });
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<RegistryError> for Refused {
    fn from(error: RegistryError) -> Refused {
        match error {
            RegistryError::Refused(why) => {
                tracing::debug!(%why, "refused");
                Refused::Forbidden
            }
            error => {
                if is_news(&error.to_string()) {
                    tracing::error!(%error, "the registry does not answer");
                }
                Refused::Unavailable("The registry does not answer: try again".to_owned())
            }
        }
    }
}

/// Whether something was not said a moment ago: nobody fills the log by asking.
fn is_news(text: &str) -> bool {
    static LAST: Mutex<Option<(Instant, String)>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known = |(when, said): &(Instant, String)| when.elapsed() < ONCE_WITHIN && said == text;
    if last.as_ref().is_some_and(is_known) {
        return false;
    }
    *last = Some((Instant::now(), text.to_owned()));
    true
}

impl From<Unasked> for Refused {
    fn from(error: Unasked) -> Refused {
        tracing::info!(%error, "the service was asked in vain");
        Refused::Unavailable(error.to_string())
    }
}

/// A body as JSON.
pub(super) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(text) => json_text(status, text),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// A body that is JSON already.
pub(super) fn json_text(status: StatusCode, text: impl Into<Body>) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], text.into()).into_response()
}

pub(super) fn created() -> Response {
    json(StatusCode::CREATED, &MessageBody { message: "Created" })
}

pub(super) fn done() -> Response {
    json(StatusCode::OK, &MessageBody { message: "Ok" })
}

/// What browsers may do: anything, with credentials that they are given.
pub(super) fn preflight() -> Response {
    let headers = [
        (
            ACCESS_CONTROL_ALLOW_METHODS,
            "GET, HEAD, POST, PUT, DELETE, OPTIONS",
        ),
        (
            ACCESS_CONTROL_ALLOW_HEADERS,
            "Authorization, Content-Type, X-uwsgi-it-username, X-uwsgi-it-password",
        ),
    ];
    (StatusCode::OK, headers).into_response()
}

/// Makes a response one of this platform: for every origin, its reason in upper case.
pub(super) fn dress(mut response: Response) -> Response {
    let any = HeaderValue::from_static("*");
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
    let reason = response.status().canonical_reason().unwrap_or("Unknown");
    let reason = reason.to_ascii_uppercase().into_bytes();
    if let Ok(reason) = ReasonPhrase::try_from(reason) {
        response.extensions_mut().insert(reason);
    }
    response
}
