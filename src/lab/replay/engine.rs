//! What the cache does with a read: the same steps as
//! [`CachedReader`](crate::cache::CachedReader), whoever supplies the blocks and
//! whichever policy keeps them.

use super::Setting;
use super::ahead::Ahead;
use super::figures::Counts;
use crate::lab::LabError;
use crate::lab::layout::{Cover, Layout, Span};
use crate::lab::policy::{Policy, Room, Unit};
use crate::trace::Read;

/// A decode of some units of a span.
#[derive(Clone, Copy, Debug)]
pub(in crate::lab) struct Run {
    pub(in crate::lab) span: Span,
    /// The unit that is wanted, and the last one.
    pub(in crate::lab) first: u32,
    pub(in crate::lab) last: u32,
    /// Whether it can begin with the unit that is wanted.
    pub(in crate::lab) is_plain: bool,
    pub(in crate::lab) stream_bytes: u64,
    /// What of the stream the reader asked for; empty ahead of a reader.
    pub(in crate::lab) asked_from: u64,
    pub(in crate::lab) asked_to: u64,
}

/// What a run took.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::lab) struct Touched {
    pub(in crate::lab) decoded_bytes: u64,
    pub(in crate::lab) restores: u64,
    pub(in crate::lab) resumes: u64,
}

/// Where units come from.
pub(in crate::lab) trait Supply {
    /// What of a unit is kept beside the policy.
    type Kept;

    /// Produces units of a span, in order, up to the last of the run; hands those
    /// from the first of the run on to the reader as well.
    fn run(
        &mut self,
        run: &Run,
        sink: &mut impl FnMut(u32, Self::Kept),
    ) -> Result<Touched, LabError>;

    /// Hands stream bytes `from..to` of a kept unit, which begins at `start`, to the
    /// reader.
    fn serve(&mut self, kept: &Self::Kept, start: u64, from: u64, to: u64);
}

/// A cache, its policy and its supply.
#[derive(Debug)]
pub(in crate::lab) struct Engine<'a, P, S: Supply> {
    layout: &'a Layout,
    policy: P,
    supply: S,
    /// What is kept of the units that the policy keeps; empty where that is nothing.
    shelf: Vec<Option<S::Kept>>,
    gone: Vec<Unit>,
    ahead: Option<Ahead>,
    counts: Counts,
    hit_bytes: u64,
    open: OpenRead,
}

/// A read whose pieces are still coming.
#[derive(Clone, Copy, Debug, Default)]
struct OpenRead {
    blocks: u64,
    misses: u64,
}

impl<'a, P: Policy, S: Supply> Engine<'a, P, S> {
    /// An empty cache.
    pub(in crate::lab) fn new(layout: &'a Layout, setting: Setting, supply: S) -> Self {
        let room = Room {
            cache_bytes: setting.cache_bytes,
            unit_bytes: layout.unit_weight_bytes(),
            units: layout.units(),
        };
        let mut shelf = Vec::new();
        if Self::KEEPS {
            shelf.resize_with(room.units, || None);
        }
        Engine {
            layout,
            policy: P::new(room),
            supply,
            shelf,
            gone: Vec::new(),
            ahead: setting.decode_ahead.then(|| Ahead::new(layout)),
            counts: Counts::default(),
            hit_bytes: 0,
            open: OpenRead::default(),
        }
    }

    /// Where units come from.
    #[cfg(test)]
    pub(in crate::lab) fn supply(&self) -> &S {
        &self.supply
    }

    const KEEPS: bool = size_of::<S::Kept>() > 0;

    /// What was counted.
    pub(in crate::lab) fn finish(mut self) -> Counts {
        self.close();
        self.counts.hit_bytes = Some(self.hit_bytes);
        self.counts
    }

    /// One record of the trace.
    pub(in crate::lab) fn read(&mut self, read: &Read) -> Result<(), LabError> {
        if !read.continues {
            self.close();
        }
        let Some(start) = read.stream else {
            return Ok(());
        };
        let end = start + u64::from(read.len);
        self.counts.served_bytes += u64::from(read.len);
        let mut last = None;
        for cover in self.layout.covers(read) {
            self.cover(cover, start, end)?;
            last = Some(cover);
        }
        let spans = match &mut self.ahead {
            Some(ahead) => ahead.note(self.layout, read, last),
            None => return Ok(()),
        };
        for no in spans {
            if let Some(span) = self.layout.span(read.image, no) {
                self.decode_ahead(span)?;
            }
        }
        Ok(())
    }

    /// The part of read `start..end` that is in one span.
    fn cover(&mut self, cover: Cover, start: u64, end: u64) -> Result<(), LabError> {
        let span = cover.span;
        let mut at = cover.first;
        while at <= cover.last {
            let unit = span.unit(at);
            self.open.blocks += 1;
            if self.policy.get(unit) {
                let (from, to) = (start.max(span.start_of(at)), end.min(span.end_of(at)));
                self.counts.hits += 1;
                self.hit_bytes += to - from;
                if let Some(Some(kept)) = self.shelf.get(unit.at()) {
                    self.supply.serve(kept, span.start_of(at), from, to);
                }
                at += 1;
                continue;
            }
            let is_missing = |no: &u32| !self.policy.contains(span.unit(*no));
            let last = (at + 1..=cover.last).rev().find(is_missing).unwrap_or(at);
            self.decode(span, at, last, start..end)?;
            let missed = u64::from(last - at) + 1;
            self.counts.misses += missed;
            self.open.misses += missed;
            self.open.blocks += missed - 1;
            at = last + 1;
        }
        Ok(())
    }

    /// Decodes what is missing of a span.
    fn decode_ahead(&mut self, span: Span) -> Result<(), LabError> {
        let is_missing = |no: &u32| !self.policy.contains(span.unit(*no));
        match (0..span.units()).find(is_missing) {
            Some(first) => self.decode(span, first, span.units() - 1, 0..0),
            None => Ok(()),
        }
    }

    /// Decodes and keeps; the reader asked for `read`.
    fn decode(
        &mut self,
        span: Span,
        first: u32,
        last: u32,
        read: std::ops::Range<u64>,
    ) -> Result<(), LabError> {
        let image = self.layout.images().get(span.image as usize);
        let run = Run {
            span,
            first,
            last,
            is_plain: image.is_some_and(|image| image.is_plain),
            stream_bytes: image.map_or(0, |image| image.stream_bytes),
            asked_from: read.start,
            asked_to: read.end,
        };
        let (policy, shelf, gone) = (&mut self.policy, &mut self.shelf, &mut self.gone);
        let touched = self.supply.run(&run, &mut |at, kept| {
            let unit = span.unit(at);
            policy.insert(unit, gone);
            if Self::KEEPS {
                shelf[unit.at()] = Some(kept);
                for unit in gone.iter() {
                    shelf[unit.at()] = None;
                }
            }
            gone.clear();
        })?;
        self.counts.decoded_bytes += touched.decoded_bytes;
        self.counts.restores += touched.restores;
        self.counts.resumes += touched.resumes;
        Ok(())
    }

    /// All pieces of a read have come.
    fn close(&mut self) {
        let OpenRead { blocks, misses } = std::mem::take(&mut self.open);
        if blocks > 0 {
            self.counts.reads += 1;
            self.counts.reads_all_hits += u64::from(misses == 0);
        }
    }
}
