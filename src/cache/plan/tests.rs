//! Tests of plans over a source that counts what it decodes.

use std::sync::mpsc::sync_channel;

use super::super::tests::{MIB, SPAN_BLOCKS, assert_reads, reader};
use super::super::{ImageId, Prefetcher, Role};
use super::*;
use crate::types::{BlockNo, SpanNo};

fn step(span: u32, first: u32, last: u32) -> Step {
    Step {
        span: SpanNo(span),
        first: BlockNo(span * SPAN_BLOCKS + first),
        last: BlockNo(span * SPAN_BLOCKS + last),
        nth: 0,
    }
}

fn cached(reader: &CachedReader, blocks: std::ops::Range<u32>) -> Vec<u32> {
    let is_cached = |no: &u32| reader.cache.contains(reader.image, BlockNo(*no));
    blocks.filter(is_cached).collect()
}

fn run_all(plans: &Plans) {
    while plans.advance(Instant::now()) == Progress::Step {}
}

#[test]
fn a_plan_brings_its_blocks_and_nothing_else() {
    let (reader, source) = reader(8 * MIB, 64 * MIB, None);
    let plans = Plans::default();
    plans.add(&reader, vec![step(1, 2, 3), step(4, 0, 0)]);
    run_all(&plans);
    assert_eq!(cached(&reader, 0..100), [12, 13, 40]);
    let counters = &reader.metrics.counters;
    assert_eq!(counters.profile_spans.get(), 2);
    let decoded = source.decoded();
    assert_reads(&reader, 12 * 16_384, 2 * 16_384);
    assert_reads(&reader, 12 * 16_384, 100);
    assert_eq!(source.decoded(), decoded, "decoded again");
    assert_eq!(counters.profile_hit_blocks.get(), 2, "each counts once");
    assert_eq!(counters.cache_hit_blocks.get(), 3);
    // What is cached is not decoded again, and what somebody decodes neither.
    let _lead = match reader.flights.join(SpanNo(5)) {
        Role::Leader(lead) => lead,
        Role::Waiter(_) => panic!("nobody leads"),
    };
    plans.add(&reader, vec![step(1, 2, 3), step(5, 0, 9)]);
    run_all(&plans);
    assert_eq!(source.decoded(), decoded);
    assert_eq!(counters.profile_spans.get(), 2);
}

#[test]
fn reads_that_wait_and_jobs_come_first() {
    let (reader, source) = reader(8 * MIB, 64 * MIB, None);
    let plans = Plans::default();
    plans.add(&reader, vec![step(1, 0, 9)]);
    let waiting = || reader.cache.waiting.begin();
    let waits: Vec<_> = (0..plans.processors).map(|_| waiting()).collect();
    assert_eq!(plans.advance(Instant::now()), Progress::Later);
    let (queue, jobs) = sync_channel(4);
    queue.send("job").unwrap();
    drop(waits);
    assert_eq!(next_job(&jobs, &plans), Some("job"));
    assert_eq!(source.decoded(), 0, "a job was there");
    // One that waits for each of its decodes leaves the other processors.
    let _one = (plans.processors > 1).then(waiting);
    assert_eq!(plans.advance(Instant::now()), Progress::Step);
    assert_eq!(source.decoded(), 10);
    assert_eq!(plans.advance(Instant::now()), Progress::Nothing);
    drop(queue);
    assert_eq!(next_job(&jobs, &plans), None);
}

fn read_span(reader: &Arc<CachedReader>, span: u32) {
    let bytes = usize::try_from(SPAN_BLOCKS * 16_384).unwrap();
    assert_reads(reader, u64::from(span) * bytes as u64, bytes);
}

/// It brought a part of what the start of Python reads, and ended while most was unread.
#[test]
fn a_plan_goes_on_as_what_it_brought_is_read() {
    let (reader, source) = reader(32 * MIB, 8 * MIB, None);
    let limit = reader.cache.blocks.lock().kept.limit_bytes();
    let spans_max = u32::try_from(unread_max(limit)).unwrap() / SPAN_BLOCKS;
    assert!(u64::from(spans_max * SPAN_BLOCKS) * BLOCK_WEIGHT_BYTES <= limit / 2);
    let plans = Plans::default();
    let spans = 3 * spans_max;
    let steps = (0..spans).map(|span| step(span, 0, SPAN_BLOCKS - 1));
    plans.add(&reader, steps.collect());
    run_all(&plans);
    assert_eq!(plans.advance(Instant::now()), Progress::Full);
    assert_eq!(reader.metrics.counters.cache_evicted_blocks.get(), 0);
    assert_eq!(source.decoded(), u64::from(spans_max * SPAN_BLOCKS));
    for span in 0..spans {
        read_span(&reader, span);
        run_all(&plans);
    }
    assert_eq!(plans.advance(Instant::now()), Progress::Nothing);
    let counters = &reader.metrics.counters;
    assert_eq!(counters.profile_spans.get(), u64::from(spans));
    assert_eq!(counters.cache_miss_blocks.get(), 0);
    assert_eq!(source.decoded(), u64::from(spans * SPAN_BLOCKS), "twice");
}

#[test]
fn a_plan_that_nobody_follows_ends_and_leaves_room_for_others() {
    let (reader, source) = reader(32 * MIB, 8 * MIB, None);
    let plans = Plans::default();
    let steps = |from| (from..from + 200).map(|span| step(span, 0, SPAN_BLOCKS - 1));
    let now = Instant::now();
    plans.add(&reader, steps(0).collect());
    run_all(&plans);
    let first = source.decoded();
    assert_eq!(plans.advance(now + OVER_AFTER / 2), Progress::Full);
    let later = Instant::now() + OVER_AFTER * 2;
    assert_eq!(plans.advance(later), Progress::Nothing);
    plans.add(&reader, steps(0).rev().collect());
    run_all(&plans);
    assert_eq!(source.decoded(), 2 * first);
    // Those that come later have their turn first, with all the room.
    let (counting, cache) = (Arc::clone(&source), Arc::clone(&reader.cache));
    let metrics = Arc::clone(&reader.metrics);
    let other = CachedReader::new(ImageId(99), counting, cache, None, metrics);
    plans.add(&other, vec![step(202, 0, 0)]);
    assert_eq!(plans.advance(Instant::now()), Progress::Step);
    assert_eq!(cached(&other, 2020..2040), [2020]);
    run_all(&plans);
    // What is evicted leaves room as well.
    for span in 50..100 {
        read_span(&reader, span);
    }
    assert!(plans.advance(Instant::now()) == Progress::Step);
}

#[test]
fn plans_end_with_their_image_with_an_error_and_on_demand() {
    let (failing, source) = reader(8 * MIB, 64 * MIB, Some(SpanNo(2)));
    let plans = Plans::default();
    let steps = || vec![step(2, 0, 9), step(3, 0, 9)];
    plans.add(&failing, steps());
    run_all(&plans);
    assert_eq!(cached(&failing, 30..40), [0; 0], "it went on");
    plans.add(&failing, steps());
    plans.clear();
    assert_eq!(plans.advance(Instant::now()), Progress::Nothing);
    let (gone, its_source) = reader(8 * MIB, 64 * MIB, None);
    plans.add(&gone, steps());
    drop(gone);
    assert_eq!(plans.advance(Instant::now()), Progress::Nothing);
    assert_eq!(its_source.decoded(), 0);
    // A second plan of an image takes the place of the first.
    plans.add(&failing, steps());
    plans.add(&failing, vec![step(7, 1, 1)]);
    run_all(&plans);
    assert_eq!(cached(&failing, 0..100), [71]);
    drop(source);
}

#[test]
fn steps_that_are_not_of_this_image_bring_nothing_wrong() {
    let (reader, _) = reader(2 * MIB, 64 * MIB, None);
    let plans = Plans::default();
    let odd = Step {
        span: SpanNo(1),
        first: BlockNo(0),
        last: BlockNo(u32::MAX),
        nth: 0,
    };
    plans.add(&reader, vec![odd, step(3, 11, 15)]);
    run_all(&plans);
    assert_eq!(cached(&reader, 0..200), (10..20).collect::<Vec<_>>());
    assert_reads(&reader, 0, usize::try_from(2 * MIB).unwrap());
}

#[test]
fn the_thread_that_decodes_ahead_takes_plans() {
    let (reader, _) = reader(8 * MIB, 64 * MIB, None);
    let prefetcher = Prefetcher::start().unwrap();
    let mut touched = crate::profile::Touched::default();
    let read = crate::trace::Read {
        stream: Some(20 * 16_384),
        len: 3 * 16_384,
        ..crate::trace::Read::default()
    };
    let place = |at: u64| {
        let info = reader.source.block_at(at).ok()?;
        Some(crate::profile::Place {
            span: info.span,
            block: info.no,
            end: info.end(),
        })
    };
    touched.note(&read, &place);
    let image = crate::types::Digest::new([0; 32]);
    let profile = crate::profile::Profile::new(image, 52, 0, None, &touched).unwrap();
    prefetcher.handle().plan(&reader, &profile);
    let arrived = (0..3000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        cached(&reader, 0..100) == [20, 21, 22]
    });
    assert!(arrived, "the plan was not taken");
}
