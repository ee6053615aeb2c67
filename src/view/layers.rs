//! What one container wrote to one image, on disk: writable layers, private copies
//! of files, and the layers above the image that are made anew each time.
//!
//! Guarantees: a layer that is there is whole; none is ever removed or changed but
//! by the container itself, and by a reset.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, Stat};

use super::ViewError;
use super::dir::{Dir, copy_attributes, key};
use super::plan::Place;
use super::users;
use crate::sys::tree;

/// Everybody may write.
const WORLD_WRITABLE: u32 = 0o002;

/// The directory of a container, for one image.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    pub(super) home: &'a Dir,
    pub(super) image: &'a Dir,
}

/// A writable layer: what the container sees of it, and what the kernel needs
/// beside it.
#[derive(Debug)]
pub(super) struct Upper {
    pub(super) upper: Dir,
    pub(super) work: Dir,
}

/// Where the layer with a user's lines is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// On a filesystem of its own, which has a UUID. Where neither the disk nor the
    /// image has one the kernel could not tell their layers apart, and would give
    /// files other inode numbers after a copy-up.
    InMemory,
    /// For kernels that take no layers of what is not attached (before Linux 6.15).
    OnDisk,
}

/// Where the layers of a place are.
const TREE: &str = "tree";
const PLACES: &str = "places";
const TOP: &str = "top";
const EMPTY: &str = "empty";

impl Layers<'_> {
    /// The writable layer above the whole image.
    pub(super) fn of_tree(&self) -> Result<Upper, ViewError> {
        let made = self.home.make(TREE).and_then(|at| upper(&at, self.image));
        made.map_err(|cause| failed(b"", cause))
    }

    /// The writable layer above a directory that is open in the image.
    pub(super) fn of_place(&self, place: &Place, like: &Dir) -> Result<Upper, ViewError> {
        let made = self.at(place).and_then(|at| upper(&at, like));
        made.map_err(|cause| failed(&place.path, cause))
    }

    /// The private copy of a file of `below`, to mount above it. That is the image,
    /// and what is right above it.
    pub(super) fn copy_of(&self, place: &Place, below: &Dir) -> Result<OwnedFd, ViewError> {
        const COPY: &str = "file";
        let made = self.at(place).and_then(|at| {
            if at.kind(COPY.as_bytes())?.is_none() {
                let from = below.file(&place.path)?;
                let like = from.try_clone()?;
                let size = from.metadata()?.len();
                let write = |to: &mut std::fs::File| {
                    let copied = io::copy(&mut from.take(size), to)?;
                    if copied != size {
                        return Err(io::Error::other("it is shorter than its size says"));
                    }
                    to.sync_all()
                };
                at.write_like(COPY, Some(like.as_fd()), Mode::empty(), write)?;
            }
            at.place(COPY.as_bytes())
        });
        made.map_err(|cause| failed(&place.path, cause))
    }

    fn at(&self, place: &Place) -> io::Result<Dir> {
        self.home.make(PLACES)?.make(&key(&place.path))
    }

    /// A layer with nothing in it, to go right above the image.
    pub(super) fn empty(&self) -> Result<Dir, ViewError> {
        let made = self.home.make(EMPTY).and_then(|empty| {
            // What is seen of it is that, which another version has others of.
            copy_attributes(self.image.as_fd(), empty.as_fd())?;
            Ok(empty)
        });
        made.map_err(|cause| failed(b"", cause))
    }

    /// The layer right above the image with the lines of a user, and why those are
    /// not there if they are not.
    pub(super) fn with_lines(
        &self,
        uid: u32,
        kept: Kept,
    ) -> Result<(Dir, Option<&'static str>), ViewError> {
        let failed = |cause| failed(b"etc", cause);
        let top = match kept {
            Kept::InMemory => {
                let size = users::LAYER_BYTES_MAX.to_string();
                tree::filesystem("tmpfs", &[("size", &size)], false)?.into()
            }
            Kept::OnDisk => {
                self.home.remove(TOP).map_err(failed)?;
                self.home.make(TOP).map_err(failed)?
            }
        };
        let write = || {
            // What a mount is made as can be walked from, and not be changed.
            let opened = top.sub(b".")?;
            copy_attributes(self.image.as_fd(), opened.as_fd())?;
            users::write(self.image, &opened, uid)
        };
        let why = write().map_err(failed)?;
        Ok((top, why))
    }

    /// All writable layers that there are.
    pub(super) fn all(home: &Dir) -> io::Result<Vec<Upper>> {
        let mut all = Vec::new();
        let mut add = |at: &Dir| -> io::Result<()> {
            if let (Some(upper), Some(work)) = (at.find(b"upper")?, at.find(b"work")?) {
                all.push(Upper { upper, work });
            }
            Ok(())
        };
        if let Some(tree) = home.find(TREE.as_bytes())? {
            add(&tree)?;
        }
        if let Some(places) = home.find(PLACES.as_bytes())? {
            for name in places.names()? {
                add(&places.sub(name.as_bytes())?)?;
            }
        }
        Ok(all)
    }
}

fn upper(at: &Dir, like: &Dir) -> io::Result<Upper> {
    let work = at.make("work")?;
    let upper = at.make_like("upper", like)?;
    Ok(Upper { upper, work })
}

fn failed(path: &[u8], cause: io::Error) -> ViewError {
    ViewError::Layer {
        path: path.to_vec(),
        cause,
    }
}

/// The directory of a place, in the image. What the plan says of it is looked at
/// here: of a directory that not everybody may write no layer is made.
pub(super) fn open_directory(image: &Dir, place: &Place) -> Result<Dir, ViewError> {
    let wrong = |cause| ViewError::Place {
        path: place.path.clone(),
        cause,
    };
    let opened = image.sub(&place.path).map_err(wrong)?;
    check(opened.stat().map_err(wrong)?, place)?;
    Ok(opened)
}

/// The same for a file; its size in bytes.
pub(super) fn check_file(image: &Dir, place: &Place) -> Result<u64, ViewError> {
    let stat = image
        .file(&place.path)
        .and_then(|file| Ok(rustix::fs::fstat(&file)?));
    let stat = stat.map_err(|cause| ViewError::Place {
        path: place.path.clone(),
        cause,
    })?;
    check(stat, place)?;
    Ok(u64::try_from(stat.st_size).unwrap_or(u64::MAX))
}

fn check(stat: Stat, place: &Place) -> Result<(), ViewError> {
    if stat.st_mode & WORLD_WRITABLE != 0 {
        return Ok(());
    }
    Err(ViewError::Place {
        path: place.path.clone(),
        cause: io::Error::other("not everybody may write it, as the image's process says"),
    })
}
