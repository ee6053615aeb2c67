//! Taking an upload in: under a lease from before its index is begun until it has
//! left `distros`.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::error::HomeError;
use super::fault::{Step, step, system_step};
use super::folder::{Folder, Stamp};
use super::journal::{Intent, Token};
use super::record::Version;
use super::scan::{Sighting, State, unreadable};
use super::trial::{DEADLY, Tried};
use super::verdict::{Verdict, verdict};
use super::{Home, INCOMING, Work, now};
use crate::index::build::WarningKind;
use crate::sidecar::Sidecar;
use crate::source::Kind;
use crate::store::ingest::{IngestReport, Intake, ingest};
use crate::store::{Archive, StoreError};
use crate::sys::lease::Lease;
use crate::types::{Digest, ImagePath};

/// What came of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is the current version of its image.
    Ready {
        /// The image.
        path: ImagePath,
        /// The version.
        version: Box<Version>,
        /// What its owner should know, a line each.
        notes: Vec<String>,
    },
    /// It is being uploaded: somebody has it open, or wanted to write meanwhile.
    Busy,
    /// It is gone, or another file has its name.
    Gone,
    /// It ends too early: it stays for resuming. Why that is known.
    Truncated(String),
    /// It can never be an image, and was moved to `distros/.rejected`. Why, and what
    /// to do.
    Rejected(String),
    /// It is not taken in as it is, and stays. Why, and what to do.
    Refused(String),
    /// The system failed; it is tried again. Why, and what to do.
    Later(String),
    /// It was given up because that was asked for.
    Stopped,
}

/// An upload under a lease.
struct Held<'a> {
    distros: &'a Folder,
    sighting: &'a Sighting,
    path: &'a ImagePath,
    archive: Archive,
    stamp: Stamp,
    lease: Lease,
}

/// An archive with a new index in `incoming`.
pub(super) struct Indexed {
    pub(super) digest: Digest,
    pub(super) report: IngestReport,
}

/// Why there is no new index.
pub(super) enum Unindexed {
    /// Its content, or the system.
    Failed(StoreError),
    /// Somebody wanted to write, or it was to stop.
    GivenUp,
    /// It may not be complete, though nothing is wrong with what there is.
    Unlikely(Unlikely),
}

/// What a complete archive hardly ever is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unlikely {
    /// A plain archive without an end.
    Endless,
    /// One of zeros: a file that was made large before it is written, or an empty
    /// directory.
    Empty,
}

impl Unlikely {
    /// What is said of it if more of it may come.
    pub(super) fn so_far(self) -> &'static str {
        match self {
            Unlikely::Endless => ENDLESS,
            Unlikely::Empty => EMPTY,
        }
    }

    /// What is said of it if no more will come.
    pub(super) fn at_last(self) -> &'static str {
        match self {
            Unlikely::Endless => {
                "its end is missing, so it may not be complete: send it again; if it is complete, compress it (gzip), or append its end (head -c 1024 /dev/zero >> FILE)"
            }
            Unlikely::Empty => "there is nothing in it: send another one",
        }
    }
}

const EMPTY: &str =
    "there is nothing in it, so it may not be complete: go on uploading it, or upload another one";

/// What is said of a full disk.
const NO_ROOM: &str =
    "remove files or images that are not needed, or ask for more room: it goes on by itself then";

/// What is said of an archive without an end.
const ENDLESS: &str = "its end is missing, so it may not be complete: go on uploading it; if it is complete, compress it (gzip), or append its end (head -c 1024 /dev/zero >> FILE)";

impl Home {
    /// Takes an upload in, whatever state it was seen in. Returns when that is done
    /// or cannot be done; waits for others that are being taken in.
    pub fn take(&self, sighting: &Sighting, work: Work<'_>) -> Outcome {
        let _turn = self.wait_for_turn();
        let Some(path) = &sighting.path else {
            return match &sighting.state {
                State::Refused(reason) => Outcome::Refused(reason.clone()),
                _ => Outcome::Gone,
            };
        };
        let distros = match self.distros() {
            Ok(distros) => distros,
            Err(error) => return Outcome::Later(error.to_string()),
        };
        match self.hold(&distros, sighting, path) {
            Ok(held) => self.take_held(&held, work),
            Err(outcome) => outcome,
        }
    }

    /// Opens an upload and takes the lease on it.
    fn hold<'a>(
        &self,
        distros: &'a Folder,
        sighting: &'a Sighting,
        path: &'a ImagePath,
    ) -> Result<Held<'a>, Outcome> {
        let later = |error: io::Error| Outcome::Later(format!("it cannot be read: {error}"));
        let refused = |state| match state {
            State::Refused(reason) => Outcome::Refused(reason),
            _ => Outcome::Busy,
        };
        let stat = distros.stat(&sighting.name).map_err(later)?;
        let stat = stat.ok_or(Outcome::Gone)?;
        if let Some(state) = self.refusal(&stat) {
            return Err(refused(state));
        }
        if let Some(reason) = self.is_full_for(path).map_err(later)? {
            self.put_off(&sighting.name, Stamp::of(&stat), reason.clone());
            return Err(Outcome::Refused(reason));
        }
        let file = distros
            .file(&sighting.name)
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => Outcome::Gone,
                io::ErrorKind::PermissionDenied => refused(unreadable()),
                _ => later(error),
            })?;
        let file = Arc::new(file);
        let lease = Lease::take(&file).map_err(later)?.ok_or(Outcome::Busy)?;
        // From here on its content stays, so that this is what is indexed.
        let stat = rustix::fs::fstat(&file).map_err(|e| later(e.into()))?;
        if let Some(state) = self.refusal(&stat) {
            return Err(refused(state));
        }
        let shown = Path::new("distros").join(String::from_utf8_lossy(&sighting.name).as_ref());
        let archive = Archive::from_file(file, &shown);
        Ok(Held {
            distros,
            sighting,
            path,
            archive: archive.map_err(|error| Outcome::Later(error.to_string()))?,
            stamp: Stamp::of(&stat),
            lease,
        })
    }

    /// Why there can be no image of this path, if there are too many others.
    pub(super) fn is_full_for(&self, path: &ImagePath) -> io::Result<Option<String>> {
        let max = self.options.images_max;
        let reason = || format!("there are {max} images already: remove one that is not needed");
        let has_room = self.records.lock().has_room(path, max)?;
        Ok((!has_room).then(reason))
    }

    fn take_held(&self, held: &Held<'_>, work: Work<'_>) -> Outcome {
        let token = match Token::new() {
            Ok(token) => token,
            Err(error) => return Outcome::Later(format!("cannot get random bytes: {error}")),
        };
        match self.begin_trial(Tried::Stamp(held.stamp)) {
            Ok(true) => {}
            Ok(false) => return self.never(held, DEADLY.to_owned()),
            Err(error) => return self.later(held, &error),
        }
        let is_whole = || held.lease.is_whole();
        let indexed = self.index_into(&token, (&held.archive).into(), held.path, work, &is_whole);
        self.end_trial();
        match indexed {
            Ok(indexed) => self.commit(held, &token, indexed),
            Err(unindexed) => {
                if let Err(error) = self.forget(&token) {
                    tracing::warn!(%error, "an index that came to nothing stays");
                }
                match unindexed {
                    Unindexed::Failed(error) => self.failed(held, &error),
                    Unindexed::Unlikely(why) => self.incomplete(held, why.so_far().to_owned()),
                    Unindexed::GivenUp if work.stop.load(Ordering::Relaxed) => Outcome::Stopped,
                    Unindexed::GivenUp => Outcome::Busy,
                }
            }
        }
    }

    /// Indexes an archive into `incoming` for as long as it `is_whole`.
    pub(super) fn index_into(
        &self,
        token: &Token,
        intake: Intake<'_>,
        path: &ImagePath,
        work: Work<'_>,
        is_whole: &(dyn Fn() -> bool + Sync),
    ) -> Result<Indexed, Unindexed> {
        let place = self.incoming_path(&token.index());
        let is_wanted = || !work.stop.load(Ordering::Relaxed) && is_whole();
        let progress = Throttled::new(self, path, intake.len(), work);
        let failed = |cause| StoreError::System {
            doing: "index an upload",
            cause,
        };
        let indexed = step(Step::Index, failed, || {
            let options = self.options.ingest;
            let tell = |bytes| progress.tell(bytes);
            ingest(intake, &place, options, work.metrics, &tell, &is_wanted)
        });
        if !is_wanted() {
            return Err(Unindexed::GivenUp);
        }
        let report = indexed.map_err(Unindexed::Failed)?;
        let has_no_end = |report: &IngestReport| {
            let mut warnings = report.built.report.warnings();
            warnings.any(|warning| warning.kind == WarningKind::MissingEnd)
        };
        // The end of a compressed one is known by its checksum.
        if report.scan.kind == Kind::Plain && has_no_end(&report) {
            return Err(Unindexed::Unlikely(Unlikely::Endless));
        }
        // Containers would not start from it.
        if report.built.summary.entries == 0 {
            return Err(Unindexed::Unlikely(Unlikely::Empty));
        }
        let sidecar = Sidecar::open(&place).map_err(|e| Unindexed::Failed(e.into()))?;
        Ok(Indexed {
            digest: Digest::new(sidecar.identity().sha256),
            report,
        })
    }

    pub(super) fn incoming_path(&self, name: &str) -> PathBuf {
        self.store.join(INCOMING).join(name)
    }

    /// Moves an indexed upload into the store.
    fn commit(&self, held: &Held<'_>, token: &Token, indexed: Indexed) -> Outcome {
        let summary = indexed.report.built.summary;
        let version = Version {
            sha256: indexed.digest,
            name: String::from_utf8_lossy(&held.sighting.name).into_owned(),
            bytes: held.stamp.bytes(),
            content_bytes: summary.content_bytes,
            entries: summary.entries,
            taken: now(),
        };
        let intent = Intent::new(held.path.clone(), held.stamp, version);
        match self.stage(held, token, &intent) {
            Ok(None) => {}
            Ok(Some(outcome)) => return self.undo(token, outcome),
            Err(error) => {
                let outcome = self.later(held, &error);
                return self.undo(token, outcome);
            }
        }
        // An error from here on leaves it to be settled later.
        match self.complete(token, &intent) {
            Ok(()) => Outcome::Ready {
                path: intent.path,
                version: Box::new(intent.version),
                notes: indexed.report.notes(),
            },
            Err(error) => Outcome::Later(error.to_string()),
        }
    }

    /// Steps 1 to 3 of the journal; what came of it if it ends there.
    fn stage(
        &self,
        held: &Held<'_>,
        token: &Token,
        intent: &Intent,
    ) -> Result<Option<Outcome>, HomeError> {
        let file: &File = held.archive.file();
        system_step(Step::SyncArchive, "write an upload to the disk", || {
            file.sync_all()
        })?;
        if !held.lease.is_whole() {
            return Ok(Some(Outcome::Busy));
        }
        let now = file.metadata();
        if now.is_ok_and(|now| now.nlink() != 1) {
            return Ok(Some(Outcome::Busy));
        }
        self.write_intent(token, intent)?;
        let (name, staged) = (&held.sighting.name, token.archive());
        let moved = system_step(Step::Stage, "move an upload into the store", || {
            held.distros
                .rename(name, &self.incoming, staged.as_bytes())?;
            self.incoming.sync()?;
            held.distros.sync()
        });
        match moved {
            Err(HomeError::Io { cause, .. }) if cause.kind() == io::ErrorKind::NotFound => {
                return Ok(Some(Outcome::Gone));
            }
            moved => moved?,
        }
        let is_it = self.incoming.stamp(staged.as_bytes());
        let is_it = is_it.map_err(HomeError::doing("look at what was moved"))?;
        // Who opened it by its name before it left waits for the lease to end.
        if is_it == Some(held.stamp) && held.lease.is_whole() {
            return Ok(None);
        }
        self.give_back(&self.incoming, staged.as_bytes(), name)?;
        Ok(Some(match is_it == Some(held.stamp) {
            true => Outcome::Busy,
            false => Outcome::Gone,
        }))
    }

    /// Removes what was written down, unless the upload is in the store: then that
    /// is settled later.
    fn undo(&self, token: &Token, outcome: Outcome) -> Outcome {
        let staged = self.incoming.stat(token.archive().as_bytes());
        if matches!(staged, Ok(None))
            && let Err(error) = self.forget(token)
        {
            tracing::warn!(%error, "an index that came to nothing stays");
        }
        outcome
    }

    /// What a failure to index means.
    fn failed(&self, held: &Held<'_>, error: &StoreError) -> Outcome {
        let reason = reason_of(error, held.archive.path());
        match verdict(error, held.stamp.bytes()) {
            Verdict::Changed => Outcome::Busy,
            Verdict::Incomplete => self.incomplete(held, reason),
            Verdict::Later => self.later(held, &reason),
            Verdict::NoRoom => self.later(held, &format!("{reason}; {NO_ROOM}")),
            Verdict::Never => self.never(held, reason),
        }
    }

    /// Moves what can never be an image out of the way.
    fn never(&self, held: &Held<'_>, reason: String) -> Outcome {
        match self.reject(held.distros, &held.sighting.name, held.stamp, &reason) {
            Ok(true) => Outcome::Rejected(reason),
            Ok(false) => Outcome::Gone,
            Err(error) => {
                tracing::warn!(%error, "a rejected upload stays");
                self.note(held, State::Refused(reason.clone()));
                Outcome::Refused(reason)
            }
        }
    }

    fn incomplete(&self, held: &Held<'_>, reason: String) -> Outcome {
        self.note(held, State::Incomplete(reason.clone()));
        Outcome::Truncated(reason)
    }

    fn later(&self, held: &Held<'_>, reason: &impl ToString) -> Outcome {
        let reason = reason.to_string();
        self.put_off(&held.sighting.name, held.stamp, reason.clone());
        Outcome::Later(reason)
    }

    fn note(&self, held: &Held<'_>, state: State) {
        self.remember(&held.sighting.name, held.stamp, state);
    }
}

/// What an error says, without the name in front: that is said by who tells it.
pub(super) fn reason_of(error: &StoreError, archive: &Path) -> String {
    let (text, name) = (error.to_string(), archive.display());
    match text.strip_prefix(&format!("{name}: ")) {
        Some(reason) => reason.to_owned(),
        None => text,
    }
}

/// Tells of progress, but not too often.
struct Throttled<'a> {
    work: Work<'a>,
    path: &'a ImagePath,
    bytes: u64,
    every_ms: u64,
    begun: Instant,
    /// When it is to be told again, in milliseconds from the beginning.
    next_ms: AtomicU64,
}

impl<'a> Throttled<'a> {
    fn new(home: &Home, path: &'a ImagePath, bytes: u64, work: Work<'a>) -> Self {
        let every = home.options.progress_every.as_millis();
        Self {
            work,
            path,
            bytes,
            every_ms: u64::try_from(every).unwrap_or(u64::MAX),
            begun: Instant::now(),
            next_ms: AtomicU64::new(0),
        }
    }

    fn tell(&self, bytes: u64) {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        if now >= self.next_ms.load(Ordering::Relaxed) {
            let next = now.saturating_add(self.every_ms);
            self.next_ms.store(next, Ordering::Relaxed);
            (self.work.progress)(self.path, bytes, self.bytes);
        }
    }
}
