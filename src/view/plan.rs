//! What of an image a view has to know: where everybody may write. The serving
//! process finds it in the index, and is asked for it by who makes views, which
//! needs no index for that and parses nothing of the archive.
//!
//! Guarantees: a plan is of bounded size whatever the image holds; of an answer
//! nothing is believed but that it is a list of paths. That they lead to what may
//! be written by everybody is looked at where they are used.
//!
//! An answer, little-endian: digest of the archive (32 bytes), 1 if everybody may
//! write to the root (1 byte), how many places there are (4), how many records
//! there are in all (4); then records from the one asked for on, as many as fit.
//! A record: kind (1), a number (4), length of the path (2), path.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::BorrowedFd;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ViewError;
use crate::index::{FileKind, Index, IndexError};
use crate::inspect::{Category, Findings};
use crate::sys::ioctl::{self, ANSWER_BYTES, Question};
use crate::types::Ino;

/// How many places a view may have: each is a mount of its own.
pub const PLACES_MAX: usize = 128;
/// How many of the directories that hold most of them are told.
const CROWDED_MAX: usize = 5;
/// Directories for which it is counted how many places are in them; in an image
/// with more the crowded ones are found only among the first.
const PARENTS_MAX: usize = 4096;
/// The longest path (`PATH_MAX`).
const PATH_BYTES_MAX: usize = 4096;

/// Where everybody may write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// SHA-256 of the archive.
    pub version: [u8; 32],
    /// Whether that is the whole image.
    pub root_is_writable: bool,
    /// How many places there are: the topmost directories, and regular files
    /// outside of them.
    pub count: u32,
    /// The first [`PLACES_MAX`] of them, in archive order.
    pub places: Vec<Place>,
    /// Where most of them are, if those are not all.
    pub crowded: Vec<Crowded>,
}

/// A directory or a regular file that everybody may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// From the root on, without a slash in front.
    pub path: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
}

/// A directory with many places right below.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crowded {
    /// From the root on, without a slash in front.
    pub path: Vec<u8>,
    /// How many.
    pub count: u32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Head {
    version: [u8; 32],
    root_is_writable: u8,
    count: U32,
    records: U32,
}
const _: () = assert!(size_of::<Head>() == 41);

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Record {
    kind: u8,
    number: U32,
    path_len: U16,
}
const _: () = assert!(size_of::<Record>() == 7);
// The longest record fits into an answer.
const _: () =
    assert!(4 + size_of::<Head>() + size_of::<Record>() + PATH_BYTES_MAX <= ANSWER_BYTES as usize);

const KIND_DIRECTORY: u8 = 0;
const KIND_FILE: u8 = 1;
const KIND_CROWDED: u8 = 2;

impl Plan {
    /// Looks through the image of `index`, served from the directory `root` on.
    pub fn of(index: &Index, root: Ino, version: [u8; 32]) -> Result<Plan, IndexError> {
        let mut plan = Plan {
            version,
            ..Plan::default()
        };
        let mut parents: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
        for found in Findings::new(index, root, Category::WorldWritable) {
            let found = found?;
            let path = found.path.strip_prefix(b"/").unwrap_or(&found.path);
            if path.is_empty() {
                plan.root_is_writable = true;
                break;
            }
            // What has a longer path cannot be opened by it.
            if path.len() > PATH_BYTES_MAX {
                continue;
            }
            plan.count = plan.count.saturating_add(1);
            if plan.places.len() < PLACES_MAX {
                plan.places.push(Place {
                    path: path.to_vec(),
                    is_directory: found.inode.kind == FileKind::Directory,
                });
            }
            let name = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            if let Some(count) = parents.get_mut(&path[..name]) {
                *count = count.saturating_add(1);
            } else if parents.len() < PARENTS_MAX {
                parents.insert(path[..name].to_vec(), 1);
            }
        }
        if plan.is_too_long() {
            plan.crowded = most_crowded(parents);
        }
        Ok(plan)
    }

    /// Whether there are more places than a view may have.
    pub fn is_too_long(&self) -> bool {
        self.places.len() < self.count as usize
    }

    /// The answer that begins with record `from`.
    pub fn answer(&self, from: u32) -> Vec<u8> {
        let places = self.places.iter().map(|place| match place.is_directory {
            true => (KIND_DIRECTORY, 0, &place.path),
            false => (KIND_FILE, 0, &place.path),
        });
        let crowded = self.crowded.iter();
        let crowded = crowded.map(|crowded| (KIND_CROWDED, crowded.count, &crowded.path));
        let records = u32::try_from(self.places.len() + self.crowded.len());
        let head = Head {
            version: self.version,
            root_is_writable: self.root_is_writable.into(),
            count: U32::new(self.count),
            records: U32::new(records.unwrap_or(0)),
        };
        let mut answer = head.as_bytes().to_vec();
        for (kind, number, path) in places.chain(crowded).skip(from as usize) {
            let record = Record {
                kind,
                number: U32::new(number),
                path_len: U16::new(u16::try_from(path.len()).unwrap_or(0)),
            };
            let len = answer.len() + size_of::<Record>() + path.len();
            if 4 + len > ANSWER_BYTES.into() {
                break;
            }
            answer.extend_from_slice(record.as_bytes());
            answer.extend_from_slice(path);
        }
        answer
    }

    /// Asks the daemon of the mount whose root is open.
    pub(super) fn ask(root: BorrowedFd<'_>) -> Result<Plan, ViewError> {
        Self::gather(|from| ioctl::ask(root, Question::Plan(from)).map_err(ViewError::Ask))
    }

    fn gather(mut ask: impl FnMut(u32) -> Result<Vec<u8>, ViewError>) -> Result<Plan, ViewError> {
        let mut plan = Plan::default();
        let mut from = 0;
        loop {
            let answer = ask(from)?;
            let (head, rest) = Head::ref_from_prefix(&answer).map_err(|_| ViewError::Answer)?;
            plan.version = head.version;
            plan.root_is_writable = head.root_is_writable != 0;
            plan.count = head.count.get();
            let added = plan.add(rest)?;
            from += added;
            let records = head.records.get();
            if from == records && !plan.has_a_place_twice() {
                return Ok(plan);
            }
            if added == 0 || from >= records {
                return Err(ViewError::Answer);
            }
        }
    }

    /// Two overlays would have one writable layer.
    fn has_a_place_twice(&self) -> bool {
        let mut paths = BTreeSet::new();
        !self.places.iter().all(|place| paths.insert(&place.path))
    }

    /// Takes in the records of an answer; how many those were.
    fn add(&mut self, mut rest: &[u8]) -> Result<u32, ViewError> {
        let mut added = 0;
        while !rest.is_empty() {
            let (record, tail) = Record::ref_from_prefix(rest).map_err(|_| ViewError::Answer)?;
            let (path, tail) = tail
                .split_at_checked(record.path_len.get().into())
                .ok_or(ViewError::Answer)?;
            let path = path.to_vec();
            match record.kind {
                KIND_DIRECTORY | KIND_FILE if is_usable(&path) => self.places.push(Place {
                    path,
                    is_directory: record.kind == KIND_DIRECTORY,
                }),
                KIND_CROWDED => self.crowded.push(Crowded {
                    path,
                    count: record.number.get(),
                }),
                _ => return Err(ViewError::Answer),
            }
            if self.places.len() > PLACES_MAX || self.crowded.len() > CROWDED_MAX {
                return Err(ViewError::Answer);
            }
            rest = tail;
            added += 1;
        }
        Ok(added)
    }
}

fn most_crowded(parents: BTreeMap<Vec<u8>, u32>) -> Vec<Crowded> {
    let mut crowded: Vec<_> = parents
        .into_iter()
        .map(|(path, count)| Crowded { path, count })
        .collect();
    crowded.sort_by_key(|crowded| std::cmp::Reverse(crowded.count));
    crowded.truncate(CROWDED_MAX);
    crowded
}

/// Whether a path stays below the directory that it starts in.
fn is_usable(path: &[u8]) -> bool {
    let mut names = path.split(|byte| *byte == b'/');
    path.len() <= PATH_BYTES_MAX
        && !path.contains(&0)
        && names.all(|name| !matches!(name, b"" | b"." | b".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place {
            path: path.into(),
            is_directory: !path.ends_with("file"),
        }
    }

    fn plan(paths: &[&str]) -> Plan {
        Plan {
            version: [7; 32],
            root_is_writable: false,
            count: u32::try_from(paths.len()).unwrap(),
            places: paths.iter().map(|path| place(path)).collect(),
            crowded: Vec::new(),
        }
    }

    #[test]
    fn a_plan_arrives_as_it_was_made_in_as_many_answers_as_it_takes() {
        let mut long: Vec<String> = (0..PLACES_MAX)
            .map(|n| format!("{n}/{}", "x".repeat(PATH_BYTES_MAX - 10)))
            .collect();
        long[5] = "etc/file".to_owned();
        let long: Vec<&str> = long.iter().map(String::as_str).collect();
        let mut crowded = plan(&long);
        crowded.count = 10_000;
        crowded.crowded.push(Crowded {
            path: b"srv".to_vec(),
            count: 9_000,
        });
        for plan in [
            Plan::default(),
            plan(&["tmp", "var/a:b,c\\d", "file"]),
            crowded,
        ] {
            let mut asked = 0;
            let found = Plan::gather(|from| {
                asked += 1;
                let answer = plan.answer(from);
                assert!(ioctl::pack(&answer).is_some());
                Ok(answer)
            });
            assert_eq!(found.unwrap(), plan);
            assert!(asked == 1 || plan.places.len() > 3);
        }
    }

    #[test]
    fn answers_that_make_no_sense_are_refused() {
        let refused = |answer: Vec<u8>| {
            let found = Plan::gather(|_| Ok(answer.clone()));
            assert!(matches!(found, Err(ViewError::Answer)), "{found:?}");
        };
        refused(Vec::new());
        let good = plan(&["tmp", "var/tmp"]).answer(0);
        // Between two records an answer may end; the next one goes on there.
        let between = good.len() - size_of::<Record>() - "var/tmp".len();
        for len in (1..good.len()).filter(|len| *len != between) {
            refused(good[..len].to_vec());
        }
        for path in ["", "/etc", "..", "tmp/../etc", "a//b", "a/", "./a", "a\0b"] {
            refused(plan(&[path]).answer(0));
        }
        refused(plan(&["tmp", "var", "tmp"]).answer(0));
        // The same record again and again, of more than there are.
        let mut endless = good.clone();
        endless[37..41].fill(0xff);
        refused(endless);
        let mut kind = good;
        kind[size_of::<Head>()] = 9;
        refused(kind);
    }

    #[test]
    fn the_most_crowded_come_first() {
        let parents = [("a", 3), ("b", 9), ("c", 1), ("d", 4), ("e", 5), ("f", 2)];
        let parents = parents.map(|(path, count)| (path.into(), count)).into();
        let found: Vec<u32> = most_crowded(parents).iter().map(|c| c.count).collect();
        assert_eq!(found, [9, 5, 4, 3, 2]);
    }
}
