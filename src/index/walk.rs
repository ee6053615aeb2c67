//! From a path to an inode, following symbolic links as if the top directory
//! were the root of the system (path_resolution(7) under chroot(2)).
//!
//! Guarantees: no recursion; `..` never leaves the top; the number of links is
//! bounded as in the kernel, and the number of components looked up by the
//! caller. The same code serves the reader and the builder, so that an archive
//! is unpacked and read by the same rules.

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
    let mut at = how.top;
    let mut path = path;
    // What is left of link targets: `link[link_at..]`, to be walked before `path`.
    let mut link: Vec<u8> = Vec::new();
    let mut link_at = 0;
    let mut links_left = how.links_max;
    loop {
        let in_link = link_at < link.len();
        let (name, used) = component(if in_link { &link[link_at..] } else { path });
        let name_at = if in_link { link_at } else { 0 };
        let text = if in_link { &link[..] } else { path };
        let name = &text[name_at + name.start..name_at + name.end];
        let last = text.len() == name_at + used && (!in_link || path.is_empty());
        if name.is_empty() && last {
            return Ok(at);
        }
        *how.steps_left = how.steps_left.checked_sub(1).ok_or(Stop::TooManySteps)?;
        let mut follow = false;
        match name {
            b"" | b"." => {}
            b".." if at == how.top => {}
            b".." => at = nodes.parent(at)?,
            name => {
                let mut found = nodes.child(at, name)?;
                if found.is_none() && !in_link {
                    found = nodes.absent(at, name)?;
                }
                let found = found.ok_or(Stop::NotFound)?;
                match nodes.shape(found)? {
                    Shape::Directory => at = found,
                    Shape::Link if !last || how.follow_last => follow = true,
                    Shape::Link | Shape::Other if last => return Ok(found),
                    _ => return Err(Stop::NotDirectory),
                }
                if follow {
                    links_left = links_left.checked_sub(1).ok_or(Stop::TooManyLinks)?;
                    let rest_at = if in_link { link_at + used } else { link.len() };
                    let rest = link.split_off(rest_at);
                    nodes.read_link(found, &mut link)?;
                    if link.first() == Some(&b'/') {
                        at = how.top;
                    }
                    link.extend_from_slice(&rest);
                    link_at = 0;
                }
            }
        }
        if !in_link {
            path = &path[used..];
        } else if !follow {
            link_at += used;
        }
    }
}

/// The range of the first component in `text`, and how much of `text` to leave
/// behind: the component and what stands before it, not the slash after it.
fn component(text: &[u8]) -> (std::ops::Range<usize>, usize) {
    let start = text.iter().take_while(|b| **b == b'/').count();
    let len = text[start..].iter().take_while(|b| **b != b'/').count();
    (start..start + len, start + len)
}
