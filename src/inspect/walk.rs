//! Every path of an image, in archive order.
//!
//! Guarantees: no recursion; memory grows with the depth of the tree only. An
//! index whose directories contain each other is [`IndexError::Corrupt`], not
//! an endless walk: no entry is met twice.

use crate::index::{FileKind, Index, IndexError, Inode};
use crate::types::Ino;

/// A walk over a directory and all that is below it.
#[derive(Debug)]
pub struct Walk<'a> {
    index: &'a Index,
    root: Option<Ino>,
    path: Vec<u8>,
    open: Vec<Open>,
    entries_left: u64,
}

/// A directory whose entries are being met.
#[derive(Clone, Copy, Debug)]
struct Open {
    dir: Ino,
    next: u32,
    path_len: usize,
    /// Whether it, or one above it, may be written by everybody.
    writable: bool,
}

/// What a walk meets.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The inode at the path.
    pub inode: Inode,
    /// Whether a directory above it may be written by everybody.
    pub in_writable: bool,
}

impl<'a> Walk<'a> {
    /// Starts at the directory `root`, which is met first, as `/`.
    pub fn new(index: &'a Index, root: Ino) -> Self {
        Self {
            index,
            root: Some(root),
            path: Vec::new(),
            open: Vec::new(),
            entries_left: index.summary().entries,
        }
    }

    /// Goes on to the next path.
    pub fn step(&mut self) -> Option<Result<Step, IndexError>> {
        self.try_step().transpose()
    }

    /// The path met last, from the root on: absolute, any bytes but NUL.
    pub fn path(&self) -> &[u8] {
        if self.path.is_empty() {
            b"/"
        } else {
            &self.path
        }
    }

    fn try_step(&mut self) -> Result<Option<Step>, IndexError> {
        if let Some(root) = self.root.take() {
            return self.meet(root, false).map(Some);
        }
        while let Some(at) = self.open.last_mut() {
            self.path.truncate(at.path_len);
            let Some(entry) = self.index.dirents(at.dir, at.next)?.next() else {
                self.open.pop();
                continue;
            };
            let entry = entry?;
            at.next = at.next.saturating_add(1);
            let in_writable = at.writable;
            self.entries_left = self
                .entries_left
                .checked_sub(1)
                .ok_or(IndexError::Corrupt {
                    what: "loop of directories at inode",
                    number: entry.ino.number(),
                })?;
            self.path.push(b'/');
            self.path.extend_from_slice(entry.name);
            return self.meet(entry.ino, in_writable).map(Some);
        }
        Ok(None)
    }

    fn meet(&mut self, ino: Ino, in_writable: bool) -> Result<Step, IndexError> {
        let inode = self.index.inode(ino)?;
        if inode.kind == FileKind::Directory {
            self.open.push(Open {
                dir: ino,
                next: 0,
                path_len: self.path.len(),
                writable: in_writable || is_world_writable(&inode),
            });
        }
        Ok(Step { inode, in_writable })
    }
}

/// Whether everybody may write to it. Links have no permissions of their own;
/// pipes and sockets hold nothing.
fn is_world_writable(inode: &Inode) -> bool {
    matches!(inode.kind, FileKind::Directory | FileKind::Regular) && inode.perm & 0o002 != 0
}

/// A kind of path that an owner should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Category {
    /// Directories that everybody may write to, only the topmost; files that
    /// everybody may write to outside of those.
    WorldWritable,
    /// Programs that run with the rights of their owner or group.
    SetId,
    /// Device nodes.
    Device,
}

impl Category {
    /// All of them, in the order of reports.
    pub const ALL: [Category; 3] = [Category::WorldWritable, Category::SetId, Category::Device];

    /// Whether what was met is of this kind.
    pub(super) fn holds(self, step: &Step) -> bool {
        let inode = &step.inode;
        match self {
            Category::WorldWritable => !step.in_writable && is_world_writable(inode),
            Category::SetId => inode.kind == FileKind::Regular && inode.perm & 0o6000 != 0,
            Category::Device => {
                matches!(inode.kind, FileKind::CharDevice | FileKind::BlockDevice)
            }
        }
    }
}

/// A path of some [`Category`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// From the root on, as the archive has it.
    pub path: Vec<u8>,
    /// What is there.
    pub inode: Inode,
}

/// The paths of one category, in archive order.
#[derive(Debug)]
pub struct Findings<'a> {
    walk: Walk<'a>,
    category: Category,
}

impl<'a> Findings<'a> {
    /// Those at and below the directory `root`.
    pub fn new(index: &'a Index, root: Ino, category: Category) -> Self {
        Self {
            walk: Walk::new(index, root),
            category,
        }
    }
}

impl Iterator for Findings<'_> {
    type Item = Result<Finding, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.walk.step()? {
                Ok(step) if self.category.holds(&step) => {
                    return Some(Ok(Finding {
                        path: self.walk.path().to_vec(),
                        inode: step.inode,
                    }));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Node};
    use super::*;

    fn found(nodes: &[Node<'_>], category: Category) -> Vec<String> {
        let subject = testing::subject(nodes);
        Findings::new(subject.index(), subject.root(), category)
            .map(|found| String::from_utf8(found.unwrap().path).unwrap())
            .collect()
    }

    #[test]
    fn only_the_topmost_writable_directories_and_files_outside_of_them() {
        let nodes = [
            Node::dir("tmp", 0o1777),
            Node::dir("tmp/deep", 0o777),
            Node::file("tmp/deep/file", 0o666, b""),
            Node::dir("srv", 0o755),
            Node::file("srv/open", 0o666, b""),
            Node::link("srv/link", "/tmp"),
            Node::fifo("srv/fifo", 0o666),
            Node::device("srv/null", 0o666),
        ];
        assert_eq!(
            found(&nodes, Category::WorldWritable),
            ["/tmp", "/srv/open"]
        );
        assert_eq!(found(&nodes, Category::Device), ["/srv/null"]);
    }

    #[test]
    fn setuid_is_of_files_only() {
        let nodes = [
            Node::dir("mail", 0o2775),
            Node::file("su", 0o4755, b""),
            Node::file("wall", 0o2755, b""),
            Node::file("sticky", 0o1755, b""),
        ];
        assert_eq!(found(&nodes, Category::SetId), ["/su", "/wall"]);
    }

    #[test]
    fn a_root_that_everybody_may_write_is_the_only_finding() {
        let nodes = [Node::dir(".", 0o777), Node::file("open", 0o666, b"")];
        assert_eq!(found(&nodes, Category::WorldWritable), ["/"]);
    }

    #[test]
    fn deep_trees_are_walked_without_recursion() {
        let path = vec!["d"; 900].join("/");
        let nodes = [Node::file(&path, 0o644, b"")];
        let subject = testing::subject(&nodes);
        let mut walk = Walk::new(subject.index(), subject.root());
        let mut steps = 0;
        while let Some(step) = walk.step() {
            step.unwrap();
            steps += 1;
        }
        assert_eq!(steps, 901);
    }
}
