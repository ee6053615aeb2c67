//! A real small archive, and traces of it: what is simulated is what is.

use super::super::random::Random;
use super::super::replay::{Options, replay as simulate};
use super::super::testing::{random_reads, read, trace};
use super::*;
use crate::source::StreamSource;
use crate::source::testing::{MemoryArchive, gzip, sample, scan_memory};
use crate::trace::SpanStart;

const K: u64 = 1 << 10;

struct Opened {
    source: Arc<dyn BlockSource>,
    decoders: Decoders,
    metrics: Arc<Metrics>,
    image: TracedImage,
}

fn opened(len: usize) -> Opened {
    let stream = sample(len);
    let archive = gzip(&stream, 6);
    let (_, sections, _) = scan_memory(&archive, 128 << 10).unwrap();
    let (metrics, archive_bytes) = (Arc::new(Metrics::default()), archive.len() as u64);
    let memory = Arc::new(MemoryArchive::new(archive));
    let (region, places) = sections.region();
    let find = |id| {
        let place = places.iter().find(|(found, _)| *found == id);
        place.map(|(_, place)| place.clone())
    };
    let decoders = Decoders::new(MemoryBudget::new(64 << 20)).unwrap();
    let counting = Arc::clone(&metrics);
    let source = StreamSource::open(memory, Arc::new(region), &find, &decoders, counting).unwrap();
    let spans = (0..source.span_count()).map(|no| {
        let blocks = source.blocks_of(crate::types::SpanNo(no)).unwrap();
        let first = source.block(crate::types::BlockNo(blocks.start)).unwrap();
        SpanStart {
            stream: first.start,
            archive: 0,
        }
    });
    let image = TracedImage {
        stream_bytes: source.len(),
        archive_bytes,
        spans: spans.collect(),
        ..TracedImage::default()
    };
    Opened {
        source: Arc::new(source),
        decoders,
        metrics,
        image,
    }
}

fn scan(image: &TracedImage, step: u64) -> Vec<Read> {
    (0..image.stream_bytes.div_ceil(step))
        .map(|i| {
            let len = step.min(image.stream_bytes - i * step);
            read(0, i * step, u32::try_from(len).unwrap())
        })
        .collect()
}

/// What is simulated is what happens, for these.
fn agree(opened: &Opened, reads: &[Read], blocks: &[u64], policies: &[Rule]) {
    let trace = trace(std::slice::from_ref(&opened.image), reads);
    let archives = Archives::new(
        &trace,
        vec![Arc::clone(&opened.source)],
        opened.decoders.clone(),
        Arc::clone(&opened.metrics),
    );
    let archives = archives.unwrap();
    let options = Options {
        cache_bytes: vec![10 * K, 64 * K, 512 * K, 1 << 20, 4 << 20],
        block_bytes: blocks.to_vec(),
        policies: policies.to_vec(),
        ..Options::default()
    };
    for mut simulated in simulate(&trace, &options, &|_| ()).unwrap() {
        let real = replay(&trace, &archives, simulated.setting, &|_| ()).unwrap();
        if simulated.setting.policy == Rule::Lru && simulated.setting.block_bytes == 16 * K {
            let decoding = simulated.decoding.as_mut().unwrap();
            assert!(decoding.byte_hit_ratio.take().is_some());
        }
        assert_eq!(real.figures, simulated);
        let clocked: u64 = real.times.buckets.iter().map(|(_, n)| n).sum();
        assert_eq!(clocked, trace.totals().records);
    }
}

#[test]
fn the_cache_that_serves_does_what_is_simulated() {
    let opened = opened(3 << 20);
    assert!(opened.image.spans.len() > 15);
    for step in [5_000, 128 << 10, 300_000] {
        agree(&opened, &scan(&opened.image, step), &[16 * K], &[Rule::Lru]);
    }
    for seed in 0..6 {
        let images = [opened.image.clone()];
        let reads = random_reads(&mut Random::new(seed), &images, 400, 100_000);
        agree(&opened, &reads, &[16 * K], &[Rule::Lru]);
    }
}

#[test]
fn other_policies_and_blocks_do_what_is_simulated() {
    let opened = opened(3 << 20);
    let images = [opened.image.clone()];
    let policies = [Rule::Lru, Rule::Fifo, Rule::Sieve, Rule::S3Fifo, Rule::Arc];
    let reads = random_reads(&mut Random::new(3), &images, 250, 100_000);
    agree(&opened, &reads, &[16 * K, 48 * K, 256 * K], &policies);
}

/// The bytes that a reader gets are those of the stream, also out of large blocks.
#[test]
fn what_is_served_is_right() {
    let opened = opened(1 << 20);
    let reads = [read(0, 100_000, 50_000), read(0, 110_000, 10)];
    let trace = trace(std::slice::from_ref(&opened.image), &reads);
    let setting = Setting {
        cache_bytes: 1 << 20,
        block_bytes: 32 * K,
        span_bytes: None,
        policy: Rule::Fifo,
        decode_ahead: false,
    };
    let layout = Layout::new(&trace, setting.cut()).unwrap();
    let archives = Archives {
        sources: vec![opened.source],
        decoders: opened.decoders,
        metrics: opened.metrics,
    };
    let supply = Real {
        archives: &archives,
        reply: Vec::new(),
    };
    let mut engine = Engine::<policy::Fifo, _>::new(&layout, setting, supply);
    let stream = sample(1 << 20);
    engine.read(&reads[0]).unwrap();
    let last = &engine.supply().reply;
    assert!(!last.is_empty() && stream[..150_000].ends_with(last));
    engine.read(&reads[1]).unwrap();
    assert_eq!(engine.supply().reply, stream[110_000..110_010]);
}

#[test]
fn decoding_ahead_is_measured_as_it_is() {
    let opened = opened(2 << 20);
    let reads = scan(&opened.image, 8 << 10);
    let trace = trace(&[opened.image], &reads);
    let archives = Archives::new(&trace, vec![opened.source], opened.decoders, opened.metrics);
    let setting = Setting {
        cache_bytes: 4 << 20,
        block_bytes: 16 * K,
        span_bytes: None,
        policy: Rule::Lru,
        decode_ahead: true,
    };
    let real = replay(&trace, &archives.unwrap(), setting, &|_| ()).unwrap();
    assert_eq!(real.figures.reads, reads.len() as u64);
    assert!(real.figures.blocks >= reads.len() as u64);
}

#[test]
fn what_cannot_be_real_is_refused() {
    let opened = opened(1 << 20);
    let mut other = opened.image.clone();
    other.spans.pop();
    let make = |image: &TracedImage, sources: Vec<Arc<dyn BlockSource>>| {
        let trace = trace(std::slice::from_ref(image), &[read(0, 0, 1)]);
        let archives = Archives::new(
            &trace,
            sources,
            opened.decoders.clone(),
            Arc::clone(&opened.metrics),
        );
        (trace, archives)
    };
    let source = || vec![Arc::clone(&opened.source)];
    let refused = make(&other, source()).1;
    assert!(matches!(
        refused,
        Err(LabError::OtherImage { image: 0, .. })
    ));
    assert!(matches!(
        make(&opened.image, vec![]).1,
        Err(LabError::NotReal { .. })
    ));
    let (trace, archives) = make(&opened.image, source());
    for (span_bytes, policy) in [(Some(128 * K), Rule::Lru), (None, Rule::Opt)] {
        let setting = Setting {
            cache_bytes: 1 << 20,
            block_bytes: 16 * K,
            span_bytes,
            policy,
            decode_ahead: false,
        };
        let result = replay(&trace, archives.as_ref().unwrap(), setting, &|_| ());
        assert!(matches!(result, Err(LabError::NotReal { .. })));
    }
}
