//! A file mapped for reading, safe against what others do to the file.
//!
//! Guarantees: reading never ends the process, even if the file is truncated
//! under the map; what was read before [`intact`](crate::types::Region::intact)
//! answered true is what the file held when it was opened. A file that is
//! replaced by renaming another over it, or that is removed, stays intact: the
//! map keeps the old one alive.

#![expect(unsafe_code, reason = "memory maps are made of it")]

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::fault::Watch;
use crate::types::Region;

/// A file mapped read-only.
#[derive(Debug)]
pub struct Map {
    // Dropped in this order: a watch must not outlive its mapping.
    watch: Watch,
    map: Mmap,
    file: File,
    opened: Stamp,
}

/// What changes when the content of a file changes. Not the change time:
/// that of a mapped file also moves when the file is renamed over or removed,
/// which is how an index is replaced under a running mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    size_bytes: u64,
    mtime: (i64, i64),
}

impl Stamp {
    fn of(file: &File) -> io::Result<Stamp> {
        let meta = file.metadata()?;
        Ok(Stamp {
            size_bytes: meta.len(),
            mtime: (meta.mtime(), meta.mtime_nsec()),
        })
    }
}

impl Map {
    /// Maps the whole of `file`, for reading here and there.
    pub fn open(file: File) -> io::Result<Map> {
        let opened = Stamp::of(&file)?;
        // SAFETY: the bytes of the map change if somebody writes to the file.
        // They are only read as plain integers, each access is checked against
        // the bounds, and no answer leaves before `intact` was asked; a page
        // that is gone is caught by the watch.
        let map = unsafe { Mmap::map(&file)? };
        // SAFETY: this is the mapping just made; it is dropped after the watch.
        let watch = unsafe { Watch::new(map.as_ptr(), map.len(), false)? };
        // Read-ahead would make pages resident that nobody asks for.
        map.advise(Advice::Random)?;
        Ok(Map {
            watch,
            map,
            file,
            opened,
        })
    }
}

impl Region for Map {
    fn bytes(&self) -> &[u8] {
        &self.map
    }

    fn intact(&self) -> bool {
        !self.watch.damaged() && Stamp::of(&self.file).is_ok_and(|now| now == self.opened)
    }

    fn will_need(&self, range: Range<usize>) {
        // In one go instead of page by page as they are touched. Pages become
        // cached, not resident.
        let len = range.end.saturating_sub(range.start);
        let _hint = self.map.advise_range(Advice::WillNeed, range.start, len);
    }

    /// Lets go of the pages that are resident; they are read again when needed.
    fn trim(&self) {
        // SAFETY: the map is shared and read-only, so that no byte is lost.
        let _hint = unsafe { self.map.unchecked_advise(UncheckedAdvice::DontNeed) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::FileExt;

    use super::*;

    fn mapped(bytes: &[u8]) -> (tempfile::NamedTempFile, Map) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let map = Map::open(file.reopen().unwrap()).unwrap();
        (file, map)
    }

    #[test]
    fn an_untouched_file_reads_as_it_is() {
        let (_file, map) = mapped(b"an index");
        assert_eq!(map.bytes(), b"an index");
        map.trim();
        assert_eq!(map.bytes(), b"an index");
        assert!(map.intact());
    }

    #[test]
    fn an_empty_file_is_an_empty_region() {
        let (_file, map) = mapped(b"");
        map.will_need(0..0);
        assert!(map.bytes().is_empty() && map.intact());
    }

    #[test]
    fn reading_ahead_changes_nothing_and_takes_any_range() {
        let (file, map) = mapped(&[7; 100_000]);
        for range in [
            5..6,
            4096..100_000,
            0..100_000,
            100_000..100_000,
            9..100_001,
        ] {
            map.will_need(range);
        }
        file.as_file().set_len(10).unwrap();
        map.will_need(50_000..60_000);
        file.as_file().set_len(100_000).unwrap();
        assert_eq!((map.bytes()[0], map.bytes()[50_000]), (7, 0));
    }

    #[test]
    fn truncation_under_a_reader_is_noticed_and_survived() {
        let (file, map) = mapped(&[7; 100_000]);
        file.as_file().set_len(10).unwrap();
        let sum: u64 = map.bytes().iter().map(|b| u64::from(*b)).sum();
        assert!(sum < 7 * 100_000);
        assert!(!map.intact());
    }

    /// The file gets its length and its time back, yet bytes were lost between.
    #[test]
    fn truncation_that_was_repaired_is_still_damage() {
        let (file, map) = mapped(&[7; 100_000]);
        let mtime = file.as_file().metadata().unwrap().modified().unwrap();
        file.as_file().set_len(0).unwrap();
        assert_eq!(map.bytes()[50_000], 0);
        file.as_file().set_len(100_000).unwrap();
        file.as_file().set_modified(mtime).unwrap();
        assert!(!map.intact());
    }

    #[test]
    fn overwriting_in_place_is_noticed() {
        let (file, map) = mapped(&[7; 5000]);
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        file.as_file().write_all_at(&[8], 100).unwrap();
        file.as_file().set_modified(later).unwrap();
        assert!(!map.intact());
    }

    #[test]
    fn removing_or_replacing_the_name_is_no_damage() {
        let (file, map) = mapped(&[7; 5000]);
        let path = file.path().to_owned();
        std::fs::write(path.with_extension("new"), b"other").unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        assert!(map.bytes().iter().all(|b| *b == 7));
        assert!(map.intact());
    }

    #[test]
    fn every_map_is_judged_by_itself() {
        let (one_file, one) = mapped(&[1; 9000]);
        let (_two_file, two) = mapped(&[2; 9000]);
        one_file.as_file().set_len(0).unwrap();
        assert_eq!(one.bytes()[8999], 0);
        assert!(!one.intact() && two.intact());
        assert_eq!(two.bytes()[8999], 2);
    }
}
