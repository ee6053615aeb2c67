//! File offset to stream offset: reading and seeking over extents and holes.
//!
//! These functions take any run of extents, in file order; offsets they cannot
//! hold are errors of the index, not panics. They look at extents from the first
//! one given to the one that answers, so a caller that starts at the offset in
//! question (`Index::extents_from`) does not pay for those before it.

use std::ops::Range;

use crate::fs::FsError;
use crate::index::{Extent, IndexError};
use crate::source::{ReadAt, SourceError};
use crate::trace::watch;

/// Whether a read may wait for a disk or a decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It may.
    Wait,
    /// It may not: better no answer.
    NoWait,
}

/// What lseek(2) looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

/// Fills `buf` with the file's bytes from `at`, zeros where no extent is.
/// Answers false, with anything in `buf`, if that would take waiting.
pub(super) fn read(
    extents: impl Iterator<Item = Result<Extent, IndexError>>,
    content: &dyn ReadAt,
    at: u64,
    buf: &mut [u8],
    patience: Patience,
) -> Result<bool, FsError> {
    let mut filled = 0;
    for extent in extents {
        let Some((place, stream)) = overlap(&extent?, at, filled..buf.len())? else {
            continue;
        };
        if place.start == buf.len() {
            break;
        }
        buf[filled..place.start].fill(0);
        let piece = &mut buf[place.clone()];
        watch::at(at.saturating_add(place.start as u64));
        match patience {
            Patience::Wait => content.read_exact_at(stream, piece)?,
            Patience::NoWait if content.try_read_exact_at(stream, piece)? => {}
            Patience::NoWait => return Ok(false),
        }
        filled = place.end;
    }
    buf[filled..].fill(0);
    Ok(true)
}

/// Which part of `wanted` (positions in a buffer whose first byte is the
/// file's byte `at`) an extent fills, and from which stream offset. Nothing if
/// it lies before, an empty range at the end if it lies behind.
fn overlap(
    extent: &Extent,
    at: u64,
    wanted: Range<usize>,
) -> Result<Option<(Range<usize>, u64)>, FsError> {
    let position = |offset: u64| {
        usize::try_from(offset.saturating_sub(at))
            .unwrap_or(usize::MAX)
            .min(wanted.end)
    };
    let start = position(extent.file_offset).max(wanted.start);
    let end = position(extent.file_offset.saturating_add(extent.len));
    if start == wanted.end {
        return Ok(Some((wanted.end..wanted.end, 0)));
    }
    if end <= start {
        return Ok(None);
    }
    // Not negative: `start` is at or behind the extent's own position.
    let inside = (at + start as u64).saturating_sub(extent.file_offset);
    let outside = SourceError::OutOfRange {
        at: extent.stream.0,
        len: extent.len,
        stream_len: 0,
    };
    let stream = extent.stream.0.checked_add(inside).ok_or(outside)?;
    Ok(Some((start..end, stream)))
}

/// Where, from `offset` on, the next data or hole of a file begins; the end of
/// a file is a hole.
pub(super) fn seek(
    extents: impl Iterator<Item = Result<Extent, IndexError>>,
    size: u64,
    offset: u64,
    whence: Whence,
) -> Result<u64, FsError> {
    if offset >= size {
        return Err(FsError::NoSuchOffset);
    }
    let mut hole = offset;
    for extent in extents {
        let extent = extent?;
        let end = extent.file_offset.saturating_add(extent.len).min(size);
        if end <= hole {
            continue;
        }
        match whence {
            Whence::Data if extent.file_offset >= size => break,
            Whence::Data => return Ok(extent.file_offset.max(offset)),
            Whence::Hole if extent.file_offset > hole => break,
            Whence::Hole => hole = end,
        }
    }
    match whence {
        Whence::Data => Err(FsError::NoSuchOffset),
        Whence::Hole => Ok(hole),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::StreamOffset;

    /// A stream whose byte at offset n is n, all of it cached or nothing.
    struct Counting {
        cached: bool,
    }

    impl ReadAt for Counting {
        fn len(&self) -> u64 {
            200
        }

        fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
            let len = buf.len() as u64;
            if at.checked_add(len).is_none_or(|end| end > 200) {
                return Err(SourceError::OutOfRange {
                    at,
                    len,
                    stream_len: 200,
                });
            }
            for (byte, at) in buf.iter_mut().zip(at..) {
                *byte = u8::try_from(at).unwrap();
            }
            Ok(())
        }

        fn try_read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<bool, SourceError> {
            self.read_exact_at(at, buf).map(|()| self.cached)
        }
    }

    /// hole 0..10, data 10..20, data 20..25 (elsewhere), hole 25..40, data
    /// 40..50, hole 50..60.
    const SIZE: u64 = 60;

    fn extents() -> impl Iterator<Item = Result<Extent, IndexError>> {
        [(10, 100, 10), (20, 50, 5), (40, 150, 10)]
            .into_iter()
            .map(|(file_offset, stream, len)| {
                Ok(Extent {
                    file_offset,
                    stream: StreamOffset(stream),
                    len,
                })
            })
    }

    /// The file, byte by byte, by the definition.
    fn expected() -> Vec<u8> {
        let mut file = vec![0; 60];
        for (range, stream) in [(10..20, 100_u8), (20..25, 50), (40..50, 150)] {
            for (byte, value) in file[range].iter_mut().zip(stream..) {
                *byte = value;
            }
        }
        file
    }

    #[test]
    fn every_range_reads_as_defined() {
        let file = expected();
        for from in 0..60 {
            for to in from..=60 {
                for patience in [Patience::Wait, Patience::NoWait] {
                    let mut buf = vec![255; to - from];
                    let content = Counting { cached: true };
                    assert!(read(extents(), &content, from as u64, &mut buf, patience).unwrap());
                    assert_eq!(buf, file[from..to], "{from}..{to}");
                }
            }
        }
    }

    #[test]
    fn what_is_not_cached_is_not_waited_for_but_holes_never_wait() {
        let content = Counting { cached: false };
        let try_read =
            |at, len| read(extents(), &content, at, &mut vec![1; len], Patience::NoWait).unwrap();
        assert!(!try_read(5, 6));
        assert!(try_read(0, 10) && try_read(25, 15) && try_read(50, 10));
    }

    #[test]
    fn an_extent_outside_of_the_stream_is_an_error() {
        for stream in [195, u64::MAX - 2] {
            let extent = Extent {
                file_offset: 0,
                stream: StreamOffset(stream),
                len: 10,
            };
            let content = Counting { cached: true };
            let all = [Ok(extent)].into_iter();
            let error = read(all, &content, 4, &mut [0; 6], Patience::Wait).unwrap_err();
            assert!(error.is_failure());
        }
    }

    #[test]
    fn extents_with_impossible_numbers_do_not_panic() {
        let extent = Extent {
            file_offset: u64::MAX - 1,
            stream: StreamOffset(0),
            len: u64::MAX,
        };
        let content = Counting { cached: true };
        let mut buf = [1; 4];
        assert!(
            read(
                [Ok(extent)].into_iter(),
                &content,
                0,
                &mut buf,
                Patience::Wait
            )
            .unwrap()
        );
        assert_eq!(buf, [0; 4]);
        assert!(seek([Ok(extent)].into_iter(), 10, 0, Whence::Data).is_err());
    }

    #[test]
    fn seeking_finds_the_next_data_and_the_next_hole() {
        let data = |offset| seek(extents(), SIZE, offset, Whence::Data).ok();
        let hole = |offset| seek(extents(), SIZE, offset, Whence::Hole).ok();
        let file = expected();
        for offset in 0..SIZE {
            let is_data = |at: &u64| file[usize::try_from(*at).unwrap()] != 0;
            assert_eq!(
                data(offset),
                (offset..SIZE).find(is_data),
                "data from {offset}"
            );
            let next_hole = (offset..SIZE).find(|at| !is_data(at)).unwrap_or(SIZE);
            assert_eq!(hole(offset), Some(next_hole), "hole from {offset}");
        }
        assert_eq!((data(SIZE), hole(SIZE), data(u64::MAX)), (None, None, None));
    }

    #[test]
    fn a_file_without_holes_ends_in_one() {
        let whole = || {
            [Ok(Extent {
                file_offset: 0,
                stream: StreamOffset(0),
                len: 9,
            })]
            .into_iter()
        };
        assert_eq!(seek(whole(), 9, 3, Whence::Hole).unwrap(), 9);
        assert_eq!(seek(whole(), 9, 3, Whence::Data).unwrap(), 3);
    }
}
