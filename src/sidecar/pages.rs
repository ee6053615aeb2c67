//! Checksums of the pages of a sidecar file: made while it is written,
//! compared when a page is first used.
//!
//! Guarantees: opening costs a thousandth of reading the file; a page costs its
//! checksum once, then one atomic load. Nothing of a page that differs from
//! what was written is ever vouched for. What changes behind that is for
//! [`Region::intact`] to notice.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::header::{HEADER_BYTES, Section};
use crate::types::Region;

/// The section with a checksum of each page; the last one of the file.
pub(super) const SECTION_PAGES: u32 = 0x301;

/// Bytes that share a checksum: a page of memory, so that checking one brings
/// in no other.
const PAGE_BYTES: usize = 4096;

/// The header has its own checksum; pages are counted from its end.
const FIRST_BYTE: usize = HEADER_BYTES;

/// Checksums in the making.
#[derive(Debug, Default)]
pub(super) struct PageSums {
    table: Vec<u8>,
    current: u32,
    filled: usize,
}

impl PageSums {
    /// Takes the next bytes behind the header.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PAGE_BYTES - self.filled));
            self.current = crc32c::crc32c_append(self.current, now);
            self.filled += now.len();
            if self.filled == PAGE_BYTES {
                self.end_page();
            }
            rest = later;
        }
    }

    /// The content of the section.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.end_page();
        }
        self.table
    }

    fn end_page(&mut self) {
        self.table.extend(self.current.to_le_bytes());
        (self.current, self.filled) = (0, 0);
    }
}

/// A region whose pages are compared with their checksums.
pub(super) struct Paged {
    region: Arc<dyn Region>,
    /// Where the table is; it covers all bytes before it but the header.
    table: Range<usize>,
    /// A bit for each page that was found right.
    right: Box<[AtomicU64]>,
}

impl Paged {
    /// The region of a file with these sections; `None` if the table is not
    /// there, damaged, or not of this file.
    pub(super) fn new(region: Arc<dyn Region>, sections: &[Section]) -> Option<Paged> {
        let section = sections.iter().find(|s| s.id.get() == SECTION_PAGES)?;
        let start = usize::try_from(section.offset.get()).ok()?;
        let table = start..start.checked_add(usize::try_from(section.len.get()).ok()?)?;
        let bytes = region.bytes().get(table.clone())?;
        let is_last = |s: &Section| s.id.get() == SECTION_PAGES || s.end() <= Some(start as u64);
        let pages = (start - FIRST_BYTE).div_ceil(PAGE_BYTES);
        if crc32c::crc32c(bytes) != section.crc.get()
            || bytes.len() != pages.checked_mul(size_of::<U32>())?
            || !sections.iter().all(is_last)
        {
            return None;
        }
        let words = pages.div_ceil(64);
        let right = (0..words).map(|_| AtomicU64::new(0)).collect();
        Some(Paged {
            region,
            table,
            right,
        })
    }

    /// Whether page `page` is what was written.
    fn page(&self, page: usize) -> Option<()> {
        let (word, bit) = (self.right.get(page / 64)?, 1 << (page % 64));
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Some(());
        }
        let bytes = self.region.bytes();
        let table = <[U32]>::ref_from_bytes(bytes.get(self.table.clone())?).ok()?;
        let start = FIRST_BYTE + page * PAGE_BYTES;
        let end = (start + PAGE_BYTES).min(self.table.start);
        let sum = crc32c::crc32c(bytes.get(start..end)?);
        if sum != table.get(page)?.get() {
            return None;
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Some(())
    }
}

impl Region for Paged {
    fn bytes(&self) -> &[u8] {
        self.region.bytes()
    }

    fn intact(&self) -> bool {
        self.region.intact()
    }

    fn will_need(&self, range: Range<usize>) {
        self.region.will_need(range);
    }

    fn trim(&self) {
        self.region.trim();
    }

    fn vouch(&self, range: Range<usize>) -> bool {
        let covered = FIRST_BYTE <= range.start && range.end <= self.table.start;
        if range.is_empty() || !covered {
            return range.is_empty();
        }
        let page = |at: usize| (at - FIRST_BYTE) / PAGE_BYTES;
        (page(range.start)..=page(range.end - 1)).all(|page| self.page(page).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(bytes: &[u8]) -> Option<Paged> {
        let mut file = vec![0; FIRST_BYTE];
        file.extend_from_slice(bytes);
        let mut sums = PageSums::default();
        // In pieces of any size.
        bytes.chunks(777).for_each(|piece| sums.add(piece));
        let table = sums.finish();
        let section = Section {
            id: SECTION_PAGES.into(),
            crc: crc32c::crc32c(&table).into(),
            offset: (file.len() as u64).into(),
            len: (table.len() as u64).into(),
        };
        file.extend_from_slice(&table);
        Paged::new(Arc::new(file), &[section])
    }

    #[test]
    fn what_was_written_is_vouched_for() {
        for len in [0, 1, 4095, 4096, 4097, 20_000] {
            let region = paged(&vec![7; len]).unwrap();
            assert!(region.vouch(FIRST_BYTE..FIRST_BYTE + len));
            assert!(!region.vouch(FIRST_BYTE..FIRST_BYTE + len + 1), "the table");
            assert!(region.vouch(5..5), "nothing is always right");
            assert!(!region.vouch(0..1), "the header has its own checksum");
        }
    }

    /// Only the page with the damage is refused, each time anew.
    #[test]
    fn a_flip_costs_its_page_and_no_other() {
        let region = paged(
            &(0..20_000)
                .map(|i: u32| i.to_le_bytes()[0])
                .collect::<Vec<_>>(),
        );
        let mut file = region.unwrap().region.bytes().to_vec();
        let table_at = FIRST_BYTE + 20_000;
        let section = Section {
            id: SECTION_PAGES.into(),
            crc: crc32c::crc32c(&file[table_at..]).into(),
            offset: (table_at as u64).into(),
            len: ((file.len() - table_at) as u64).into(),
        };
        file[FIRST_BYTE + 2 * PAGE_BYTES + 100] ^= 1;
        let region = Paged::new(Arc::new(file.clone()), &[section]).unwrap();
        for _ in 0..2 {
            for page in 0..5 {
                let start = FIRST_BYTE + page * PAGE_BYTES;
                assert_eq!(region.vouch(start + 5..start + 6), page != 2);
            }
            assert!(!region.vouch(FIRST_BYTE..table_at));
        }
        file[table_at] ^= 1;
        assert!(Paged::new(Arc::new(file), &[section]).is_none());
    }
}
