//! Collects which blocks reads touch.
//!
//! Guarantees: memory is bounded by [`SPANS_MAX`]; what is touched behind so many
//! spans is counted. The cost of a read is bounded by [`READ_BYTES_MAX`].

use std::collections::HashMap;

use super::{SPANS_MAX, Step};
use crate::trace::Read;
use crate::types::{BlockNo, SpanNo};

/// The kernel asks for no more at once; of a read that claims to be longer only the
/// beginning counts.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Where a byte of a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In this span.
    pub span: SpanNo,
    /// In this block.
    pub block: BlockNo,
    /// The first offset behind the block.
    pub end: u64,
}

/// The spans that were touched.
#[derive(Clone, Debug, Default)]
pub struct Touched {
    spans: HashMap<SpanNo, Step>,
    left_out: u64,
}

impl Touched {
    /// Notes a read; `place` tells where a byte of the stream is, nothing behind its
    /// end.
    pub fn note(&mut self, read: &Read, place: &dyn Fn(u64) -> Option<Place>) {
        let Some(start) = read.stream else { return };
        let end = start.saturating_add(u64::from(read.len).min(READ_BYTES_MAX));
        let mut at = start;
        while at < end
            && let Some(found) = place(at)
            && found.end > at
        {
            self.add(found.span, found.block);
            at = found.end;
        }
    }

    /// Notes that a block was read.
    pub(super) fn add(&mut self, span: SpanNo, block: BlockNo) {
        let touched = self.spans.len();
        if let Some(step) = self.spans.get_mut(&span) {
            step.first = step.first.min(block);
            step.last = step.last.max(block);
        } else if touched < SPANS_MAX
            && let Ok(nth) = u32::try_from(touched)
        {
            let (first, last) = (block, block);
            let step = Step {
                span,
                first,
                last,
                nth,
            };
            self.spans.insert(span, step);
        } else {
            self.left_out += 1;
        }
    }

    /// How many blocks were touched in spans that had no room.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What was touched, in the order of the stream.
    pub(super) fn steps(&self) -> Vec<Step> {
        let mut steps: Vec<_> = self.spans.values().copied().collect();
        steps.sort_unstable();
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans of ten blocks of 100 bytes.
    fn place(at: u64) -> Option<Place> {
        let block = u32::try_from(at / 100).unwrap();
        (at < 100_000).then_some(Place {
            span: SpanNo(block / 10),
            block: BlockNo(block),
            end: (u64::from(block) + 1) * 100,
        })
    }

    fn read(stream: Option<u64>, len: u32) -> Read {
        Read {
            stream,
            len,
            ..Read::default()
        }
    }

    #[test]
    fn reads_become_blocks_of_spans() {
        let mut touched = Touched::default();
        for (stream, len) in [(5050, 100), (950, 100), (5001, 1), (990, 0), (5300, 99)] {
            touched.note(&read(Some(stream), len), &place);
        }
        touched.note(&read(None, 1000), &place);
        let steps: Vec<_> = touched
            .steps()
            .iter()
            .map(|step| (step.span.0, step.first.0, step.last.0, step.nth))
            .collect();
        assert_eq!(steps, [(0, 9, 9, 1), (1, 10, 10, 2), (5, 50, 53, 0)]);
    }

    #[test]
    fn a_read_out_of_the_stream_touches_what_is_there() {
        let mut touched = Touched::default();
        touched.note(&read(Some(99_950), 5000), &place);
        touched.note(&read(Some(u64::MAX - 5), u32::MAX), &|_| None);
        touched.note(&read(Some(100_000), 1), &place);
        assert_eq!(touched.steps().len(), 1);
        // A lookup that does not go on ends it.
        let stuck = |at| place(0).map(|place| Place { end: at, ..place });
        touched.note(&read(Some(0), 100), &stuck);
        assert_eq!(touched.steps().len(), 1);
    }

    #[test]
    fn what_has_no_room_is_counted() {
        let mut touched = Touched::default();
        for span in 0..u32::try_from(SPANS_MAX).unwrap() + 5 {
            touched.add(SpanNo(span), BlockNo(span));
        }
        touched.add(SpanNo(0), BlockNo(0));
        assert_eq!((touched.steps().len(), touched.left_out()), (SPANS_MAX, 5));
    }
}
