//! Where the index of an archive is kept.
//!
//! Beside the archive as `ARCHIVE.dfsx`; where that directory cannot be
//! written, in the user's cache directory under a name made of the archive's
//! absolute path.

use std::env;
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use sha2::{Digest, Sha256};

/// Appended to an archive's name.
const EXTENSION: &str = "dfsx";

/// The same for start profiles.
pub(super) const PROFILE: &str = "dfsp";

/// Where to look for the index of `archive` (an absolute path), best first.
pub fn places(archive: &Path) -> Vec<PathBuf> {
    std::iter::once(beside(archive))
        .chain(in_cache(archive, EXTENSION))
        .collect()
}

/// Where to make the index of `archive` (an absolute path): the first place
/// that can be written.
pub fn default_place(archive: &Path) -> PathBuf {
    let beside = beside(archive);
    match is_writable(&beside) {
        true => beside,
        false => in_cache(archive, EXTENSION).unwrap_or(beside),
    }
}

/// Whether a file can be made at `place`, in a directory that is there.
pub(super) fn is_writable(place: &Path) -> bool {
    let directory = place.parent().unwrap_or(Path::new("/"));
    access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn beside(archive: &Path) -> PathBuf {
    let mut name = OsString::from(archive);
    name.push(".");
    name.push(EXTENSION);
    name.into()
}

/// In the user's cache directory, with this extension.
pub(super) fn in_cache(archive: &Path, extension: &str) -> Option<PathBuf> {
    let set = |name: &str| {
        env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| home.join(".cache")))?;
    let digest = Sha256::digest(archive.as_os_str().as_bytes());
    let hex: String = digest
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Some(cache.join("distrofs").join(format!("{hex}.{extension}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_beside_the_archive_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("image.tgz");
        assert_eq!(default_place(&archive), dir.path().join("image.tgz.dfsx"));
        assert_eq!(places(&archive)[0], dir.path().join("image.tgz.dfsx"));
    }

    #[test]
    fn two_archives_never_share_a_place_in_the_cache() {
        let (a, b) = (
            in_cache(Path::new("/a/image.tgz"), EXTENSION),
            in_cache(Path::new("/b/image.tgz"), EXTENSION),
        );
        assert_ne!(a, b);
    }
}
