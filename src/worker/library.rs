//! The images of a home.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use super::WorkerError;
use super::images::{Files, Images};
use crate::store::{Archive, IngestOptions};
use crate::wire::{Begin, ImagePath, Version};

pub(super) struct Library {
    home: OwnedFd,
    store: OwnedFd,
    known: BTreeMap<ImagePath, Version>,
}

impl Library {
    pub(super) fn open(home: OwnedFd, store: OwnedFd, _begin: &Begin) -> Result<Self, WorkerError> {
        Ok(Library {
            home,
            store,
            known: BTreeMap::new(),
        })
    }

    pub(super) fn look(&mut self, images: &Images) -> Result<(), Box<dyn std::error::Error>> {
        let home = PathBuf::from(format!("/proc/self/fd/{}/distros", self.home.as_raw_fd()));
        let store = PathBuf::from(format!("/proc/self/fd/{}", self.store.as_raw_fd()));
        for entry in std::fs::read_dir(&home)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".tgz") else {
                continue;
            };
            let path: ImagePath = stem.parse()?;
            let archive = Archive::open(&entry.path())?;
            let place = store.join(format!("{stem}.dfsx"));
            let options = IngestOptions {
                span_bytes: 256 * 1024,
                ignore_zeros: false,
            };
            let index = archive.index(Some(&place), options, false, &Arc::default(), &|_| {})?;
            let version = Version(index.sidecar.identity().sha256);
            if self.known.get(&path) != Some(&version) {
                let _there = std::fs::create_dir(home.join(stem));
                let files = Files(vec![
                    File::open(entry.path())?.into(),
                    File::open(&place)?.into(),
                ]);
                images.offer(&path, version, files);
                self.known.insert(path, version);
            }
        }
        let _ = Images::withdraw;
        Ok(())
    }
}
