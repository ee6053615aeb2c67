//! The customer, and what the platform has for all.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::answer::{Answer, json};
use super::Shared;
use super::document::Failures;
use super::parts::By;

/// The customer.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeBody {
    email: String,
    vat: String,
    company: String,
    uuid: String,
    /// Numbers of containers.
    containers: Vec<u32>,
    /// Addresses of the servers that they are on.
    servers: Vec<String>,
}

/// Who you are.
#[utoipa::path(
    get,
    path = "/api/me",
    tag = "account",
    responses(
        (status = 200, body = MeBody),
        Failures,
    )
)]
pub(super) async fn me(State(service): Shared, By(customer): By) -> Answer {
    let me = service
        .database()?
        .read(move |all| all.me(customer))
        .await?;
    let body = MeBody {
        email: me.email,
        vat: me.vat,
        company: me.company,
        uuid: me.uuid,
        containers: me.containers,
        servers: me.servers,
    };
    Ok(json(StatusCode::OK, &body))
}

/// A platform distro.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PlatformDistroBody {
    id: i64,
    name: String,
}

/// The distros of the platform.
#[utoipa::path(
    get,
    path = "/api/distros",
    tag = "account",
    responses(
        (status = 200, body = [PlatformDistroBody]),
        Failures,
    )
)]
pub(super) async fn platform_distros(State(service): Shared, _by: By) -> Answer<Response> {
    let all = service
        .database()?
        .read(|all| all.platform_distros())
        .await?;
    let all = all.into_iter().map(|distro| PlatformDistroBody {
        id: distro.id.0,
        name: distro.name,
    });
    Ok(json(StatusCode::OK, &all.collect::<Vec<_>>()))
}
