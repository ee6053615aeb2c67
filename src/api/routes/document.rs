//! The description of all this in OpenAPI.

use axum::http::StatusCode;
use axum::response::Response;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::super::answer::{ErrorBody, json};
use super::{account, alarms, containers, distros, image};

/// What may always be answered.
#[derive(Debug, IntoResponses)]
#[expect(dead_code, reason = "it describes what is answered")]
pub(super) enum Failures {
    /// No name and password, or wrong ones.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// Too many wrong passwords, or too many requests at a time.
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// Not now: something that is needed does not answer.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Custom distros",
        description = "Which containers get which image as their root.\n\nPlaces are there with and without a slash at the end. \"Not yours\" and \"not there\" are answered alike.",
        license(name = "MIT OR Apache-2.0")
    ),
    paths(
        account::me,
        account::platform_distros,
        containers::list,
        containers::show,
        containers::update,
        distros::list,
        distros::usable,
        distros::create,
        distros::show,
        distros::update,
        distros::remove,
        image::show,
        image::put,
        image::check,
        image::versions,
        image::choose,
        alarms::list,
        alarms::show,
        alarms::remove,
        alarms::key,
        alarms::raise,
    ),
    modifiers(&Ways),
    security(("basic" = []), ("username" = [], "password" = []))
)]
struct Document;

/// How to say who you are.
struct Ways;

impl Modify for Ways {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let basic = HttpBuilder::new().scheme(HttpAuthScheme::Basic).build();
        components.add_security_scheme("basic", SecurityScheme::Http(basic));
        for part in ["username", "password"] {
            let header = format!("X-uwsgi-it-{part}");
            let about = "In hexadecimal digits, two for each byte".to_owned();
            let value = ApiKeyValue::with_description(header, about);
            components.add_security_scheme(part, SecurityScheme::ApiKey(ApiKey::Header(value)));
        }
    }
}

pub(super) async fn openapi() -> Response {
    json(StatusCode::OK, &Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place that is not described is not tried out by those who test by it.
    #[test]
    fn every_place_is_described() {
        let source = include_str!("mod.rs");
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let quoted = source.split('"').skip(1).step_by(2);
        let places = quoted.filter(|text| text.starts_with('/') && !text.starts_with("/api"));
        let unlisted = ["/healthz", "/metrics", "/openapi.json"];
        // Other names of what is described.
        let aliases = ["/me/containers", "/alarms/trigger/{uid}"];
        let mut count = 0;
        for place in places {
            if unlisted.contains(&place) || aliases.contains(&place) {
                continue;
            }
            count += 1;
            assert!(paths.contains_key(&format!("/api{place}")), "{place}");
        }
        assert_eq!(count, paths.len());
    }
}
