//! What the benchmarks work on, made in code and the same in every run.

use std::convert::Infallible;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use distrofs::budget::MemoryBudget;
use distrofs::index::Index;
use distrofs::index::build::{BuildOptions, Builder, HeapArenas, SectionSink};
use distrofs::metrics::Metrics;
use distrofs::source::scan::{ScanOptions, ScanOutput, scan};
use distrofs::source::tables::{SECTION_CHECKSUMS, SECTION_META, SECTION_SPANS, SECTION_WINDOWS};
use distrofs::source::{Decoders, ReadAt, SourceError, StreamSource};

/// What a process has unless told otherwise.
pub(crate) const MEMORY_BYTES: u64 = 64 << 20;

/// xorshift64: Marsaglia, "Xorshift RNGs", 2003.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn byte(&mut self) -> u8 {
        self.below(256).to_le_bytes()[0]
    }
}

/// At least `len` bytes that gzip makes a third of: words, with noise between.
pub(crate) fn stream(len: usize) -> Vec<u8> {
    let mut random = Random::new();
    let words: Vec<Vec<u8>> = (0..512)
        .map(|_| {
            let letters = 2 + random.below(9);
            (0..letters).map(|_| b'a' + random.byte() % 26).collect()
        })
        .collect();
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        if random.below(16) == 0 {
            bytes.extend((0..48).map(|_| random.byte()));
        }
        for word in [random.below(512), random.below(512), random.below(512)] {
            bytes.extend_from_slice(&words[usize_of(word)]);
            bytes.push(b' ');
        }
    }
    bytes
}

/// As `gzip` makes it.
pub(crate) fn gzip(stream: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    encoder.write_all(stream).unwrap();
    encoder.finish().unwrap()
}

/// An archive in memory.
pub(crate) struct Memory(pub(crate) Vec<u8>);

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let at = usize_of(at);
        buf.copy_from_slice(&self.0[at..at + buf.len()]);
        Ok(())
    }
}

/// What a scan makes of an archive.
pub(crate) struct Scanned(Sections);

/// Scans `archive`, handing the stream to nobody.
pub(crate) fn scanned(archive: &Memory) -> Scanned {
    let [mut spans, mut windows, mut checksums] = [const { Vec::new() }; 3];
    let out = ScanOutput {
        spans: &mut spans,
        windows: &mut windows,
        checksums: &mut checksums,
    };
    let summary = scan::<Infallible>(
        archive,
        &ScanOptions::default(),
        out,
        &mut |_, _| Ok(ControlFlow::Continue(())),
        &|_| {},
    )
    .unwrap();
    let mut sections = Sections::default();
    for (id, bytes) in [
        (SECTION_META, &summary.meta_section()),
        (SECTION_SPANS, &spans),
        (SECTION_CHECKSUMS, &checksums),
        (SECTION_WINDOWS, &windows),
    ] {
        sections.add(id, |all| all.write_all(bytes)).unwrap();
    }
    Scanned(sections)
}

impl Scanned {
    /// The stream of `archive`, with `memory_bytes` for everything.
    pub(crate) fn open(&self, archive: Arc<Memory>, memory_bytes: u64) -> (StreamSource, Services) {
        let services = Services {
            budget: MemoryBudget::new(memory_bytes),
            metrics: Arc::default(),
        };
        let source = StreamSource::open(
            archive,
            Arc::new(self.0.bytes.clone()),
            &|id| self.0.find(id),
            &Decoders::new(services.budget.clone()).unwrap(),
            Arc::clone(&services.metrics),
        );
        (source.unwrap(), services)
    }
}

/// What a reader has in common with its source.
pub(crate) struct Services {
    pub(crate) budget: MemoryBudget,
    pub(crate) metrics: Arc<Metrics>,
}

/// A tar stream of `dirs` directories with `files` files each, as packages have
/// them: long common paths, short content.
pub(crate) fn tar_stream(dirs: u32, files: u32) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |kind, path: &str, body: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(body.len() as u64);
        archive.append_data(&mut header, path, body).unwrap();
    };
    for path in ["usr", "usr/share", "usr/share/doc"] {
        add(tar::EntryType::Directory, path, b"");
    }
    for dir in 0..dirs {
        add(tar::EntryType::Directory, &dir_path(dir), b"");
        for file in 0..files {
            let path = format!("{}/{}", dir_path(dir), file_name(file));
            add(tar::EntryType::Regular, &path, &[b'x'; 500]);
        }
    }
    archive.into_inner().unwrap()
}

pub(crate) fn dir_path(dir: u32) -> String {
    format!("usr/share/doc/package-{dir}")
}

pub(crate) fn file_name(file: u32) -> String {
    format!("section.{file}.html")
}

/// Builds the index of a tar stream, which comes in slices as a scan gives them.
pub(crate) fn index_sections(stream: &[u8]) -> Sections {
    const SLICE_BYTES: usize = 128 * 1024;
    let mut builder = Builder::new(BuildOptions::new([7; 16]), &mut HeapArenas).unwrap();
    let mut at = 0;
    for slice in stream.chunks(SLICE_BYTES) {
        if builder.push(at, slice).unwrap().is_break() {
            break;
        }
        at += slice.len() as u64;
    }
    let mut sections = Sections::default();
    builder.finish(&mut sections).unwrap();
    sections
}

/// Sections one after the other, as in a sidecar file.
#[derive(Default)]
pub(crate) struct Sections {
    bytes: Vec<u8>,
    places: Vec<(u32, Range<usize>)>,
}

impl Sections {
    fn add(
        &mut self,
        id: u32,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.bytes.len();
        write(&mut self.bytes)?;
        self.places.push((id, start..self.bytes.len()));
        Ok(())
    }

    fn find(&self, id: u32) -> Option<Range<usize>> {
        let found = self.places.iter().find(|(known, _)| *known == id);
        found.map(|(_, place)| place.clone())
    }

    pub(crate) fn open_index(&self) -> Index {
        Index::open(Arc::new(self.bytes.clone()), &|id| self.find(id)).unwrap()
    }
}

impl SectionSink for Sections {
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        self.add(id, |bytes| write(bytes))
    }
}

/// Of numbers that are known to fit.
pub(crate) fn usize_of(number: u64) -> usize {
    usize::try_from(number).unwrap()
}
