//! Scanning an archive, and reading from its checkpoints.

use std::io::Read;
use std::ops::ControlFlow;
use std::sync::Arc;

use criterion::{Criterion, Throughput};
use distrofs::source::{BlockSource, ReadAt};
use distrofs::types::{BLOCK_BYTES, BlockNo, SpanNo};

use crate::made::{MEMORY_BYTES, Memory, Random, gzip, scanned, stream, usize_of};

const STREAM_BYTES: usize = 32 << 20;

pub(crate) fn benches(criterion: &mut Criterion) {
    let stream = stream(STREAM_BYTES);
    let archive = Arc::new(Memory(gzip(&stream)));
    scan(criterion, &archive, &Memory(stream));
    whole(criterion, &archive);
    inflate(criterion, archive);
}

fn scan(criterion: &mut Criterion, compressed: &Memory, plain: &Memory) {
    let mut group = criterion.benchmark_group("span scan");
    group.sample_size(10);
    for (name, archive) in [("gzip", compressed), ("plain", plain)] {
        group.throughput(Throughput::Bytes(plain.len()));
        group.bench_function(name, |b| b.iter(|| scanned(archive)));
    }
    group.finish();
}

/// All of it in order, verified and in blocks, against what zlib-rs takes to inflate it.
fn whole(criterion: &mut Criterion, archive: &Arc<Memory>) {
    let (source, _services) = scanned(archive).open(Arc::clone(archive), MEMORY_BYTES);
    let mut group = criterion.benchmark_group("whole inflate");
    group.sample_size(20);
    group.throughput(Throughput::Bytes(STREAM_BYTES as u64));
    group.bench_function("spans", |b| {
        b.iter(|| {
            (0..source.span_count())
                .map(|span| all_of(&source, SpanNo(span)))
                .sum::<usize>()
        });
    });
    let mut out = Vec::with_capacity(2 * STREAM_BYTES);
    group.bench_function("zlib-rs", |b| {
        b.iter(|| {
            out.clear();
            flate2::read::GzDecoder::new(&*archive.0)
                .read_to_end(&mut out)
                .unwrap()
        });
    });
    group.finish();
}

/// Decodes a span to its end.
fn all_of(source: &dyn BlockSource, span: SpanNo) -> usize {
    let first = BlockNo(source.blocks_of(span).unwrap().start);
    let mut found = 0;
    source
        .produce(first, &mut |_, bytes| {
            found += bytes.len();
            ControlFlow::Continue(())
        })
        .unwrap();
    found
}

/// Goes through all spans before it comes to one again, so that no read can go
/// on where an earlier one stopped.
fn inflate(criterion: &mut Criterion, archive: Arc<Memory>) {
    let (source, services) = scanned(&archive).open(archive, MEMORY_BYTES);
    let mut next = one_block_of_each_span(&source).into_iter().cycle();
    let mut group = criterion.benchmark_group("checkpointed inflate");
    group.throughput(Throughput::Bytes(BLOCK_BYTES.into()));
    group.bench_function("random 16 KiB", |b| {
        b.iter(|| read(&source, next.next().unwrap()));
    });
    group.finish();
    assert_eq!(services.metrics.counters.decoder_resumes.get(), 0);
}

fn one_block_of_each_span(source: &dyn BlockSource) -> Vec<BlockNo> {
    let mut random = Random::new();
    let mut blocks: Vec<BlockNo> = (0..source.span_count())
        .map(|span| {
            let blocks = source.blocks_of(SpanNo(span)).unwrap();
            let skip = random.below(u64::from(blocks.end - blocks.start));
            BlockNo(blocks.start + u32::try_from(skip).unwrap())
        })
        .collect();
    for end in (1..blocks.len()).rev() {
        blocks.swap(end, usize_of(random.below(end as u64 + 1)));
    }
    blocks
}

fn read(source: &dyn BlockSource, wanted: BlockNo) {
    let mut found = None;
    source
        .produce(wanted, &mut |block, bytes| {
            if block.no < wanted {
                return ControlFlow::Continue(());
            }
            found = Some(bytes);
            ControlFlow::Break(())
        })
        .unwrap();
    assert!(found.is_some());
}
