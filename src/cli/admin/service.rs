//! Waiting until a running service has what was changed.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::super::Failure;
use crate::wire::client::{AskError, ask_text};
use crate::wire::control::Request;
use crate::wire::report::Status;

/// How long the service may take to have it.
const LIMIT: Duration = Duration::from_secs(5);
/// How often it is asked.
const INTERVAL: Duration = Duration::from_millis(50);
/// The most that it says.
const STATUS_BYTES_MAX: usize = 16 << 20;

/// Waits until the service at `run` has a state of the registry, or a later one. That
/// it has not is said, and no failure: the change is made.
pub(super) fn wait(run: &Path, revision: u64) -> Result<(), Failure> {
    let until = Instant::now() + LIMIT;
    loop {
        match ask_text(run, &Request::Status, LIMIT, STATUS_BYTES_MAX) {
            Ok(text) => {
                let status: Status = serde_json::from_str(&text)?;
                if status.decisions.revision.is_some_and(|has| has >= revision) {
                    return Ok(());
                }
            }
            Err(AskError::Nobody { .. }) => {
                note("the service is not running: it will have this when it starts");
                return Ok(());
            }
            Err(AskError::Refused(why)) => {
                note(&format!(
                    "the service does not say whether it has this: {why}"
                ));
                return Ok(());
            }
            // It may be starting, or handing over.
            Err(_) => {}
        }
        if Instant::now() > until {
            note("the service has not taken this yet: see its log, if it does not soon");
            return Ok(());
        }
        sleep(INTERVAL);
    }
}

fn note(text: &str) {
    eprintln!("distrofs: {text}");
}
