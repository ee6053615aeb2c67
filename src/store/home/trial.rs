//! Uploads whose reading ends the process that does it.
//!
//! Before an upload is indexed it is noted which it is. Whoever comes after a process
//! that ended by a fault of its own is told so, and counts that against what is noted:
//! after some times the upload is no image for us, and others are taken in again.
//!
//! An archive that is being sent is not known before all of it is there, and is gone
//! after the fault: the first time it is noted of which image it was to be. Then
//! archives of that image are told apart by their digest, and so are not indexed
//! before they are there.
//!
//! Guarantees: only faults count, not that somebody killed the process; what is noted
//! of another upload is forgotten.

use serde::{Deserialize, Serialize};

use super::Home;
use super::error::HomeError;
use super::folder::Stamp;
use crate::types::{Digest, ImagePath};

/// In the directory of records, where no record has such a name.
const FILE: &[u8] = b".trial";
const FILE_BYTES_MAX: u64 = 4096;
const MODE: u32 = 0o600;

/// So many times are no accident.
const DEATHS_MAX: u32 = 3;

/// What is said of such an upload.
pub(super) const DEADLY: &str = "reading it ended the process that indexes it again and again: make the archive anew with another tar or gzip, and report this";

/// What is being indexed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tried {
    /// A file.
    Stamp(Stamp),
    /// An archive that is being sent, of this image.
    Arriving(ImagePath),
    /// An archive that was sent, of this image.
    Arrived(ImagePath, Digest),
}

impl Tried {
    /// Whether what was noted of `before` is of this.
    fn is_that(&self, before: &Tried) -> bool {
        match (before, self) {
            (Tried::Arriving(before), Tried::Arrived(path, _)) => before == path,
            (before, this) => before == this,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Trial {
    #[serde(flatten)]
    of: Tried,
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
    pub(super) fn begin_trial(&self, of: Tried) -> Result<bool, HomeError> {
        let before = self.trial().filter(|trial| of.is_that(&trial.of));
        let deaths = before.as_ref().map_or(0, |trial| trial.deaths);
        if before.is_none_or(|before| before.of != of) {
            self.write_trial(Trial { of, deaths })?;
        }
        Ok(deaths < DEATHS_MAX)
    }

    /// Whether an archive that is sent for this image may be one that ended the
    /// process before.
    pub(super) fn is_suspected(&self, path: &ImagePath) -> bool {
        self.trial().is_some_and(|trial| match trial.of {
            Tried::Stamp(_) => false,
            Tried::Arriving(of) | Tried::Arrived(of, _) => trial.deaths > 0 && of == *path,
        })
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
