//! The archive of a custom distro: sent, looked at, gone back from. The worker of its
//! storage container has it, and answers; here it only passes through.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use utoipa::ToSchema;

use super::super::answer::{self, Answer, ErrorBody, Refused};
use super::super::ask::Unasked;
use super::super::body;
use super::super::listen::Visit;
use super::document::Failures;
use super::parts::{By, OfDistro};
use super::{Service, Shared};
use crate::registry::{CustomerId, DistroId, Registry};
use crate::types::ImageOf;
use crate::wire::control::Request as Asked;
use crate::wire::report::{ImageStatus, Status};
use crate::wire::upload::{FRAME_BYTES_MAX, RECEIVED_BYTES_MAX, Received};

/// How long nothing may come, and how much has to come in so long.
const STALL: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_secs(60);
const PACE_BYTES: u64 = 64 * 1024;

/// How long the worker may keep the archive waiting.
const WORKER_STALL: Duration = Duration::from_secs(120);

/// How long it may take to say what became of it: it is being indexed.
const VERDICT_WITHIN: Duration = Duration::from_secs(3600);
const VERDICT_LOOK: Duration = Duration::from_secs(10);

/// How long it may take until new starts get a new version.
const SERVED_WITHIN: Duration = Duration::from_secs(10);
const SERVED_LOOK: Duration = Duration::from_millis(25);

impl Service {
    /// Where the archive of a distro is, or is to be.
    async fn image_of(&self, customer: CustomerId, id: DistroId) -> Answer<ImageOf> {
        let server = self.server.clone();
        let read = move |all: &Registry| all.image_place(customer, id, &server);
        let (home, path) = self.database()?.read(read).await?;
        Ok(ImageOf { home, path })
    }

    /// What the worker says of an image.
    async fn told(&self, image: &ImageOf, question: Value) -> Answer<Value> {
        let (home, question) = (image.home, question.to_string());
        let text = self.asker.text(Asked::Ask { home, question }).await?;
        let told: Value = serde_json::from_str(&text).map_err(|_| Unasked::Nothing)?;
        match told.get("error").and_then(Value::as_str) {
            Some(error) => Err(Refused::Absent(error.to_owned())),
            None => Ok(told),
        }
    }
}

impl Service {
    /// Waits until new starts get what the worker offers of an image; not for ever, for
    /// they will.
    async fn served(&self, image: &ImageOf) {
        let question = json!({"Image": {"path": image.path}});
        let told = self.told(image, question).await.unwrap_or_default();
        let offered = told["image"]["serves"].clone();
        let began = Instant::now();
        while offered.is_string() && began.elapsed() < SERVED_WITHIN {
            let status = self.asker.text(Asked::Status).await;
            let status = status
                .ok()
                .and_then(|text| serde_json::from_str::<Status>(&text).ok());
            let homes = status.map(|status| status.homes).unwrap_or_default();
            let mut images = homes
                .into_iter()
                .filter(|home| home.home == image.home)
                .flat_map(|home| home.images);
            let is_it = |it: &ImageStatus| {
                it.path == image.path && it.is_current && offered == it.version.to_string()
            };
            if images.any(|it| is_it(&it)) {
                return;
            }
            tokio::time::sleep(SERVED_LOOK).await;
        }
        tracing::info!(?image, "a new version is not served yet");
    }
}

/// The archive of a custom distro: how far it is, and what is wrong with it.
///
/// `image` is null while there is none, `receiving` what is being sent: shapes as
/// `distrofs image show --json` prints them.
#[utoipa::path(
    get,
    path = "/api/custom_distro/{id}/image",
    tag = "images",
    params(("id" = i64, Path, description = "The distro")),
    responses(
        (status = 200, body = Value),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        (status = 404, description = "There is no archive", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn show(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
) -> Answer {
    let image = service.image_of(customer, id).await?;
    let told = service
        .told(&image, json!({"Image": {"path": image.path}}))
        .await?;
    Ok(answer::json(StatusCode::OK, &told))
}

/// What a container needs of a custom distro's archive, what in it is open to
/// everybody, and which packages it has: as `distrofs inspect --json` prints it.
#[utoipa::path(
    get,
    path = "/api/custom_distro/{id}/check",
    tag = "images",
    params(("id" = i64, Path, description = "The distro")),
    responses(
        (status = 200, body = Value),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        (status = 404, description = "There is no archive", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn check(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
) -> Answer {
    let image = service.image_of(customer, id).await?;
    let told = service
        .told(&image, json!({"Check": {"path": image.path}}))
        .await?;
    Ok(answer::json(StatusCode::OK, &told))
}

fn versions_of(image: &Value) -> Response {
    let versions = image.get("versions").cloned().unwrap_or_else(|| json!([]));
    answer::json(StatusCode::OK, &versions)
}

/// The versions of a custom distro's archive that are kept, the newest last.
#[utoipa::path(
    get,
    path = "/api/custom_distro/{id}/versions",
    tag = "images",
    params(("id" = i64, Path, description = "The distro")),
    responses(
        (status = 200, body = [Value]),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        (status = 404, description = "There is no archive", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn versions(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
) -> Answer {
    let image = service.image_of(customer, id).await?;
    let told = service
        .told(&image, json!({"Image": {"path": image.path}}))
        .await?;
    Ok(versions_of(&told["image"]))
}

/// Which version.
#[derive(Debug, Deserialize, ToSchema)]
pub(super) struct ChoiceBody {
    /// The first digits of its SHA-256, or `previous`.
    #[schema(min_length = 1)]
    version: String,
}

/// Go back to a version that is kept, or forward again: new starts get it.
#[utoipa::path(
    post,
    path = "/api/custom_distro/{id}/versions",
    tag = "images",
    params(("id" = i64, Path, description = "The distro")),
    request_body = ChoiceBody,
    responses(
        (status = 200, body = [Value]),
        (status = 400, description = "No JSON object", body = ErrorBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        (status = 404, description = "There is no such version", body = ErrorBody),
        (status = 413, body = ErrorBody),
        Failures
    )
)]
pub(super) async fn choose(
    State(service): Shared,
    By(customer): By,
    OfDistro(id): OfDistro,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let choice: ChoiceBody = body::object(&headers, body, &[]).await?;
    let image = service.image_of(customer, id).await?;
    let question = json!({"Rollback": {"path": image.path, "to": choice.version}});
    let told = service.told(&image, question).await?;
    service.served(&image).await;
    Ok(versions_of(&told))
}

/// What became of an archive.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TakenBody {
    /// `Created`.
    message: &'static str,
    /// Its SHA-256.
    version: String,
    /// Its size.
    bytes: u64,
    /// Names in it.
    entries: u64,
    /// What you should know, a line each.
    notes: Vec<String>,
}

/// Send the archive of a custom distro: what `docker export` or `tar` made, compressed
/// with gzip or not. It is indexed while it arrives; new starts get it as soon as this
/// is answered.
#[utoipa::path(
    put,
    path = "/api/custom_distro/{id}/image",
    tag = "images",
    params(("id" = i64, Path, description = "The distro")),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, body = TakenBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        (status = 408, description = "It came too slowly", body = ErrorBody),
        (status = 413, body = ErrorBody),
        (status = 422, description = "It can never be an image", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn put(State(service): Shared, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    let By(customer) = By::from_request_parts(&mut parts, &service).await?;
    let OfDistro(id) = OfDistro::from_request_parts(&mut parts, &service).await?;
    let image = service.image_of(customer, id).await?;
    let bytes = body::announced(&parts.headers);
    if bytes.is_some_and(|bytes| bytes > service.image_bytes_max) {
        return Err(Refused::TooLong);
    }
    let busy = |_| Refused::Unavailable("Too many archives are on their way: try again".into());
    let _turn = service.archives.clone().try_acquire_owned().map_err(busy)?;
    let visit = parts.extensions.get::<Visit>().cloned();
    let visit = visit.ok_or_else(|| Refused::Unavailable("This is a bug".to_owned()))?;
    let upload = Asked::Upload {
        image: image.clone(),
        bytes,
    };
    let worker = service.asker.descriptor(upload).await?;
    let lost = |error: std::io::Error| {
        tracing::error!(%error, "an archive cannot be passed on");
        Refused::Unavailable("The archive cannot be passed on: try again".to_owned())
    };
    let worker = std::os::unix::net::UnixStream::from(worker);
    worker.set_nonblocking(true).map_err(lost)?;
    let (told, given) = UnixStream::from_std(worker).map_err(lost)?.into_split();
    let mut passing = Passing {
        given: Some(given),
        visit: &visit,
        bytes: 0,
        bytes_max: service.image_bytes_max,
        paced: (Instant::now(), 0),
    };
    passing.all(body).await?;
    let answer = verdict(told, &visit).await?;
    service.served(&image).await;
    Ok(answer)
}

/// An archive on its way to a worker.
struct Passing<'a> {
    /// None once the worker wants no more.
    given: Option<OwnedWriteHalf>,
    visit: &'a Visit,
    bytes: u64,
    bytes_max: u64,
    /// Since when so many bytes were there.
    paced: (Instant, u64),
}

impl Passing<'_> {
    /// Passes all of it on. If this fails the worker knows that it is not whole.
    async fn all(&mut self, mut body: Body) -> Answer<()> {
        loop {
            self.visit.patience.renew(STALL + WORKER_STALL);
            let frame = timeout(STALL, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Refused::TooSlow)? else {
                self.give(&0_u32.to_le_bytes()).await;
                return Ok(());
            };
            let frame = frame.map_err(|_| Refused::Bad("The body is not complete"))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            self.bytes = self.bytes.saturating_add(data.len() as u64);
            if self.bytes > self.bytes_max {
                return Err(Refused::TooLong);
            }
            let (since, bytes) = self.paced;
            if since.elapsed() >= PACE {
                if self.bytes - bytes < PACE_BYTES {
                    return Err(Refused::TooSlow);
                }
                self.paced = (Instant::now(), self.bytes);
            }
            self.pass(&data).await;
            if self.given.is_none() {
                // It has said why.
                return Ok(());
            }
        }
    }

    async fn pass(&mut self, data: &Bytes) {
        for piece in data.chunks(FRAME_BYTES_MAX as usize) {
            // It is not longer than a frame.
            let len = u32::try_from(piece.len()).unwrap_or(FRAME_BYTES_MAX);
            self.give(&len.to_le_bytes()).await;
            self.give(piece).await;
        }
    }

    async fn give(&mut self, bytes: &[u8]) {
        let Some(given) = &mut self.given else { return };
        let passed = timeout(WORKER_STALL, given.write_all(bytes)).await;
        if !matches!(passed, Ok(Ok(()))) {
            self.given = None;
        }
    }
}

/// What the worker makes of it.
async fn verdict(mut told: OwnedReadHalf, visit: &Visit) -> Answer {
    let mut text = Vec::new();
    let reading = async {
        let mut limited = (&mut told).take(RECEIVED_BYTES_MAX as u64);
        limited.read_to_end(&mut text).await.map(drop)
    };
    if waited_for(reading, visit).await.is_none() {
        return Err(Refused::Unavailable(
            "The archive is still being indexed: look at it later".to_owned(),
        ));
    }
    match serde_json::from_slice(&text) {
        Ok(Received::Taken {
            version,
            bytes,
            entries,
            notes,
        }) => {
            let body = TakenBody {
                message: "Created",
                version: version.to_string(),
                bytes,
                entries,
                notes,
            };
            Ok(answer::json(StatusCode::CREATED, &body))
        }
        Ok(Received::Rejected { reason }) => Err(Refused::NoImage(reason)),
        Ok(Received::Failed { reason }) => Err(Refused::Unavailable(reason)),
        Err(_) => Err(Refused::Unavailable(
            "The worker ended before the archive was taken in: try again".to_owned(),
        )),
    }
}

async fn waited_for<T>(work: impl Future<Output = T>, visit: &Visit) -> Option<T> {
    let (began, mut work) = (Instant::now(), pin!(work));
    while began.elapsed() < VERDICT_WITHIN {
        visit.patience.renew(VERDICT_LOOK * 6);
        if let Ok(done) = timeout(VERDICT_LOOK, &mut work).await {
            return Some(done);
        }
    }
    None
}
