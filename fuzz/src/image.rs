//! From the bytes of an archive to its files, all in memory.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, PoisonError, RwLock};

use distrofs::budget::MemoryBudget;
use distrofs::cache::{BlockCache, CachedReader, ImageId};
use distrofs::fs::{FsOptions, ImageFs, Owner};
use distrofs::index::build::{BuildOptions, Builder, HeapArenas, Limits, SectionSink};
use distrofs::index::{FindSection, Index};
use distrofs::metrics::Metrics;
use distrofs::source::scan::{ScanOptions, ScanOutput, ScanSummary, scan};
use distrofs::source::tables::{SECTION_CHECKSUMS, SECTION_META, SECTION_SPANS, SECTION_WINDOWS};
use distrofs::source::{BlockSource, Decoders, DirectReader, ReadAt, SourceError, StreamSource};
use distrofs::types::{Ino, Region};

/// Bytes of the stream that are kept to compare with. Hostile ones are longer.
pub const STREAM_KEPT_MAX: usize = 32 << 20;

/// The budget of an opened image.
const BUDGET_BYTES: u64 = 64 << 20;

/// The key of the name hash: fixed, so that a case repeats.
const HASH_KEY: [u8; 16] = *b"a key for tests.";

/// An archive in memory whose bytes can be changed while it is open, as those
/// of a file can.
#[derive(Debug)]
pub struct Changeable {
    bytes: RwLock<Vec<u8>>,
    len: u64,
}

impl Changeable {
    /// An archive that is these bytes when it is opened.
    pub fn new(bytes: Vec<u8>) -> Self {
        let len = bytes.len() as u64;
        Self {
            bytes: RwLock::new(bytes),
            len,
        }
    }

    /// Changes the bytes; the length on opening stays what it was.
    pub fn change(&self, bytes: Vec<u8>) {
        *self.bytes.write().unwrap_or_else(PoisonError::into_inner) = bytes;
    }
}

impl ReadAt for Changeable {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let (len, stream_len) = (buf.len() as u64, self.len);
        let end = at.checked_add(len).filter(|end| *end <= stream_len);
        let end = end.ok_or(SourceError::OutOfRange {
            at,
            len,
            stream_len,
        })?;
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        let range =
            usize::try_from(at).unwrap_or(usize::MAX)..usize::try_from(end).unwrap_or(usize::MAX);
        let found = bytes.get(range).ok_or(SourceError::Truncated {
            end: bytes.len() as u64,
            wanted: end.saturating_sub(bytes.len() as u64),
        })?;
        buf.copy_from_slice(found);
        Ok(())
    }
}

/// The sections of an index, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Sections {
    /// All bytes.
    pub bytes: Vec<u8>,
    /// Where each section is.
    pub places: BTreeMap<u32, Range<usize>>,
}

impl Sections {
    /// Adds a section.
    pub fn add(&mut self, id: u32, bytes: &[u8]) {
        let start = self.bytes.len().next_multiple_of(64);
        self.bytes.resize(start, 0);
        self.bytes.extend_from_slice(bytes);
        self.places.insert(id, start..self.bytes.len());
    }

    /// Opens the image that these are the index of.
    pub fn open(&self, archive: Arc<dyn ReadAt>) -> Result<Opened, String> {
        let find = |id| self.places.get(&id).cloned();
        Opened::new(Arc::new(self.bytes.clone()), &find, archive)
    }
}

impl SectionSink for Sections {
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        write(&mut bytes)?;
        self.add(id, &bytes);
        Ok(())
    }
}

/// An indexed archive.
#[derive(Clone, Debug)]
pub struct Ingested {
    /// The index.
    pub sections: Sections,
    /// The uncompressed stream, or the first [`STREAM_KEPT_MAX`] bytes of it.
    pub stream: Vec<u8>,
    /// What the scan says.
    pub scan: ScanSummary,
}

/// Indexes an archive as `distrofs index` does, in memory.
pub fn ingest(archive: &[u8], span_bytes: u64) -> Result<Ingested, String> {
    let options = BuildOptions {
        hash_key: HASH_KEY,
        limits: Limits::default(),
        ignore_zeros: false,
        archive_bytes: Some(archive.len() as u64),
    };
    let mut builder = Builder::new(options, &mut HeapArenas).map_err(|e| e.to_string())?;
    let (scanned, mut sections, stream) = scan_with(archive, span_bytes, &mut |at, bytes| {
        builder.push(at, bytes).map_err(|e| e.to_string())
    })?;
    builder.finish(&mut sections).map_err(|e| e.to_string())?;
    Ok(Ingested {
        sections,
        stream,
        scan: scanned,
    })
}

/// Scans an archive, whatever is in it.
pub fn scan_only(archive: &[u8], span_bytes: u64) -> Result<Ingested, String> {
    let mut nobody = |_: u64, _: &[u8]| Ok(ControlFlow::Continue(()));
    let (scan, sections, stream) = scan_with(archive, span_bytes, &mut nobody)?;
    Ok(Ingested {
        sections,
        stream,
        scan,
    })
}

type Consumer<'a> = dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>, String> + 'a;

fn scan_with(
    archive: &[u8],
    span_bytes: u64,
    consumer: &mut Consumer<'_>,
) -> Result<(ScanSummary, Sections, Vec<u8>), String> {
    let (mut spans, mut windows, mut checksums) = (Vec::new(), Vec::new(), Vec::new());
    let mut stream = Vec::new();
    let mut done = false;
    let scanned = scan(
        &Changeable::new(archive.to_vec()),
        &ScanOptions { span_bytes },
        ScanOutput {
            spans: &mut spans,
            windows: &mut windows,
            checksums: &mut checksums,
        },
        &mut |at, bytes: &[u8]| {
            let room = STREAM_KEPT_MAX - stream.len();
            stream.extend_from_slice(&bytes[..bytes.len().min(room)]);
            if !done {
                done = consumer(at, bytes)?.is_break();
            }
            Ok(ControlFlow::Continue(()))
        },
        &|_| {},
    );
    let scanned =
        scanned.map_err(|error: distrofs::source::scan::ScanError<String>| error.to_string())?;
    let mut sections = Sections::default();
    sections.add(SECTION_META, &scanned.meta_section());
    sections.add(SECTION_SPANS, &spans);
    sections.add(SECTION_WINDOWS, &windows);
    sections.add(SECTION_CHECKSUMS, &checksums);
    Ok((scanned, sections, stream))
}

/// An image that can be asked.
#[derive(Debug)]
pub struct Opened {
    /// Its files, over a cache.
    pub fs: ImageFs,
    /// Its tables.
    pub index: Index,
    /// Its stream.
    pub source: Arc<StreamSource>,
}

impl Opened {
    /// Opens the tables in `region` over `archive`.
    pub fn new(
        region: Arc<dyn Region>,
        find: FindSection<'_>,
        archive: Arc<dyn ReadAt>,
    ) -> Result<Self, String> {
        let source = open_source(Arc::clone(&region), find, archive)?;
        let index = Index::open(region, find).map_err(|e| e.to_string())?;
        let metrics = Arc::new(Metrics::default());
        let budget = MemoryBudget::new(BUDGET_BYTES);
        let cache = BlockCache::new(&budget, Arc::clone(&metrics)).ok_or("no cache")?;
        let blocks: Arc<dyn BlockSource> = Arc::clone(&source) as _;
        let reader = CachedReader::new(
            ImageId(0),
            blocks,
            Arc::new(cache),
            None,
            Arc::clone(&metrics),
        );
        let options = FsOptions {
            root: Ino::ROOT,
            owner: Owner::Keep,
            devices: true,
        };
        let fs =
            ImageFs::new(index.clone(), reader, options, metrics).map_err(|e| e.to_string())?;
        Ok(Self { fs, index, source })
    }

    /// The stream without a cache.
    pub fn direct(&self) -> DirectReader {
        DirectReader::new(Arc::clone(&self.source) as Arc<dyn BlockSource>)
    }
}

/// Opens only the stream.
pub fn open_source(
    region: Arc<dyn Region>,
    find: FindSection<'_>,
    archive: Arc<dyn ReadAt>,
) -> Result<Arc<StreamSource>, String> {
    let decoders = Decoders::new(MemoryBudget::new(BUDGET_BYTES)).map_err(|e| e.to_string())?;
    let source = StreamSource::open(archive, region, find, &decoders, Arc::default());
    Ok(Arc::new(source.map_err(|e| e.to_string())?))
}
