//! Changes of modes, as `chmod` makes them in a tree on disk.
//!
//! Guarantees: a change touches the inode that its path names, and no other: no
//! link is followed on the way. It is kept for every later version of the image,
//! so a path that leads nowhere in one of them is told, and no error.

use super::super::error::BuildError;
use super::super::place::{Tree, normalise};
use crate::index::escape::EntryName;
use crate::index::format::{KIND_MASK, PERM_MASK};
use crate::index::node::FileKind;
use crate::index::walk::Stop;

/// The longest path, as Linux has it.
const PATH_BYTES_MAX: usize = 4095;

/// A path and the permission bits that it is to have.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ModeChange {
    path: Vec<u8>,
    mode: u16,
}

/// Why something is no change of a mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    /// A bit that is no permission.
    #[error("{mode:o} is no mode: give up to four octal digits, as in 0755 or 1777")]
    Mode {
        /// What was given.
        mode: u32,
    },
    /// A name that no directory can hold.
    #[error("{path}: give the path of the file within the image, without `..`")]
    Path {
        /// What was given.
        path: EntryName,
    },
}

impl ModeChange {
    /// What `path` names is to have the permission bits `mode`, at most 07777.
    /// The path is within the image, with or without a slash before it.
    pub fn new(path: &[u8], mode: u32) -> Result<Self, ModeError> {
        let bits = u16::try_from(mode).ok().filter(|bits| *bits <= PERM_MASK);
        let mode = bits.ok_or(ModeError::Mode { mode })?;
        let refused = || ModeError::Path {
            path: EntryName::new(path),
        };
        let mut plain = Vec::new();
        let is_path = path.len() <= PATH_BYTES_MAX && normalise(path, &mut plain).is_ok();
        match is_path {
            true => Ok(Self { path: plain, mode }),
            false => Err(refused()),
        }
    }

    /// The path: no slash before or behind it, no `.`; the root is empty.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// The permission bits.
    pub fn mode(&self) -> u16 {
        self.mode
    }
}

/// A change that could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    /// Its path.
    pub path: Vec<u8>,
    /// Why not.
    pub problem: Problem,
}

/// Why a change could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Problem {
    /// There is nothing of that name in this version of the image.
    NotFound,
    /// A component on the way is a file.
    NotDirectory,
    /// A component on the way is a symbolic link.
    BehindLink,
    /// It is a symbolic link itself, which has no mode.
    IsLink,
}

impl Problem {
    /// What it is, as the end of "PATH: ...".
    pub fn text(self) -> &'static str {
        match self {
            Self::NotFound => "not in this version of the image, mode not changed",
            Self::NotDirectory => "a parent is not a directory, mode not changed",
            Self::BehindLink => {
                "a parent is a symbolic link, mode not changed: give the path that it leads to"
            }
            Self::IsLink => {
                "a symbolic link has no mode, nothing changed: give the path that it leads to"
            }
        }
    }
}

impl std::fmt::Display for Unapplied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "/{}: {}",
            EntryName::new(&self.path),
            self.problem.text()
        )
    }
}

impl Tree {
    /// Makes a change, or says why it cannot be made.
    pub(super) fn change_mode(
        &mut self,
        change: &ModeChange,
    ) -> Result<Option<Problem>, BuildError> {
        let ino = match self.walk_plainly(&change.path) {
            Ok(ino) => ino,
            Err(Stop::NotFound | Stop::TooManySteps) => return Ok(Some(Problem::NotFound)),
            Err(Stop::NotDirectory) => return Ok(Some(Problem::NotDirectory)),
            Err(Stop::TooManyLinks) => return Ok(Some(Problem::BehindLink)),
            Err(Stop::Failed(error)) => return Err(error),
        };
        let record = self.tables.inode_mut(ino)?;
        if record.kind() == Some(FileKind::Symlink) {
            return Ok(Some(Problem::IsLink));
        }
        record.mode.set(record.mode.get() & KIND_MASK | change.mode);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kept_in_one_form() {
        for path in ["/var/log", "var/log/", "./var//./log"] {
            let change = ModeChange::new(path.as_bytes(), 0o1777).unwrap();
            assert_eq!((change.path(), change.mode()), (&b"var/log"[..], 0o1777));
        }
        assert_eq!(ModeChange::new(b"/", 0).unwrap().path(), b"");
    }

    #[test]
    fn what_no_chmod_takes_is_refused() {
        for mode in [0o10000, 0o100_644, u32::MAX] {
            assert_eq!(ModeChange::new(b"a", mode), Err(ModeError::Mode { mode }));
        }
        for path in [
            &b"a/../b"[..],
            b"..",
            b"a\0",
            &[b'x'; 256],
            &b"x/".repeat(4000),
        ] {
            let error = ModeChange::new(path, 0o644).unwrap_err();
            assert!(matches!(error, ModeError::Path { .. }), "{error}");
        }
    }
}
