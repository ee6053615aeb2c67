//! The first questions to a fresh mount, asked by ourselves.
//!
//! Guarantees: when [`settle`] returns, the mount has answered. And the kernel
//! has learned that opening, reading a directory's beginning and closing need
//! no request: it learns that from the first refusal of each, and everybody
//! who opens a file before then asks too.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::index::{FileKind, Index};
use crate::types::Ino;

/// Entries looked at to find a regular file; any real image has one by then.
const ENTRIES_MAX: usize = 1000;

/// Opens and closes the root of the mount and one file of the image.
pub fn settle(mountpoint: &Path, index: &Index, root: Ino) -> std::io::Result<()> {
    drop(File::open(mountpoint)?);
    if let Some(file) = some_file(index, root) {
        // It may be one that this user must not open; nothing depends on it.
        let opened = File::open(mountpoint.join(file));
        tracing::debug!(?opened, "asked the mount to open a file");
    }
    Ok(())
}

/// The path of a regular file below `root`.
fn some_file(index: &Index, root: Ino) -> Option<PathBuf> {
    let mut directories = vec![(root, PathBuf::new())];
    let mut left = ENTRIES_MAX;
    while let Some((directory, path)) = directories.pop() {
        for entry in index.dirents(directory, 0).ok()?.flatten() {
            left = left.checked_sub(1)?;
            let path = path.join(OsStr::from_bytes(entry.name));
            match index.inode(entry.ino).ok()?.kind {
                FileKind::Regular => return Some(path),
                FileKind::Directory => directories.push((entry.ino, path)),
                _ => {}
            }
        }
    }
    None
}
