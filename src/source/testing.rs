//! What the tests of this layer share: archives in memory, gzip streams of all
//! dialects, and the way from an archive to an opened source.
#![allow(
    clippy::cast_possible_truncation,
    reason = "test data is small or meant to be cut"
)]

use std::convert::Infallible;
use std::io::Write;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::{Compression, GzBuilder};

use super::scan::{ScanError, ScanOptions, ScanOutput, ScanSummary, scan};
use super::tables::{SECTION_CHECKSUMS, SECTION_META, SECTION_SPANS, SECTION_WINDOWS};
use super::{Decoders, ReadAt, SourceError, StreamSource};
use crate::budget::MemoryBudget;
use crate::metrics::Metrics;

/// An archive in memory, which counts the reads of it.
#[derive(Debug)]
pub(crate) struct MemoryArchive {
    bytes: Vec<u8>,
    pub(crate) reads: AtomicU64,
    pub(crate) forgotten: AtomicU64,
}

impl MemoryArchive {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            reads: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }
}

impl ReadAt for MemoryArchive {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (len, stream_len) = (buf.len() as u64, self.len());
        let end = at.checked_add(len).filter(|end| *end <= stream_len);
        let end = end.ok_or(SourceError::OutOfRange {
            at,
            len,
            stream_len,
        })?;
        buf.copy_from_slice(&self.bytes[at as usize..end as usize]);
        Ok(())
    }

    fn forget(&self, range: Range<u64>) {
        let before = self.forgotten.swap(range.end, Ordering::Relaxed);
        assert_eq!(before, range.start, "forgotten in order");
    }
}

/// The four sections that a scan makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sections {
    pub(crate) meta: Vec<u8>,
    pub(crate) spans: Vec<u8>,
    pub(crate) windows: Vec<u8>,
    pub(crate) checksums: Vec<u8>,
}

impl Sections {
    /// One region of all sections, and where each is.
    pub(crate) fn region(&self) -> (Vec<u8>, Vec<(u32, Range<usize>)>) {
        let (mut bytes, mut places) = (Vec::new(), Vec::new());
        for (id, section) in [
            (SECTION_META, &self.meta),
            (SECTION_SPANS, &self.spans),
            (SECTION_WINDOWS, &self.windows),
            (SECTION_CHECKSUMS, &self.checksums),
        ] {
            places.push((id, bytes.len()..bytes.len() + section.len()));
            bytes.extend_from_slice(section);
        }
        (bytes, places)
    }

    /// The source of `archive` by these sections.
    pub(crate) fn open(&self, archive: Vec<u8>) -> Result<StreamSource, SourceError> {
        let metrics = Arc::new(Metrics::default());
        self.open_with(Arc::new(MemoryArchive::new(archive)), metrics)
    }

    pub(crate) fn open_with(
        &self,
        archive: Arc<dyn ReadAt>,
        metrics: Arc<Metrics>,
    ) -> Result<StreamSource, SourceError> {
        let (region, places) = self.region();
        open_region(archive, region, &places, metrics)
    }
}

pub(crate) fn open_region(
    archive: Arc<dyn ReadAt>,
    region: Vec<u8>,
    places: &[(u32, Range<usize>)],
    metrics: Arc<Metrics>,
) -> Result<StreamSource, SourceError> {
    let find = |id| {
        places
            .iter()
            .find(|(found, _)| *found == id)
            .map(|(_, place)| place.clone())
    };
    StreamSource::open(
        archive,
        Arc::new(region),
        &find,
        &Decoders::new(MemoryBudget::new(64 << 20))?,
        metrics,
    )
}

/// Scans `archive`; the summary, the sections and the stream.
pub(crate) fn scan_memory(
    archive: &[u8],
    span_bytes: u64,
) -> Result<(ScanSummary, Sections, Vec<u8>), ScanError<Infallible>> {
    let archive = MemoryArchive::new(archive.to_vec());
    let (mut sections, mut stream) = (Sections::default(), Vec::new());
    let out = ScanOutput {
        spans: &mut sections.spans,
        windows: &mut sections.windows,
        checksums: &mut sections.checksums,
    };
    let mut consumer = |at: u64, bytes: &[u8]| {
        assert_eq!(at, stream.len() as u64);
        stream.extend_from_slice(bytes);
        Ok(ControlFlow::Continue(()))
    };
    let summary = scan(
        &archive,
        &ScanOptions { span_bytes },
        out,
        &mut consumer,
        &|_| {},
    )?;
    sections.meta = summary.meta_section();
    Ok((summary, sections, stream))
}

/// One gzip member, as `gzip` makes it.
pub(crate) fn gzip(data: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One member of blocks that are byte-aligned and, if `independent`, refer to
/// nothing before them: as `pigz` and `pigz -i` make it.
pub(crate) fn pigz(data: &[u8], block: usize, independent: bool) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let flush = if independent {
        flate2::FlushCompress::Full
    } else {
        flate2::FlushCompress::Sync
    };
    let mut deflate = flate2::Compress::new(Compression::new(6), false);
    let mut buf = Vec::with_capacity(2 * block + 1024);
    for piece in data.chunks(block) {
        buf.clear();
        deflate.compress_vec(piece, &mut buf, flush).unwrap();
        out.extend_from_slice(&buf);
    }
    buf.clear();
    deflate
        .compress_vec(&[], &mut buf, flate2::FlushCompress::Finish)
        .unwrap();
    out.extend_from_slice(&buf);
    out.extend_from_slice(&crc32fast::hash(data).to_le_bytes());
    out.extend_from_slice(&(data.len() as u32).to_le_bytes());
    out
}

/// Members of at most `block` bytes with an extra field, and an empty one at
/// the end: as `bgzip` makes it.
pub(crate) fn bgzip(data: &[u8], block: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in data.chunks(block).chain([&[][..]]) {
        let builder = GzBuilder::new().extra(vec![b'B', b'C', 2, 0, 0, 0]);
        let mut encoder = builder.write(&mut out, Compression::new(6));
        encoder.write_all(piece).unwrap();
        encoder.finish().unwrap();
    }
    out
}

/// Deterministic data of `len` bytes: text-like, runs and noise in turn.
pub(crate) fn sample(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let words: Vec<Vec<u8>> = (0..200)
        .map(|_| {
            (0..2 + random() % 9)
                .map(|_| b'a' + (random() % 26) as u8)
                .collect()
        })
        .collect();
    let mut out = Vec::with_capacity(len + 4096);
    while out.len() < len {
        match random() % 16 {
            0 => out.resize(out.len() + (random() % 3000) as usize, random() as u8),
            1 => (0..random() % 1000).for_each(|_| out.push(random() as u8)),
            2 if out.len() > 30_000 => {
                let at = out.len() - 1 - (random() % 30_000) as usize;
                let piece = out[at..(at + 200).min(out.len())].to_vec();
                out.extend_from_slice(&piece);
            }
            _ => {
                for _ in 0..20 {
                    out.extend_from_slice(&words[(random() % 200) as usize]);
                    out.push(b' ');
                }
            }
        }
    }
    out.truncate(len);
    out
}
