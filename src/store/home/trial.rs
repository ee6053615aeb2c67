//! Uploads whose reading ends the process that does it.
//!
//! Before an upload is indexed it is noted which it is. Whoever comes after a process
//! that ended by a fault of its own is told so, and counts that against what is noted:
//! after some times the upload is no image for us, and others are taken in again.
//!
//! Guarantees: only faults count, not that somebody killed the process; what is noted
//! of another upload is forgotten.

use serde::{Deserialize, Serialize};

use super::Home;
use super::error::HomeError;
use super::folder::Stamp;

/// In the directory of records, where no record has such a name.
const FILE: &[u8] = b".trial";
const FILE_BYTES_MAX: u64 = 4096;
const MODE: u32 = 0o600;

/// So many times are no accident.
const DEATHS_MAX: u32 = 3;

/// What is said of such an upload.
pub(super) const DEADLY: &str = "reading it ended the process that indexes it again and again: make the archive anew with another tar or gzip, and report this";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    stamp: Stamp,
    deaths: u32,
}

impl Home {
    /// Notes that the process before this one ended by a fault of its own while it
    /// took in or put together something, if it did.
    pub fn blame_upload(&self) -> Result<(), HomeError> {
        if let Some(trial) = self.trial() {
            let deaths = trial.deaths.saturating_add(1);
            tracing::error!(deaths, "an upload ended the process that indexed it");
            self.write_trial(Trial { deaths, ..trial })?;
        }
        Ok(())
    }

    /// Notes that an upload is being indexed; whether that may be done at all.
    pub(super) fn begin_trial(&self, stamp: Stamp) -> Result<bool, HomeError> {
        let before = self.trial().filter(|trial| trial.stamp == stamp);
        match before {
            Some(trial) => Ok(trial.deaths < DEATHS_MAX),
            None => self.write_trial(Trial { stamp, deaths: 0 }).map(|()| true),
        }
    }

    /// It did no harm, or will not be tried again.
    pub(super) fn end_trial(&self) {
        let removed = self.records.lock().0.remove(FILE);
        if let Err(error) = removed {
            tracing::warn!(%error, "a note of an upload stays");
        }
    }

    /// What is noted, if that can be read.
    fn trial(&self) -> Option<Trial> {
        let bytes = self.records.lock().0.read(FILE, FILE_BYTES_MAX).ok()??;
        serde_json::from_slice(&bytes).ok()
    }

    fn write_trial(&self, trial: Trial) -> Result<(), HomeError> {
        let failed = HomeError::doing("note which upload is being indexed");
        let bytes = serde_json::to_vec(&trial).map_err(|error| failed(error.into()))?;
        // Nothing has to outlast more than the process.
        self.records
            .lock()
            .0
            .put(FILE, &bytes, MODE)
            .map_err(failed)
    }
}
