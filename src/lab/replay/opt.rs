//! Driving the bound with a trace; see [`Bound`].

use super::ahead::Ahead;
use super::figures::Counts;
use super::{STEP_RECORDS, Setting, Step};
use crate::lab::layout::Layout;
use crate::lab::policy::Room;
use crate::lab::policy::opt::Bound;
use crate::trace::Trace;

/// Counts hits and misses; nothing is known of what would be decoded.
pub(super) fn run(trace: &Trace, layout: &Layout, setting: Setting, step: &Step<'_>) -> Counts {
    let room = Room {
        cache_bytes: setting.cache_bytes,
        unit_bytes: layout.unit_weight_bytes(),
        units: layout.units(),
    };
    let mut bound = Bound::new(room.kept_max(), room.units);
    let mut ahead = setting.decode_ahead.then(|| Ahead::new(layout));
    let (mut counts, mut since, mut is_open) = (Counts::default(), 0, false);
    for read in trace.records() {
        since += 1;
        if since == STEP_RECORDS {
            step(std::mem::take(&mut since));
        }
        is_open &= read.continues;
        let is_plain = layout.images().get(read.image as usize);
        let is_plain = is_plain.is_some_and(|image| image.is_plain);
        let mut last = None;
        for cover in layout.covers(&read) {
            if last.is_none() {
                bound.begin();
                counts.served_bytes += u64::from(read.len);
                counts.reads += u64::from(!std::mem::replace(&mut is_open, true));
            }
            let span = cover.span;
            for at in cover.first..=cover.last {
                if bound.look_up(span.unit(at)) {
                    counts.hits += 1;
                } else {
                    counts.misses += 1;
                }
            }
            let first = if is_plain { cover.first } else { 0 };
            bound.offer(span.unit(first)..=span.unit(cover.last));
            last = Some(cover);
        }
        let spans = ahead.as_mut().map(|ahead| ahead.note(layout, &read, last));
        for no in spans.unwrap_or_default() {
            if let Some(span) = layout.span(read.image, no) {
                bound.offer(span.unit(0)..=span.unit(span.units() - 1));
            }
        }
    }
    step(since);
    counts
}
