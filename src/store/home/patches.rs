//! Patch layers: archives in `distros/PATH.d` that belong on top of an image, in
//! the order of their names.
//!
//! They stay where they are, as their owner works with them, and are copied into
//! the store: what is served does not change under containers.
//!
//! Guarantees: an image's list changes as a whole, and only when none of its files
//! is being uploaded. What can never be a layer is left out, with the reason.

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::error::HomeError;
use super::fault::{Step, system_step};
use super::folder::{Folder, Stamp};
use super::journal::Token;
use super::name::{is_patch, patches_of};
use super::record::Patch;
use super::scan::{State, unreadable};
use super::take::{Unindexed, reason_of};
use super::verdict::{Verdict, verdict};
use super::{Home, Work, index_name};
use crate::index::Escaped;
use crate::store::{Archive, StoreError};
use crate::sys::lease::Lease;
use crate::types::{Digest, ImagePath};

/// Layers of one image: each is a mount's lower layer, or merged.
const PATCHES_MAX: usize = 64;
const COPY_BYTES: usize = 128 * 1024;

/// The layers of an image, as they are now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Patches {
    /// What the record names now, the lowest first.
    pub layers: Vec<Patch>,
    /// Whether that is something else than before.
    pub changed: bool,
    /// What is left out: names, escaped, and why.
    pub refused: Vec<(String, String)>,
    /// What keeps the list as it was for now: names, escaped, and why.
    pub waiting: Vec<(String, String)>,
}

/// What came of one file.
enum Layer {
    /// It is in the store.
    Stored(Patch),
    /// It waits in `incoming`.
    New(Token, Patch),
    Refused(String),
    Waiting(String),
}

impl Home {
    /// Takes in the layers of an image that has a record. What is in the store
    /// already is not read again.
    pub fn take_patches(&self, path: &ImagePath, work: Work<'_>) -> Result<Patches, HomeError> {
        let _turn = self.wait_for_turn();
        let known = self.image(path)?.patches;
        let mut patches = Patches::default();
        let mut layers = Vec::new();
        if let Some(folder) = self.patches_of(path)? {
            for name in self.names_of_patches(&folder, &mut patches)? {
                let shown = Escaped(&name).to_string();
                match self.layer(&folder, &name, path, &known, work) {
                    Layer::Refused(reason) => patches.refused.push((shown, reason)),
                    Layer::Waiting(reason) => patches.waiting.push((shown, reason)),
                    layer => layers.push(layer),
                }
            }
        }
        let committed = match patches.waiting.is_empty() {
            true => self.commit_patches(path, &layers, &mut patches),
            false => {
                patches.layers = known;
                Ok(())
            }
        };
        for layer in layers {
            if let Layer::New(token, _) = layer {
                self.forget(&token)?;
            }
        }
        committed.map(|()| patches)
    }

    /// The directory of an image's layers, if there is one.
    fn patches_of(&self, path: &ImagePath) -> Result<Option<Folder>, HomeError> {
        let name = patches_of(path);
        match self.distros()?.sub(name.as_bytes()) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A name of 256 bytes cannot be there either.
            Err(error) if error.kind() == io::ErrorKind::InvalidFilename => Ok(None),
            Err(cause) => Err(HomeError::of(format!("open distros/{name}"), cause)),
        }
    }

    fn names_of_patches(
        &self,
        folder: &Folder,
        patches: &mut Patches,
    ) -> Result<Vec<Vec<u8>>, HomeError> {
        let entries = folder.entries(self.options.names_max);
        let (entries, _) = entries.map_err(HomeError::doing("read a directory of patches"))?;
        let names = entries.into_iter().map(|entry| entry.name);
        let mut names: Vec<_> = names.filter(|name| is_patch(name)).collect();
        names.sort_unstable();
        for name in names.drain(PATCHES_MAX.min(names.len())..) {
            let reason = format!("an image has at most {PATCHES_MAX} layers: join some of them");
            patches.refused.push((Escaped(&name).to_string(), reason));
        }
        Ok(names)
    }

    fn layer(
        &self,
        folder: &Folder,
        name: &[u8],
        path: &ImagePath,
        known: &[Patch],
        work: Work<'_>,
    ) -> Layer {
        let waiting = |error: io::Error| Layer::Waiting(format!("it cannot be read: {error}"));
        let file = match folder.file(name) {
            Ok(file) => Arc::new(file),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return refused(unreadable());
            }
            Err(error) if error.raw_os_error().is_none() => {
                return Layer::Refused(error.to_string());
            }
            Err(error) => return waiting(error),
        };
        let lease = match Lease::take(&file) {
            Ok(Some(lease)) => lease,
            Ok(None) => return Layer::Waiting("it is being uploaded".to_owned()),
            Err(error) => return waiting(error),
        };
        let stat = match rustix::fs::fstat(&file) {
            Ok(stat) => stat,
            Err(error) => return waiting(error.into()),
        };
        // Other names of it do no harm: it is copied.
        if stat.st_uid != self.user {
            return Layer::Refused(format!(
                "it belongs to user {}, not to {}: upload it as the storage container's user",
                stat.st_uid, self.user
            ));
        }
        let (stamp, shown) = (Stamp::of(&stat), Escaped(name).to_string());
        let same = known.iter().find(|p| p.from == stamp);
        if let Some(same) = same.filter(|same| self.is_whole(&same.sha256)) {
            let mut patch = same.clone();
            patch.name = shown;
            return Layer::Stored(patch);
        }
        self.new_layer(&file, &lease, (shown, stamp), path, work)
    }

    /// Copies a layer into `incoming`, and indexes the copy.
    fn new_layer(
        &self,
        file: &File,
        lease: &Lease,
        (name, from): (String, Stamp),
        path: &ImagePath,
        work: Work<'_>,
    ) -> Layer {
        let token = match Token::new() {
            Ok(token) => token,
            Err(error) => return Layer::Waiting(format!("cannot get random bytes: {error}")),
        };
        let is_wanted = || lease.is_whole() && !work.stop.load(Ordering::Relaxed);
        let made = self
            .copy(&token, file, &is_wanted)
            .map_err(|error| Layer::Waiting(error.to_string()))
            .and_then(|()| self.index_copy(&token, path, work, &|| lease.is_whole()));
        match made {
            Ok(sha256) => {
                let bytes = from.bytes();
                let patch = Patch {
                    sha256,
                    name,
                    bytes,
                    from,
                };
                Layer::New(token, patch)
            }
            Err(layer) => {
                if let Err(error) = self.forget(&token) {
                    tracing::warn!(%error, "a copy that came to nothing stays");
                }
                layer
            }
        }
    }

    fn copy(
        &self,
        token: &Token,
        mut from: &File,
        is_wanted: &dyn Fn() -> bool,
    ) -> Result<(), HomeError> {
        system_step(Step::Copy, "copy a patch layer into the store", || {
            let mut to = self.incoming.create(&token.copy())?;
            let mut buffer = vec![0; COPY_BYTES];
            while is_wanted() {
                match from.read(&mut buffer)? {
                    0 => return to.sync_all(),
                    n => to.write_all(&buffer[..n])?,
                }
            }
            Err(io::Error::other("it was changed, or work was to stop"))
        })
    }

    fn index_copy(
        &self,
        token: &Token,
        path: &ImagePath,
        work: Work<'_>,
        is_whole: &(dyn Fn() -> bool + Sync),
    ) -> Result<Digest, Layer> {
        // Its path may lead through directories that this user cannot enter.
        let path_of_copy = self.incoming_path(&token.copy());
        let opened = File::open(&path_of_copy).map_err(|cause| StoreError::Archive {
            path: path_of_copy.clone(),
            cause,
        });
        let archive = opened.and_then(|file| Archive::from_file(Arc::new(file), &path_of_copy));
        let archive = archive.map_err(|error| Layer::Waiting(error.to_string()))?;
        let indexed = self.index_into(token, (&archive).into(), path, work, is_whole);
        match indexed {
            Ok(indexed) => Ok(indexed.digest),
            Err(Unindexed::Unlikely(why)) => Err(Layer::Refused(why.so_far().to_owned())),
            Err(Unindexed::GivenUp) => Err(Layer::Waiting("it is being uploaded".to_owned())),
            Err(Unindexed::Failed(error)) => {
                let reason = reason_of(&error, archive.path());
                Err(match verdict(&error, archive.metadata().len()) {
                    Verdict::Never | Verdict::Incomplete => Layer::Refused(reason),
                    Verdict::Changed | Verdict::Later | Verdict::NoRoom => Layer::Waiting(reason),
                })
            }
        }
    }

    /// Gives new layers their places and has the record name all.
    fn commit_patches(
        &self,
        path: &ImagePath,
        layers: &[Layer],
        patches: &mut Patches,
    ) -> Result<(), HomeError> {
        let records = self.records.lock();
        for layer in layers {
            match layer {
                Layer::Stored(patch) => patches.layers.push(patch.clone()),
                Layer::New(token, patch) => {
                    if !self.is_whole(&patch.sha256) {
                        self.place_copy(token, &patch.sha256)?;
                    }
                    patches.layers.push(patch.clone());
                }
                Layer::Refused(_) | Layer::Waiting(_) => {}
            }
        }
        let mut record = records.get(path)?;
        patches.changed = record.patches != patches.layers;
        if patches.changed {
            record.patches.clone_from(&patches.layers);
            let failed = HomeError::doing("write the record of an image");
            super::fault::step(Step::Record, failed, || records.write(&record))?;
        }
        Ok(())
    }

    fn place_copy(&self, token: &Token, digest: &Digest) -> Result<(), HomeError> {
        let place = |file: String, name: String| {
            self.incoming
                .rename(file.as_bytes(), &self.archives, name.as_bytes())
        };
        system_step(Step::PlaceArchive, "give a patch layer its place", || {
            place(token.copy(), digest.to_string())
        })?;
        system_step(Step::PlaceIndex, "give an index its place", || {
            place(token.index(), index_name(digest))?;
            self.archives.sync()
        })
    }
}

fn refused(state: State) -> Layer {
    match state {
        State::Refused(reason) => Layer::Refused(reason),
        _ => Layer::Waiting("it is being uploaded".to_owned()),
    }
}
