//! Against zlib, which encodes for these tests, and decodes for comparison.

use std::io::Write;

use proptest::prelude::*;

use super::*;

fn deflate(data: &[u8], level: u32) -> Vec<u8> {
    let level = flate2::Compression::new(level);
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Letters in no order, with copies of all lengths and distances in between.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut out = Vec::with_capacity(len + 600);
    while out.len() < len {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        out.push(b'a' + state.to_le_bytes()[3] % 23);
        if (state >> 8).is_multiple_of(4) && out.len() > 40_000 {
            let far = [40, 300, 20_000, 32_768][(state >> 10) as usize % 4];
            let at = out.len() - 1 - (state >> 12) as usize % far;
            let end = (at + (state >> 20) as usize % 500).min(out.len());
            out.extend_from_within(at..end);
            if (state >> 14).is_multiple_of(5) {
                let period = out[out.len() - (state >> 17) as usize % 18 - 1..].to_vec();
                (0..9).for_each(|_| out.extend_from_slice(&period));
            }
        }
    }
    out.truncate(len);
    out
}

/// All that comes out, given `piece` bytes of input more at a time and asked for
/// `wanted` bytes at a time; and how much of the input was used.
fn decode(packed: &[u8], piece: usize, wanted: usize) -> Result<(Vec<u8>, usize), &'static str> {
    let mut inflate = Inflate::new();
    inflate.start(&[]);
    let (mut at, mut end, mut out) = (0, 0, Vec::new());
    loop {
        let (used, status) = inflate.inflate(&packed[at..end], wanted)?;
        at += used;
        out.extend_from_slice(inflate.pending());
        inflate.take(inflate.pending().len());
        match status {
            Status::End => return Ok((out, at)),
            Status::NeedInput if end == packed.len() => return Err("cut"),
            Status::NeedInput => end = packed.len().min(end + piece),
            Status::Enough | Status::Block => {}
        }
    }
}

#[test]
fn what_was_deflated_comes_out_however_it_is_fed() {
    let data = text(300_000);
    for level in 0..=9 {
        for len in [0, 1, 2, 3, 100, 5000, 300_000] {
            let packed = [deflate(&data[..len], level), vec![0xa5; 20]].concat();
            for (piece, wanted) in [(1, 1), (7, 1000), (1 << 20, WANTED_MAX), (300, usize::MAX)] {
                let (out, used) = decode(&packed, piece, wanted).unwrap();
                assert!(out == data[..len], "level {level}, {len} bytes");
                assert_eq!(used, packed.len() - 20);
            }
        }
    }
}

/// A run of one byte, and of each period: copies that overlap themselves.
#[test]
fn copies_repeat_what_they_copied() {
    for period in 1..40 {
        let data: Vec<u8> = (0..9000)
            .map(|i| b"0123456789abcdefghijklmnopqrstuvwxyzABCD"[i % period])
            .collect();
        let (out, _) = decode(&deflate(&data, 9), 1 << 20, WANTED_MAX).unwrap();
        assert!(out == data, "period {period}");
    }
}

/// Any place between two symbols is one to start from, given the window before
/// it, and of the window only what was referred to.
#[test]
fn decoding_can_start_between_any_two_symbols() {
    let data = text(200_000);
    for (level, step) in [(1, 997), (6, 1499), (9, 30_000)] {
        let packed = deflate(&data, level);
        let mut inflate = Inflate::new();
        inflate.start(&[]);
        let (mut at, mut out) = (0, 0);
        let mut places = Vec::new();
        loop {
            let (used, status) = inflate.inflate(&packed[at..], step).unwrap();
            at += used;
            out += inflate.pending().len();
            inflate.take(inflate.pending().len());
            let bit = at * 8 - inflate.held_bits() as usize;
            match status {
                Status::Enough if inflate.is_at_symbol() => {
                    places.push((out, inflate.block_header().to_vec(), bit));
                }
                Status::Enough | Status::NeedInput | Status::Block => {}
                Status::End => break,
            }
        }
        assert!(places.len() > 5, "{} places", places.len());
        for (out, header, bit) in places {
            assert!(header.len() <= HEADER_BYTES_MAX);
            let mut window = data[out.saturating_sub(WINDOW_BYTES)..out].to_vec();
            for round in 0..2 {
                inflate.start(&window);
                inflate.enter(&header).unwrap();
                let mut at = go_to(&mut inflate, &packed, bit);
                let behind = inflate.place();
                inflate.watch(true);
                let mut found = Vec::new();
                while found.len() < WINDOW_BYTES {
                    let (used, status) = inflate.inflate(&packed[at..], WANTED_MAX).unwrap();
                    at += used;
                    found.extend_from_slice(inflate.pending());
                    inflate.take(inflate.pending().len());
                    if status == Status::End {
                        break;
                    }
                }
                assert!(
                    found == data[out..out + found.len()],
                    "{out}, round {round}"
                );
                inflate.watch(false);
                let references = inflate.references();
                references.clear_unused(0, behind, &mut window);
                references.forget(references.count());
            }
        }
    }
}

/// Feeds the rest of the byte in which `bit` is; answers the byte behind it.
fn go_to(inflate: &mut Inflate, packed: &[u8], bit: usize) -> usize {
    let skipped = u32::try_from(bit % 8).unwrap();
    match skipped {
        0 => inflate.jump(0, 0),
        _ => inflate.jump(packed[bit / 8] >> skipped, 8 - skipped),
    }
    bit.div_ceil(8)
}

/// What zlib says of the same bytes.
fn reference(packed: &[u8]) -> Option<Vec<u8>> {
    let mut zlib = flate2::Decompress::new(false);
    let mut out = Vec::new();
    loop {
        out.reserve(4096);
        let (before, rest) = (
            out.len(),
            &packed[usize::try_from(zlib.total_in()).unwrap()..],
        );
        match zlib
            .decompress_vec(rest, &mut out, flate2::FlushDecompress::None)
            .ok()?
        {
            flate2::Status::StreamEnd => return Some(out),
            _ if rest.is_empty() && out.len() == before => return None,
            _ => {}
        }
    }
}

#[test]
fn damage_is_refused_as_zlib_refuses_it() {
    for (packed, what) in [
        (&[0xff_u8; 10][..], "invalid block type"),
        (&[1, 0, 0, 0, 0], "invalid stored block lengths"),
        // A fixed block that begins with a copy.
        (&[0x03, 0x02, 0, 0, 0], "invalid distance too far back"),
        (
            &[0xfd, 0xff, 0xff, 0xff],
            "too many length or distance symbols",
        ),
    ] {
        assert_eq!(decode(packed, 100, 100), Err(what));
        assert_eq!(reference(packed), None);
    }
    assert_eq!(decode(&[], 1, 1), Err("cut"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Flipped bits: the same output, or refused by both.
    #[test]
    fn damaged_streams_are_what_zlib_makes_of_them(
        len in 0..3000_usize,
        level in 0..10_u32,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8_u32), 0..4),
        piece in 1..600_usize,
    ) {
        let mut packed = deflate(&text(43_000)[40_000..40_000 + len], level);
        for (at, bit) in flips {
            // Mostly in the header, where most can go wrong.
            let at = at.index(packed.len()).min(at.index(120));
            packed[at] ^= 1 << bit;
        }
        let found = decode(&packed, piece, 1 + piece * 7 % 999).ok().map(|(out, _)| out);
        prop_assert_eq!(found, reference(&packed));
    }

    /// Headers of noise, which no compressor writes.
    #[test]
    fn noise_is_what_zlib_makes_of_it(mut packed in prop::collection::vec(any::<u8>(), 1..300)) {
        packed[0] = packed[0] & 0xf8 | 4 | 1;
        let found = decode(&packed, 1000, 1000).ok().map(|(out, _)| out);
        prop_assert_eq!(found, reference(&packed));
    }
}
