//! Everything about an image that is counted, in one walk.

use std::collections::BTreeMap;

use super::subject::Subject;
use super::walk::{Category, Walk};
use crate::index::{FileKind, IndexError};
use crate::types::Timestamp;

/// Owners that are counted one by one; an archive with more of them was made
/// to fill memory.
const OWNERS_MAX: usize = 4096;

/// From here on, users and groups are containers of the platform.
pub const CONTAINER_IDS: u32 = 30_000;

/// What was counted; every name counts, hard links as often as they are named.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Names, the root not counted.
    pub entries: u64,
    /// Names of regular files.
    pub files: u64,
    /// Directories, the root among them.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Device nodes.
    pub devices: u64,
    /// Named pipes and sockets.
    pub pipes_and_sockets: u64,
    /// Findings of each [`Category`], in the order of [`Category::ALL`].
    pub findings: [u64; Category::ALL.len()],
    /// By user.
    pub uids: Owners,
    /// By group.
    pub gids: Owners,
    /// What was modified last.
    pub newest: Option<Newest>,
}

/// The latest modification time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newest {
    /// When.
    pub time: Timestamp,
    /// The first path that has it.
    pub path: Vec<u8>,
}

/// How many names each user or group owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    counts: BTreeMap<u32, u64>,
    beyond: u64,
    of_containers: u64,
}

impl Owners {
    fn count(&mut self, id: u32) {
        self.of_containers += u64::from(id >= CONTAINER_IDS);
        if let Some(count) = self.counts.get_mut(&id) {
            *count += 1;
        } else if self.counts.len() < OWNERS_MAX {
            self.counts.insert(id, 1);
        } else {
            self.beyond += 1;
        }
    }

    /// Ids and how many names each owns, ascending.
    pub fn counts(&self) -> impl Iterator<Item = (u32, u64)> {
        self.counts.iter().map(|(id, count)| (*id, *count))
    }

    /// Names owned by ids that were met after the first 4096.
    pub fn beyond(&self) -> u64 {
        self.beyond
    }

    /// Names owned by ids that are containers ([`CONTAINER_IDS`]).
    pub fn of_containers(&self) -> u64 {
        self.of_containers
    }
}

impl Survey {
    /// Walks the whole image.
    pub fn of(subject: &Subject) -> Result<Self, IndexError> {
        let mut survey = Survey::default();
        let mut walk = Walk::new(subject.index(), subject.root());
        while let Some(step) = walk.step() {
            let step = step?;
            let inode = &step.inode;
            let counter = match inode.kind {
                FileKind::Regular => &mut survey.files,
                FileKind::Directory => &mut survey.directories,
                FileKind::Symlink => &mut survey.symlinks,
                FileKind::CharDevice | FileKind::BlockDevice => &mut survey.devices,
                FileKind::Fifo | FileKind::Socket => &mut survey.pipes_and_sockets,
            };
            *counter += 1;
            survey.entries += 1;
            for (category, count) in Category::ALL.iter().zip(&mut survey.findings) {
                *count += u64::from(category.holds(&step));
            }
            survey.uids.count(inode.uid);
            survey.gids.count(inode.gid);
            let key = |time: Timestamp| (time.secs, time.nanos);
            let newest = survey.newest.as_ref();
            if newest.is_none_or(|newest| key(newest.time) < key(inode.mtime)) {
                survey.newest = Some(Newest {
                    time: inode.mtime,
                    path: walk.path().to_vec(),
                });
            }
        }
        survey.entries = survey.entries.saturating_sub(1);
        Ok(survey)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Node};
    use super::*;

    #[test]
    fn names_are_counted_by_kind_and_owner() {
        let subject = testing::subject(&[
            Node::dir("bin", 0o755),
            Node::file("bin/su", 0o4755, b"x").owned(0, 42).at(2000),
            Node::file("open", 0o666, b"").owned(30_001, 30_001),
            Node::link("l", "open"),
            Node::device("null", 0o666),
        ]);
        let survey = Survey::of(&subject).unwrap();
        assert_eq!(
            (survey.entries, survey.files, survey.directories),
            (5, 2, 2)
        );
        assert_eq!((survey.symlinks, survey.devices), (1, 1));
        assert_eq!(survey.findings, [1, 1, 1]);
        let uids: Vec<_> = survey.uids.counts().collect();
        assert_eq!(uids, [(0, 5), (30_001, 1)]);
        assert_eq!(survey.uids.of_containers(), 1);
        assert!(survey.gids.counts().any(|group| group == (42, 1)));
        let newest = survey.newest.unwrap();
        assert_eq!(
            (newest.time.secs, &newest.path[..]),
            (2000, &b"/bin/su"[..])
        );
    }

    #[test]
    fn countless_owners_are_bounded() {
        let mut owners = Owners::default();
        (0..10_000).for_each(|id| owners.count(id));
        owners.count(5);
        assert_eq!(owners.counts().count(), OWNERS_MAX);
        assert_eq!(owners.beyond(), 10_000 - OWNERS_MAX as u64);
        assert_eq!(owners.counts().nth(5), Some((5, 2)));
    }
}
