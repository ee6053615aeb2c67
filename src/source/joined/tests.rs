//! Joined streams against the bytes that they are made of.

#![allow(clippy::cast_possible_truncation, reason = "test data is small")]

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;
use crate::source::testing::{gzip, sample, scan_memory};
use crate::source::{DirectReader, ReadAt};

fn scanned(stream: &[u8], compressed: bool) -> Arc<dyn BlockSource> {
    let archive = match compressed {
        true => gzip(stream, 6),
        false => stream.to_vec(),
    };
    let (_, sections, found) = scan_memory(&archive, 40_000).unwrap();
    assert_eq!(found, stream);
    Arc::new(sections.open(archive).unwrap())
}

/// Every block and every span lies where its bytes do, and gives them.
fn assert_is(joined: &Joined, expected: &[u8]) {
    assert_eq!(joined.len(), expected.len() as u64);
    let (mut at, mut no) = (0, 0);
    for span in 0..joined.span_count() {
        let blocks = joined.blocks_of(SpanNo(span)).unwrap();
        assert_eq!(blocks.start, no);
        for wanted in blocks.clone() {
            let info = joined.block_at(at).unwrap();
            assert_eq!((info.no.0, info.span.0, info.start), (wanted, span, at));
            assert_eq!(joined.block_at(info.end() - 1).unwrap(), info);
            let mut found = None;
            let sink = &mut |block: BlockInfo, bytes: crate::budget::Block| {
                assert_eq!(block.span.0, span, "a span of another part");
                let range = block.start as usize..block.end() as usize;
                assert_eq!(&bytes[..], &expected[range]);
                found = (block.no.0 == wanted).then_some(block);
                match found {
                    Some(_) => ControlFlow::Break(()),
                    None => ControlFlow::Continue(()),
                }
            };
            joined.produce(BlockNo(wanted), sink).unwrap();
            assert_eq!(found, Some(info));
            at = info.end();
        }
        no = blocks.end;
    }
    assert_eq!(at, joined.len());
    joined.intact().unwrap();
    assert!(joined.blocks_of(SpanNo(joined.span_count())).is_err());
    assert!(joined.produce(BlockNo(no), &mut |_, _| panic!()).is_err());
    for outside in [at, at + 1, u64::MAX] {
        let error = joined.block_at(outside).unwrap_err();
        assert!(matches!(error, SourceError::OutOfRange { stream_len, .. } if stream_len == at));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_joined_stream_is_its_parts_end_to_end(
        parts in proptest::collection::vec((0_usize..150_000, any::<bool>()), 0..6),
        reads in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..70_000), 8),
    ) {
        let streams: Vec<_> = (parts.iter().enumerate())
            // An empty archive is none at all when it is not compressed.
            .map(|(n, (len, _))| sample(len * usize::from(n != 2) + n)[n..].to_vec())
            .collect();
        let sources = streams.iter().zip(&parts);
        let sources = sources.map(|(s, (_, packed))| scanned(s, *packed || s.is_empty()));
        let joined = Joined::new(sources.collect()).unwrap();
        let expected = streams.concat();
        assert_is(&joined, &expected);
        let reader = DirectReader::new(Arc::new(joined));
        for (at, len) in reads {
            let at = at.index(expected.len() + 1);
            let len = len.min(expected.len() - at);
            let mut found = vec![0; len];
            reader.read_exact_at(at as u64, &mut found).unwrap();
            prop_assert_eq!(&found[..], &expected[at..at + len]);
        }
    }
}

/// A source that says any numbers of itself.
struct Claims {
    len: u64,
    spans: u32,
    blocks: u32,
    broken: bool,
}

impl BlockSource for Claims {
    fn len(&self) -> u64 {
        self.len
    }

    fn span_count(&self) -> u32 {
        self.spans
    }

    fn block_at(&self, at: u64) -> Result<BlockInfo, SourceError> {
        Ok(BlockInfo {
            no: BlockNo(self.blocks),
            span: SpanNo(0),
            start: at,
            len: 1,
        })
    }

    fn blocks_of(&self, _: SpanNo) -> Result<Range<u32>, SourceError> {
        Ok(0..self.blocks)
    }

    fn place_of(&self, _: SpanNo) -> Result<SpanPlace, SourceError> {
        Ok(SpanPlace {
            stream: self.len,
            archive: self.len,
        })
    }

    fn archive_len(&self) -> u64 {
        0
    }

    fn intact(&self) -> Result<(), SourceError> {
        match self.broken {
            true => Err(damaged("as claimed")),
            false => Ok(()),
        }
    }

    fn produce(&self, _: BlockNo, sink: &mut BlockSink<'_>) -> Result<(), SourceError> {
        let block = MemoryBudget::new(1 << 20).block(1).freeze();
        let flow = sink(self.block_at(0)?, block);
        assert!(flow.is_break());
        Ok(())
    }
}

const SMALL: Claims = Claims {
    len: 10,
    spans: 1,
    blocks: 1,
    broken: false,
};

fn join(parts: Vec<Claims>) -> Result<Joined, SourceError> {
    let parts = parts.into_iter().map(|part| Arc::new(part) as Arc<_>);
    Joined::new(parts.collect())
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    let large = [
        Claims {
            len: u64::MAX,
            ..SMALL
        },
        Claims {
            spans: u32::MAX,
            ..SMALL
        },
        Claims {
            blocks: u32::MAX,
            ..SMALL
        },
    ];
    for part in large {
        let error = join(vec![SMALL, part]).unwrap_err();
        assert!(
            matches!(error, SourceError::Part { part: 1, .. }),
            "{error}"
        );
    }
}

/// A block number that is not of this part would be cached as a block of the
/// next one, and served for it.
#[test]
fn a_part_cannot_speak_for_another() {
    let joined = join(vec![SMALL, SMALL]).unwrap();
    assert!(matches!(
        joined.block_at(0),
        Err(SourceError::Part { part: 0, .. })
    ));
    assert!(joined.produce(BlockNo(1), &mut |_, _| panic!()).is_err());
}

#[test]
fn errors_say_which_part() {
    let parts = [false, true].map(|broken| Claims { broken, ..SMALL });
    assert!(join(parts.into()).is_err());
    let stream = sample(100_000);
    let (_, sections, _) = scan_memory(&stream, 40_000).unwrap();
    let mut changed = stream.clone();
    changed[50_000] ^= 1;
    let metrics = Arc::new(Metrics::default());
    let archive = Arc::new(crate::source::testing::MemoryArchive::new(changed));
    let second = sections.open_with(archive, metrics).unwrap();
    let joined = Joined::new(vec![scanned(&stream, true), Arc::new(second)]).unwrap();
    let bad = joined.block_at(150_000).unwrap();
    let error = joined.produce(bad.no, &mut |_, _| ControlFlow::Continue(()));
    let error = error.unwrap_err();
    let SourceError::Part { part: 1, cause } = &error else {
        panic!("{error}");
    };
    assert!(
        matches!(**cause, SourceError::Checksum { start, end } if start <= 50_000 && 50_000 < end)
    );
    assert!(error.to_string().starts_with("patch 1 of the image: "));
}
