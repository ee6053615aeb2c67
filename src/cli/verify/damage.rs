//! From damaged places in the stream to the files that are there.

use std::ops::Range;

use serde::Serialize;

use crate::index::{FileKind, Index, IndexError};
use crate::inspect::Walk;
use crate::store::BlockReport;
use crate::types::Ino;

/// Files that are named.
const FILES_MAX: usize = 20;

/// What cannot be served.
#[derive(Debug, Default, Serialize)]
pub(super) struct Damage {
    /// The first places in the uncompressed stream.
    pub(super) places: Vec<Place>,
    pub(super) places_total: u64,
    pub(super) bytes: u64,
    /// The first files with a byte in one of these places.
    pub(super) files: Vec<String>,
    pub(super) files_total: u64,
}

/// A place in the stream.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) problem: String,
}

impl Damage {
    /// The damage of `blocks`, with the files of an index whose tables are
    /// sound.
    pub(super) fn of(blocks: &BlockReport, index: Option<&Index>) -> Result<Self, IndexError> {
        let mut damage = Damage {
            places: Vec::new(),
            places_total: blocks.damaged_ranges,
            bytes: blocks.damaged_bytes,
            ..Damage::default()
        };
        for found in &blocks.damaged {
            damage.places.push(Place {
                start: found.range.start,
                end: found.range.end,
                problem: found.problem.clone(),
            });
        }
        let ranges: Vec<_> = blocks.damaged.iter().map(|d| d.range.clone()).collect();
        if let Some(index) = index.filter(|_| !ranges.is_empty()) {
            damage.find_files(index, &ranges)?;
        }
        Ok(damage)
    }

    fn find_files(&mut self, index: &Index, ranges: &[Range<u64>]) -> Result<(), IndexError> {
        let mut walk = Walk::new(index, Ino::ROOT);
        while let Some(step) = walk.step() {
            let inode = step?.inode;
            if inode.kind != FileKind::Regular || !is_hit(index, inode.ino, ranges)? {
                continue;
            }
            self.files_total += 1;
            if self.files.len() < FILES_MAX {
                let path = String::from_utf8_lossy(walk.path());
                self.files.push(path.into_owned());
            }
        }
        Ok(())
    }
}

/// Whether a file has bytes in one of the ranges.
fn is_hit(index: &Index, file: Ino, ranges: &[Range<u64>]) -> Result<bool, IndexError> {
    for extent in index.extents(file)? {
        let extent = extent?;
        let start = extent.stream.0;
        let end = start.saturating_add(extent.len);
        if ranges.iter().any(|r| r.start < end && start < r.end) {
            return Ok(true);
        }
    }
    Ok(false)
}
