//! Alarms of containers.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::super::answer::{Answer, ErrorBody, MessageBody, Refused, created, done, json};
use super::super::body;
use super::Shared;
use super::document::Failures;
use super::parts::{By, OfAlarm, Query, Uid};
use crate::registry::{Alarm, AlarmFilter, NewAlarm, Raiser, Registry, Window};

/// An alarm.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlarmBody {
    id: i64,
    /// The container that it is about.
    container: u32,
    /// 0 is of the system, 1 of users, 2 an exception, 3 a traceback, 4 a log.
    level: i64,
    /// As #rrggbb.
    color: String,
    class: String,
    vassal: String,
    line: Option<i64>,
    filename: String,
    func: String,
    /// When, in seconds since 1970.
    unix: i64,
    msg: String,
}

impl From<Alarm> for AlarmBody {
    fn from(alarm: Alarm) -> AlarmBody {
        AlarmBody {
            id: alarm.id.0,
            container: alarm.container,
            level: alarm.level,
            color: alarm.color,
            class: alarm.class,
            vassal: alarm.vassal,
            line: alarm.line,
            filename: alarm.filename,
            func: alarm.func,
            unix: alarm.unix,
            msg: alarm.msg,
        }
    }
}

/// Alarms, and how many there are.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AlarmsBody {
    /// How many match, in the range or not.
    total: u64,
    alarms: Vec<AlarmBody>,
}

/// Alarms, or with `with_total` these and how many there are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it describes what is answered")]
pub(super) enum AlarmsOrTotal {
    Alarms(Vec<AlarmBody>),
    WithTotal(AlarmsBody),
}

/// Which alarms.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what can be asked")]
pub(super) struct AlarmsQuery {
    #[param(value_type = Option<u64>, maximum = 4_294_967_295_u32)]
    container: Option<u32>,
    vassal: Option<String>,
    class: Option<String>,
    color: Option<String>,
    level: Option<i64>,
    line: Option<i64>,
    filename: Option<String>,
    func: Option<String>,
    /// Says how many match as well.
    with_total: Option<String>,
    /// The newest N; or from the a-th to before the b-th of the newest, as a-b.
    #[param(pattern = "^([1-9][0-9]{0,6}|0-[1-9][0-9]{0,6})$")]
    range: Option<String>,
}

/// Alarms that are answered without a range.
const ALL: Window = Window {
    skip: 0,
    take: 10_000,
};

/// Which part of a list is meant by `N` or `a-b`.
fn window(range: &str) -> Answer<Window> {
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| is_plain);
        number.map(u64::from).ok_or(Refused::Range)
    };
    let (from, to) = match range.split_once('-') {
        Some((from, to)) => (number(from)?, number(to)?),
        None => (0, number(range)?),
    };
    let take = to.checked_sub(from).filter(|take| *take > 0);
    let take = take.ok_or(Refused::Range)?.min(ALL.take);
    Ok(Window { skip: from, take })
}

/// Alarms of your containers, the newest first.
#[utoipa::path(
    get,
    path = "/api/alarms",
    tag = "alarms",
    params(AlarmsQuery),
    responses(
        (status = 200, body = AlarmsOrTotal),
        (status = 400, description = "No number where one should be", body = ErrorBody),
        (status = 416, description = "No range", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn list(State(service): Shared, By(customer): By, query: Query) -> Answer {
    let filter = AlarmFilter {
        container: query.number("container")?,
        vassal: query.text("vassal"),
        class: query.text("class"),
        color: query.text("color"),
        level: query.number("level")?,
        line: query.number("line")?,
        filename: query.text("filename"),
        func: query.text("func"),
    };
    let range = query.text("range");
    let window = range.map_or(Ok(ALL), |range| window(&range))?;
    let read = move |all: &Registry| all.alarms(customer, &filter, window);
    let (total, alarms) = service.database()?.read(read).await?;
    let alarms = alarms.into_iter().map(AlarmBody::from).collect();
    Ok(match query.has("with_total") {
        true => json(StatusCode::OK, &AlarmsBody { total, alarms }),
        false => json(StatusCode::OK, &alarms),
    })
}

/// An alarm of your containers.
#[utoipa::path(
    get,
    path = "/api/alarms/{id}",
    tag = "alarms",
    params(("id" = i64, Path, description = "The alarm")),
    responses(
        (status = 200, body = AlarmBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn show(State(service): Shared, By(customer): By, OfAlarm(id): OfAlarm) -> Answer {
    let read = move |all: &Registry| all.alarm(customer, id);
    let found = service.database()?.read(read).await?;
    Ok(json(StatusCode::OK, &AlarmBody::from(found)))
}

/// Delete an alarm of your containers.
#[utoipa::path(
    delete,
    path = "/api/alarms/{id}",
    tag = "alarms",
    params(("id" = i64, Path, description = "The alarm")),
    responses(
        (status = 200, body = MessageBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn remove(
    State(service): Shared,
    By(customer): By,
    OfAlarm(id): OfAlarm,
) -> Answer {
    let write = move |all: &mut Registry| all.delete_alarm(customer, id);
    service.database()?.write(write).await?;
    Ok(done())
}

/// A key, once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyBody {
    /// `Ok`.
    message: &'static str,
    #[schema(min_length = 36, max_length = 36)]
    alarm_key: String,
}

/// Make a key with which alarms of a container can be raised. The one before is
/// worth nothing from then on.
#[utoipa::path(
    get,
    path = "/api/alarm_key/{uid}",
    tag = "alarms",
    params(("uid" = u64, Path, description = "The container's user")),
    responses(
        (status = 200, body = KeyBody),
        (status = 403, description = "Not yours, or not there", body = ErrorBody),
        Failures
    )
)]
pub(super) async fn key(State(service): Shared, By(customer): By, Uid(uid): Uid) -> Answer {
    let write = move |all: &mut Registry| all.alarm_key(customer, uid);
    let alarm_key = service.database()?.write(write).await?;
    let message = "Ok";
    Ok(json(StatusCode::OK, &KeyBody { message, alarm_key }))
}

/// What an alarm says besides its message.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what can be asked")]
pub(super) struct RaiseQuery {
    /// The container's key, instead of your name and password.
    key: Option<String>,
    /// 1 if it is not given.
    #[param(minimum = 1)]
    level: Option<i64>,
    #[param(max_length = 255)]
    color: Option<String>,
    #[param(max_length = 255)]
    class: Option<String>,
    #[param(max_length = 255)]
    vassal: Option<String>,
    #[param(max_length = 255)]
    filename: Option<String>,
    #[param(max_length = 255)]
    func: Option<String>,
    line: Option<i64>,
    /// When, in seconds since 1970; now, if it is not given.
    unix: Option<i64>,
}

/// Of who gives none.
const COLOR: &str = "#ffffff";

/// Raise an alarm. The body is its message.
#[utoipa::path(
    post,
    path = "/api/alarms/raise/{uid}",
    tag = "alarms",
    params(("uid" = u64, Path, description = "The container's user"), RaiseQuery),
    request_body(content = String, content_type = "text/plain"),
    responses(
        (status = 201, body = MessageBody),
        (status = 400, description = "No number where one should be", body = ErrorBody),
        (status = 403, description = "Not yours, not there, or it cannot be", body = ErrorBody),
        (status = 413, body = ErrorBody),
        Failures
    )
)]
pub(super) async fn raise(State(service): Shared, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    let query = Query::from_request_parts(&mut parts, &service).await?;
    let (raiser, _guest) = match query.text("key") {
        Some(key) => (Raiser::Key(key), None),
        None => {
            let guest = super::guest(&service, &parts).await?;
            (Raiser::Customer(guest.customer()), Some(guest))
        }
    };
    let Uid(uid) = Uid::from_request_parts(&mut parts, &service).await?;
    let text = |name| query.text(name).unwrap_or_default();
    let alarm = NewAlarm {
        level: query.number("level")?.unwrap_or(1),
        color: query.text("color").unwrap_or_else(|| COLOR.to_owned()),
        class: text("class"),
        vassal: text("vassal"),
        filename: text("filename"),
        func: text("func"),
        line: query.number("line")?,
        unix: query.number("unix")?,
        msg: String::from_utf8_lossy(&body::whole(&parts.headers, body).await?).into_owned(),
    };
    let write = move |all: &mut Registry| all.raise(&raiser, uid, &alarm);
    service.database()?.write(write).await?;
    Ok(created())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_counted_from_the_newest() {
        for (text, skip, take) in [("10", 0, 10), ("0-5", 0, 5), ("5-7", 5, 2)] {
            let found = window(text).unwrap();
            assert_eq!((found.skip, found.take), (skip, take), "{text}");
        }
        assert_eq!(window("4000000000").unwrap().take, ALL.take);
        for wrong in [
            "",
            "0",
            "-",
            "-5",
            "5-",
            "7-5",
            "5-5",
            "a",
            "+5",
            "1-2-3",
            "99999999999",
        ] {
            assert!(matches!(window(wrong), Err(Refused::Range)), "{wrong}");
        }
    }
}
