//! Log lines on standard error: as text for people, or as JSON.
//!
//! Guarantees: in JSON every line that a process writes is one object with
//! `timestamp`, `level`, `target`, `role`, `home` (null if it is about none) and
//! `message`, beside what the event itself tells; also the last one, which says why
//! it failed.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;
use crate::supervisor::API;
use crate::sys::spawn;

const FILTER: &str = "DISTROFS_LOG";
const FORMAT: &str = "DISTROFS_LOG_FORMAT";

/// Set if lines are JSON: who writes them.
static JSON: OnceLock<Origin> = OnceLock::new();

/// Who writes lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    role: &'static str,
    home: Option<String>,
}

impl Origin {
    /// A command, or another process that is about no home.
    pub(super) fn of(role: &'static str) -> Origin {
        Origin { role, home: None }
    }

    /// A process of one home, which is named by its user.
    pub(super) fn of_home(role: &'static str, home: &std::path::Path) -> Origin {
        let name = home.file_name().map(|name| name.to_string_lossy());
        let home = name.map(std::borrow::Cow::into_owned);
        Origin { role, home }
    }

    /// What lines of text begin with.
    fn prefix(&self) -> String {
        match &self.home {
            Some(home) => format!("[{} {home}] ", self.role),
            None if self.role == API => format!("[{API}] "),
            None => String::new(),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Debug)]
pub(super) struct Logging {
    filter: String,
    format: Option<LogFormat>,
}

impl Logging {
    /// What was asked for: warnings, or more by `-v`, `-vv` or `DISTROFS_LOG`.
    pub(super) fn new(verbose: u8, format: Option<LogFormat>) -> Logging {
        let default = match verbose {
            0 => "warn",
            1 => "info",
            _ => "debug",
        };
        let filter = std::env::var(FILTER).ok();
        let filter = filter.filter(|filter| EnvFilter::try_new(filter).is_ok());
        let of_environment = || std::env::var(FORMAT).ok()?.parse().ok();
        Logging {
            filter: filter.unwrap_or_else(|| default.to_owned()),
            format: format.or_else(of_environment),
        }
    }

    /// Uses a format if none was asked for.
    pub(super) fn or(mut self, format: LogFormat) -> Logging {
        self.format = self.format.or(Some(format));
        self
    }

    /// Has processes that are started from now on log alike.
    pub(super) fn pass_on(&self) -> std::io::Result<()> {
        let format = self.format.unwrap_or_default().name().to_owned();
        spawn::pass_on(vec![(FILTER, self.filter.clone()), (FORMAT, format)])
    }

    /// Logs from now on.
    pub(super) fn start(&self, origin: Origin) {
        let log = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::new(&self.filter))
            .with_writer(std::io::stderr)
            // It would print, where nothing can be written, and that panics.
            .log_internal_errors(false);
        match self.format.unwrap_or_default() {
            LogFormat::Text => {
                let inner = tracing_subscriber::fmt::format().with_target(false);
                let prefix = origin.prefix();
                log.event_format(Text { prefix, inner }).init();
            }
            LogFormat::Json => {
                let origin = JSON.get_or_init(|| origin);
                log.event_format(Json { origin }).init();
                std::panic::set_hook(Box::new(|panic| {
                    tracing::error!(%panic, "a bug: please report it");
                }));
            }
        }
    }
}

/// Says something that is no event: whatever the filter is.
pub(super) fn say(level: Level, text: &str) {
    match JSON.get() {
        None => eprintln!("distrofs: {text}"),
        Some(origin) => {
            let mut fields = Map::new();
            fields.insert("message".to_owned(), text.into());
            let line = object(fields, level, module_path!(), origin);
            eprintln!("{}", Value::Object(line));
        }
    }
}

fn object(
    mut fields: Map<String, Value>,
    level: Level,
    target: &str,
    origin: &Origin,
) -> Map<String, Value> {
    for (name, value) in [
        ("timestamp", jiff::Timestamp::now().to_string()),
        ("level", level.to_string()),
        ("target", target.to_owned()),
        ("role", origin.role.to_owned()),
    ] {
        fields.insert(name.to_owned(), value.into());
    }
    let of_process = || match &origin.home {
        Some(home) => home
            .parse::<u32>()
            .map_or_else(|_| home.as_str().into(), Value::from),
        None => Value::Null,
    };
    fields.entry("home").or_insert_with(of_process);
    fields.entry("message").or_insert_with(|| "".into());
    fields
}

/// Lines for people.
struct Text {
    prefix: String,
    inner: Format<Full>,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(&self.prefix)?;
        self.inner.format_event(context, writer, event)
    }
}

/// Lines for programs.
struct Json {
    origin: &'static Origin,
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields(Map::new());
        event.record(&mut fields);
        let about = event.metadata();
        let line = object(fields.0, *about.level(), about.target(), self.origin);
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// What an event tells, as JSON.
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn an_object_has_what_is_promised_whatever_the_event_tells() {
        let origin = Origin::of_home("worker", Path::new("/containers/30000"));
        assert_eq!(origin.prefix(), "[worker 30000] ");
        let mut fields = Map::new();
        fields.insert("level".to_owned(), "mine".into());
        let line = object(fields, Level::WARN, "there", &origin);
        assert_eq!(
            (&line["level"], &line["home"]),
            (&"WARN".into(), &30_000.into())
        );
        assert_eq!(
            (&line["message"], &line["target"]),
            (&"".into(), &"there".into())
        );
        let mut fields = Map::new();
        fields.insert("home".to_owned(), 7.into());
        let line = object(fields, Level::INFO, "there", &Origin::of("supervisor"));
        assert_eq!(line["home"], 7);
        let line = object(Map::new(), Level::INFO, "there", &Origin::of("api"));
        assert_eq!(
            (&line["home"], &line["role"]),
            (&Value::Null, &"api".into())
        );
    }
}
