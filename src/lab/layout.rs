//! Where the spans of the images are, and how they are cut into units of cache.
//!
//! A *unit* is what is cached and decoded at a time: a piece of a span, counted from
//! its beginning, `block_bytes` long; the last one of a span may be shorter and
//! weighs as much as the others, as in the cache that serves.
//!
//! Guarantees: units are numbered densely, and only those of spans that are read get
//! a number; memory is bounded by [`UNITS_MAX`] and [`SPANS_MAX`] whatever a trace
//! claims; no read covers more than [`READ_BYTES_MAX`], no span more than
//! [`SPAN_BYTES_MAX`], so that the work for one record is bounded.

use super::LabError;
use super::policy::Unit;
use crate::cache::{BLOCK_OVERHEAD_BYTES, prefetch};
use crate::trace::{Read, SpanStart, Trace, TracedImage};
use crate::types::BLOCK_BYTES;

/// 512 GiB that are read, at 16 KiB.
const UNITS_MAX: u64 = 1 << 25;

/// 4 TiB at 256 KiB.
const SPANS_MAX: u64 = 1 << 24;

/// No span is longer: `--span` of `distrofs index` ends here, and a span goes on
/// until the next place where decoding can begin.
const SPAN_BYTES_MAX: u64 = 128 << 20;

/// No kernel asks for more than 1 MiB at a time; the rest is room.
const READ_BYTES_MAX: u64 = 16 << 20;

/// Blocks of an image have numbers of 32 bits.
const STREAM_BYTES_MAX: u64 = (BLOCK_BYTES as u64) << 32;

/// Not read by anybody.
const NONE: u32 = u32::MAX;

/// How images are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Length of a unit: a multiple of [`BLOCK_BYTES`].
    pub(super) block_bytes: u64,
    /// Wanted length of a span; as recorded if there is none.
    pub(super) span_bytes: Option<u64>,
    /// Whether spans behind those that are read can be decoded as well.
    pub(super) is_ahead: bool,
}

/// All images of a trace.
#[derive(Debug)]
pub(super) struct Layout {
    images: Vec<Image>,
    units: u32,
    block_bytes: u64,
    is_approximate: bool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Image {
    spans: Vec<SpanAt>,
    pub(super) stream_bytes: u64,
    /// Whether it can be read from any block on.
    pub(super) is_plain: bool,
}

#[derive(Clone, Copy, Debug)]
struct SpanAt {
    start: u64,
    /// Number of its first unit.
    base: u32,
}

/// A span of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) image: u32,
    /// Its number in the image.
    pub(super) no: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    base: u32,
    block_bytes: u64,
}

/// The units of one span that a read covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cover {
    pub(super) span: Span,
    /// The first and the last, counted in the span.
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Span {
    /// The number of unit `index` of the span.
    pub(super) fn unit(&self, index: u32) -> Unit {
        Unit(self.base + index)
    }

    /// How many units it has.
    pub(super) fn units(&self) -> u32 {
        // At most `SPAN_BYTES_MAX / BLOCK_BYTES`.
        u32::try_from((self.end - self.start).div_ceil(self.block_bytes)).unwrap_or(NONE)
    }

    /// Where unit `index` begins in the stream.
    pub(super) fn start_of(&self, index: u32) -> u64 {
        self.start + u64::from(index) * self.block_bytes
    }

    /// Where it ends.
    pub(super) fn end_of(&self, index: u32) -> u64 {
        self.end.min(self.start_of(index) + self.block_bytes)
    }

    /// The unit that holds stream offset `at`, which is in the span.
    pub(super) fn index_of(&self, at: u64) -> u32 {
        u32::try_from((at - self.start) / self.block_bytes).unwrap_or(NONE)
    }
}

impl Layout {
    /// Cuts the images of `trace`.
    pub(super) fn new(trace: &Trace, cut: Cut) -> Result<Self, LabError> {
        check(cut)?;
        let mut layout = Layout {
            images: Vec::with_capacity(trace.images().len()),
            units: 0,
            block_bytes: cut.block_bytes,
            is_approximate: false,
        };
        let mut spans = 0;
        for image in trace.images() {
            let image = layout.image_of(image, cut.span_bytes, SPANS_MAX - spans)?;
            spans += image.spans.len() as u64;
            layout.images.push(image);
        }
        layout.number(trace, cut.is_ahead)?;
        Ok(layout)
    }

    /// How many units are numbered.
    pub(super) fn units(&self) -> usize {
        self.units as usize
    }

    /// What a unit weighs in the cache.
    pub(super) fn unit_weight_bytes(&self) -> u64 {
        self.block_bytes + BLOCK_OVERHEAD_BYTES
    }

    /// Whether spans were made up.
    pub(super) fn is_approximate(&self) -> bool {
        self.is_approximate
    }

    pub(super) fn images(&self) -> &[Image] {
        &self.images
    }

    /// Span `no` of an image.
    pub(super) fn span(&self, image: u32, no: u32) -> Option<Span> {
        let (found, at) = (self.images.get(image as usize)?, no as usize);
        let span = found.spans.get(at)?;
        let end = found.spans.get(at + 1);
        Some(Span {
            image,
            no,
            start: span.start,
            end: end.map_or(found.stream_bytes, |next| next.start),
            base: span.base,
            block_bytes: self.block_bytes,
        })
    }

    /// How many spans an image has.
    pub(super) fn spans(&self, image: u32) -> u32 {
        let image = self.images.get(image as usize);
        image.map_or(0, |image| u32::try_from(image.spans.len()).unwrap_or(NONE))
    }

    /// The span that holds stream offset `at`.
    fn span_at(&self, image: u32, at: u64) -> Option<Span> {
        let spans = &self.images.get(image as usize)?.spans;
        let behind = spans.partition_point(|span| span.start <= at);
        self.span(image, u32::try_from(behind.checked_sub(1)?).ok()?)
    }

    /// What `read` covers, span by span; nothing for a hole.
    pub(super) fn covers(&self, read: &Read) -> Covers<'_> {
        let at = read.stream.unwrap_or(0);
        let len = read.stream.map_or(0, |_| u64::from(read.len));
        let next = match len {
            0 => None,
            _ => self.span_at(read.image, at),
        };
        Covers {
            layout: self,
            next,
            at,
            end: at + len,
        }
    }

    fn image_of(
        &mut self,
        image: &TracedImage,
        span_bytes: Option<u64>,
        spans_max: u64,
    ) -> Result<Image, LabError> {
        too_large("a stream in bytes", image.stream_bytes, STREAM_BYTES_MAX)?;
        let mut spans = Vec::new();
        let mut push = |start| {
            too_large("a number of spans", spans.len() as u64 + 1, spans_max)?;
            spans.push(SpanAt { start, base: NONE });
            Ok::<(), LabError>(())
        };
        let ends = image.spans.iter().skip(1).map(|span| span.stream);
        // Where the span that is being put together begins.
        let mut start = 0;
        for end in ends.chain([image.stream_bytes]) {
            let len = end - start;
            let parts = span_bytes.map_or(1, |wanted| len / wanted);
            if parts == 0 && end < image.stream_bytes {
                continue;
            }
            self.is_approximate |= parts > 1;
            let blocks = len.div_ceil(u64::from(BLOCK_BYTES));
            for part in 0..parts.max(1) {
                push(start + blocks * part / parts.max(1) * u64::from(BLOCK_BYTES))?;
            }
            start = end;
        }
        let ends = spans.iter().skip(1).map(|span| span.start);
        let lens = spans.iter().zip(ends.chain([image.stream_bytes]));
        let longest = lens.map(|(span, end)| end - span.start).max().unwrap_or(0);
        too_large("a span in bytes", longest, SPAN_BYTES_MAX)?;
        if image.stream_bytes == 0 {
            spans.clear();
        }
        Ok(Image {
            spans,
            stream_bytes: image.stream_bytes,
            is_plain: is_plain(image),
        })
    }

    /// Numbers the units of all spans that are read.
    fn number(&mut self, trace: &Trace, is_ahead: bool) -> Result<(), LabError> {
        let further = if is_ahead { prefetch::RUN_SPANS } else { 1 };
        let mut is_read: Vec<Vec<bool>> = self
            .images
            .iter()
            .map(|image| vec![false; image.spans.len()])
            .collect();
        for read in trace.records() {
            too_large("a read in bytes", read.len.into(), READ_BYTES_MAX)?;
            for cover in self.covers(&read) {
                let no = cover.span.no as usize;
                let marks = &mut is_read[read.image as usize];
                let end = marks.len().min(no + further as usize);
                marks[no..end].fill(true);
            }
        }
        let mut units = 0;
        for (image, marks) in (0..).zip(&is_read) {
            for (no, _) in (0..).zip(marks).filter(|(_, is_read)| **is_read) {
                let base = u32::try_from(units).unwrap_or(NONE);
                units += self.span(image, no).map_or(0, |span| span.units().into());
                too_large("a number of blocks that are read", units, UNITS_MAX)?;
                self.images[image as usize].spans[no as usize].base = base;
            }
        }
        self.units = u32::try_from(units).unwrap_or(NONE);
        match units {
            0 => Err(LabError::Empty),
            _ => Ok(()),
        }
    }
}

/// Whether an archive is its stream, so that any place of it can be read by itself. What
/// is compressed may be longer than its stream, but not byte for byte.
fn is_plain(image: &TracedImage) -> bool {
    let lies_as_it_is = |span: &SpanStart| span.archive == span.stream;
    image.archive_bytes >= image.stream_bytes && image.spans.iter().all(lies_as_it_is)
}

/// Goes through the spans that a read covers.
#[derive(Debug)]
pub(super) struct Covers<'a> {
    layout: &'a Layout,
    next: Option<Span>,
    at: u64,
    end: u64,
}

impl Iterator for Covers<'_> {
    type Item = Cover;

    fn next(&mut self) -> Option<Cover> {
        let span = self.next.take()?;
        let end = self.end.min(span.end);
        let cover = Cover {
            span,
            first: span.index_of(self.at),
            last: span.index_of(end - 1),
        };
        if end < self.end {
            self.at = end;
            self.next = self.layout.span(span.image, span.no + 1);
        }
        Some(cover)
    }
}

fn check(cut: Cut) -> Result<(), LabError> {
    let block = u64::from(BLOCK_BYTES);
    if !cut.block_bytes.is_multiple_of(block) || !(block..=16 << 20).contains(&cut.block_bytes) {
        return Err(LabError::Setting {
            what: "a block",
            found: cut.block_bytes,
            must: "a multiple of 16K, at most 16M",
        });
    }
    match cut.span_bytes {
        Some(found) if !(block..=64 << 20).contains(&found) => Err(LabError::Setting {
            what: "a span",
            found,
            must: "16K to 64M",
        }),
        _ => Ok(()),
    }
}

fn too_large(what: &'static str, found: u64, most: u64) -> Result<(), LabError> {
    match found <= most {
        true => Ok(()),
        false => Err(LabError::TooLarge { what, found, most }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{image, read, trace};
    use super::*;

    fn cut(span_bytes: Option<u64>) -> Cut {
        Cut {
            block_bytes: 16 << 10,
            span_bytes,
            is_ahead: false,
        }
    }

    fn starts(layout: &Layout) -> Vec<u64> {
        layout.images[0].spans.iter().map(|s| s.start).collect()
    }

    const K: u64 = 1 << 10;

    #[test]
    fn spans_are_merged_and_divided() {
        let trace = trace(&[image(1000 * K, &[0, 260, 530, 790])], &[read(0, 0, 1)]);
        let layout = |span: u64| Layout::new(&trace, cut(Some(span * K))).unwrap();
        assert_eq!(starts(&layout(256)), [0, 260, 530, 790].map(|k| k * K));
        assert_eq!(
            starts(&layout(512)),
            [0, 530].map(|k| k * K),
            "the last may be short"
        );
        assert!(!layout(512).is_approximate());
        let fine = layout(128);
        assert_eq!(
            starts(&fine),
            [0, 128, 260, 388, 530, 658, 790].map(|k| k * K)
        );
        assert!(fine.is_approximate());
    }

    #[test]
    fn covers_name_each_block_once() {
        let trace = trace(
            &[image(1000 * K, &[0, 260, 530])],
            &[read(0, 250 * K, 400_000)],
        );
        let layout = Layout::new(&trace, cut(None)).unwrap();
        let read = trace.records().next().unwrap();
        let found: Vec<_> = layout
            .covers(&read)
            .map(|c| (c.span.no, c.first, c.last, c.span.unit(c.first).0))
            .collect();
        assert_eq!(found, [(0, 15, 16, 15), (1, 0, 16, 17), (2, 0, 6, 34)]);
        assert_eq!(layout.units(), 17 + 17 + 30);
        let span = layout.span(0, 0).unwrap();
        assert_eq!((span.units(), span.end_of(16)), (17, 260 * K));
    }

    #[test]
    fn only_what_is_read_gets_numbers() {
        let large = image(1 << 40, &(0..1 << 15).map(|n| n << 15).collect::<Vec<_>>());
        let trace = trace(&[large], &[read(0, 1 << 39, 4096)]);
        let layout = Layout::new(&trace, cut(None)).unwrap();
        assert_eq!(layout.units(), (32 << 20) / (16 << 10));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let long = trace(&[image(1 << 30, &[0])], &[read(0, 0, 1)]);
        let error = Layout::new(&long, cut(None)).unwrap_err().to_string();
        assert!(error.contains("a span in bytes of 1073741824"), "{error}");
        let huge = trace(&[image(1 << 60, &[0])], &[read(0, 0, 1)]);
        let result = Layout::new(&huge, cut(None));
        assert!(matches!(result, Err(LabError::TooLarge { .. })));
        let wide = trace(&[image(100 << 20, &[0])], &[read(0, 0, 17 << 20)]);
        let result = Layout::new(&wide, cut(None));
        assert!(matches!(result, Err(LabError::TooLarge { .. })));
        let none = trace(&[image(1 << 20, &[0])], &[read(0, 5, 0)]);
        assert!(matches!(
            Layout::new(&none, cut(None)),
            Err(LabError::Empty)
        ));
        let odd = Cut {
            block_bytes: 20_000,
            ..cut(None)
        };
        assert!(matches!(
            Layout::new(&none, odd),
            Err(LabError::Setting { .. })
        ));
    }
}
