//! Looking at what there is in `distros`.
//!
//! Guarantees: only names that are meant to be images are looked at, and nothing
//! but regular files is opened. An upload that was tried is not tried again until
//! it is another one, or until there is reason to hope.

use std::sync::Arc;
use std::time::Instant;

use rustix::fs::FileType;

use super::Home;
use super::error::HomeError;
use super::folder::{Entry, Folder, Stamp, kind_of};
use super::journal::Unfinished;
use super::name::{Meaning, meaning};
use crate::sys::lease::Lease;
use crate::types::ImagePath;

/// How it is with an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Somebody has it open for writing.
    Growing,
    /// It can be taken in.
    Finished,
    /// It ends too early, and nobody is writing; why that is known.
    Incomplete(String),
    /// It could not be taken in, and will be tried again; why.
    Waiting(String),
    /// It will not be taken in as it is; why, and what to do.
    Refused(String),
}

/// A name in `distros` that is meant to be an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its name: any bytes.
    pub name: Vec<u8>,
    /// The image that it is to be, if its name says one.
    pub path: Option<ImagePath>,
    /// Size in bytes.
    pub bytes: u64,
    /// How it is.
    pub state: State,
    mtime: (i64, u64),
}

/// What there is in `distros`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// What is meant to be images, the oldest first: taken in this order, the newest
    /// upload of an image becomes the current one.
    pub sightings: Vec<Sighting>,
    /// Images with a directory of patch layers.
    pub patched: Vec<ImagePath>,
    /// Whether there are more names than were looked at.
    pub more: bool,
    /// What was begun and is not settled yet.
    pub unfinished: Vec<Unfinished>,
}

/// What is known of an upload that was tried.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) stamp: Stamp,
    pub(super) state: State,
    /// When to try it again in any case.
    pub(super) again: Option<Instant>,
    /// How often that was put off.
    pub(super) put_off: u32,
}

/// From half a minute to half an hour.
const PUT_OFF_DOUBLINGS_MAX: u32 = 6;

impl Home {
    /// Looks at what there is, and goes on with what is not settled. Nothing is
    /// taken in.
    pub fn scan(&self) -> Result<Scan, HomeError> {
        // Who has the turn settles what it begins.
        let unfinished = match self.turn.try_lock() {
            Some(_turn) => self.settle()?,
            None => Vec::new(),
        };
        let distros = self.distros()?;
        let entries = distros.entries(self.options.names_max);
        let (entries, more) = entries.map_err(HomeError::doing("read the directory distros"))?;
        let mut scan = Scan {
            more,
            unfinished,
            ..Scan::default()
        };
        for entry in &entries {
            if let Some(image) = patched_by(entry) {
                scan.patched.push(image);
            }
            scan.sightings.extend(self.look(&distros, entry));
        }
        scan.sightings
            .sort_by(|a, b| (a.mtime, &a.name).cmp(&(b.mtime, &b.name)));
        if !more {
            let names: std::collections::HashSet<_> = entries.iter().map(|e| &e.name).collect();
            self.seen.lock().retain(|name, _| names.contains(name));
        }
        Ok(scan)
    }

    fn look(&self, distros: &Folder, entry: &Entry) -> Option<Sighting> {
        let mut sighting = Sighting {
            name: entry.name.clone(),
            path: None,
            bytes: 0,
            state: State::Finished,
            mtime: (0, 0),
        };
        sighting.state = match meaning(&entry.name) {
            Meaning::Nothing => return None,
            Meaning::Unusable(error) => State::Refused(format!("{error}: give it another name")),
            Meaning::Image(path) => {
                sighting.path = Some(path);
                // Not even looked at, if it may be something else: it could be on a
                // mount.
                match entry.kind {
                    FileType::RegularFile | FileType::Unknown => {
                        self.look_closer(distros, &mut sighting)?
                    }
                    kind => refused_kind(kind),
                }
            }
        };
        Some(sighting)
    }

    /// The state of what may be an upload; nothing if it is gone.
    fn look_closer(&self, distros: &Folder, sighting: &mut Sighting) -> Option<State> {
        let waiting = |error: std::io::Error| {
            Some(State::Waiting(format!("it cannot be looked at: {error}")))
        };
        let stat = match distros.stat(&sighting.name) {
            Ok(stat) => stat?,
            Err(error) => return waiting(error),
        };
        let stamp = Stamp::of(&stat);
        (sighting.bytes, sighting.mtime) = (stamp.bytes(), stamp.mtime());
        if let Some(refused) = self.refusal(&stat) {
            return Some(refused);
        }
        if let Some(seen) = self.seen.lock().get(&sighting.name)
            && seen.stamp == stamp
            && seen.again.is_none_or(|again| Instant::now() < again)
        {
            return Some(seen.state.clone());
        }
        let file = match distros.file(&sighting.name) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                return Some(unreadable());
            }
            Err(error) => return waiting(error),
        };
        match Lease::take(&file) {
            Ok(Some(_lease)) => Some(State::Finished),
            Ok(None) => Some(State::Growing),
            Err(error) => waiting(error),
        }
    }

    /// Why a file with these attributes is not taken in, whatever is in it.
    pub(super) fn refusal(&self, stat: &rustix::fs::Stat) -> Option<State> {
        let kind = kind_of(stat);
        if kind != FileType::RegularFile {
            return Some(refused_kind(kind));
        }
        if stat.st_uid != self.user {
            return Some(State::Refused(format!(
                "it belongs to user {}, not to {}: upload it as the storage container's user",
                stat.st_uid, self.user
            )));
        }
        // Whoever has another name of it could change it at any time.
        if stat.st_nlink > 1 {
            return Some(State::Refused(format!(
                "it has {} names (hard links): upload a copy of its own, or remove the others",
                stat.st_nlink
            )));
        }
        None
    }

    /// Remembers how it ended, until the upload is another one.
    pub(super) fn remember(&self, name: &[u8], stamp: Stamp, state: State) {
        let seen = Seen {
            stamp,
            state,
            again: None,
            put_off: 0,
        };
        self.seen.lock().insert(name.to_vec(), seen);
    }

    /// Remembers that the system failed. Each time it is put off for longer: what
    /// fails at its end was indexed in vain.
    pub(super) fn put_off(&self, name: &[u8], stamp: Stamp, reason: String) {
        let mut seen = self.seen.lock();
        let before = seen.get(name).filter(|before| before.stamp == stamp);
        let put_off = before.map_or(0, |before| before.put_off.saturating_add(1));
        let wait = 1_u32 << put_off.min(PUT_OFF_DOUBLINGS_MAX);
        let wait = self.options.retry_after.saturating_mul(wait);
        let this = Seen {
            stamp,
            state: State::Waiting(reason),
            again: Instant::now().checked_add(wait),
            put_off,
        };
        seen.insert(name.to_vec(), this);
    }
}

pub(super) fn unreadable() -> State {
    State::Refused("its owner may not read it: chmod u+r".to_owned())
}

fn refused_kind(kind: FileType) -> State {
    let what = match kind {
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "no regular file",
    };
    State::Refused(format!(
        "it is {what}: upload the archive itself under this name"
    ))
}

/// The image that a directory has the patch layers of.
fn patched_by(entry: &Entry) -> Option<ImagePath> {
    if !matches!(entry.kind, FileType::Directory | FileType::Unknown) {
        return None;
    }
    ImagePath::new(entry.name.strip_suffix(b".d")?).ok()
}
