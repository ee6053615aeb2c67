//! From a path to an inode, following symbolic links as if the top directory
//! were the root of the system (path_resolution(7) under chroot(2)).
//!
//! Guarantees: no recursion; `..` never leaves the top; the number of links is
//! bounded as in the kernel, and the number of components looked up by the
//! caller. The same code serves the reader and the builder, so that an archive
//! is unpacked and read by the same rules.

use std::ops::Range;

use crate::types::Ino;

/// Links followed before a path is given up, as in the kernel (`MAXSYMLINKS`).
pub(super) const LINKS_MAX: u32 = 40;

/// What a component turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Directory,
    Link,
    Other,
}

/// A tree that can be walked.
pub(super) trait Nodes {
    type Error;

    /// The inode that `name` names in `dir`.
    fn child(&mut self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, Self::Error>;

    /// Asked when a component of the path itself (not of a link) is not there;
    /// may make it.
    fn absent(&mut self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, Self::Error>;

    /// The directory that a directory is in.
    fn parent(&mut self, dir: Ino) -> Result<Ino, Self::Error>;

    /// What kind of inode it is.
    fn shape(&mut self, ino: Ino) -> Result<Shape, Self::Error>;

    /// Writes the target of a link over `into`.
    fn read_link(&mut self, ino: Ino, into: &mut Vec<u8>) -> Result<(), Self::Error>;
}

/// Where to walk, and how far.
#[derive(Debug)]
pub(super) struct Walk<'a> {
    /// The directory that is the root for this path.
    pub(super) top: Ino,
    /// Components that may still be looked up; counted down.
    pub(super) steps_left: &'a mut u64,
    /// Links that may be followed.
    pub(super) links_max: u32,
    /// Whether a link as the last component is followed.
    pub(super) follow_last: bool,
}

/// Why a walk did not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop<E> {
    /// A component is not there.
    NotFound,
    /// A component that must be a directory is something else.
    NotDirectory,
    /// More links than allowed, or a cycle of them.
    TooManyLinks,
    /// `steps_left` came to 0.
    TooManySteps,
    /// The tree could not answer.
    Failed(E),
}

impl<E> From<E> for Stop<E> {
    fn from(error: E) -> Self {
        Stop::Failed(error)
    }
}

/// The inode that `path` leads to. An empty path is the top itself.
pub(super) fn walk<N: Nodes>(
    nodes: &mut N,
    how: &mut Walk<'_>,
    path: &[u8],
) -> Result<Ino, Stop<N::Error>> {
    let mut rest = Rest::new(path);
    let mut links_left = how.links_max;
    let mut at = how.top;
    loop {
        let part = rest.next();
        let name = rest.name(&part);
        if name.is_empty() && part.is_last {
            return Ok(at);
        }
        *how.steps_left = how.steps_left.checked_sub(1).ok_or(Stop::TooManySteps)?;
        let found = match name {
            b"" | b"." => continue,
            b".." if at == how.top => continue,
            b".." => {
                at = nodes.parent(at)?;
                continue;
            }
            name => match nodes.child(at, name)? {
                None if !part.of_link => nodes.absent(at, name)?,
                found => found,
            },
        };
        let found = found.ok_or(Stop::NotFound)?;
        match nodes.shape(found)? {
            Shape::Directory => at = found,
            Shape::Link if !part.is_last || how.follow_last => {
                links_left = links_left.checked_sub(1).ok_or(Stop::TooManyLinks)?;
                rest.enter(|link| nodes.read_link(found, link))?;
                if rest.is_absolute() {
                    at = how.top;
                }
            }
            Shape::Link | Shape::Other if part.is_last => return Ok(found),
            Shape::Link | Shape::Other => return Err(Stop::NotDirectory),
        }
    }
}

/// What is left to walk: of the targets of links, then of the path.
struct Rest<'a> {
    link: Vec<u8>,
    link_at: usize,
    path: &'a [u8],
    path_at: usize,
}

/// A component; empty where a text ends with a slash, or has ended.
struct Part {
    name: Range<usize>,
    /// Whether it is of the target of a link, not of the path.
    of_link: bool,
    /// Whether nothing follows, not even a slash.
    is_last: bool,
}

impl<'a> Rest<'a> {
    fn new(path: &'a [u8]) -> Self {
        Self {
            link: Vec::new(),
            link_at: 0,
            path,
            path_at: 0,
        }
    }

    /// Takes the next component.
    fn next(&mut self) -> Part {
        let of_link = self.link_at < self.link.len();
        let (text, at) = match of_link {
            true => (&self.link[..], &mut self.link_at),
            false => (self.path, &mut self.path_at),
        };
        let start = *at + text[*at..].iter().take_while(|b| **b == b'/').count();
        let end = start + text[start..].iter().take_while(|b| **b != b'/').count();
        *at = end;
        Part {
            name: start..end,
            of_link,
            is_last: self.link_at == self.link.len() && self.path_at == self.path.len(),
        }
    }

    /// The name of the component taken last.
    fn name(&self, part: &Part) -> &[u8] {
        let text = if part.of_link { &self.link } else { self.path };
        &text[part.name.clone()]
    }

    /// Puts the target of a link, which `read` writes, before all that is left.
    fn enter<E>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<(), E> {
        let left = self.link.split_off(self.link_at);
        read(&mut self.link)?;
        self.link.extend_from_slice(&left);
        self.link_at = 0;
        Ok(())
    }

    /// Whether the link that was just entered starts at the top.
    fn is_absolute(&self) -> bool {
        self.link.first() == Some(&b'/')
    }
}
