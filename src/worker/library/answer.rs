//! What owners ask of their images, and have done with them.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::FileType;

use super::super::images::Images as Offered;
use super::super::questions::{
    Collected, ImageDetails, ImageInfo, Images, ModeInfo, PatchInfo, Reclaimed, Upload, Verified,
    VerifiedArchive, VersionInfo,
};
use super::super::status::Indexing;
use super::Library;
use super::desk::Desk;
use crate::index::Escaped;
use crate::index::build::ModeChange as Checked;
use crate::store::home::{
    Folder, HomeError, ImageRecord, ModeChange, STATUS, Scan, State, Version, Which,
};
use crate::store::{StoreError, verify_archive, verify_blocks};
use crate::sys::remove;
use crate::types::{Digest, ImagePath};

/// Lines of one answer about what is damaged or left.
const LINES_MAX: usize = 64;

/// Names in a directory of exploded trees that are looked at.
const TREES_MAX: usize = 10_000;

/// Why something cannot be done.
type Refused = Box<dyn std::error::Error>;

impl Library {
    /// What images there are.
    pub(in crate::worker) fn images(&self) -> Result<Images, Refused> {
        let (scan, all) = (self.home.scan()?, self.home.images()?);
        let desk = self.desk.lock();
        let trees = self.trees()?;
        let infos = all.records.iter().map(|record| self.info(&desk, record));
        let is_image = |name: &str| {
            all.records
                .iter()
                .any(|record| record.path.as_str() == name)
        };
        Ok(Images {
            images: infos.collect(),
            uploads: self.uploads(&scan),
            exploded: trees.into_iter().filter(|name| !is_image(name)).collect(),
            damaged: all.unusable.iter().map(HomeError::to_string).collect(),
        })
    }

    /// One of them.
    pub(in crate::worker) fn image(&self, path: &ImagePath) -> Result<ImageDetails, Refused> {
        let scan = self.home.scan()?;
        let mut desk = self.desk.lock();
        let statuses = self.statuses(&mut desk, &scan)?;
        let name = format!("{path}{STATUS}").into_bytes();
        let image = match self.home.image(path) {
            Ok(record) => Some(self.info(&desk, &record)),
            Err(HomeError::NoImage { .. }) if statuses.contains_key(&name) => None,
            Err(error) => return Err(error.into()),
        };
        let status = statuses.get(&name).cloned().unwrap_or_default();
        let receiving = self.receiving.lock();
        let receiving = receiving.iter().filter(|progress| progress.path() == path);
        Ok(ImageDetails {
            image,
            status,
            receiving: receiving.map(|progress| progress.receiving()).collect(),
        })
    }

    /// Makes another version the current one.
    pub(in crate::worker) fn rollback(
        &self,
        offered: &Offered,
        path: &ImagePath,
        to: &str,
    ) -> Result<ImageInfo, Refused> {
        self.home.rollback(path, &Which::parse(to))?;
        self.settled(offered, path)
    }

    /// Forgets an image; what it was.
    pub(in crate::worker) fn remove(
        &self,
        offered: &Offered,
        path: &ImagePath,
    ) -> Result<ImageInfo, Refused> {
        let record = self.home.image(path)?;
        let info = self.info(&self.desk.lock(), &record);
        self.home.remove(path)?;
        self.changed();
        self.refresh(offered)?;
        Ok(info)
    }

    /// Forgets a version.
    pub(in crate::worker) fn remove_version(
        &self,
        offered: &Offered,
        path: &ImagePath,
        version: &str,
    ) -> Result<ImageInfo, Refused> {
        self.home.remove_version(path, &Which::parse(version))?;
        self.settled(offered, path)
    }

    /// Keeps another number of versions.
    pub(in crate::worker) fn keep(
        &self,
        offered: &Offered,
        path: &ImagePath,
        versions: Option<u32>,
    ) -> Result<ImageInfo, Refused> {
        if versions == Some(0) {
            return Err("keep at least 1 version: the one that is served".into());
        }
        self.home.keep(path, versions)?;
        self.settled(offered, path)
    }

    /// Gives something in an image another mode, or that of its archive again.
    pub(in crate::worker) fn chmod(
        &self,
        offered: &Offered,
        path: &ImagePath,
        mode: Option<u32>,
        places: &[String],
    ) -> Result<ImageInfo, Refused> {
        // All of them, or none.
        let checked = places.iter().map(|at| {
            let change = Checked::new(at.as_bytes(), mode.unwrap_or(0))?;
            Ok(format!("/{}", String::from_utf8_lossy(change.path())))
        });
        let places: Vec<String> = checked.collect::<Result<_, Refused>>()?;
        for at in places {
            match mode {
                Some(mode) => {
                    let change = ModeChange { path: at, mode };
                    self.home.change_mode(path, change)?;
                }
                None => {
                    if !self.home.forget_mode(path, &at)? {
                        return Err(format!("no mode of {at} was changed in {path}").into());
                    }
                }
            }
        }
        self.settled(offered, path)
    }

    /// Removes what nobody needs.
    pub(in crate::worker) fn collect(&self, offered: &Offered) -> Result<Collected, Refused> {
        let in_use = offered.in_use();
        let swept = self.home.gc(&|digest| in_use.contains(digest))?;
        let desk = self.desk.lock();
        let derived = self
            .home
            .forget_derived(&|version| in_use.contains(version))?;
        drop(desk);
        self.changed();
        let count = |all: &[Digest]| u64::try_from(all.len()).unwrap_or(u64::MAX);
        Ok(Collected {
            versions: swept.versions,
            archives: count(&swept.archives),
            bytes: swept.bytes.saturating_add(derived),
            in_use: count(&swept.in_use),
        })
    }

    /// Compares all that an image is made of with its checksums.
    pub(in crate::worker) fn verify(&self, path: &ImagePath) -> Result<Verified, Refused> {
        let _turn = self
            .verifying
            .try_lock()
            .ok_or("another image is being verified: try again when that is done")?;
        let record = self.home.image(path)?;
        let base = record.current_version().map_or("", |version| &version.name);
        let patches = record.patches.iter();
        let patches = patches.map(|patch| (&*patch.name, patch.sha256));
        let archives = std::iter::once((base, record.current)).chain(patches);
        let archives = archives.map(|(name, sha256)| self.verify_one(name, sha256));
        let archives: Vec<_> = archives.collect::<Result<_, _>>()?;
        Ok(Verified {
            is_right: archives.iter().all(|archive| archive.problems.is_empty()),
            archives,
        })
    }

    fn verify_one(&self, name: &str, sha256: Digest) -> Result<VerifiedArchive, Refused> {
        let (archive, index) = self.home.open_image(&sha256)?;
        let mut problems = Vec::new();
        if let Err(error) = index.sidecar.verify() {
            problems.push(format!("its index: {error}"));
        }
        let blocks = verify_blocks(&archive, &index, &self.metrics, &|_| {})?;
        let damaged = blocks.damaged.iter().map(|damaged| {
            let range = &damaged.range;
            format!(
                "bytes {} to {}: {}",
                range.start, range.end, damaged.problem
            )
        });
        problems.extend(damaged);
        match verify_archive(&archive, false, &self.metrics, &|_| {})?.sha256 {
            Ok(found) if found == *sha256.bytes() => {}
            Ok(found) => problems.push(format!("its SHA-256 is {} now", Digest::new(found))),
            Err(StoreError::Archive { cause, .. }) => problems.push(cause.to_string()),
            Err(error) => problems.push(error.to_string()),
        }
        problems.truncate(LINES_MAX);
        Ok(VerifiedArchive {
            name: Escaped(name.as_bytes()).to_string(),
            sha256,
            right_bytes: blocks.right_bytes,
            damaged_bytes: blocks.damaged_bytes,
            problems,
        })
    }

    /// Removes the exploded tree that an image hides.
    pub(in crate::worker) fn reclaim(&self, path: &ImagePath) -> Result<Reclaimed, Refused> {
        if self.desk.lock().version(path).is_none() {
            return Err(format!(
                "no image {path} is served: its exploded tree is all there is of it, and stays"
            )
            .into());
        }
        let distros = self.bare.sub(b"distros")?;
        let tree = match distros.sub(path.as_str().as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            opened => Some(opened?),
        };
        let mut left = Vec::new();
        if let Some(tree) = tree {
            // The directory itself stays: the image is mounted on it.
            remove::each(tree.as_fd(), |name| {
                if let Err(error) = remove::tree(tree.as_fd(), &CString::from(name))
                    && left.len() < LINES_MAX
                {
                    left.push(format!("{}: {error}", Escaped(name.to_bytes())));
                }
                Ok(())
            })?;
        }
        self.changed();
        Ok(Reclaimed { left })
    }

    /// What is there after something was done, and is offered now.
    fn settled(&self, offered: &Offered, path: &ImagePath) -> Result<ImageInfo, Refused> {
        self.changed();
        self.refresh(offered)?;
        Ok(self.info(&self.desk.lock(), &self.home.image(path)?))
    }

    fn info(&self, desk: &Desk, record: &ImageRecord) -> ImageInfo {
        let versions = record.versions.iter().map(|version| {
            let Version {
                sha256,
                name,
                bytes,
                content_bytes,
                entries,
                taken,
            } = version.clone();
            VersionInfo {
                sha256,
                is_current: sha256 == record.current,
                name: Escaped(name.as_bytes()).to_string(),
                bytes,
                content_bytes,
                entries,
                taken,
            }
        });
        let changes = record.changes.iter().map(|change| ModeInfo {
            at: change.path.clone(),
            mode: change.mode,
        });
        let patches = record.patches.iter().map(|patch| PatchInfo {
            name: patch.name.clone(),
            sha256: patch.sha256,
            bytes: patch.bytes,
        });
        let name = record.path.as_str().as_bytes();
        let distros = self.bare.sub(b"distros");
        let hides_tree = distros.and_then(|distros| is_tree(&distros, name));
        ImageInfo {
            path: record.path.clone(),
            serves: desk.version(&record.path),
            versions: versions.collect(),
            keep: record.keep,
            changes: changes.collect(),
            patches: patches.collect(),
            hides_tree: hides_tree.unwrap_or(false),
            notes: desk.notes(&record.path),
        }
    }

    fn uploads(&self, scan: &Scan) -> Vec<Upload> {
        let indexing = self.indexing.lock().clone();
        let of = |sighting: &crate::store::home::Sighting| {
            let progress = indexing
                .as_ref()
                .filter(|progress| sighting.path.as_ref() == Some(&progress.path));
            let state = match (&sighting.state, progress) {
                (State::Growing, _) => "uploading".to_owned(),
                (State::Finished, Some(progress)) => {
                    let indexing = Indexing {
                        path: &progress.path,
                        bytes: progress.bytes,
                        of: progress.of,
                    };
                    format!("indexing, {} %", indexing.percent())
                }
                (State::Finished, None) => "complete, will be indexed".to_owned(),
                (State::Incomplete(why), _) => format!("incomplete: {why}"),
                (State::Waiting(why), _) => format!("waiting: {why}"),
                (State::Refused(why), _) => format!("refused: {why}"),
            };
            Upload {
                name: Escaped(&sighting.name).to_string(),
                state,
                bytes: sighting.bytes,
            }
        };
        let receiving = self.receiving.lock();
        let sent = receiving.iter().map(|progress| Upload {
            name: progress.path().to_string(),
            state: progress.state(),
            bytes: progress.receiving().bytes,
        });
        scan.sightings.iter().map(of).chain(sent).collect()
    }

    /// Exploded trees, whether an image hides them or not.
    fn trees(&self) -> io::Result<Vec<String>> {
        let distros = self.bare.sub(b"distros")?;
        let (entries, _) = distros.entries(TREES_MAX)?;
        let mut trees = Vec::new();
        for entry in entries {
            let is_name = ImagePath::new(&entry.name).is_ok();
            let is_other = entry.name.starts_with(b".") || entry.name.ends_with(b".d");
            let is_directory = matches!(entry.kind, FileType::Directory | FileType::Unknown);
            if is_name && !is_other && is_directory && is_tree(&distros, &entry.name)? {
                trees.push(Escaped(&entry.name).to_string());
            }
        }
        trees.sort_unstable();
        Ok(trees)
    }
}

/// Whether there is a directory of this name, with something in it.
fn is_tree(distros: &Folder, name: &[u8]) -> io::Result<bool> {
    match distros.sub(name) {
        Ok(tree) => Ok(!tree.entries(1)?.0.is_empty()),
        Err(_) => Ok(false),
    }
}
