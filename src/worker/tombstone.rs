//! Mounts of images that are not read any more.
//!
//! Guarantees: of each the connection and the files are kept, so that the next
//! supervisor gets them; the files are not looked at.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::fuse::Tombstone;
use crate::types::KernelOffer;
use crate::wire::{ImagePath, Link, MountNo, News, Version};

struct Buried {
    path: ImagePath,
    version: Version,
    offer: KernelOffer,
    connection: OwnedFd,
    files: Vec<OwnedFd>,
    tombstone: Tombstone,
}

/// All of them.
#[derive(Default)]
pub(super) struct Tombstones(BTreeMap<MountNo, Buried>);

impl Tombstones {
    /// Answers on the connection of a mount with errors from now on.
    pub(super) fn bury(
        &mut self,
        mount: MountNo,
        (path, version): (ImagePath, Version),
        offer: KernelOffer,
        connection: OwnedFd,
        files: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let tombstone = Tombstone::raise(connection.try_clone()?)?;
        let buried = Buried {
            path,
            version,
            offer,
            connection,
            files,
            tombstone,
        };
        self.0.insert(mount, buried);
        Ok(())
    }

    /// Tells a supervisor of them that did not begin them.
    pub(super) fn tell(&self, link: &Link) -> io::Result<()> {
        for (mount, buried) in &self.0 {
            let holding = News::Holding {
                mount: *mount,
                path: buried.path.clone(),
                version: buried.version,
                offer: buried.offer,
                is_tombstone: true,
            };
            let fds = std::iter::once(buried.connection.as_fd());
            let fds: Vec<_> = fds.chain(buried.files.iter().map(AsFd::as_fd)).collect();
            link.send(&holding, &fds)?;
        }
        Ok(())
    }

    /// Forgets those that nobody uses any more: which they were.
    pub(super) fn sweep(&mut self) -> Vec<MountNo> {
        let is_over =
            |(mount, buried): (&MountNo, &Buried)| buried.tombstone.is_finished().then_some(*mount);
        let over: Vec<_> = self.0.iter().filter_map(is_over).collect();
        for mount in &over {
            if let Some(buried) = self.0.remove(mount)
                && let Err(error) = buried.tombstone.wait()
            {
                tracing::error!(mount = mount.0, %error, "a mount ended");
            }
        }
        over
    }

    /// Which versions they are of.
    pub(super) fn versions(&self) -> impl Iterator<Item = Version> {
        self.0.values().map(|buried| buried.version)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
