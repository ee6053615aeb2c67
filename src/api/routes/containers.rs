//! Containers: what they are, and what their next start gets.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::super::answer::{Answer, ErrorBody, MessageBody, done, json};
use super::super::body;
use super::Shared;
use super::document::Failures;
use super::parts::{By, Query, Uid};
use crate::registry::{Container, ContainerChange, DistroId, PlatformDistroId};

/// A container.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContainerBody {
    uid: u32,
    name: String,
    hostname: String,
    ip: String,
    /// In MiB.
    memory: u64,
    /// In MiB.
    storage: u64,
    uuid: String,
    /// Its platform distro.
    distro: Option<i64>,
    distro_name: Option<String>,
    /// Its custom distro.
    custom_distro: Option<i64>,
    /// Not there if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    custom_distro_name: Option<String>,
    server: String,
    server_address: String,
    tags: Vec<String>,
}

/// A container, and what its owner can change.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ContainerDetailBody {
    #[serde(flatten)]
    container: ContainerBody,
    /// Whether it stores custom distros.
    custom_distros_storage: bool,
    note: String,
    ssh_keys: Vec<String>,
}

impl From<Container> for ContainerBody {
    fn from(container: Container) -> ContainerBody {
        let (distro, distro_name) = container.distro.unzip();
        let (custom_distro, custom_distro_name) = container.custom_distro.unzip();
        ContainerBody {
            uid: container.uid,
            name: container.name,
            hostname: container.hostname,
            ip: container.ip,
            memory: container.memory,
            storage: container.storage,
            uuid: container.uuid,
            distro: distro.map(|id| id.0),
            distro_name,
            custom_distro: custom_distro.map(|id| id.0),
            custom_distro_name,
            server: container.server,
            server_address: container.server_address,
            tags: container.tags,
        }
    }
}

impl From<Container> for ContainerDetailBody {
    fn from(mut container: Container) -> ContainerDetailBody {
        ContainerDetailBody {
            custom_distros_storage: container.custom_distros_storage,
            note: std::mem::take(&mut container.note),
            ssh_keys: std::mem::take(&mut container.ssh_keys),
            container: container.into(),
        }
    }
}

/// Your containers.
#[utoipa::path(
    get,
    path = "/api/containers",
    tag = "containers",
    params(("tags" = Option<String>, Query, description = "Those with any of these tags, separated by commas")),
    responses((status = 200, body = [ContainerBody]), Failures)
)]
pub(super) async fn list(State(service): Shared, By(customer): By, query: Query) -> Answer {
    let tags = query.text("tags").unwrap_or_default();
    let tags = tags.split(',').filter(|tag| !tag.is_empty());
    let tags: Vec<_> = tags.map(str::to_owned).collect();
    let read = move |all: &crate::registry::Registry| all.containers(customer, &tags);
    let all = service.database()?.read(read).await?;
    let all: Vec<_> = all.into_iter().map(ContainerBody::from).collect();
    Ok(json(StatusCode::OK, &all))
}

/// One of your containers.
#[utoipa::path(
    get,
    path = "/api/containers/{uid}",
    tag = "containers",
    params(("uid" = u64, Path, description = "The container's user")),
    responses(
        (status = 200, body = ContainerDetailBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn show(State(service): Shared, By(customer): By, Uid(uid): Uid) -> Answer {
    let read = move |all: &crate::registry::Registry| all.container(customer, uid);
    let found = service.database()?.read(read).await?;
    Ok(json(StatusCode::OK, &ContainerDetailBody::from(found)))
}

/// What to change. At least one of them.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ContainerChangeBody {
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(nullable = false, max_length = 16384)]
    note: Option<String>,
    #[schema(nullable = false)]
    tags: Option<Vec<String>>,
    #[schema(nullable = false)]
    ssh_keys: Option<Vec<String>>,
    /// A platform distro. Restarts the container.
    #[schema(value_type = Option<i64>, nullable = false)]
    distro: Option<Id>,
    /// A custom distro: its number, as a number or a text; null for none. Restarts the
    /// container.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    custom_distro: Option<Option<Id>>,
    /// Whether it stores custom distros. Restarts the container.
    #[schema(nullable = false)]
    custom_distros_storage: Option<bool>,
    /// Restarts the container.
    #[schema(value_type = Option<bool>, nullable = false)]
    reboot: Option<Flag>,
}

/// A number, as a number or a text.
#[derive(Clone, Copy, Debug)]
struct Id(i64);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(i64),
            Text(String),
        }
        match Either::deserialize(from)? {
            Either::Number(id) => Ok(Id(id)),
            Either::Text(text) => text.parse().map(Id).map_err(serde::de::Error::custom),
        }
    }
}

/// Yes or no, also as 1 or 0.
#[derive(Clone, Copy, Debug)]
struct Flag(bool);

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Flag, D::Error> {
        match serde_json::Value::deserialize(from)? {
            serde_json::Value::Bool(is) => Ok(Flag(is)),
            value if value == 1 => Ok(Flag(true)),
            value if value == 0 => Ok(Flag(false)),
            _ => Err(serde::de::Error::custom("neither true nor false")),
        }
    }
}

/// That something is null is not that it is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// What may be null.
const NULLABLE: [&str; 1] = ["custom_distro"];

/// Change one of your containers.
#[utoipa::path(
    post,
    path = "/api/containers/{uid}",
    tag = "containers",
    params(("uid" = u64, Path, description = "The container's user")),
    request_body = ContainerChangeBody,
    responses(
        (status = 200, body = MessageBody),
        (status = 400, description = "No JSON object", body = ErrorBody),
        (status = 403, description = "Not yours, not there, or it cannot be", body = ErrorBody),
        (status = 413, body = ErrorBody),
        Failures
    )
)]
pub(super) async fn update(
    State(service): Shared,
    By(customer): By,
    Uid(uid): Uid,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let asked: ContainerChangeBody = body::object(&headers, body, &NULLABLE).await?;
    let change = ContainerChange {
        name: asked.name,
        note: asked.note,
        tags: asked.tags,
        ssh_keys: asked.ssh_keys,
        distro: asked.distro.map(|Id(id)| PlatformDistroId(id)),
        custom_distro: asked
            .custom_distro
            .map(|given| given.map(|Id(id)| DistroId(id))),
        custom_distros_storage: asked.custom_distros_storage,
        reboot: asked.reboot.is_some_and(|Flag(is)| is),
    };
    let write =
        move |all: &mut crate::registry::Registry| all.update_container(customer, uid, &change);
    service.database()?.write(write).await?;
    service.changed().await?;
    Ok(done())
}

#[cfg(test)]
mod tests {
    use super::super::super::answer::Refused;
    use super::*;

    fn parsed(text: &str) -> Answer<ContainerChangeBody> {
        body::parsed(text, &NULLABLE)
    }

    #[test]
    fn a_custom_distro_is_a_number_a_text_or_none() {
        let of = |text| parsed(text).unwrap().custom_distro;
        assert!(matches!(of(r#"{"custom_distro": 7}"#), Some(Some(Id(7)))));
        assert!(matches!(of(r#"{"custom_distro": "7"}"#), Some(Some(Id(7)))));
        assert!(matches!(of(r#"{"custom_distro": null}"#), Some(None)));
        assert!(of("{}").is_none());
        for wrong in [
            r#"{"custom_distro": ""}"#,
            r#"{"custom_distro": "x"}"#,
            r#"{"custom_distro": 1.5}"#,
            r#"{"custom_distro": true}"#,
            r#"{"custom_distro": []}"#,
            r#"{"name": null}"#,
            r#"{"custom_distros_storage": "yes"}"#,
            r#"{"reboot": 2}"#,
        ] {
            assert!(matches!(parsed(wrong), Err(Refused::Forbidden)), "{wrong}");
        }
    }
}
