//! Images made in code, served from memory.

#![allow(dead_code, reason = "every test program uses its own part of this")]
#![allow(clippy::unwrap_used)]

pub(crate) mod mounted;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use distrofs::fs::{FsOptions, ImageFs, Owner};
use distrofs::index::Index;
use distrofs::index::build::{BuildOptions, Builder, HeapArenas, SectionSink};
use distrofs::metrics::Metrics;
use distrofs::source::{ReadAt, SourceError};
use distrofs::types::{Ino, Region};
use tar::{EntryType, Header};

/// An archive in the making.
pub(crate) struct Archive(tar::Builder<Vec<u8>>);

impl Archive {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    /// Attributes of the next entry, as PAX records.
    pub(crate) fn pax(mut self, records: &[(&str, &str)]) -> Self {
        let records = records.iter().map(|(key, value)| (*key, value.as_bytes()));
        self.0.append_pax_extensions(records).unwrap();
        self
    }

    pub(crate) fn entry(mut self, kind: EntryType, path: &str, mode: u32, body: &[u8]) -> Self {
        let mut header = header(kind, mode, body.len());
        self.0.append_data(&mut header, path, body).unwrap();
        self
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, 0o755, b"")
    }

    pub(crate) fn file(self, path: &str, body: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, path, 0o644, body.as_ref())
    }

    pub(crate) fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        self.0
            .append_link(&mut header(kind, 0o777, 0), path, target)
            .unwrap();
        self
    }

    pub(crate) fn device(mut self, path: &str, major: u32, minor: u32) -> Self {
        let mut header = header(EntryType::Char, 0o666, 0);
        header.set_device_major(major).unwrap();
        header.set_device_minor(minor).unwrap();
        self.0.append_data(&mut header, path, io::empty()).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }

    pub(crate) fn image(self) -> Image {
        Image::of(self.bytes())
    }
}

fn header(kind: EntryType, mode: u32, len: usize) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(10);
    header.set_gid(20);
    header.set_mtime(1_000_000_000);
    header.set_size(len.try_into().unwrap());
    header
}

/// An archive and its index, in memory.
pub(crate) struct Image {
    pub(crate) sections: Sections,
    pub(crate) content: Arc<Memory>,
}

impl Image {
    pub(crate) fn of(stream: Vec<u8>) -> Image {
        let options = BuildOptions::new([7; 16]);
        let mut builder = Builder::new(options, &mut HeapArenas).unwrap();
        let _ends_before_the_padding = builder.push(0, &stream).unwrap();
        let mut sections = Sections::default();
        builder.finish(&mut sections).unwrap();
        Image {
            sections,
            content: Arc::new(Memory::new(stream)),
        }
    }

    pub(crate) fn index(&self) -> Index {
        self.sections.open(Arc::new(self.sections.bytes.clone()))
    }

    /// The filesystem as the archive has it, devices hidden.
    pub(crate) fn fs(&self) -> ImageFs {
        self.fs_with(|_| {})
    }

    pub(crate) fn fs_with(&self, change: impl FnOnce(&mut FsOptions)) -> ImageFs {
        let mut options = FsOptions {
            root: Ino::ROOT,
            owner: Owner::Keep,
            devices: false,
        };
        change(&mut options);
        let content = Arc::clone(&self.content) as Arc<dyn ReadAt>;
        ImageFs::new(self.index(), content, options, Arc::new(Metrics::default())).unwrap()
    }

    /// Where in the stream the content of a file starts.
    pub(crate) fn stream_offset(&self, path: &str) -> u64 {
        let index = self.index();
        let ino = path.split('/').fold(Ino::ROOT, |dir, name| {
            index.lookup(dir, name.as_bytes()).unwrap().unwrap()
        });
        let first = index.extents(ino).unwrap().next();
        first.unwrap().unwrap().stream.0
    }
}

/// The sections of an index.
#[derive(Default, Clone)]
pub(crate) struct Sections {
    pub(crate) bytes: Vec<u8>,
    ranges: BTreeMap<u32, Range<usize>>,
}

impl Sections {
    pub(crate) fn open(&self, region: Arc<dyn Region>) -> Index {
        Index::open(region, &|id| self.ranges.get(&id).cloned()).unwrap()
    }
}

impl SectionSink for Sections {
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let start = self.bytes.len().next_multiple_of(64);
        self.bytes.resize(start, 0);
        write(&mut self.bytes)?;
        self.ranges.insert(id, start..self.bytes.len());
        Ok(())
    }
}

/// A stream in memory that can be told to misbehave.
pub(crate) struct Memory {
    bytes: Vec<u8>,
    /// Whether bytes are at hand or have to be waited for.
    pub(crate) cached: AtomicBool,
    /// A read of this byte panics.
    pub(crate) panics_at: AtomicU64,
    /// A read of this byte waits until it is released.
    pub(crate) stuck_at: AtomicU64,
    released: Mutex<bool>,
    release: Condvar,
}

impl Memory {
    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            cached: AtomicBool::new(true),
            panics_at: AtomicU64::new(u64::MAX),
            stuck_at: AtomicU64::new(u64::MAX),
            released: Mutex::default(),
            release: Condvar::new(),
        }
    }

    pub(crate) fn release(&self) {
        *self.released.lock().unwrap() = true;
        self.release.notify_all();
    }
}

impl ReadAt for Memory {
    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        let wanted = at..at + buf.len() as u64;
        assert!(
            !wanted.contains(&self.panics_at.load(Ordering::SeqCst)),
            "on purpose"
        );
        if wanted.contains(&self.stuck_at.load(Ordering::SeqCst)) {
            let released = self.released.lock().unwrap();
            drop(
                self.release
                    .wait_while(released, |released| !*released)
                    .unwrap(),
            );
        }
        let at = usize::try_from(at).unwrap();
        buf.copy_from_slice(&self.bytes[at..at + buf.len()]);
        Ok(())
    }

    fn try_read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<bool, SourceError> {
        if !self.cached.load(Ordering::SeqCst) {
            return Ok(false);
        }
        self.read_exact_at(at, buf).map(|()| true)
    }
}
