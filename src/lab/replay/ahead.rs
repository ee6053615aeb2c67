//! Which spans are decoded ahead: the choice of the cache that serves.

use std::ops::Range;

use crate::cache::prefetch::Asked;
use crate::cache::sequence::Sequences;
use crate::lab::layout::{Cover, Layout};
use crate::trace::Read;
use crate::types::SpanNo;

/// The readers of all images.
#[derive(Debug)]
pub(super) struct Ahead(Vec<(Sequences, Asked)>);

impl Ahead {
    pub(super) fn new(layout: &Layout) -> Self {
        Ahead(layout.images().iter().map(|_| Default::default()).collect())
    }

    /// Notes a read that ended in `last`; answers the spans to decode ahead now.
    pub(super) fn note(&mut self, layout: &Layout, read: &Read, last: Option<Cover>) -> Range<u32> {
        let state = self.0.get_mut(read.image as usize);
        let (Some((sequences, asked)), Some(start), Some(last)) = (state, read.stream, last) else {
            return 0..0;
        };
        match sequences.record(start, start + u64::from(read.len)) {
            Some(pattern) => asked.spans(pattern, SpanNo(last.span.no), layout.spans(read.image)),
            None => 0..0,
        }
    }
}
