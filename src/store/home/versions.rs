//! Images and their versions: what there is, which one is current, what may go.
//!
//! Guarantees: an archive that a record, the journal or a user of it names is never
//! removed; while a record cannot be read, none is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;

use super::error::HomeError;
use super::record::{ImageRecord, ModeChange, Version};
use super::{Home, INDEX};
use crate::index::Escaped;
use crate::store::{Archive, OpenedIndex, StoreError};
use crate::types::{Digest, ImagePath};

/// The images of a home.
#[derive(Debug)]
pub struct Images {
    /// Those that are known, by path.
    pub records: Vec<ImageRecord>,
    /// What is wrong with records that cannot be used.
    pub unusable: Vec<HomeError>,
}

/// Which version is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one that came before the current one.
    Previous,
    /// The one whose digest begins with these digits.
    Digits(String),
}

impl Which {
    /// `previous`, or the first digits of a digest.
    pub fn parse(text: &str) -> Which {
        match text {
            "previous" => Which::Previous,
            digits => Which::Digits(digits.to_ascii_lowercase()),
        }
    }

    fn find<'a>(&self, record: &'a ImageRecord) -> Result<&'a Version, HomeError> {
        let none = |wanted: &str| HomeError::NoVersion {
            path: record.path.clone(),
            wanted: wanted.to_owned(),
        };
        match self {
            Which::Previous => {
                let mut versions = record.versions.iter();
                let current = versions.position(|v| v.sha256 == record.current);
                let before = current.and_then(|at| at.checked_sub(1));
                let before = before.and_then(|at| record.versions.get(at));
                before.ok_or_else(|| none("before the current one"))
            }
            Which::Digits(digits) => {
                let is_meant = |v: &&Version| v.sha256.to_string().starts_with(digits);
                let mut meant = record.versions.iter().filter(is_meant);
                match (meant.next(), meant.next()) {
                    (Some(_), _) if digits.is_empty() => Err(none(digits)),
                    (Some(version), None) => Ok(version),
                    (Some(_), Some(_)) => Err(HomeError::Ambiguous {
                        path: record.path.clone(),
                        wanted: digits.clone(),
                    }),
                    (None, _) => Err(none(digits)),
                }
            }
        }
    }
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Archives that are gone.
    pub archives: Vec<Digest>,
    /// Archives that no record names and somebody uses.
    pub in_use: Vec<Digest>,
    /// Bytes of what is gone.
    pub bytes: u64,
    /// Versions that no record names any more.
    pub versions: u64,
    /// Names in the directory of archives that are not ours, escaped; they stay.
    pub foreign: Vec<String>,
}

impl Home {
    /// All images.
    pub fn images(&self) -> Result<Images, HomeError> {
        let (records, unusable) = self.records.lock().all()?;
        Ok(Images { records, unusable })
    }

    /// One of them.
    pub fn image(&self, path: &ImagePath) -> Result<ImageRecord, HomeError> {
        self.records.lock().get(path)
    }

    /// Its versions, the newest last.
    pub fn versions(&self, path: &ImagePath) -> Result<Vec<Version>, HomeError> {
        Ok(self.image(path)?.versions)
    }

    /// Makes a version the current one. Reads all of its archive if that was copied,
    /// as from a backup.
    pub fn rollback(&self, path: &ImagePath, which: &Which) -> Result<Version, HomeError> {
        let version = which.find(&self.image(path)?)?.clone();
        let digest = version.sha256;
        self.open_image(&digest).map_err(|error| {
            tracing::warn!(%error, "a version cannot be gone back to");
            HomeError::Lost {
                digest,
                what: "not there, or damaged",
            }
        })?;
        self.change(path, |record| {
            // Somebody may have removed it meanwhile.
            Which::Digits(digest.to_string()).find(record)?;
            record.current = digest;
            Ok(version)
        })
    }

    /// Forgets an image. Its archives go when nobody uses them ([`gc`](Self::gc)).
    pub fn remove(&self, path: &ImagePath) -> Result<ImageRecord, HomeError> {
        let records = self.records.lock();
        let record = records.get(path)?;
        records.remove(path)?;
        Ok(record)
    }

    /// Forgets a version that is not the current one.
    pub fn remove_version(&self, path: &ImagePath, which: &Which) -> Result<Version, HomeError> {
        self.change(path, |record| {
            let version = which.find(record)?.clone();
            if version.sha256 == record.current {
                return Err(HomeError::Current {
                    path: path.clone(),
                    version: version.sha256.short(),
                });
            }
            record.versions.retain(|v| v.sha256 != version.sha256);
            Ok(version)
        })
    }

    /// How many versions to keep of this image; `None` for as many as of others.
    pub fn keep(&self, path: &ImagePath, keep: Option<u32>) -> Result<(), HomeError> {
        self.change(path, |record| {
            record.keep = keep;
            Ok(())
        })
    }

    /// Notes a mode that something in the image is to have, in place of one that
    /// was noted for the same path.
    pub fn change_mode(&self, path: &ImagePath, change: ModeChange) -> Result<(), HomeError> {
        self.change(path, |record| {
            record.changes.retain(|other| other.path != change.path);
            record.changes.push(change);
            Ok(())
        })
    }

    /// Forgets the mode that was noted for something in the image; whether there was
    /// one.
    pub fn forget_mode(&self, path: &ImagePath, at: &str) -> Result<bool, HomeError> {
        self.change(path, |record| {
            let before = record.changes.len();
            record.changes.retain(|change| change.path != at);
            Ok(record.changes.len() < before)
        })
    }

    /// Opens an archive of the store with its index.
    pub fn open_image(&self, digest: &Digest) -> Result<(Archive, OpenedIndex), HomeError> {
        // Its path may lead through directories that this user cannot enter.
        let path = self.archive_path(digest);
        let file = File::open(&path).map_err(|cause| StoreError::Archive {
            path: path.clone(),
            cause,
        })?;
        let archive = Archive::from_file(Arc::new(file), &path)?;
        let place = self.index_path(digest);
        let lost = |what| HomeError::Lost {
            digest: *digest,
            what,
        };
        let index = archive.existing_index(Some(&place))?;
        let index = index.map_err(|_| lost("without an index that belongs to it"))?;
        match index.sidecar.identity().sha256 == *digest.bytes() {
            true => Ok((archive, index)),
            false => Err(lost("another one")),
        }
    }

    /// Drops versions beyond those that are kept, and removes archives that no
    /// record names and that nobody uses.
    pub fn gc(&self, in_use: &dyn Fn(&Digest) -> bool) -> Result<Swept, HomeError> {
        let records = self.records.lock();
        let (all, mut unusable) = records.all()?;
        // What it names is not known.
        if let Some(error) = unusable.pop() {
            return Err(error);
        }
        let mut swept = Swept::default();
        let reading = HomeError::doing("read the directory incoming");
        let mut named: HashSet<_> = self.intended().map_err(reading)?.into_iter().collect();
        for mut record in all {
            let before = record.clone();
            let written = match record.prune(self.options.keep_versions) {
                true => records.write(&record),
                false => Ok(()),
            };
            match written {
                Ok(()) => {
                    swept.versions += (before.versions.len() - record.versions.len()) as u64;
                    named.extend(record.archives());
                }
                // On a full disk the rest is all the more to be swept.
                Err(error) => {
                    tracing::warn!(%error, "old versions of an image stay");
                    named.extend(before.archives());
                }
            }
        }
        for (digest, files) in self.stored(&mut swept.foreign)? {
            if named.contains(&digest) {
                continue;
            }
            if in_use(&digest) {
                swept.in_use.push(digest);
                continue;
            }
            swept.bytes += self.remove_files(&files)?;
            swept.archives.push(digest);
        }
        swept.archives.sort_unstable();
        Ok(swept)
    }

    /// Files in the directory of archives, by digest.
    fn stored(
        &self,
        foreign: &mut Vec<String>,
    ) -> Result<HashMap<Digest, Vec<Vec<u8>>>, HomeError> {
        let entries = self.archives.entries(usize::MAX);
        let (entries, _) = entries.map_err(HomeError::doing("read the directory archives"))?;
        let mut files = HashMap::<_, Vec<_>>::new();
        for entry in entries {
            let text = std::str::from_utf8(&entry.name).ok();
            let digits = text.map(|text| text.strip_suffix(INDEX).unwrap_or(text));
            match digits.and_then(|digits| digits.parse::<Digest>().ok()) {
                Some(digest) => files.entry(digest).or_default().push(entry.name),
                None => foreign.push(Escaped(&entry.name).to_string()),
            }
        }
        Ok(files)
    }

    fn remove_files(&self, files: &[Vec<u8>]) -> Result<u64, HomeError> {
        let failed = HomeError::doing("remove an archive from the store");
        let mut bytes = 0;
        for file in files {
            let stamp = self.archives.stamp(file).map_err(&failed)?;
            self.archives.remove(file).map_err(&failed)?;
            bytes += stamp.map_or(0, |stamp| stamp.bytes());
        }
        Ok(bytes)
    }

    pub(super) fn change<T>(
        &self,
        path: &ImagePath,
        change: impl FnOnce(&mut ImageRecord) -> Result<T, HomeError>,
    ) -> Result<T, HomeError> {
        let records = self.records.lock();
        let mut record = records.get(path)?;
        let done = change(&mut record)?;
        records.write(&record)?;
        Ok(done)
    }
}
