//! [`Index::resolve`]: from a path to an inode, for commands that read an image
//! without mounting it.
//!
//! Guarantees: a path never leaves `root`, whatever links and `..` it goes
//! through; a cycle of links ends.

use super::error::IndexError;
use super::escape::EntryName;
use super::node::FileKind;
use super::reader::Index;
use super::walk::{LINKS_MAX, Nodes, Shape, Stop, Walk, walk};
use crate::types::Ino;

/// Why a path led nowhere.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A component is not there, or a link leads to nothing.
    #[error("{path}: no such file or directory in the image")]
    NotFound {
        /// The path asked for.
        path: EntryName,
    },
    /// A component that must be a directory is something else.
    #[error("{path}: not a directory")]
    NotDirectory {
        /// The path asked for.
        path: EntryName,
    },
    /// More than 40 links on the way.
    #[error("{path}: too many levels of symbolic links")]
    TooManyLinks {
        /// The path asked for.
        path: EntryName,
    },
    /// The index could not answer.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl Index {
    /// The inode that `path` leads to if the directory `root` is `/`: absolute
    /// and relative paths start there, links are followed as chroot(2) would,
    /// `..` of `root` is `root`. If the last component is a link, the answer is
    /// its target with `follow` (stat) and the link itself without (lstat).
    pub fn resolve(&self, root: Ino, path: &[u8], follow: bool) -> Result<Ino, ResolveError> {
        // The links bound the steps.
        let mut steps = u64::MAX;
        let mut how = Walk {
            top: root,
            steps_left: &mut steps,
            links_max: LINKS_MAX,
            follow_last: follow,
        };
        self.parent(root)?;
        walk(&mut Stored(self), &mut how, path).map_err(|stop| {
            let path = EntryName::new(path);
            match stop {
                Stop::NotFound => ResolveError::NotFound { path },
                Stop::NotDirectory => ResolveError::NotDirectory { path },
                Stop::TooManyLinks | Stop::TooManySteps => ResolveError::TooManyLinks { path },
                Stop::Failed(error) => error.into(),
            }
        })
    }
}

/// The finished tables as a tree to walk.
struct Stored<'a>(&'a Index);

impl Nodes for Stored<'_> {
    type Error = IndexError;

    fn child(&mut self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, IndexError> {
        self.0.lookup(dir, name)
    }

    fn absent(&mut self, _dir: Ino, _name: &[u8]) -> Result<Option<Ino>, IndexError> {
        Ok(None)
    }

    fn parent(&mut self, dir: Ino) -> Result<Ino, IndexError> {
        self.0.parent(dir)
    }

    fn shape(&mut self, ino: Ino) -> Result<Shape, IndexError> {
        Ok(match self.0.inode(ino)?.kind {
            FileKind::Directory => Shape::Directory,
            FileKind::Symlink => Shape::Link,
            _ => Shape::Other,
        })
    }

    fn read_link(&mut self, ino: Ino, into: &mut Vec<u8>) -> Result<(), IndexError> {
        into.clear();
        into.extend_from_slice(self.0.link_target(ino)?);
        Ok(())
    }
}
