//! Where spans start: the choice between places where decoding could.
//!
//! A span that starts where little of what came before is referred to needs a
//! small window. How little that is differs by a factor of ten from one place to
//! the next, and is known 32 KiB later. So places are gathered, one every
//! [`STEP_BYTES`], and chosen from when all of those are known that a span may
//! reach to. Against cutting at equal lengths this halves the windows, which are
//! most of an index, or the length of spans, which is what a random read decodes.

use std::collections::VecDeque;
use std::rc::Rc;

use super::super::deflate::{References, WINDOW_BYTES};

/// One place is gathered for each of these bytes of the stream.
pub(super) const STEP_BYTES: usize = 4 * 1024;
/// How many steps a copy reaches back, at most.
const STEPS_BACK: usize = WINDOW_BYTES / STEP_BYTES;
/// How long the stretch is in which a span may end: what is held of the stream
/// grows with it.
const CHOICE_BYTES_MAX: u64 = 224 * 1024;
/// The shortest span, as a part of the longest.
const SHORTEST_PART: u64 = 8;
/// Bytes of the index that a span costs besides its window and header, and that a
/// window takes however little there is in it.
const SPAN_COST: f64 = 40.0;
const WINDOW_COST: f64 = 400.0;
/// Bytes that a window takes for each that is referred to, compressed.
const REACHED_COST: f64 = 0.5;
/// Bytes of the index that it is worth to be spared a span of full length. What
/// a byte of the stream costs to read at random grows with the length of its
/// span, so that this counts by the square of it.
const LENGTH_COST: f64 = 11_000.0;

/// Where a span may start.
pub(super) struct Place {
    /// Offset in the stream.
    pub(super) at: u64,
    /// The first bit of its code: byte of the archive times 8, plus bit.
    pub(super) archive_bit: u64,
    /// The header of the block in which it is; none where a block starts.
    pub(super) header: Option<Rc<[u8]>>,
    /// Number of the first reference behind it.
    pub(super) references_from: usize,
    /// How many bytes from before it are copied behind it, as far as is known.
    reached: u64,
}

impl Place {
    pub(super) fn new(at: u64, archive_bit: u64, header: Option<Rc<[u8]>>) -> Self {
        Self {
            at,
            archive_bit,
            header,
            references_from: 0,
            reached: 0,
        }
    }

    /// What a byte of a span of `len` bytes costs that is followed by one that
    /// starts here, in bytes of the index.
    #[allow(clippy::cast_precision_loss, reason = "it is an estimate")]
    fn cost(&self, len: u64, longest: u64) -> f64 {
        let header = self.header.as_ref().map_or(0, |header| header.len());
        let window = match self.reached {
            0 => 0.0,
            bytes => WINDOW_COST + REACHED_COST * bytes as f64,
        };
        let (len, part) = (len as f64, len as f64 / longest as f64);
        (SPAN_COST + header as f64 + window + LENGTH_COST * part * part) / len
    }
}

/// The places that the next span may start at.
pub(super) struct Places {
    longest: u64,
    shortest: u64,
    /// Where the last span started.
    start: Option<u64>,
    /// In the order of the stream.
    places: VecDeque<Place>,
    /// How many references are counted.
    counted: usize,
}

impl Places {
    /// Spans shall have `longest` bytes at most.
    pub(super) fn new(longest: u64) -> Self {
        let shortest = (longest / SHORTEST_PART).max(longest.saturating_sub(CHOICE_BYTES_MAX));
        Self {
            longest,
            shortest,
            start: None,
            places: VecDeque::new(),
            counted: 0,
        }
    }

    /// Bytes of the stream that may be between the first place and the end of what
    /// has to be known of it, at most: a block that is stored has no place inside.
    pub(super) fn held_max(longest: u64) -> usize {
        let stored = 64 * 1024;
        let choice = longest.min(CHOICE_BYTES_MAX);
        usize::try_from(choice).unwrap_or(0) + WINDOW_BYTES + stored + 2 * STEP_BYTES
    }

    /// Whether a place here would be taken.
    pub(super) fn takes(&self, at: u64) -> bool {
        let earliest = self.start.map(|start| start.saturating_add(self.shortest));
        earliest.is_none_or(|earliest| at >= earliest)
    }

    /// The first one; nothing before it is needed to choose.
    pub(super) fn first(&self) -> Option<u64> {
        self.places.front().map(|place| place.at)
    }

    /// Takes a place into account, behind all others. Of two in one step the start
    /// of a block replaces the other: it needs less.
    pub(super) fn offer(&mut self, mut place: Place, references: &References) {
        if !self.takes(place.at) {
            return;
        }
        place.references_from = references.count();
        let step = |at: u64| at / STEP_BYTES as u64;
        match self.places.back_mut() {
            Some(last) if step(last.at) == step(place.at) => {
                if place.header.is_none() {
                    *last = place;
                }
            }
            _ => self.places.push_back(place),
        }
    }

    /// Counts the references that were noted since the last call, all of them
    /// behind `line`, a multiple of [`STEP_BYTES`], and hardly a step behind.
    pub(super) fn count(&mut self, line: u64, references: &mut References) {
        if self.places.is_empty() {
            references.forget(references.count());
            self.counted = 0;
            return;
        }
        let mut reached = references.reached::<{ STEPS_BACK + 1 }>(self.counted, line, STEP_BYTES);
        self.counted = references.count();
        // What reaches back n steps also reaches back over all nearer ones.
        let mut sum = 0;
        for reached in reached.iter_mut().rev() {
            sum += *reached;
            *reached = sum;
        }
        for place in self.places.iter_mut().rev() {
            let steps = (line / STEP_BYTES as u64).saturating_sub(place.at / STEP_BYTES as u64);
            let Some(reached) = usize::try_from(steps).ok().and_then(|n| reached.get(n + 1)) else {
                break;
            };
            place.reached += *reached;
        }
    }

    /// Whether a span that goes on to `end` would be longer than it should be.
    pub(super) fn is_overdue(&self, end: u64) -> bool {
        let reach = self.start.map(|start| start.saturating_add(self.longest));
        reach.is_none_or(|reach| end > reach)
    }

    /// The place for the next span: once the stream, which is known up to `end`, is
    /// known far enough, or `now`, from what is known.
    pub(super) fn choose(&mut self, end: u64, now: bool) -> Option<Place> {
        let known = end.saturating_sub(WINDOW_BYTES as u64);
        if !now && self.start.is_some() && !self.is_overdue(known) {
            return None;
        }
        // At least one byte has to follow.
        let usable = self.places.iter().take_while(|place| place.at < end);
        let best = match self.start {
            // The stream starts with a span, at the last place before any byte.
            None => usable
                .take_while(|place| place.at == 0)
                .count()
                .checked_sub(1)?,
            Some(start) => {
                let cost = |place: &Place| place.cost(place.at - start, self.longest);
                let near = usable
                    .clone()
                    .take_while(|place| place.at - start <= self.longest);
                let best = near
                    .enumerate()
                    .min_by(|(_, a), (_, b)| cost(a).total_cmp(&cost(b)));
                // Where none is near enough, the nearest one.
                best.map_or_else(
                    || usable.count().min(1).checked_sub(1),
                    |(number, _)| Some(number),
                )?
            }
        };
        let place = self.places.drain(..=best).next_back()?;
        self.start = Some(place.at);
        Some(place)
    }

    /// Forgets places that are too near to the one that was chosen last, and all
    /// references before those that are left.
    pub(super) fn forget_near(&mut self, references: &mut References) {
        while self.places.front().is_some_and(|next| !self.takes(next.at)) {
            self.places.pop_front();
        }
        let unneeded = match self.places.front() {
            Some(first) => first.references_from,
            None => references.count(),
        };
        references.forget(unneeded);
        self.counted -= unneeded.min(self.counted);
        for place in &mut self.places {
            place.references_from -= unneeded;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: u64 = 256 * 1024;
    const STEP: u64 = STEP_BYTES as u64;

    /// Places every step up to `end`, of which `reached` says how much is referred
    /// to.
    fn gathered(end: u64, reached: impl Fn(u64) -> u64) -> Places {
        let mut places = Places::new(LONGEST);
        let mut references = References::default();
        places.offer(Place::new(0, 0, None), &references);
        assert!(places.choose(1, false).is_some_and(|place| place.at == 0));
        places.forget_near(&mut references);
        for at in (0..end).step_by(STEP_BYTES) {
            let header = Some(Rc::from([0; 80]));
            places.offer(Place::new(at, at * 8, header), &references);
            if let Some(place) = places.places.back_mut() {
                place.reached = reached(place.at);
            }
        }
        places
    }

    #[test]
    fn a_place_is_chosen_when_all_are_known_that_could_be() {
        let mut places = gathered(LONGEST + STEP, |_| 1000);
        let known = LONGEST + WINDOW_BYTES as u64;
        assert!(places.choose(known, false).is_none());
        assert!(places.choose(known + 1, false).is_some());
        // All being equal, spans are of one length, far from the extremes.
        let start = places.start.unwrap();
        assert!((LONGEST / 5..LONGEST / 2).contains(&start), "{start}");
        assert!(places.choose(LONGEST + STEP, false).is_none());
    }

    #[test]
    fn of_places_the_one_with_the_least_behind_it_is_chosen() {
        for best in [12 * STEP, 25 * STEP, 40 * STEP] {
            let reached = |at| if at == best { 200 } else { 6000 };
            let mut places = gathered(LONGEST + 9 * STEP, reached);
            assert_eq!(places.choose(u64::MAX, true).unwrap().at, best);
        }
    }

    #[test]
    fn without_a_place_near_enough_it_is_the_next_one() {
        let mut places = gathered(STEP, |_| 0);
        let references = References::default();
        assert!(places.choose(u64::MAX, true).is_none());
        for at in [3 * LONGEST, 4 * LONGEST] {
            places.offer(Place::new(at, 0, None), &references);
        }
        assert!(
            places.choose(3 * LONGEST, true).is_none(),
            "no byte follows"
        );
        assert_eq!(places.choose(4 * LONGEST, true).unwrap().at, 3 * LONGEST);
    }

    #[test]
    fn a_block_start_replaces_a_place_in_its_step() {
        let mut places = gathered(STEP, |_| 0);
        let references = References::default();
        let at = 20 * STEP;
        let header = Rc::from([1; 50]);
        for (at, header) in [
            (at, None),
            (at + 7, Some(Rc::clone(&header))),
            (at + 90, None),
        ] {
            places.offer(Place::new(at, 0, header), &references);
        }
        let found: Vec<u64> = places.places.iter().map(|place| place.at).collect();
        assert_eq!(found, [at + 90]);
    }

    #[test]
    fn what_reaches_over_places_is_counted_and_forgotten() {
        let mut references = References::default();
        let mut places = gathered(STEP, |_| 0);
        let line = 20 * STEP;
        for at in [18 * STEP, 19 * STEP, line] {
            places.offer(Place::new(at, 0, None), &references);
            let place = u32::try_from(at).unwrap();
            references.note(place + 100, 1000, 10);
            references.note(place + 100, 6000, 100);
            places.count(at, &mut references);
        }
        let reached = |places: &Places| -> Vec<u64> {
            places.places.iter().map(|place| place.reached).collect()
        };
        assert_eq!(reached(&places), [210, 210, 110]);
        places.choose(u64::MAX, true).unwrap();
        places.forget_near(&mut references);
        assert_eq!((places.places.len(), references.count()), (0, 0));
    }
}
