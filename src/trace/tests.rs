//! What is written is read again, and nothing else is taken for it.

use proptest::prelude::*;

use super::*;

fn image() -> TracedImage {
    TracedImage {
        digest: [7; 32],
        name: "web".to_owned(),
        stream_bytes: 1_000_000,
        archive_bytes: 400_000,
        spans: [(0, 0), (300_000, 100_000), (600_000, 250_000)]
            .map(|(stream, archive)| SpanStart { stream, archive })
            .to_vec(),
    }
}

fn reads() -> Vec<Read> {
    let whole = Read {
        at_us: 10,
        ino: 5,
        offset: 0,
        len: 131_072,
        stream: Some(512),
        outcome: Outcome {
            hits: 1,
            joined: 0,
            misses: 8,
        },
        us: 130,
        ..Read::default()
    };
    let follows = Read {
        at_us: 8,
        offset: 131_072,
        stream: Some(131_584),
        ..whole
    };
    let hole = Read {
        continues: true,
        at_us: 8,
        us: 0,
        offset: 262_144,
        stream: None,
        outcome: Outcome::default(),
        ..whole
    };
    vec![whole, follows, hole]
}

fn written(reads: &[Read], bytes_max: u64) -> (Vec<u8>, Totals) {
    let origin = Origin {
        program: "test".to_owned(),
        cache_bytes: Some(1 << 20),
        ..Origin::default()
    };
    let mut writer = TraceWriter::new(Vec::new(), &origin, bytes_max).unwrap();
    assert_eq!(writer.image(&image()).unwrap(), 0);
    for read in reads {
        writer.read(read).unwrap();
    }
    writer.finish(99).unwrap()
}

fn trace(bytes: &[u8]) -> Result<Trace, TraceError> {
    Trace::from_reader(bytes, false)
}

#[test]
fn what_was_written_is_read() {
    let (bytes, totals) = written(&reads(), u64::MAX);
    let trace = trace(&bytes).unwrap();
    assert_eq!(trace.records().collect::<Vec<_>>(), reads());
    assert_eq!(trace.images(), [image()]);
    assert_eq!(trace.origin().cache_bytes, Some(1 << 20));
    assert_eq!(trace.totals(), totals);
    assert_eq!((totals.records, totals.duration_us), (3, 99));
    assert!(trace.is_whole());
}

#[test]
fn a_record_takes_a_few_bytes() {
    let read = reads()[0];
    let many: Vec<Read> = (0..10_000_u64)
        .map(|n| Read {
            at_us: n * 37,
            ino: n / 4,
            offset: n % 4 * 131_072,
            stream: Some(n * 80 % 800_000),
            ..read
        })
        .collect();
    let (bytes, _) = written(&many, u64::MAX);
    assert!(bytes.len() < 16 * many.len(), "{}", bytes.len());
    assert!(trace(&bytes).unwrap().records().eq(many));
}

#[test]
fn a_bound_is_kept_and_what_found_no_room_is_counted() {
    let many = vec![reads()[0]; 100_000];
    for bytes_max in [1000, 5000, 200_000] {
        let (bytes, totals) = written(&many, bytes_max);
        assert!(bytes.len() as u64 <= bytes_max, "{}", bytes.len());
        assert_eq!(totals.records + totals.left_out, 100_000);
        assert!(totals.records > 0);
        assert_eq!(
            trace(&bytes).unwrap().records().count() as u64,
            totals.records
        );
    }
}

#[test]
fn wherever_it_was_cut_off_is_said_and_partly_taken_if_asked() {
    let (bytes, _) = written(&reads(), u64::MAX);
    for end in 0..bytes.len() {
        let cut = &bytes[..end];
        match trace(cut).unwrap_err() {
            TraceError::Foreign => assert!(end < 8),
            TraceError::Truncated { .. } => assert!(end >= 8),
            other => panic!("{end}: {other}"),
        }
        if end >= 16 {
            let partial = Trace::from_reader(cut, true).unwrap();
            assert!(!partial.is_whole());
            let records = partial.records().count();
            assert!(records == 0 || partial.records().eq(reads()));
        }
    }
}

#[test]
fn anything_else_is_not_a_trace() {
    for bytes in [
        &b""[..],
        b"DFSTRAC",
        &[0; 100],
        b"\x1f\x8b\x08\x00 a gzip file",
    ] {
        assert!(matches!(trace(bytes).unwrap_err(), TraceError::Foreign));
    }
    let (mut bytes, _) = written(&reads(), u64::MAX);
    bytes[8] = 2;
    let error = trace(&bytes).unwrap_err();
    assert!(matches!(error, TraceError::Version { found: 2, known: 1 }));
    let (mut bytes, _) = written(&reads(), u64::MAX);
    bytes.push(0);
    assert!(matches!(
        trace(&bytes).unwrap_err(),
        TraceError::Damaged { .. }
    ));
}

#[test]
fn no_changed_byte_goes_unnoticed() {
    let (bytes, _) = written(&reads(), u64::MAX);
    for at in 16..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        // The three bytes behind a frame's kind mean nothing.
        if let Ok(trace) = trace(&changed) {
            assert!(trace.records().eq(reads()), "{at}");
        }
    }
}

#[test]
fn reads_outside_of_an_image_are_refused() {
    let mut outside = reads();
    outside[0].stream = Some(999_999);
    let mut unknown = reads();
    unknown[0].image = 1;
    for reads in [outside, unknown] {
        let (bytes, _) = written(&reads, u64::MAX);
        assert!(matches!(
            trace(&bytes).unwrap_err(),
            TraceError::Damaged { .. }
        ));
    }
}

fn any_read() -> impl Strategy<Value = Read> {
    let places = (any::<u64>(), 0..2000_u64, 0..u64::MAX / 2, 0..100_000_u32);
    let rest = (
        proptest::option::of(0..900_000_u64),
        any::<bool>(),
        any::<[u32; 4]>(),
    );
    (places, rest).prop_map(|((at_us, ino, offset, len), (stream, continues, n))| Read {
        at_us,
        image: 0,
        ino,
        offset,
        len,
        stream,
        continues,
        outcome: match stream {
            Some(_) => Outcome {
                hits: n[0],
                joined: n[1],
                misses: n[2],
            },
            None => Outcome::default(),
        },
        us: if continues { 0 } else { n[3] },
    })
}

proptest! {
    #[test]
    fn any_reads_come_back(mut reads in proptest::collection::vec(any_read(), 0..50)) {
        // A further piece is of the same time as the one before.
        let mut at = 0;
        for read in &mut reads {
            if read.continues {
                read.at_us = at;
            }
            at = read.at_us;
        }
        let (bytes, _) = written(&reads, u64::MAX);
        prop_assert!(trace(&bytes).unwrap().records().eq(reads));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut whole = super::frame::header().to_vec();
        whole.extend(&bytes);
        drop(trace(&whole));
        let reads = super::frame::frame_header(super::frame::Kind::Reads, &bytes);
        let (mut framed, _) = written(&[], u64::MAX);
        framed.truncate(framed.len() - 15);
        framed.extend(reads);
        framed.extend(&bytes);
        drop(Trace::from_reader(&framed[..], true));
    }
}
