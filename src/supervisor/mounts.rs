//! The mounts of images, and what is kept to serve them again.
//!
//! Guarantees: a mount point is in a directory that only root can enter; the
//! connection of every mount is held here, so that the kernel keeps it when a
//! worker dies.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::SupervisorError;
use crate::sys::mount::{self, Mount, MountOptions, MountRequest};
use crate::sys::mountinfo;
use crate::types::KernelOffer;
use crate::wire::{ImagePath, MountNo, Version};

/// A mount.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: ImagePath,
    pub(super) version: Version,
    /// Where it is, or was until it was detached.
    pub(super) at: PathBuf,
    /// None for one that was detached by a supervisor before this one.
    pub(super) mounted: Option<Mount>,
    pub(super) connection: OwnedFd,
    pub(super) files: Vec<OwnedFd>,
    /// There once it answered.
    pub(super) offer: Option<KernelOffer>,
    /// Whether it is not read any more.
    pub(super) is_tombstone: bool,
}

impl Held {
    /// Detaches it: who uses it may go on.
    pub(super) fn detach(&mut self) {
        if let Some(mounted) = self.mounted.take()
            && let Err(error) = mounted.unmount(true)
        {
            tracing::error!(at = %self.at.display(), %error, "cannot unmount an image");
        }
        remove_directory(&self.at);
    }
}

/// Where the images of one home are mounted.
#[derive(Debug)]
pub(super) struct MountPoints {
    directory: PathBuf,
    /// Shown as the source: the home's `distros`.
    shown: PathBuf,
    next: u32,
}

impl MountPoints {
    /// In `directory`, which is made.
    pub(super) fn new(directory: PathBuf, shown: PathBuf) -> Result<Self, SupervisorError> {
        let failed = |doing| {
            let path = directory.clone();
            move |cause| SupervisorError::Directory { doing, path, cause }
        };
        fs::create_dir_all(&directory).map_err(failed("make the directory"))?;
        let mut next = 1;
        for entry in fs::read_dir(&directory).map_err(failed("read the directory"))? {
            let name = entry.map_err(failed("read the directory"))?.file_name();
            let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
            next = next.max(number.map_or(0, |number| number.saturating_add(1)));
        }
        Ok(MountPoints {
            directory,
            shown,
            next,
        })
    }

    /// Where a mount is.
    pub(super) fn at(&self, mount: MountNo) -> PathBuf {
        self.directory.join(mount.0.to_string())
    }

    /// Mounts an image.
    pub(super) fn mount(
        &mut self,
        path: &ImagePath,
        version: Version,
        files: Vec<OwnedFd>,
    ) -> Result<(MountNo, Held), SupervisorError> {
        let number = MountNo(self.next);
        self.next = self.next.saturating_add(1);
        let at = self.at(number);
        fs::create_dir(&at).map_err(|cause| SupervisorError::Directory {
            doing: "make the directory",
            path: at.clone(),
            cause,
        })?;
        let made = mount::mount(&MountRequest {
            source: self.shown.join(path.as_str()).into(),
            target: at.clone(),
            allow_other: true,
            flags: MountOptions::default(),
        });
        let (mounted, connection) = made.inspect_err(|_| remove_directory(&at))?;
        let held = Held {
            path: path.clone(),
            version,
            at,
            mounted: Some(mounted),
            connection,
            files,
            offer: None,
            is_tombstone: false,
        };
        Ok((number, held))
    }

    /// What a supervisor before this one mounted, if it is there still.
    pub(super) fn found(&mut self, mount: MountNo) -> Option<Mount> {
        self.next = self.next.max(mount.0.saturating_add(1));
        Mount::found(&self.at(mount)).ok().flatten()
    }

    /// Unmounts what nobody serves any more.
    pub(super) fn sweep(&self, is_held: impl Fn(MountNo) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.parse().ok());
            if number.is_some_and(|number| is_held(MountNo(number))) {
                continue;
            }
            let at = self.directory.join(name);
            while mountinfo::is_mount_point(&at)? {
                mount::unmount(&at, true).map_err(io::Error::other)?;
            }
            remove_directory(&at);
        }
        Ok(())
    }
}

fn remove_directory(at: &Path) {
    match fs::remove_dir(at) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(at = %at.display(), %error, "cannot remove a directory");
        }
        _ => {}
    }
}

/// All descriptors of a mount, as a worker that goes on with it gets them.
pub(super) fn descriptors(held: &Held) -> Vec<std::os::fd::BorrowedFd<'_>> {
    let files = held.files.iter().map(AsFd::as_fd);
    std::iter::once(held.connection.as_fd())
        .chain(files)
        .collect()
}
