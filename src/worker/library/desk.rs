//! What is known of each image while it is offered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::status::{Checks, StatusFiles};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::store::ImageFiles;
use crate::store::home::{Composed, HomeError, ImageRecord};
use crate::types::{Digest, ImagePath};

/// How long after a failure something is composed again.
const COMPOSE_AGAIN: Duration = Duration::from_secs(30);

/// Of so many archives that were sent it is remembered that they were rejected.
const REJECTED_MAX: usize = 32;

/// What is said of an image, a line each.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// When its archive was taken in.
    pub(super) taken: Vec<String>,
    /// Of its patch layers.
    pub(super) patches: Vec<String>,
    /// When it was put together.
    pub(super) composed: Vec<String>,
}

impl Notes {
    fn all(&self) -> Vec<String> {
        let all = [&self.taken, &self.patches, &self.composed];
        all.into_iter().flatten().cloned().collect()
    }
}

/// An image as it was put together last.
struct Shelved {
    record: ImageRecord,
    /// None if it could not be.
    made: Option<(Digest, Arc<ImageFiles>)>,
    tried: Instant,
}

/// Of all images.
#[derive(Default)]
pub(super) struct Desk {
    shelf: BTreeMap<ImagePath, Shelved>,
    notes: BTreeMap<ImagePath, Notes>,
    /// Archives that were sent and can never be images, since the last that can be one
    /// there: of which image, and what is said of them.
    rejected: VecDeque<(ImagePath, String)>,
    pub(super) checks: Checks,
    pub(super) files: StatusFiles,
    /// Images that are gone, whose directories may be left.
    pub(super) left: BTreeSet<ImagePath>,
}

impl Desk {
    pub(super) fn notes_of(&mut self, path: &ImagePath) -> &mut Notes {
        self.notes.entry(path.clone()).or_default()
    }

    /// Notes what is to be said of a version that was taken in.
    pub(super) fn taken(&mut self, path: &ImagePath, notes: Vec<String>) {
        self.rejected.retain(|(other, _)| other != path);
        self.notes_of(path).taken = notes;
    }

    /// Notes that an archive that was sent can never be an image.
    pub(super) fn rejected(&mut self, path: &ImagePath, reason: &str) {
        self.rejected.retain(|(other, _)| other != path);
        if self.rejected.len() == REJECTED_MAX {
            self.rejected.pop_front();
        }
        let text = format!("refused: the archive that was sent: {reason}");
        self.rejected.push_back((path.clone(), text));
    }

    /// What is said of an image.
    pub(super) fn notes(&self, path: &ImagePath) -> Vec<String> {
        let rejected = self.rejected.iter().filter(|(other, _)| other == path);
        let rejected = rejected.map(|(_, text)| text.clone());
        let notes = self.notes.get(path).map(Notes::all);
        rejected.chain(notes.into_iter().flatten()).collect()
    }

    pub(super) fn all_notes(&self) -> BTreeMap<ImagePath, Vec<String>> {
        let rejected = self.rejected.iter().map(|(path, _)| path);
        let paths: BTreeSet<_> = self.notes.keys().chain(rejected).collect();
        let notes = paths
            .into_iter()
            .map(|path| (path.clone(), self.notes(path)));
        notes.filter(|(_, notes)| !notes.is_empty()).collect()
    }

    /// The version of an image that is offered.
    pub(super) fn version(&self, path: &ImagePath) -> Option<Digest> {
        let shelved = self.shelf.get(path)?;
        shelved.made.as_ref().map(|(version, _)| *version)
    }

    /// The version of an image that is offered, and its files.
    pub(super) fn offered(&self, path: &ImagePath) -> Option<(Digest, Arc<ImageFiles>)> {
        self.shelf.get(path)?.made.clone()
    }

    /// Forgets all images but these; those that were there.
    pub(super) fn without(&mut self, there: &BTreeSet<&ImagePath>) -> Vec<ImagePath> {
        let gone = self.shelf.keys().filter(|path| !there.contains(path));
        let gone: Vec<_> = gone.cloned().collect();
        for path in &gone {
            self.shelf.remove(path);
            self.notes.remove(path);
            self.checks.forget(path);
            self.left.insert(path.clone());
        }
        gone
    }

    /// Puts an image together if it is not what it was; nothing if that is of the
    /// version that is offered already.
    pub(super) fn compose(
        &mut self,
        record: &ImageRecord,
        compose: impl FnOnce(&ImageRecord) -> Result<Composed, HomeError>,
    ) -> Option<(Digest, Arc<ImageFiles>)> {
        if let Some(last) = self.shelf.get(&record.path) {
            let is_fine = last.made.is_some() || last.tried.elapsed() < COMPOSE_AGAIN;
            if last.record == *record && is_fine {
                return None;
            }
        }
        let before = self.version(&record.path);
        let made = match compose(record) {
            Ok(composed) => {
                self.notes_of(&record.path).composed = composed.notes;
                Some((composed.version, Arc::new(composed.files)))
            }
            Err(error) => {
                tracing::warn!(path = %record.path, %error, "an image cannot be served");
                let note = format!("it cannot be served: {error}");
                self.notes_of(&record.path).composed = vec![note];
                None
            }
        };
        let shelved = Shelved {
            record: record.clone(),
            made: made.clone(),
            tried: Instant::now(),
        };
        self.shelf.insert(record.path.clone(), shelved);
        made.filter(|(version, _)| before != Some(*version))
    }

    /// Looks at what containers need of those that were not looked at yet.
    pub(super) fn check(&mut self, budget: &MemoryBudget, metrics: &Arc<Metrics>) {
        for (path, shelved) in &self.shelf {
            if let Some((version, files)) = &shelved.made {
                self.checks.look(path, *version, files, budget, metrics);
            }
        }
    }
}
