//! Custom distros.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::answer::{Answer, ErrorBody, MessageBody, created, done, json};
use super::super::body;
use super::Shared;
use super::document::Failures;
use super::parts::{By, OfDistro, Uid};
use crate::registry::{Distro, DistroChange, NewDistro, Registry};

/// A custom distro, and where it is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoredDistroBody {
    id: i64,
    name: String,
    /// The storage container's user.
    container: u32,
}

/// A custom distro that a container may use.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UsableDistroBody {
    id: i64,
    name: String,
}

/// All of a custom distro.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DistroBody {
    id: i64,
    /// The storage container's user.
    container: u32,
    name: String,
    /// Where in the storage container's `distros`.
    path: String,
    note: String,
    uuid: String,
}

impl From<Distro> for DistroBody {
    fn from(distro: Distro) -> DistroBody {
        DistroBody {
            id: distro.id.0,
            container: distro.container,
            name: distro.name,
            path: distro.path.into(),
            note: distro.note,
            uuid: distro.uuid,
        }
    }
}

/// Your custom distros.
#[utoipa::path(
    get,
    path = "/api/custom_distros",
    tag = "custom distros",
    responses((status = 200, body = [StoredDistroBody]), Failures)
)]
pub(super) async fn list(State(service): Shared, By(customer): By) -> Answer {
    let read = move |all: &Registry| all.distros(customer);
    let all = service.database()?.read(read).await?.into_iter();
    let all = all.map(|distro| StoredDistroBody {
        id: distro.id.0,
        name: distro.name,
        container: distro.container,
    });
    Ok(json(StatusCode::OK, &all.collect::<Vec<_>>()))
}

/// The custom distros that one of your containers may use.
#[utoipa::path(
    get,
    path = "/api/custom_distros/{uid}",
    tag = "custom distros",
    params(("uid" = u64, Path, description = "The container's user")),
    responses(
        (status = 200, body = [UsableDistroBody]),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn usable(State(service): Shared, By(customer): By, Uid(uid): Uid) -> Answer {
    let read = move |all: &Registry| all.usable_distros(customer, uid);
    let all = service.database()?.read(read).await?.into_iter();
    let all = all.map(|distro| UsableDistroBody {
        id: distro.id.0,
        name: distro.name,
    });
    Ok(json(StatusCode::OK, &all.collect::<Vec<_>>()))
}

/// A new custom distro.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct NewDistroBody {
    /// Of no other one in that container.
    #[schema(min_length = 1, max_length = 255)]
    name: String,
    /// Where in the container's `distros`. Of no other one there.
    #[schema(min_length = 1, max_length = 255, pattern = "^[A-Za-z0-9._-]{1,255}$")]
    path: String,
    #[serde(default)]
    #[schema(max_length = 16384)]
    note: String,
}

/// Make a custom distro in one of your storage containers.
#[utoipa::path(
    post,
    path = "/api/custom_distros/{uid}",
    tag = "custom distros",
    params(("uid" = u64, Path, description = "The storage container's user")),
    request_body = NewDistroBody,
    responses(
        (status = 201, body = MessageBody),
        (status = 400, description = "No JSON object", body = ErrorBody),
        (status = 403, description = "Not yours, not there, or it cannot be", body = ErrorBody),
        (status = 413, body = ErrorBody),
        Failures
    )
)]
pub(super) async fn create(
    State(service): Shared,
    By(customer): By,
    Uid(uid): Uid,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let new: NewDistroBody = body::object(&headers, body, &[]).await?;
    let new = NewDistro {
        name: new.name,
        path: new.path,
        note: new.note,
    };
    let write = move |all: &mut Registry| all.create_distro(customer, uid, &new);
    service.database()?.write(write).await?;
    Ok(created())
}

/// One of your custom distros.
#[utoipa::path(
    get,
    path = "/api/custom_distro/{id}",
    tag = "custom distros",
    params(("id" = i64, Path, description = "The distro")),
    responses(
        (status = 200, body = DistroBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn show(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
) -> Answer {
    let read = move |all: &Registry| all.distro(customer, id);
    let found = service.database()?.read(read).await?;
    Ok(json(StatusCode::OK, &DistroBody::from(found)))
}

/// What to change of a custom distro. At least one of them.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct DistroChangeBody {
    #[schema(nullable = false, min_length = 1, max_length = 255)]
    name: Option<String>,
    #[schema(
        nullable = false,
        min_length = 1,
        max_length = 255,
        pattern = "^[A-Za-z0-9._-]{1,255}$"
    )]
    path: Option<String>,
    #[schema(nullable = false, max_length = 16384)]
    note: Option<String>,
}

/// Change one of your custom distros.
#[utoipa::path(
    post,
    path = "/api/custom_distro/{id}",
    tag = "custom distros",
    params(("id" = i64, Path, description = "The distro")),
    request_body = DistroChangeBody,
    responses(
        (status = 200, body = DistroBody),
        (status = 400, description = "No JSON object", body = ErrorBody),
        (status = 403, description = "Not yours, not there, or it cannot be", body = ErrorBody),
        (status = 413, body = ErrorBody),
        Failures
    )
)]
pub(super) async fn update(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let asked: DistroChangeBody = body::object(&headers, body, &[]).await?;
    let change = DistroChange {
        name: asked.name,
        path: asked.path,
        note: asked.note,
    };
    let write = move |all: &mut Registry| all.update_distro(customer, id, &change);
    let found = service.database()?.write(write).await?;
    service.changed().await?;
    Ok(json(StatusCode::OK, &DistroBody::from(found)))
}

/// Delete one of your custom distros. Its files stay; containers that use it go back
/// to their platform distro.
#[utoipa::path(
    delete,
    path = "/api/custom_distro/{id}",
    tag = "custom distros",
    params(("id" = i64, Path, description = "The distro")),
    responses(
        (status = 200, body = MessageBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn remove(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
) -> Answer {
    let write = move |all: &mut Registry| all.delete_distro(customer, id);
    service.database()?.write(write).await?;
    service.changed().await?;
    Ok(done())
}
