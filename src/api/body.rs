//! Bodies of requests: bounded in length and in time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::answer::{Answer, Refused};

/// The longest body of a request, but for an archive.
const BYTES_MAX: usize = 65_536;

/// How long it may take to come.
const WITHIN: Duration = Duration::from_secs(20);

/// How long a body will be, if it says so.
pub(super) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// All of a body.
pub(super) async fn whole(headers: &HeaderMap, body: Body) -> Answer<Bytes> {
    if announced(headers).is_some_and(|bytes| bytes > BYTES_MAX as u64) {
        return Err(Refused::TooLong);
    }
    let all = tokio::time::timeout(WITHIN, Limited::new(body, BYTES_MAX).collect()).await;
    match all.map_err(|_| Refused::TooSlow)? {
        Ok(all) => Ok(all.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refused::TooLong),
        Err(_) => Err(Refused::Bad("The body is not complete")),
    }
}

/// A body that is a JSON object, whatever its type is said to be. What is not JSON is
/// bad; fields that are not what they should be are as bad as values that cannot be. Of
/// all only those in `nullable` may be null.
pub(super) async fn object<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    nullable: &[&str],
) -> Answer<T> {
    parse(&whole(headers, body).await?, nullable)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], nullable: &[&str]) -> Answer<T> {
    let value = serde_json::from_slice(bytes).map_err(|_| Refused::Bad("The body is no JSON"))?;
    let Value::Object(fields) = value else {
        return Err(Refused::Bad("The body is no JSON object"));
    };
    let is_odd =
        |(name, value): (&String, &Value)| value.is_null() && !nullable.contains(&name.as_str());
    if fields.iter().any(is_odd) {
        return Err(Refused::Forbidden);
    }
    serde_json::from_value(fields.into()).map_err(|error| {
        tracing::debug!(%error, "refused");
        Refused::Forbidden
    })
}

/// The same of a text that is there.
#[cfg(test)]
pub(super) fn parsed<T: DeserializeOwned>(text: &str, nullable: &[&str]) -> Answer<T> {
    parse(text.as_bytes(), nullable)
}
