//! An archive that is sent: written into `incoming` as it comes, and indexed
//! meanwhile if it is known how long it will be.
//!
//! Two halves, for two threads: [`Incoming`] is given the bytes, [`Arrival`] takes them
//! in. Whoever sends is not trusted to be quick: who waits for bytes gives up in time
//! for others, and indexes the archive when all of it is there.
//!
//! Guarantees: nothing is served before the end was declared and all of it is on the
//! disk; what cannot be an image leaves nothing; a file of which nothing is written
//! down is removed when the home is opened again.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroU64;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::MutexGuard;
use rustix::fs::{Advice, fadvise};

use super::error::HomeError;
use super::fault::{Step, step, system_step};
use super::folder::Stamp;
use super::journal::{Intent, Token};
use super::record::Version;
use super::take::{Indexed, Outcome, Unindexed, reason_of};
use super::trial::{DEADLY, Tried};
use super::verdict::{Verdict, verdict};
use super::{Home, Work, now};
use crate::source::Kind;
use crate::store::growth::{Growing, Growth, Patience};
use crate::store::ingest::Intake;
use crate::store::{Archive, StoreError, digest};
use crate::types::{Digest, ImagePath};

/// Written between two times that it reaches the disk: so it does not fill memory, and
/// the last time is short.
const SYNC_BYTES: u64 = 8 << 20;

/// How often who waits for the turn looks whether that is still of use.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is said of a full disk.
const NO_ROOM: &str =
    "remove files or images that are not needed, or ask for more room, then send it again";

/// Why bytes of an archive that is sent are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ArriveError {
    /// There are more of them than there were to be.
    #[error("it is longer than the {announced} bytes that were announced: send it again")]
    Longer {
        /// How many there were to be.
        announced: u64,
    },
    /// There are fewer.
    #[error("it ended after {bytes} of {announced} bytes: send it again")]
    Shorter {
        /// How many came.
        bytes: u64,
        /// How many there were to be.
        announced: u64,
    },
    /// The disk.
    #[error("{}", said(.0))]
    Home(#[from] HomeError),
}

/// What an error says to somebody who has to send the archive again.
fn said(error: &HomeError) -> String {
    match error {
        HomeError::Full { doing, cause } => {
            format!("no room on the disk to {doing} ({cause}): {NO_ROOM}")
        }
        other => format!("{other}; send it again"),
    }
}

/// The half that is given the bytes. After an error, or dropped before its
/// [`finish`](Self::finish), it leaves an archive that is not whole.
#[derive(Debug)]
pub struct Incoming {
    file: File,
    growth: Arc<Growth>,
    announced: Option<u64>,
    bytes: u64,
    synced: u64,
}

/// The half that takes the archive in.
#[must_use]
#[derive(Debug)]
pub struct Arrival<'h> {
    home: &'h Home,
    token: Token,
    path: ImagePath,
    announced: Option<u64>,
    growth: Arc<Growth>,
}

impl Incoming {
    /// Writes what came next.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), ArriveError> {
        self.append(bytes).inspect_err(|error| self.fail(error))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), ArriveError> {
        let end = self.bytes.saturating_add(bytes.len() as u64);
        if let Some(announced) = self.announced.filter(|announced| end > *announced) {
            return Err(ArriveError::Longer { announced });
        }
        system_step(Step::Arrive, "write the archive", || {
            self.file.write_all(bytes)?;
            if end - self.synced >= SYNC_BYTES {
                self.file.sync_data()?;
                // Who reads it meanwhile may be as far behind as that.
                let len = NonZeroU64::new(self.synced);
                let _hint = len.map(|len| fadvise(&self.file, 0, Some(len), Advice::DontNeed));
                self.synced = end;
            }
            Ok(())
        })?;
        self.bytes = end;
        self.growth.grew(end);
        Ok(())
    }

    /// How much came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// That was all.
    pub fn finish(self) -> Result<(), ArriveError> {
        self.close().inspect_err(|error| self.fail(error))
    }

    fn close(&self) -> Result<(), ArriveError> {
        let bytes = self.bytes;
        if let Some(announced) = self.announced.filter(|announced| bytes < *announced) {
            return Err(ArriveError::Shorter { bytes, announced });
        }
        system_step(Step::SyncArchive, "write the archive", || {
            self.file.sync_all()
        })?;
        self.growth.end(Ok(()));
        Ok(())
    }

    fn fail(&self, error: &ArriveError) {
        self.growth.end(Err(error.to_string()));
    }

    /// It will not be whole, and why.
    pub fn give_up(self, why: impl Into<String>) {
        self.growth.end(Err(why.into()));
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        let why = "the connection ended before the archive did: send it again";
        self.growth.end(Err(why.to_owned()));
    }
}

impl Home {
    /// Has an archive sent that will be a version of the image at `path`, and so many
    /// bytes long if that is known. What comes of it without a byte of it, if nothing
    /// can.
    pub fn arrive(
        &self,
        path: &ImagePath,
        announced: Option<u64>,
    ) -> Result<(Incoming, Arrival<'_>), Outcome> {
        let later = |cause| Outcome::Later(said(&HomeError::of("receive an archive", cause)));
        if let Some(reason) = self.is_full_for(path).map_err(later)? {
            return Err(Outcome::Refused(reason));
        }
        let token = Token::new().map_err(later)?;
        let growth = Arc::new(Growth::new());
        // Removes the file again in any case.
        let arrival = {
            let mut arriving = self.arriving.lock();
            let max = self.options.arriving_max;
            if arriving.len() >= max {
                return Err(Outcome::Later(format!(
                    "{max} archives are being sent already: try again when one of them is there"
                )));
            }
            arriving.insert(token.clone());
            Arrival {
                home: self,
                token,
                path: path.clone(),
                announced,
                growth: Arc::clone(&growth),
            }
        };
        let file = self.incoming.create(&arrival.token.arriving());
        let incoming = Incoming {
            file: file.map_err(later)?,
            growth,
            announced,
            bytes: 0,
            synced: 0,
        };
        Ok((incoming, arrival))
    }
}

impl Arrival<'_> {
    /// Takes it in as soon as that can be done; returns when that is done, or when it
    /// is known that it cannot be.
    pub fn take(&self, work: Work<'_>) -> Outcome {
        let meanwhile = match self.announced {
            Some(len) if !self.home.is_suspected(&self.path) => self.take_in(Some(len), work),
            _ => None,
        };
        let is_wanted = || !work.stop.load(Ordering::Relaxed);
        let outcome = match meanwhile {
            Some(outcome @ Outcome::Truncated(_)) => Some(outcome),
            Some(outcome) => return outcome,
            None => None,
        };
        if self.growth.wait_for_end(&is_wanted).is_err() {
            return self.given_up();
        }
        match outcome.or_else(|| self.take_in(None, work)) {
            // It is complete, as was declared.
            Some(Outcome::Truncated(why)) => Outcome::Rejected(why),
            Some(outcome) => outcome,
            None => self.given_up(),
        }
    }

    /// How much of it came.
    pub fn bytes(&self) -> u64 {
        self.growth.bytes()
    }

    /// What came of an archive that is not whole, or not wanted.
    fn given_up(&self) -> Outcome {
        match self.growth.failure() {
            Some(why) => Outcome::Later(why),
            None => Outcome::Stopped,
        }
    }

    /// Waits until nobody else takes something in; nothing if it is given up meanwhile.
    fn wait_for_turn(&self, work: Work<'_>) -> Option<MutexGuard<'_, ()>> {
        let home = self.home;
        home.waiting.fetch_add(1, Ordering::Relaxed);
        let mut turn = None;
        while turn.is_none() && !work.stop.load(Ordering::Relaxed) {
            if self.growth.failure().is_some() {
                break;
            }
            turn = home.turn.try_lock_for(LOOK_EVERY);
        }
        home.waiting.fetch_sub(1, Ordering::Relaxed);
        turn
    }

    /// Indexes it, while it comes if it will have `len` bytes, and puts it into the
    /// store; nothing if it came too slowly for that, or was given up.
    fn take_in(&self, len: Option<u64>, work: Work<'_>) -> Option<Outcome> {
        let _turn = self.wait_for_turn(work)?;
        // Others may have been taken in since it began.
        match self.home.is_full_for(&self.path) {
            Ok(None) => {}
            Ok(Some(reason)) => return Some(Outcome::Refused(reason)),
            Err(cause) => return Some(Outcome::Later(said(&HomeError::of("count images", cause)))),
        }
        let archive = match self.open() {
            Ok(archive) => archive,
            Err(error) => return Some(self.failed(&error, 0)),
        };
        let growing = len.map(|len| Growing {
            growth: &self.growth,
            len,
            patience: Patience {
                most: self.home.options.stalled_after,
                others: &self.home.waiting,
            },
        });
        let tried = match growing.is_some() || !self.home.is_suspected(&self.path) {
            true => Tried::Arriving(self.path.clone()),
            false => match self.digest(&archive) {
                Ok(digest) => Tried::Arrived(self.path.clone(), digest),
                Err(error) => return Some(self.failed(&error, 0)),
            },
        };
        match self.home.begin_trial(tried) {
            Ok(true) => {}
            Ok(false) => return Some(Outcome::Rejected(DEADLY.to_owned())),
            Err(error) => return Some(Outcome::Later(said(&error))),
        }
        let intake = match growing {
            Some(growing) => Intake::growing(&archive, growing),
            None => Intake::from(&archive),
        };
        let bytes = intake.len();
        let is_whole = || self.growth.failure().is_none();
        let indexed = self
            .home
            .index_into(&self.token, intake, &self.path, work, &is_whole);
        self.home.end_trial();
        let unindexed = match indexed {
            Ok(indexed) => return Some(self.commit(&archive, &indexed)),
            Err(unindexed) => unindexed,
        };
        if let Err(error) = self.home.forget(&self.token) {
            tracing::warn!(%error, "an index that came to nothing stays");
        }
        match unindexed {
            Unindexed::GivenUp => None,
            Unindexed::Failed(error) => match self.failed(&error, bytes) {
                Outcome::Later(_) if growing.is_some() && self.growth.is_late() => None,
                outcome => Some(outcome),
            },
            Unindexed::Unlikely(why) => Some(Outcome::Rejected(why.at_last().to_owned())),
        }
    }

    fn open(&self) -> Result<Archive, StoreError> {
        let shown = Path::new(self.path.as_str());
        let file = self.home.incoming.file(self.token.arriving().as_bytes());
        let file = file.map_err(|cause| StoreError::Archive {
            path: shown.to_owned(),
            cause,
        })?;
        Archive::from_file(Arc::new(file), shown)
    }

    fn digest(&self, archive: &Archive) -> Result<Digest, StoreError> {
        let digest = digest::whole(archive.file(), archive.metadata().len(), &|_| {});
        let digest = digest.map_err(|cause| StoreError::Archive {
            path: archive.path().to_owned(),
            cause,
        });
        Ok(Digest::new(digest?))
    }

    /// What a failure to index means for an archive of so many bytes.
    fn failed(&self, error: &StoreError, bytes: u64) -> Outcome {
        let reason = reason_of(error, Path::new(self.path.as_str()));
        match verdict(error, bytes) {
            Verdict::Never => Outcome::Rejected(reason),
            Verdict::Incomplete => Outcome::Truncated(reason),
            Verdict::NoRoom => Outcome::Later(format!("{reason}; {NO_ROOM}")),
            Verdict::Changed | Verdict::Later => Outcome::Later(format!("{reason}; send it again")),
        }
    }

    /// Moves it into the store with its index.
    fn commit(&self, archive: &Archive, indexed: &Indexed) -> Outcome {
        let home = self.home;
        let intent = match self.stage(archive, indexed) {
            Ok(intent) => intent,
            Err(error) => return self.undo(&error),
        };
        if let Err(error) = home.enter(&self.token, &intent) {
            return self.undo(&error);
        }
        // It is a version now; what is left to be done is done by the next scan.
        if let Err(error) = home.clear(&self.token) {
            tracing::warn!(%error, "what was needed to take an archive in stays");
        }
        Outcome::Ready {
            path: intent.path,
            version: Box::new(intent.version),
            notes: indexed.report.notes(),
        }
    }

    /// Steps 2 and 3 of the journal; the first was done when it was whole.
    fn stage(&self, archive: &Archive, indexed: &Indexed) -> Result<Intent, HomeError> {
        let looking = HomeError::doing("look at the archive");
        let stat = rustix::fs::fstat(archive.file()).map_err(|e| looking(e.into()))?;
        let stamp = Stamp::of(&stat);
        let ending = match indexed.report.scan.kind {
            Kind::Plain => "tar",
            Kind::Gzip => "tgz",
        };
        let summary = indexed.report.built.summary;
        let version = Version {
            sha256: indexed.digest,
            name: format!("{}.{ending}", self.path),
            bytes: stamp.bytes(),
            content_bytes: summary.content_bytes,
            entries: summary.entries,
            taken: now(),
        };
        let intent = Intent::new(self.path.clone(), stamp, version);
        let incoming = &self.home.incoming;
        self.home.write_intent(&self.token, &intent)?;
        let doing = HomeError::doing("move the archive into the store");
        step(Step::Stage, &doing, || {
            let (from, to) = (self.token.arriving(), self.token.archive());
            let moved = incoming.rename(from.as_bytes(), incoming, to.as_bytes());
            moved.and_then(|()| incoming.sync()).map_err(&doing)
        })?;
        Ok(intent)
    }

    /// Leaves nothing of an archive that could not be moved into the store.
    fn undo(&self, error: &HomeError) -> Outcome {
        let removed = self.home.incoming.remove(self.token.archive().as_bytes());
        let removed = removed.map_err(HomeError::doing("remove the archive"));
        if let Err(error) = removed.and_then(|_| self.home.forget(&self.token)) {
            tracing::warn!(%error, "an archive that came to nothing stays");
        }
        Outcome::Later(said(error))
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        // What somebody left who did not expect to end is for the next start.
        if std::thread::panicking() {
            return;
        }
        let name = self.token.arriving();
        if let Err(error) = self.home.incoming.remove(name.as_bytes()) {
            tracing::warn!(%error, "an archive that came to nothing stays");
        }
        self.home.arriving.lock().remove(&self.token);
    }
}
