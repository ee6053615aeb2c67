//! Places and queries of requests.

use std::collections::BTreeMap;
use std::str::FromStr;

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::super::answer::Refused;
use crate::registry::{AlarmId, CustomerId, DistroId};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct By(pub(super) CustomerId);

impl<S: Sync> FromRequestParts<S> for By {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<By, Refused> {
        let customer = parts.extensions.get().copied();
        customer.map(By).ok_or(Refused::Unauthorized)
    }
}

/// The only variable part of a place. What is no number is nothing that there is.
async fn number<T: FromStr, S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<T, Refused> {
    let text = Path::<String>::from_request_parts(parts, state).await;
    let Path(text) = text.map_err(|_| Refused::Forbidden)?;
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|_| is_plain);
    number.ok_or(Refused::Forbidden)
}

/// A container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Uid(pub(super) u32);

impl<S: Send + Sync> FromRequestParts<S> for Uid {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Uid, Refused> {
        number(parts, state).await.map(Uid)
    }
}

/// A custom distro.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfDistro(pub(super) DistroId);

impl<S: Send + Sync> FromRequestParts<S> for OfDistro {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfDistro, Refused> {
        Ok(OfDistro(DistroId(number(parts, state).await?)))
    }
}

/// An alarm.
#[derive(Clone, Copy, Debug)]
pub(super) struct OfAlarm(pub(super) AlarmId);

impl<S: Send + Sync> FromRequestParts<S> for OfAlarm {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<OfAlarm, Refused> {
        Ok(OfAlarm(AlarmId(number(parts, state).await?)))
    }
}

/// What stands behind the question mark: of each name the last value.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query, Refused> {
        let text = parts.uri.query().unwrap_or_default();
        let pairs = form_urlencoded::parse(text.as_bytes()).into_owned();
        Ok(Query(pairs.collect()))
    }
}

impl Query {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    pub(super) fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refused> {
        let wrong = |_| Refused::Bad("A number in the query is none");
        let value = self.0.get(name).map(|text| text.parse().map_err(wrong));
        value.transpose()
    }
}
