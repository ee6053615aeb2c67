//! The images of a home: what is uploaded is taken in, what is there is offered,
//! and owners change it.
//!
//! Guarantees: everything is looked at again and again, so that what failed once is
//! done later; who asks something does not wait for what is being taken in. Lock
//! order: `desk`, then those of the home and of what is served.

mod answer;
mod arrival;
mod check;
mod desk;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::WorkerError;
use super::images::Images;
use super::status::{Facts, Indexing, Statuses};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::store::IngestOptions;
use crate::store::home::{
    Folder, Home, HomeError, ImageRecord, Options, Outcome, Scan, Sighting, State, Work,
};
use crate::sys::watch::Watch;
use crate::types::ImagePath;
use crate::wire::Begin;
use desk::Desk;

pub(super) use arrival::Sending;

/// Distance of checkpoints.
const SPAN_BYTES: u64 = 256 * 1024;

/// For looking at what containers need of an image, and for making the index of one
/// that was changed, one at a time.
const WORK_BYTES: u64 = 16 << 20;

/// How long nothing is looked at that nobody is known to have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// How often the status of what is being indexed is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// The images of a home.
pub(super) struct Library {
    home: Home,
    /// The home without what is mounted in it: trees that images hide.
    bare: Folder,
    /// Keeps the path of the store alive, which nobody else may lead to.
    _store: OwnedFd,
    budget: MemoryBudget,
    metrics: Arc<Metrics>,
    stop: AtomicBool,
    desk: Mutex<Desk>,
    /// Changes with everything that is done here.
    changes: AtomicU64,
    indexing: Mutex<Option<Progress>>,
    /// Archives that are being sent.
    receiving: Mutex<Vec<Arc<arrival::Progress>>>,
    /// Verifying takes memory and disk: one at a time.
    verifying: Mutex<()>,
    /// So does looking at all of an image.
    checking: Mutex<()>,
}

/// How far indexing an archive is.
#[derive(Clone, Debug)]
struct Progress {
    path: ImagePath,
    bytes: u64,
    of: u64,
    told: Instant,
}

/// What is remembered from one look to the next.
#[derive(Default)]
pub(super) struct Looked {
    scan: Scan,
    changes: u64,
    at: Option<Instant>,
}

impl Library {
    pub(super) fn open(
        home: OwnedFd,
        bare: OwnedFd,
        store: OwnedFd,
        begin: &Begin,
    ) -> Result<Self, WorkerError> {
        let mut options = Options::new(IngestOptions {
            span_bytes: SPAN_BYTES,
            ignore_zeros: false,
        });
        options.keep_versions = begin.versions_kept;
        let path = PathBuf::from(format!("/proc/self/fd/{}", store.as_raw_fd()));
        let home = Home::open(home, &path, options)?;
        if begin.after_fault {
            home.blame_upload()?;
        }
        for unfinished in home.recover()? {
            tracing::warn!(?unfinished, "something that was begun before waits still");
        }
        Ok(Library {
            home,
            bare: bare.into(),
            _store: store,
            budget: MemoryBudget::new(WORK_BYTES),
            metrics: Arc::default(),
            stop: AtomicBool::new(false),
            desk: Mutex::default(),
            changes: AtomicU64::new(0),
            indexing: Mutex::default(),
            receiving: Mutex::default(),
            verifying: Mutex::default(),
            checking: Mutex::default(),
        })
    }

    /// Where start profiles are kept.
    pub(super) fn profiles(&self) -> PathBuf {
        self.home.profiles_path()
    }

    /// Looks at everything once: takes in what is finished, offers what is new, and
    /// says in `distros` how it is.
    pub(super) fn look(&self, images: &Images, before: &mut Looked) -> Result<(), HomeError> {
        let mut scan = self.home.scan()?;
        let is_due = before.at.is_none_or(|at| at.elapsed() >= LOOK_AGAIN);
        let changes = self.changes.load(Ordering::Relaxed);
        if !is_due && scan == before.scan && changes == before.changes && scan.patched.is_empty() {
            return Ok(());
        }
        if self.take(&scan, images)? {
            scan = self.home.scan()?;
        }
        self.take_patches(&scan)?;
        let kept = self.refresh(images)?;
        // What became one while this looked is offered before it is swept.
        self.sweep(images, &kept)?;
        self.tell(&mut self.desk.lock(), &scan)?;
        *before = Looked {
            changes: self.changes.load(Ordering::Relaxed),
            at: Some(Instant::now()),
            scan,
        };
        Ok(())
    }

    /// Has uploads heard of.
    pub(super) fn follow(&self, watch: &mut Watch) -> io::Result<()> {
        let distros = self.home.distros().map_err(io::Error::other)?;
        watch.follow(distros.as_fd())
    }

    /// Takes in what is finished; whether there was anything.
    fn take(&self, scan: &Scan, images: &Images) -> Result<bool, HomeError> {
        let is_finished = |sighting: &&Sighting| sighting.state == State::Finished;
        let progress = |path: &ImagePath, bytes, of| self.progress(path, bytes, of);
        let mut is_any = false;
        for sighting in scan.sightings.iter().filter(is_finished) {
            is_any = true;
            let began = Instant::now();
            let outcome = self.home.take(sighting, self.work(&progress));
            images
                .ingested
                .count(&outcome, sighting.bytes, began.elapsed());
            *self.indexing.lock() = None;
            if let Outcome::Ready { path, notes, .. } = outcome {
                images.say(&path, "a new version was taken in");
                self.desk.lock().taken(&path, notes);
            }
            self.changed();
            self.refresh(images)?;
        }
        Ok(is_any)
    }

    /// Takes in the patch layers of all images that have any, or had.
    fn take_patches(&self, scan: &Scan) -> Result<(), HomeError> {
        let progress = |path: &ImagePath, bytes, of| self.progress(path, bytes, of);
        for record in self.home.images()?.records {
            if record.patches.is_empty() && !scan.patched.contains(&record.path) {
                continue;
            }
            let taken = self.home.take_patches(&record.path, self.work(&progress));
            let mut desk = self.desk.lock();
            let notes = desk.notes_of(&record.path);
            notes.patches = match taken {
                Ok(patches) => {
                    if patches.changed {
                        self.changed();
                    }
                    let refused = patches.refused.iter();
                    let refused = refused.map(|(name, why)| format!("patch {name} refused: {why}"));
                    let waiting = patches.waiting.iter();
                    let waiting = waiting.map(|(name, why)| format!("patch {name} waits: {why}"));
                    refused.chain(waiting).collect()
                }
                Err(error) => vec![format!("its patches cannot be taken in: {error}")],
            };
        }
        *self.indexing.lock() = None;
        Ok(())
    }

    fn work<'a>(&'a self, progress: &'a (dyn Fn(&ImagePath, u64, u64) + Sync)) -> Work<'a> {
        Work {
            metrics: &self.metrics,
            progress,
            stop: &self.stop,
        }
    }

    /// Notes that something is not as it was.
    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::Relaxed);
    }

    /// Offers what is current and was not offered yet, and withdraws what is gone;
    /// all records.
    fn refresh(&self, images: &Images) -> Result<Vec<ImageRecord>, HomeError> {
        let all = self.home.images()?;
        let mut desk = self.desk.lock();
        if all.unusable.is_empty() {
            let there: BTreeSet<_> = all.records.iter().map(|record| &record.path).collect();
            for path in desk.without(&there) {
                images.withdraw(&path);
                self.changed();
            }
        }
        for record in &all.records {
            let offer = desk.compose(record, |record| {
                self.home.compose(record, &self.budget, &self.metrics)
            });
            let Some((version, files)) = offer else {
                continue;
            };
            self.changed();
            // Where containers find it. What is there already stays, and comes back.
            let there = self.home.distros()?.place(record.path.as_str());
            if let Err(error) = there {
                tracing::warn!(path = %record.path, %error, "there is no directory to serve it at");
            }
            images.offer(&record.path, version, files);
        }
        Ok(all.records)
    }

    /// Removes what nobody needs.
    fn sweep(&self, images: &Images, records: &[ImageRecord]) -> Result<(), HomeError> {
        let in_use = images.in_use();
        self.home.gc(&|digest| in_use.contains(digest))?;
        let desk = self.desk.lock();
        self.home
            .forget_derived(&|version| in_use.contains(version))?;
        drop(desk);
        // A directory in which an image was served, and nothing else was.
        let left = std::mem::take(&mut self.desk.lock().left);
        for path in left {
            if records.iter().any(|record| record.path == path) {
                continue;
            }
            match self.home.distros()?.remove_empty(path.as_str()) {
                Ok(true) => {}
                Ok(false) => drop(self.desk.lock().left.insert(path)),
                Err(error) => tracing::warn!(%path, %error, "an empty directory stays"),
            }
        }
        Ok(())
    }

    /// Says in `distros` how everything is.
    fn tell(&self, desk: &mut Desk, scan: &Scan) -> Result<(), HomeError> {
        let statuses = self.statuses(desk, scan)?;
        let names_max = self.home.options().names_max;
        desk.files
            .update(&self.home.distros()?, &statuses, names_max);
        Ok(())
    }

    fn statuses(&self, desk: &mut Desk, scan: &Scan) -> Result<Statuses, HomeError> {
        let indexing = self.indexing.lock().clone();
        desk.check(&self.budget, &self.metrics);
        let mut notes = desk.all_notes();
        for progress in self.receiving.lock().iter() {
            let of_image = notes.entry(progress.path().clone()).or_default();
            of_image.insert(0, progress.state());
        }
        let facts = Facts {
            names_max: self.home.options().names_max,
            scan,
            images: &self.home.images()?,
            rejections: &self.home.rejections()?,
            indexing: indexing.as_ref().map(|progress| Indexing {
                path: &progress.path,
                bytes: progress.bytes,
                of: progress.of,
            }),
            checks: &desk.checks,
            notes: &notes,
        };
        Ok(facts.statuses())
    }

    /// Notes how far indexing is, and says so now and then.
    fn progress(&self, path: &ImagePath, bytes: u64, of: u64) {
        let mut indexing = self.indexing.lock();
        let told = indexing.as_ref().map(|progress| progress.told);
        let is_due = told.is_none_or(|told| told.elapsed() >= PROGRESS_EVERY);
        let told = told.filter(|_| !is_due).unwrap_or_else(Instant::now);
        *indexing = Some(Progress {
            path: path.clone(),
            bytes,
            of,
            told,
        });
        drop(indexing);
        if is_due {
            self.tell_now();
        }
    }

    /// Says in `distros` how everything is, unless somebody does already.
    fn tell_now(&self) {
        if let Some(mut desk) = self.desk.try_lock()
            && let Err(error) = self
                .home
                .scan()
                .and_then(|scan| self.tell(&mut desk, &scan))
        {
            tracing::debug!(%error, "how far indexing is cannot be said");
        }
    }
}
