//! What only the whole layer can show: what was scanned is what is read, in
//! any order, from any dialect of gzip; and damage is never served.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test data is small or meant to be cut"
)]

use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;

use super::scan::{ArchiveError, ScanError, ScanOptions, ScanOutput, scan};
use super::testing::{
    MemoryArchive, Sections, bgzip, gzip, open_region, pigz, sample, scan_memory,
};
use super::{BlockSource, DirectReader, Kind, ReadAt, SourceError, StreamSource};
use crate::metrics::Metrics;
use crate::types::{BlockNo, SpanNo};

const SPAN: u64 = 64 * 1024;

/// A fixed-Huffman block of one literal and `matches` copies of 258 bytes of
/// it, in one member: no boundary anywhere inside.
fn one_block(matches: usize) -> Vec<u8> {
    let mut bits = vec![true, true, false];
    let mut code = |value: u32, len: u32| bits.extend((0..len).rev().map(|i| value >> i & 1 == 1));
    code(0x30 + u32::from(b'a'), 8);
    for _ in 0..matches {
        code(0b1100_0101, 8);
        code(0, 5);
    }
    code(0, 7);
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    out.extend(bits.chunks(8).map(|byte| {
        byte.iter()
            .enumerate()
            .fold(0_u8, |sum, (i, bit)| sum | u8::from(*bit) << i)
    }));
    let data = vec![b'a'; 1 + matches * 258];
    out.extend_from_slice(&crc32fast::hash(&data).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

/// The dialects of [`dialect`].
const DIALECTS: usize = 15;

/// An archive of about `len` bytes in a dialect, its name, and what it holds.
fn dialect(number: usize, len: usize) -> (&'static str, Vec<u8>, Vec<u8>) {
    let data = sample(len);
    let (first, second) = data.split_at(len / 2);
    let (name, archive) = match number {
        0 => ("plain", data.clone()),
        1 => ("stored", gzip(&data, 0)),
        2 => ("fast", gzip(&data, 1)),
        3 => ("default", gzip(&data, 6)),
        4 => ("best", gzip(&data, 9)),
        5 => ("pigz", pigz(&data, 32 * 1024, false)),
        6 => ("pigz -i", pigz(&data, 32 * 1024, true)),
        7 => ("bgzip", bgzip(&data, 65_280)),
        8 => ("small members", bgzip(&data, 300)),
        9 => (
            "concatenated",
            [gzip(first, 6), gzip(&[], 6), gzip(second, 1)].concat(),
        ),
        10 => ("padded", [gzip(&data, 6), vec![0; 700]].concat()),
        11 => ("garbage", [gzip(&data, 6), b"garbage".to_vec()].concat()),
        12 => {
            let noise = gzip(&data, 9);
            return ("noise", gzip(&noise, 6), noise);
        }
        13 => return ("zeros", gzip(&vec![0; len], 6), vec![0; len]),
        _ => {
            return (
                "one block",
                one_block(len / 258),
                vec![b'a'; 1 + len / 258 * 258],
            );
        }
    };
    (name, archive, data)
}

fn dialects(len: usize) -> impl Iterator<Item = (&'static str, Vec<u8>, Vec<u8>)> {
    (0..DIALECTS).map(move |number| dialect(number, len))
}

/// An archive of a few kilobytes with spans that need their windows: what it
/// holds, the archive as `pigz` and as `bgzip` make it, and as it is.
fn small() -> (Vec<u8>, [Vec<u8>; 3]) {
    let piece = sample(500);
    let data: Vec<u8> = (0..75_u8)
        .flat_map(|i| [&piece[..], &[i; 7], &piece[usize::from(i)..]].concat())
        .collect();
    let archives = [pigz(&data, 9000, false), bgzip(&data, 35_000), data.clone()];
    (data, archives)
}

fn read(reader: &dyn ReadAt, at: usize, len: usize) -> Result<Vec<u8>, SourceError> {
    let mut buf = vec![0xee; len];
    reader.read_exact_at(at as u64, &mut buf).map(|()| buf)
}

fn direct(source: StreamSource) -> DirectReader {
    DirectReader::new(Arc::new(source))
}

/// All blocks of a source by one produce call each.
fn blocks_one_by_one(source: &StreamSource, order: impl Iterator<Item = u32>) -> Vec<Vec<u8>> {
    order
        .map(|no| {
            let mut found = None;
            source
                .produce(BlockNo(no), &mut |block, bytes| {
                    assert!(block.no.0 <= no);
                    found = (block.no.0 == no).then_some(bytes);
                    if found.is_some() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })
                .unwrap();
            found.unwrap().to_vec()
        })
        .collect()
}

#[test]
fn what_was_scanned_is_what_is_read_in_both_directions() {
    for (name, archive, data) in dialects(700_000) {
        let (summary, sections, stream) = scan_memory(&archive, SPAN).unwrap();
        assert!(stream == data, "{name}: scan");
        let metrics = Arc::new(Metrics::default());
        let memory = Arc::new(MemoryArchive::new(archive));
        let source = sections.open_with(memory, metrics.clone()).unwrap();
        assert_eq!(
            (source.len(), source.kind()),
            (data.len() as u64, summary.kind),
            "{name}"
        );
        let forward = blocks_one_by_one(&source, 0..summary.blocks).concat();
        assert!(forward == data, "{name}: forward");
        // One block a call, in order: every byte was decoded exactly once.
        assert_eq!(
            metrics.counters.decoded_bytes.get(),
            data.len() as u64,
            "{name}"
        );
        if summary.kind == Kind::Gzip {
            assert_eq!(metrics.counters.checkpoint_restores.get(), 1, "{name}");
        }
        let mut backward = blocks_one_by_one(&source, (0..summary.blocks).rev());
        backward.reverse();
        assert!(backward.concat() == data, "{name}: backward");
        // In pieces that fit no block, in order: once more, each byte once.
        let before = metrics.counters.decoded_bytes.get();
        let reader = direct(source);
        for at in (0..data.len()).step_by(99_733) {
            let end = data.len().min(at + 99_733);
            let piece = read(&reader, at, end - at).unwrap();
            assert!(piece == data[at..end], "{name}: pieces");
        }
        let decoded = metrics.counters.decoded_bytes.get() - before;
        assert_eq!(decoded, data.len() as u64, "{name}: pieces");
        assert!(read(&reader, 0, data.len()).unwrap() == data, "{name}");
    }
}

#[test]
fn tables_are_what_the_format_says() {
    for (name, archive, data) in dialects(700_000) {
        let (summary, sections, _) = scan_memory(&archive, SPAN).unwrap();
        let source = sections.open(archive).unwrap();
        assert_eq!(summary.spans, source.span_count());
        let (mut start, mut first, mut longest) = (0, 0, 0);
        for no in 0..summary.spans {
            let blocks = source.blocks_of(SpanNo(no)).unwrap();
            assert_eq!(blocks.start, first, "{name}");
            let span_start = start;
            for block in blocks.clone() {
                let info = source.block_at(start).unwrap();
                assert_eq!(
                    (info.no, info.span, info.start),
                    (BlockNo(block), SpanNo(no), start)
                );
                start = info.end();
                assert_eq!(source.block_at(start - 1).unwrap(), info);
            }
            first = blocks.end;
            let len = start - span_start;
            longest = longest.max(len);
            // A block that is stored has no place to cut at.
            let lens = SPAN / 8..=SPAN + 64 * 1024;
            assert!(
                lens.contains(&len) || no + 1 == summary.spans,
                "{name}: {len}"
            );
        }
        assert_eq!(
            (start, first, longest),
            (data.len() as u64, summary.blocks, summary.longest_span)
        );
        assert!(source.blocks_of(SpanNo(summary.spans)).is_err());
        assert!(source.block_at(start).is_err());
        assert!(
            source
                .produce(BlockNo(first), &mut |_, _| ControlFlow::Break(()))
                .is_err()
        );
    }
}

#[test]
fn summaries_say_what_was_found() {
    let data = sample(300_000);
    let summary = |archive: &[u8]| scan_memory(archive, SPAN).unwrap().0;
    let plain = summary(&data);
    assert_eq!(
        (plain.kind, plain.members, plain.spans),
        (Kind::Plain, 0, 1)
    );
    let archive = [gzip(&data, 6), gzip(&data, 6)].concat();
    let garbage = [&archive[..], b"\0\0\x1f\x8b\x08"].concat();
    assert_eq!(summary(&archive).garbage_at, None);
    assert_eq!(summary(&garbage).garbage_at, Some(archive.len() as u64));
    assert_eq!(summary(&[&archive[..], &[0; 5]].concat()).garbage_at, None);
    // Where blocks and members refer to nothing before them is where to cut.
    let data = sample(800_000);
    for (archive, members) in [
        (pigz(&data, 64 * 1024, true), 1),
        (bgzip(&data, 65_280), 14),
        (bgzip(&data, 30_000), 28),
    ] {
        let found = scan_memory(&archive, 4 * SPAN).unwrap().0;
        assert_eq!((found.members, found.windows_bytes), (members, 0));
        assert!(found.spans >= 8, "{found:?}");
    }
    // A block without end is cut inside.
    let one = summary(&one_block(4000));
    assert!(one.spans >= 16 && one.longest_span <= SPAN, "{one:?}");
}

#[test]
fn empty_archives_and_empty_streams_are_streams_without_spans() {
    for archive in [vec![], gzip(&[], 6), [gzip(&[], 6), gzip(&[], 0)].concat()] {
        let (summary, sections, stream) = scan_memory(&archive, SPAN).unwrap();
        assert_eq!(
            (summary.stream_len, summary.spans, summary.blocks),
            (0, 0, 0)
        );
        assert!(stream.is_empty());
        let source = sections.open(archive).unwrap();
        assert!(source.is_empty() && source.block_at(0).is_err());
        assert!(
            source
                .produce(BlockNo(0), &mut |_, _| ControlFlow::Break(()))
                .is_err()
        );
        assert_eq!(read(&direct(source), 0, 0).unwrap(), b"");
    }
}

#[test]
fn a_span_restored_by_itself_is_right_with_its_sparse_window() {
    let data = sample(1_500_000);
    for archive in [gzip(&data, 6), gzip(&data, 9), pigz(&data, 50_000, false)] {
        let (summary, sections, _) = scan_memory(&archive, 40_000).unwrap();
        assert!(
            summary.spans > 5 && summary.windows_bytes > 0,
            "{summary:?}"
        );
        // Much less than whole windows would take, even compressed.
        assert!(summary.windows_bytes < u64::from(summary.spans) * 16_000);
        for span in 0..summary.spans {
            let source = sections.open(archive.clone()).unwrap();
            let mut end = 0;
            let first = source.blocks_of(SpanNo(span)).unwrap().start;
            let check = &mut |block: super::BlockInfo, bytes: crate::budget::Block| {
                assert!(bytes[..] == data[block.start as usize..block.end() as usize]);
                end = block.end();
                ControlFlow::Continue(())
            };
            source.produce(BlockNo(first), check).unwrap();
            assert!(end > 0);
        }
    }
}

/// What the windows are for: without them, or with others, there are no bytes.
#[test]
fn a_span_without_its_window_is_an_error() {
    let data = sample(600_000);
    let archive = gzip(&data, 6);
    let (summary, sections, _) = scan_memory(&archive, 40_000).unwrap();
    let mut needed = 0;
    for span in 1..summary.spans as usize {
        let len_at = span * 40 + 24;
        let window_len = &sections.spans[len_at..len_at + 4];
        needed += usize::from(window_len != [0; 4]);
        let mut without = sections.clone();
        without.spans[len_at..len_at + 4].fill(0);
        let source = without.open(archive.clone()).unwrap();
        let blocks = source.blocks_of(SpanNo(span as u32)).unwrap();
        let all = &mut |_: super::BlockInfo, _: crate::budget::Block| ControlFlow::Continue(());
        let result = source.produce(BlockNo(blocks.start), all);
        assert_eq!(result.is_err(), window_len != [0; 4], "span {span}");
    }
    assert!(needed > 5);
}

/// Opens `sections` anew over `archive`, reads everything block by block, and
/// checks that each answer is an error or right; the number of errors.
fn errors_reading(sections: &Sections, archive: Vec<u8>, data: &[u8]) -> usize {
    match sections.open(archive) {
        Ok(source) => errors_reading_source(source, data),
        Err(_) => 1,
    }
}

fn errors_reading_source(source: StreamSource, data: &[u8]) -> usize {
    let mut errors = 0;
    let reader = direct(source);
    let len = usize::try_from(reader.len())
        .unwrap_or(usize::MAX)
        .min(data.len() + 100_000);
    for at in (0..len).step_by(10_000) {
        let n = 10_000.min(len - at);
        match read(&reader, at, n) {
            Ok(bytes) => assert!(
                data.get(at..at + n) == Some(&bytes[..]),
                "wrong bytes at {at}"
            ),
            Err(_) => errors += 1,
        }
    }
    errors
}

#[test]
fn a_flipped_byte_of_the_archive_is_never_served() {
    let (data, [pigz, bgzip, plain]) = small();
    for archive in [pigz, bgzip] {
        let (summary, sections, _) = scan_memory(&archive, 0).unwrap();
        assert!(
            summary.spans > 2 && archive.len() < 6_000,
            "{}",
            archive.len()
        );
        let mut errors = 0;
        for at in 0..archive.len() {
            let mut flipped = archive.clone();
            flipped[at] ^= 1 << (at % 8);
            errors += errors_reading(&sections, flipped, &data).min(1);
        }
        // All but headers and trailers matters.
        assert!(
            errors > archive.len() * 9 / 10,
            "{errors} of {}",
            archive.len()
        );
    }
    let (_, sections, _) = scan_memory(&plain, 0).unwrap();
    for at in (0..plain.len()).step_by(997) {
        let mut flipped = plain.clone();
        flipped[at] ^= 0x10;
        assert!(errors_reading(&sections, flipped, &data) > 0);
    }
}

#[test]
fn a_flipped_bit_of_the_tables_is_never_wrong_bytes() {
    let (data, archives) = small();
    for archive in archives {
        let (_, sections, _) = scan_memory(&archive, 0).unwrap();
        let (region, places) = sections.region();
        // Every bit of the records, and one in some bytes of the rest.
        let records = sections.meta.len() + sections.spans.len();
        for bit in 0..region.len() * 8 {
            if bit / 8 >= records && (bit % 8 != bit / 8 % 8 || bit / 8 % 3 != 0) {
                continue;
            }
            let mut flipped = region.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let memory = Arc::new(MemoryArchive::new(archive.clone()));
            if let Ok(source) = open_region(memory, flipped, &places, Arc::default()) {
                errors_reading_source(source, &data);
            }
        }
    }
}

#[test]
fn tables_that_are_cut_are_refused_on_opening() {
    let (_, [archive, ..]) = small();
    let (_, sections, _) = scan_memory(&archive, 0).unwrap();
    let (region, places) = sections.region();
    let open = |region: Vec<u8>, places: &[_]| {
        let memory = Arc::new(MemoryArchive::new(archive.clone()));
        open_region(memory, region, places, Arc::default())
    };
    for len in 0..region.len() {
        assert!(matches!(
            open(region[..len].to_vec(), &places),
            Err(SourceError::Tables { .. })
        ));
    }
    for missing in 0..places.len() {
        let mut fewer = places.clone();
        fewer.remove(missing);
        assert!(matches!(
            open(region.clone(), &fewer),
            Err(SourceError::Tables { .. })
        ));
        let mut shorter = places.clone();
        shorter[missing].1.end -= 1;
        let error = open(region.clone(), &shorter);
        // A window's frame is looked at when it is needed.
        assert_eq!(
            error.is_err(),
            places[missing].0 != super::tables::SECTION_WINDOWS
        );
    }
    assert!(open(region, &places).is_ok());
    let shorter = archive[..archive.len() - 1].to_vec();
    let error = sections.open(shorter).unwrap_err();
    assert!(
        matches!(error, SourceError::Truncated { wanted: 1, .. }),
        "{error}"
    );
}

#[test]
fn an_archive_cut_anywhere_is_an_error_that_says_where() {
    let (data, [first, second, _]) = small();
    let archive = [&first[..], &second[..]].concat();
    for len in 0..archive.len() {
        match scan_memory(&archive[..len], 0) {
            // Cut between two members: a shorter archive, and nobody can tell.
            Ok((summary, _, stream)) if summary.kind == Kind::Gzip => {
                assert!([&data[..], &data[..]].concat().starts_with(&stream));
                assert!(len >= first.len() && summary.garbage_at.is_none_or(|at| at < len as u64));
            }
            Ok((_, _, stream)) => assert!(len < 3 && stream == archive[..len]),
            Err(ScanError::Archive(ArchiveError::Truncated { at, member_at })) => {
                assert!(at == len as u64 && member_at < at);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn damage_is_found_while_scanning() {
    let (data, [archive, ..]) = small();
    let damage = |at: usize| {
        let mut damaged = archive.clone();
        damaged[at] ^= 1;
        scan_memory(&damaged, 0)
    };
    let scan_error = |at| match damage(at) {
        Err(ScanError::Archive(error)) => error,
        other => panic!("{:?}", other.map(|_| ())),
    };
    let end = archive.len();
    let crc = scan_error(end - 8);
    assert!(
        matches!(
            crc,
            ArchiveError::Checksum {
                what: "CRC-32",
                member_at: 0,
                ..
            }
        ),
        "{crc}"
    );
    let len = scan_error(end - 4);
    assert!(
        matches!(len, ArchiveError::Checksum { what: "length", .. }),
        "{len}"
    );
    let mut flags = archive.clone();
    flags[3] = 0x80;
    match scan_memory(&flags, 0) {
        Err(ScanError::Archive(ArchiveError::Header { at: 3, .. })) => {}
        other => panic!("{:?}", other.map(|_| ())),
    }
    for at in 10..end - 8 {
        // A bit that codes nothing may be anything: right bytes.
        assert!(damage(at).is_err() || damage(at).is_ok_and(|(.., stream)| stream == data));
    }
    match scan_memory(b"\x28\xb5\x2f\xfd....", 0) {
        Err(error) => assert!(error.to_string().contains("zstd -dc"), "{error}"),
        Ok(_) => panic!("zstd is not read"),
    }
}

struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::Error::other("disk full"))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_consumer_may_stop_or_fail_and_the_scan_ends_in_order() {
    let data = sample(3_000_000);
    let mut archive = gzip(&data, 1);
    let run = |archive: &[u8], answer: Result<ControlFlow<()>, &'static str>| {
        let memory = MemoryArchive::new(archive.to_vec());
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        let out = ScanOutput {
            spans: &mut a,
            windows: &mut b,
            checksums: &mut c,
        };
        let mut calls = 0;
        let mut consumer = |_: u64, _: &[u8]| {
            calls += 1;
            answer
        };
        let result = scan(
            &memory,
            &ScanOptions::default(),
            out,
            &mut consumer,
            &|_| {},
        );
        (result, calls)
    };
    let (result, calls) = run(&archive, Ok(ControlFlow::Break(())));
    assert_eq!((result.unwrap().stream_len, calls), (3_000_000, 1));
    let (result, calls) = run(&archive, Err("no tar"));
    assert!(matches!(result, Err(ScanError::Consumer("no tar"))));
    assert_eq!(calls, 1);
    // The end is checked although nobody listens any more.
    let at = archive.len() - 5;
    archive[at] ^= 1;
    assert!(matches!(
        run(&archive, Ok(ControlFlow::Break(()))).0,
        Err(ScanError::Archive(_))
    ));

    let memory = MemoryArchive::new(gzip(&data, 1));
    let (mut spans, mut windows, mut checksums) = (Vec::new(), Vec::new(), Full);
    let out = ScanOutput {
        spans: &mut spans,
        windows: &mut windows,
        checksums: &mut checksums,
    };
    let mut consumer = |_: u64, _: &[u8]| Ok::<_, &str>(ControlFlow::Continue(()));
    let result = scan(
        &memory,
        &ScanOptions::default(),
        out,
        &mut consumer,
        &|_| {},
    );
    assert!(matches!(result, Err(ScanError::Write(_))));
}

#[test]
fn progress_grows_to_the_end_and_the_archive_is_forgotten_behind() {
    let data = sample(9_000_000);
    for archive in [data.clone(), gzip(&data, 0)] {
        let memory = MemoryArchive::new(archive);
        let seen = std::sync::Mutex::new(Vec::new());
        let progress = |read: u64| seen.lock().unwrap().push(read);
        let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
        let out = ScanOutput {
            spans: &mut a,
            windows: &mut b,
            checksums: &mut c,
        };
        let mut consumer = |_: u64, _: &[u8]| Ok::<_, &str>(ControlFlow::Continue(()));
        scan(
            &memory,
            &ScanOptions::default(),
            out,
            &mut consumer,
            &progress,
        )
        .unwrap();
        let seen = seen.into_inner().unwrap();
        assert!(seen.is_sorted() && seen.last() == Some(&memory.len()));
        let forgotten = memory.forgotten.into_inner();
        assert!(
            (7_000_000..=9_100_000 - (1 << 20)).contains(&forgotten),
            "{forgotten}"
        );
    }
}

#[test]
fn a_random_read_of_a_cold_archive_is_one_access() {
    let data = sample(2_000_000);
    let archive = gzip(&data, 6);
    let (summary, sections, _) = scan_memory(&archive, 128 * 1024).unwrap();
    for span in 0..summary.spans {
        let memory = Arc::new(MemoryArchive::new(archive.clone()));
        let source = sections.open_with(memory.clone(), Arc::default()).unwrap();
        let last = source.blocks_of(SpanNo(span)).unwrap().end - 1;
        blocks_one_by_one(&source, [last].into_iter());
        assert_eq!(
            memory.reads.load(std::sync::atomic::Ordering::Relaxed),
            1,
            "span {span}"
        );
    }
}

#[test]
fn many_readers_at_once_get_their_own_bytes() {
    let data = sample(1_000_000);
    let archive = gzip(&data, 6);
    let (_, sections, _) = scan_memory(&archive, SPAN).unwrap();
    let reader = direct(sections.open(archive).unwrap());
    std::thread::scope(|scope| {
        for thread in 0..16_usize {
            let (reader, data) = (&reader, &data);
            scope.spawn(move || {
                for i in 0..10 {
                    let at = (thread * 104_729 + i * 350_377) % 900_000;
                    assert!(read(reader, at, 50_000).unwrap() == data[at..at + 50_000]);
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn any_read_of_any_archive_is_right(
        len in 0_usize..400_000,
        number in 0..DIALECTS,
        span in 0_u64..100_000,
        reads in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..70_000), 1..20),
    ) {
        let (_, archive, data) = dialect(number, len);
        let (_, sections, stream) = scan_memory(&archive, span).unwrap();
        prop_assert!(stream == data);
        let reader = direct(sections.open(archive).unwrap());
        for (at, len) in reads {
            let at = at.index(data.len() + 1);
            let end = data.len().min(at + len);
            prop_assert!(read(&reader, at, end - at).unwrap() == data[at..end]);
            prop_assert!(read(&reader, at, data.len() - at + 1).is_err());
        }
    }

    #[test]
    fn noise_in_place_of_an_archive_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let archive = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &bytes].concat();
        prop_assert!(scan_memory(&archive, 0).is_err() || bytes.len() > 8);
    }
}
