//! Small traces for the tests of this layer.

use super::random::Random;
use crate::trace::{Origin, Read, SpanStart, Trace, TraceWriter, TracedImage};

/// A compressed image whose spans begin at these kibibytes.
pub(super) fn image(stream_bytes: u64, spans_kib: &[u64]) -> TracedImage {
    let spans = spans_kib.iter().map(|kib| SpanStart {
        stream: kib << 10,
        archive: kib << 9,
    });
    TracedImage {
        name: "test".to_owned(),
        stream_bytes,
        archive_bytes: stream_bytes / 2,
        spans: spans.collect(),
        ..TracedImage::default()
    }
}

/// A compressed image of uneven spans of about `span_kib`.
pub(super) fn uneven(random: &mut Random, stream_bytes: u64, span_kib: u64) -> TracedImage {
    let mut image = image(stream_bytes, &[0]);
    let mut at = 0;
    loop {
        at += (span_kib << 10) + random.below(20_000);
        if at >= stream_bytes {
            return image;
        }
        image.spans.push(SpanStart {
            stream: at,
            archive: at / 2,
        });
    }
}

/// The same, not compressed.
pub(super) fn plain(mut image: TracedImage) -> TracedImage {
    image.archive_bytes = image.stream_bytes;
    for span in &mut image.spans {
        span.archive = span.stream;
    }
    image
}

pub(super) fn read(image: u32, at: u64, len: u32) -> Read {
    Read {
        image,
        ino: 2,
        offset: at,
        len,
        stream: Some(at),
        ..Read::default()
    }
}

pub(super) fn trace(images: &[TracedImage], reads: &[Read]) -> Trace {
    let mut writer = TraceWriter::new(Vec::new(), &Origin::default(), u64::MAX).unwrap();
    for image in images {
        writer.image(image).unwrap();
    }
    for read in reads {
        assert!(writer.read(read).unwrap());
    }
    let (bytes, _) = writer.finish(0).unwrap();
    Trace::from_reader(&bytes[..], false).unwrap()
}

/// Reads at random places, small ones and large ones, and some that go on.
pub(super) fn random_reads(
    random: &mut Random,
    images: &[TracedImage],
    count: usize,
    bytes_max: u64,
) -> Vec<Read> {
    let mut reads: Vec<Read> = Vec::with_capacity(count);
    for _ in 0..count {
        let image = random.below(images.len() as u64);
        let end = images[usize::try_from(image).unwrap()].stream_bytes;
        let last = reads.last().filter(|last| u64::from(last.image) == image);
        let at = match (random.below(4), last) {
            (
                0 | 1,
                Some(Read {
                    stream: Some(at),
                    len,
                    ..
                }),
            ) => (at + u64::from(*len)) % end,
            (2, _) => random.below(end.min(end / 8 + 1)),
            _ => random.below(end),
        };
        let len = (1 + random.below(bytes_max)).min(end - at);
        reads.push(read(
            u32::try_from(image).unwrap(),
            at,
            u32::try_from(len).unwrap(),
        ));
    }
    reads
}
