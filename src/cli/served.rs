//! Which directory of an archive is served as the root.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::{Failure, text};
use crate::index::{FileKind, Index};
use crate::types::Ino;

/// The directory that becomes the root: `path` if that was given. Otherwise,
/// says so if it is not the top.
pub(super) fn root(path: Option<&OsStr>, index: &Index) -> Result<Ino, Failure> {
    let Some(path) = path else {
        let root = index.summary().root.unwrap_or(Ino::ROOT);
        if root != Ino::ROOT
            && let Some(top) = index.dirents(Ino::ROOT, 0)?.next()
        {
            let name = text::printable(top?.name).into_owned();
            eprintln!(
                "distrofs: the root is the directory {name:?} of the archive (--root / overrides)"
            );
        }
        return Ok(root);
    };
    let shown = text::printable(path.as_bytes());
    let root = index
        .resolve(Ino::ROOT, path.as_bytes(), true)
        .map_err(|e| format!("--root {shown}: {e}"))?;
    match index.inode(root)?.kind {
        FileKind::Directory => Ok(root),
        kind => Err(format!("--root {shown}: is a {}, not a directory", text::kind(kind)).into()),
    }
}
