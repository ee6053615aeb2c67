//! Reading what is in the cache, alone and at the same time as others.

use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use distrofs::cache::{BlockCache, CachedReader, ImageId, Prefetcher};
use distrofs::source::ReadAt;

use crate::made::{MEMORY_BYTES, Memory, Random, gzip, scanned, stream, usize_of};

/// What the kernel asks for at once.
const READ_BYTES: u64 = 128 * 1024;
/// Less than the cache of a process with the memory it has unless told otherwise.
const STREAM_BYTES: usize = 16 << 20;

pub(crate) fn benches(criterion: &mut Criterion) {
    let reader = warm_reader();
    let mut group = criterion.benchmark_group("cached read");
    group.throughput(Throughput::Bytes(READ_BYTES));
    group.bench_function("128 KiB", |b| {
        let mut reads = Reads::new(&reader, 0);
        b.iter(|| reads.next());
    });
    group.finish();
    let mut group = criterion.benchmark_group("contended read");
    for threads in [2_u32, 4, 8] {
        group.throughput(Throughput::Bytes(u64::from(threads) * READ_BYTES));
        group.bench_function(BenchmarkId::new("threads", threads), |b| {
            b.iter_custom(|reads| contended(&reader, threads, reads));
        });
    }
    group.finish();
}

/// As a mount has it, with all of the stream in the cache.
fn warm_reader() -> Arc<CachedReader> {
    let archive = Arc::new(Memory(gzip(&stream(STREAM_BYTES))));
    let scanned = scanned(&archive);
    let (source, services) = scanned.open(archive, MEMORY_BYTES);
    let cache = BlockCache::new(&services.budget, Arc::clone(&services.metrics)).unwrap();
    let reader = CachedReader::new(
        ImageId(0),
        Arc::new(source),
        Arc::new(cache),
        Some(Prefetcher::start().unwrap()),
        services.metrics,
    );
    let mut all = vec![0; usize_of(reader.len())];
    reader.read_exact_at(0, &mut all).unwrap();
    reader
}

/// Reads at random places, none of which has to be decoded.
struct Reads<'a> {
    reader: &'a CachedReader,
    random: Random,
    buffer: Vec<u8>,
}

impl<'a> Reads<'a> {
    /// Those of thread `number`, other ones than those of the others.
    fn new(reader: &'a CachedReader, number: u32) -> Self {
        let mut random = Random::new();
        (0..number).for_each(|_| {
            random.below(1);
        });
        let buffer = vec![0; usize_of(READ_BYTES)];
        Self {
            reader,
            random,
            buffer,
        }
    }

    fn next(&mut self) {
        let at = self.random.below(self.reader.len() - READ_BYTES);
        let cached = self.reader.try_read_exact_at(at, &mut self.buffer);
        assert!(cached.unwrap(), "not in the cache");
    }
}

/// How long it takes until each of the threads has done `reads`.
fn contended(reader: &CachedReader, threads: u32, reads: u64) -> Duration {
    let begin = Barrier::new(usize_of(threads.into()) + 1);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..threads)
            .map(|number| {
                let begin = &begin;
                scope.spawn(move || {
                    let mut own = Reads::new(reader, number);
                    begin.wait();
                    (0..reads).for_each(|_| own.next());
                })
            })
            .collect();
        begin.wait();
        let began = Instant::now();
        for reader in readers {
            reader.join().unwrap();
        }
        began.elapsed()
    })
}
