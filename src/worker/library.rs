//! The images of a home: what is uploaded is taken in, and what is there is offered.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use super::WorkerError;
use super::images::{Files, Images};
use super::status::{self, Checks, Facts, StatusFiles};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::store::IngestOptions;
use crate::store::home::{
    Digest, Home, HomeError, ImagePath, ImageRecord, Options, Outcome, State, Work,
};
use crate::wire::{Begin, Version};

/// Distance of checkpoints.
const SPAN_BYTES: u64 = 256 * 1024;

/// For looking at what containers need of an image, one at a time.
const CHECK_BYTES: u64 = 16 << 20;

/// The images of a home.
pub(super) struct Library {
    home: Home,
    /// Keeps the path of the store alive, which nobody else may lead to.
    _store: OwnedFd,
    metrics: Arc<Metrics>,
    stop: AtomicBool,
    offered: BTreeMap<ImagePath, Digest>,
    notes: BTreeMap<ImagePath, Vec<String>>,
    checks: Checks,
    files: StatusFiles,
}

impl Library {
    pub(super) fn open(home: OwnedFd, store: OwnedFd, begin: &Begin) -> Result<Self, WorkerError> {
        let mut options = Options::new(IngestOptions {
            span_bytes: SPAN_BYTES,
            ignore_zeros: false,
        });
        options.keep_versions = begin.versions_kept;
        let path = PathBuf::from(format!("/proc/self/fd/{}", store.as_raw_fd()));
        let home = Home::open(home, &path, options)?;
        for unfinished in home.recover()? {
            tracing::warn!(?unfinished, "something that was begun before waits still");
        }
        Ok(Library {
            home,
            _store: store,
            metrics: Arc::default(),
            stop: AtomicBool::new(false),
            offered: BTreeMap::new(),
            notes: BTreeMap::new(),
            checks: Checks::default(),
            files: StatusFiles::default(),
        })
    }

    /// Looks at everything once: takes in what is finished, offers what is new, and
    /// says in `distros` how it is.
    pub(super) fn look(&mut self, images: &Images) -> Result<(), HomeError> {
        let scan = self.home.scan()?;
        for sighting in &scan.sightings {
            if sighting.state == State::Finished {
                let began = Instant::now();
                let outcome = self.home.take(sighting, self.work());
                images
                    .ingested
                    .count(&outcome, sighting.bytes, began.elapsed());
                if let Outcome::Ready { path, notes, .. } = outcome {
                    images.say(&wire_path(&path), "a new version was taken in");
                    self.notes.insert(path, notes);
                }
                self.offer(images)?;
            }
        }
        self.offer(images)?;
        let served = images.versions();
        self.home
            .gc(&|digest| served.contains(&Version(*digest.bytes())))?;
        self.tell()
    }

    fn work(&self) -> Work<'_> {
        Work {
            metrics: &self.metrics,
            progress: &|_, _, _| {},
            stop: &self.stop,
        }
    }

    /// Offers what is current and was not offered yet, and withdraws what is gone.
    fn offer(&mut self, images: &Images) -> Result<(), HomeError> {
        let all = self.home.images()?;
        let there: BTreeSet<_> = all.records.iter().map(|record| &record.path).collect();
        let is_gone = |path: &&ImagePath| all.unusable.is_empty() && !there.contains(path);
        let gone: Vec<_> = self.offered.keys().filter(is_gone).cloned().collect();
        for path in gone {
            images.withdraw(&wire_path(&path));
            self.offered.remove(&path);
        }
        for record in &all.records {
            if self.offered.get(&record.path) == Some(&record.current) {
                continue;
            }
            match self.offer_one(images, record) {
                Ok(()) => drop(self.offered.insert(record.path.clone(), record.current)),
                Err(error) => {
                    tracing::warn!(path = %record.path, %error, "an image cannot be served");
                    let note = format!("it cannot be served: {error}");
                    self.notes.insert(record.path.clone(), vec![note]);
                }
            }
        }
        Ok(())
    }

    fn offer_one(&self, images: &Images, record: &ImageRecord) -> Result<(), HomeError> {
        let digest = &record.current;
        // Looked at whether they belong together; they are opened once more for those
        // who will serve them.
        let (archive, _index) = self.home.open_image(digest)?;
        let lost = |_| HomeError::Lost {
            digest: *digest,
            what: "without an index that can be read",
        };
        let index = std::fs::File::open(self.home.index_path(digest)).map_err(lost)?;
        let archive = archive.file().try_clone().map_err(lost)?;
        // Where containers find it. What is there already stays, and comes back.
        let there = self.home.distros()?.make(record.path.as_str());
        if let Err(error) = there {
            tracing::warn!(path = %record.path, %error, "there is no directory to serve it at");
        }
        let files = Files(vec![archive.into(), index.into()]);
        images.offer(&wire_path(&record.path), Version(*digest.bytes()), files);
        Ok(())
    }

    /// Says in `distros` how everything is.
    fn tell(&mut self) -> Result<(), HomeError> {
        let (scan, images) = (self.home.scan()?, self.home.images()?);
        let budget = MemoryBudget::new(CHECK_BYTES);
        let current = status::current(&images);
        self.checks
            .update(&self.home, &current, &budget, &self.metrics);
        let names_max = self.home.options().names_max;
        let facts = Facts {
            names_max,
            scan: &scan,
            images: &images,
            rejections: &self.home.rejections()?,
            indexing: None,
            checks: &self.checks,
            notes: &self.notes,
        };
        let statuses = facts.statuses();
        self.files
            .update(&self.home.distros()?, &statuses, names_max);
        Ok(())
    }
}

/// The same name, which both check alike.
fn wire_path(path: &ImagePath) -> crate::wire::ImagePath {
    crate::wire::ImagePath::from_checked(path.as_str())
}
