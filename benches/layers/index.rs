//! Building an index, and finding names in it.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use distrofs::index::Index;
use distrofs::types::Ino;

use crate::made::{Random, dir_path, file_name, index_sections, tar_stream, usize_of};

const DIRS: u32 = 500;
const FILES_PER_DIR: u32 = 100;

pub(crate) fn benches(criterion: &mut Criterion) {
    let stream = tar_stream(DIRS, FILES_PER_DIR);
    let sections = index_sections(&stream);
    build(criterion, &stream);
    lookup(criterion, &sections.open_index());
}

fn build(criterion: &mut Criterion, stream: &[u8]) {
    let mut group = criterion.benchmark_group("index build");
    let entries = u64::from(DIRS) * u64::from(FILES_PER_DIR + 1);
    group.throughput(Throughput::Elements(entries));
    group.sample_size(20);
    group.bench_function("50,500 entries", |b| b.iter(|| index_sections(stream)));
    group.finish();
}

fn lookup(criterion: &mut Criterion, index: &Index) {
    let mut group = criterion.benchmark_group("lookup");
    group.throughput(Throughput::Elements(1));
    for (name, ending) in [("hit", ""), ("miss", ".gz")] {
        let wanted = names(index, ending);
        let mut next = wanted.iter().cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                let (dir, name) = next.next().unwrap();
                let found = index.lookup(*dir, black_box(name)).unwrap();
                assert_eq!(found.is_some(), ending.is_empty());
                found
            });
        });
    }
    group.finish();
}

/// Directories and names in them, in no order, so that the tables are not in
/// the nearest cache by accident.
fn names(index: &Index, ending: &str) -> Vec<(Ino, Vec<u8>)> {
    let dirs: Vec<Ino> = (0..DIRS)
        .map(|dir| {
            let path = dir_path(dir);
            index.resolve(Ino::ROOT, path.as_bytes(), false).unwrap()
        })
        .collect();
    let files: Vec<String> = (0..FILES_PER_DIR).map(file_name).collect();
    let mut random = Random::new();
    (0..100_000)
        .map(|_| {
            let dir = dirs[usize_of(random.below(DIRS.into()))];
            let file = &files[usize_of(random.below(FILES_PER_DIR.into()))];
            (dir, format!("{file}{ending}").into_bytes())
        })
        .collect()
}
