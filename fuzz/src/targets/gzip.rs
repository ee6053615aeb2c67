//! gzip streams, damaged in any way, against what flate2 makes of them.

use std::io::Read;
use std::sync::Arc;

use distrofs::source::{BlockSource, DirectReader, ReadAt};
use flate2::read::MultiGzDecoder;

use super::super::archive::{Packing, gzip};
use super::super::image::{Changeable, STREAM_KEPT_MAX, open_source, scan_only};
use super::super::random::Random;

const SPAN_BYTES: u64 = 32 * 1024;
/// Bits of the flags of a gzip header that no version of it has.
const RESERVED_FLAGS: u8 = 0xe0;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut random = Random::new(5);
    let noise = random.bytes(3000);
    let text: Vec<u8> = (0..12_000)
        .flat_map(|i: u32| format!("{} ", i * i % 997).into_bytes())
        .collect();
    let mixed: Vec<u8> = text
        .iter()
        .chain(&noise)
        .chain(&[0; 90_000])
        .chain(&text)
        .copied()
        .collect();
    let mut seeds: Vec<Vec<u8>> = Packing::ALL[1..].iter().map(|p| p.pack(&mixed)).collect();
    seeds.extend([
        gzip(b"", 6),
        gzip(b"x", 6),
        gzip(&noise, 0),
        gzip(&text, 1),
        gzip(&text, 9),
    ]);
    let mut padded = gzip(b"padded", 6);
    padded.extend([0; 700]);
    seeds.push(padded);
    let mut trailed = gzip(b"trailed", 6);
    trailed.extend(b"garbage");
    seeds.push(trailed);
    seeds
}

pub(super) fn run(input: &[u8]) {
    let scanned = scan_only(input, SPAN_BYTES);
    if !input.starts_with(b"\x1f\x8b\x08") {
        return;
    }
    let mut expected = Vec::new();
    let mut decoder = MultiGzDecoder::new(input).take(STREAM_KEPT_MAX as u64);
    let decoded = decoder.read_to_end(&mut expected);
    if expected.len() == STREAM_KEPT_MAX {
        return;
    }
    let Ok(scanned) = scanned else {
        let odd = members_have_reserved_flags(input);
        assert!(
            decoded.is_err() || odd,
            "refused, but flate2 decodes it: {:?}",
            scanned.err()
        );
        return;
    };
    assert!(
        scanned.stream == expected,
        "the stream is not what flate2 makes of it"
    );
    let archive = Arc::new(Changeable::new(input.to_vec()));
    let places = &scanned.sections.places;
    let find = |id| places.get(&id).cloned();
    let region = Arc::new(scanned.sections.bytes.clone());
    let source = open_source(region, &find, archive);
    let source = source.unwrap_or_else(|e| panic!("new tables do not open: {e}"));
    assert_eq!(source.len(), expected.len() as u64);
    let reader = DirectReader::new(source);
    let mut random = Random::new(input.len() as u64);
    for _ in 0..12 {
        let at = random.below(expected.len() + 1);
        let len = random.below(20_000).min(expected.len() - at);
        let mut found = vec![0; len];
        let read = reader.read_exact_at(at as u64, &mut found);
        read.unwrap_or_else(|e| panic!("{len} bytes at {at}: {e}"));
        assert!(
            found == expected[at..at + len],
            "wrong bytes at {at}..{}",
            at + len
        );
    }
}

/// Whether what looks like a header anywhere has flags that must be refused,
/// which flate2 may overlook.
fn members_have_reserved_flags(input: &[u8]) -> bool {
    let heads = input
        .windows(4)
        .filter(|head| head.starts_with(b"\x1f\x8b"));
    heads.into_iter().any(|head| head[3] & RESERVED_FLAGS != 0)
}
