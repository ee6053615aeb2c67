//! What can be asked for, and by whom.
//!
//! Every place is there with and without a slash at its end. Whoever asks below
//! `/api` is a customer, known by `guard` before anything of the request is looked
//! at; but that `OPTIONS` and the document that describes all this are for everybody,
//! and that an alarm may be raised by its key.
//!
//! | module | what it is |
//! |---|---|
//! | `account`, `containers`, `distros`, `alarms` | what the registry has |
//! | `image` | the archive of a distro, which its storage container has |
//! | `parts` | places and queries of requests |
//! | `document` | the description in OpenAPI |
//! | `health` | `/healthz` and `/metrics` |

mod account;
mod alarms;
mod containers;
mod distros;
mod document;
mod health;
mod image;
mod parts;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post};
use tokio::sync::Semaphore;

use super::answer::{Refused, dress, preflight};
use super::ask::Asker;
use super::database::Database;
use super::guard::{Guard, Guest};
use super::listen::Visit;
use super::push::Pushed;

/// Archives on their way at a time.
const ARCHIVES_MAX: usize = 16;

/// All that requests need.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) asker: Asker,
    /// None if the registry is out of reach: then only `health` answers.
    pub(super) registry: Option<Registered>,
    /// This server's name in the registry.
    pub(super) server: String,
    pub(super) image_bytes_max: u64,
    pub(super) archives: Arc<Semaphore>,
}

/// What the registry is used through.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) database: Arc<Database>,
    pub(super) guard: Guard,
    pub(super) pushed: Arc<Pushed>,
}

/// As requests have it.
type Shared = State<Arc<Service>>;

impl Service {
    pub(super) fn new(
        asker: Asker,
        registry: Option<Registered>,
        server: String,
        image_bytes_max: u64,
    ) -> Arc<Service> {
        Arc::new(Service {
            asker,
            registry,
            server,
            image_bytes_max,
            archives: Arc::new(Semaphore::new(ARCHIVES_MAX)),
        })
    }

    fn registered(&self) -> Result<&Registered, Refused> {
        let none = || Refused::Unavailable("The registry is out of reach: see the log".to_owned());
        self.registry.as_ref().ok_or_else(none)
    }

    fn database(&self) -> Result<&Database, Refused> {
        Ok(&*self.registered()?.database)
    }

    /// After a change that containers are to see.
    async fn changed(&self) -> Result<(), Refused> {
        self.registered()?.pushed.wait().await;
        Ok(())
    }
}

/// A router with every place twice.
struct Places(Router<Arc<Service>>);

impl Places {
    fn at(self, place: &str, methods: MethodRouter<Arc<Service>>) -> Places {
        let router = self.0.route(&format!("/api{place}/"), methods.clone());
        Places(router.route(&format!("/api{place}"), methods))
    }
}

/// Everything.
pub(super) fn router(service: Arc<Service>) -> Router {
    let of_customers = Places(Router::new())
        .at("/me", get(account::me))
        .at("/me/containers", get(containers::list))
        .at("/distros", get(account::platform_distros))
        .at("/containers", get(containers::list))
        .at(
            "/containers/{uid}",
            get(containers::show).post(containers::update),
        )
        .at("/custom_distros", get(distros::list))
        .at(
            "/custom_distros/{uid}",
            get(distros::usable).post(distros::create),
        )
        .at(
            "/custom_distro/{id}",
            get(distros::show)
                .post(distros::update)
                .delete(distros::remove),
        )
        .at(
            "/custom_distro/{id}/image",
            get(image::show).put(image::put),
        )
        .at("/custom_distro/{id}/check", get(image::check))
        .at(
            "/custom_distro/{id}/versions",
            get(image::versions).post(image::choose),
        )
        .at("/alarms", get(alarms::list))
        .at(
            "/alarms/{id}",
            get(alarms::show).merge(delete(alarms::remove)),
        )
        .at("/alarm_key/{uid}", get(alarms::key));
    let of_customers = of_customers
        .0
        .route_layer(from_fn_with_state(Arc::clone(&service), admit));
    let of_all = Places(Router::new())
        .at("/alarms/raise/{uid}", post(alarms::raise))
        .at("/alarms/trigger/{uid}", post(alarms::raise))
        .at("/openapi.json", get(document::openapi));
    Router::new()
        .merge(of_customers)
        .merge(of_all.0)
        .route("/healthz", get(health::healthz))
        .route("/metrics", get(health::metrics))
        .method_not_allowed_fallback(not_so)
        .fallback(nowhere)
        .layer(from_fn(receive))
        .with_state(service)
}

/// Before and after everything.
async fn receive(request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return dress(preflight());
    }
    dress(next.run(request).await)
}

/// Lets customers in.
async fn admit(State(service): Shared, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match guest(&service, &parts).await {
        Ok(guest) => {
            parts.extensions.insert(guest.customer());
            let response = next.run(Request::from_parts(parts, body)).await;
            drop(guest);
            response
        }
        Err(refused) => refused.into_response(),
    }
}

/// The customer who asks.
async fn guest(service: &Service, parts: &Parts) -> Result<Guest, Refused> {
    let visit = parts.extensions.get::<Visit>();
    let visit = visit.ok_or_else(|| Refused::Unavailable("This is a bug".to_owned()))?;
    let guard = &service.registered()?.guard;
    guard.admit(visit, &parts.headers).await
}

async fn nowhere() -> Refused {
    Refused::NoSuchPlace
}

async fn not_so() -> Refused {
    Refused::NotSo
}
