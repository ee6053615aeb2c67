//! An archive becomes an index: one pass over its bytes.
//!
//! Three threads at work: one inflates (`source`), the caller's parses what
//! comes out (`index`), and one digests the archive behind them. The tables are
//! spooled to the index's directory, so memory does not grow with the archive.

use std::fs::Metadata;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;

use super::growth::Growing;
use super::{Archive, StoreError, digest};
use crate::index::build::{
    Arena, ArenaProvider, BuildOptions, Builder, Built, SectionSink, Warning,
};
use crate::metrics::Metrics;
use crate::sidecar::{Identity, SectionWriter, SidecarError, SidecarWriter};
use crate::source::scan::{ScanOptions, ScanOutput, ScanSummary, scan};
use crate::source::tables::{SECTION_CHECKSUMS, SECTION_META, SECTION_SPANS, SECTION_WINDOWS};
use crate::source::{ArchiveFile, ReadAt, SourceError};
use crate::sys::spill::Spill;

/// How to index.
#[derive(Clone, Copy, Debug)]
pub struct IngestOptions {
    /// Least bytes of output between two checkpoints.
    pub span_bytes: u64,
    /// Whether blocks of zeros do not end the archive, as `tar --ignore-zeros`
    /// has it. An index remembers this, and is not used where the other is
    /// asked for.
    pub ignore_zeros: bool,
}

/// What indexing found.
#[derive(Debug)]
pub struct IngestReport {
    /// What the image holds, and what was left out or looked odd.
    pub built: Built,
    /// What the stream is like.
    pub scan: ScanSummary,
    /// Size of the index file.
    pub index_bytes: u64,
}

impl IngestReport {
    /// What is worth telling the user, a line each.
    pub fn notes(&self) -> Vec<String> {
        let odd = self.built.report.warnings().map(note);
        let garbage = self.scan.garbage_at.map(|at| {
            format!("bytes from archive offset {at} on are no gzip data and were ignored")
        });
        odd.chain(garbage).collect()
    }
}

/// A warning as a line for the user.
pub(super) fn note(warning: &Warning) -> String {
    let names: Vec<String> = warning.samples.iter().map(ToString::to_string).collect();
    let more = if warning.count > names.len() as u64 {
        ", …"
    } else {
        ""
    };
    let text = warning.kind.text();
    format!(
        "{} entries: {text}: {}{more}",
        warning.count,
        names.join(", ")
    )
}

/// What is indexed: an archive that is there, or that is still being written.
#[derive(Clone, Copy)]
pub(super) struct Intake<'a> {
    archive: &'a Archive,
    growing: Option<Growing<'a>>,
}

impl<'a> From<&'a Archive> for Intake<'a> {
    fn from(archive: &'a Archive) -> Self {
        Self {
            archive,
            growing: None,
        }
    }
}

impl<'a> Intake<'a> {
    /// An archive that is still being written.
    pub(super) fn growing(archive: &'a Archive, growing: Growing<'a>) -> Self {
        Self {
            archive,
            growing: Some(growing),
        }
    }

    /// How long it is, or will be.
    pub(super) fn len(&self) -> u64 {
        let known = || self.archive.metadata().len();
        self.growing.map_or_else(known, |growing| growing.len)
    }

    fn failed(&self, cause: io::Error) -> StoreError {
        StoreError::Archive {
            path: self.archive.path().to_owned(),
            cause,
        }
    }

    /// Waits until all of it is there.
    fn wait(&self, is_wanted: &dyn Fn() -> bool) -> Result<(), StoreError> {
        let waited = self
            .growing
            .map_or(Ok(()), |growing| growing.wait_for_end(is_wanted));
        waited.map_err(|missing| self.failed(missing.into()))
    }

    /// Its attributes now that it was read, if it is what was read.
    fn settled(&self) -> Result<Metadata, StoreError> {
        let changed = || StoreError::Changed {
            path: self.archive.path().to_owned(),
        };
        match self.growing {
            None if self.archive.unchanged() => Ok(self.archive.metadata().clone()),
            None => Err(changed()),
            Some(growing) => {
                let now = self.archive.file().metadata();
                let now = now.map_err(|cause| self.failed(cause))?;
                (now.len() == growing.len)
                    .then_some(now)
                    .ok_or_else(changed)
            }
        }
    }
}

/// Indexes an archive into the file `place`. `progress` gets the number of
/// archive bytes read so far. Fails soon after `is_wanted` says no.
pub(super) fn ingest(
    intake: Intake<'_>,
    place: &Path,
    options: IngestOptions,
    metrics: &Arc<Metrics>,
    progress: &(dyn Fn(u64) + Sync),
    is_wanted: &(dyn Fn() -> bool + Sync),
) -> Result<IngestReport, StoreError> {
    let archive = intake.archive;
    make_directory(place)?;
    let writer = SidecarWriter::new(place, archive.metadata().mode() & 0o666);
    let mut parts = Parts::start(&writer)?;
    let build = build_options(intake.len(), options)?;
    let mut builder =
        Builder::new(build, &mut Spills(&writer)).map_err(|cause| StoreError::Build {
            path: archive.path().to_owned(),
            cause,
        })?;
    let reading = Reading {
        intake,
        options,
        progress,
        is_wanted,
    };
    let (scanned, sha256) = reading.run(metrics, &mut parts, &mut builder)?;
    let settled = intake.settled()?;
    parts
        .meta
        .write_all(&scanned.meta_section())
        .map_err(|cause| SidecarError::Io {
            doing: "write",
            path: place.to_owned(),
            cause,
        })?;
    let mut sections = parts.into_sections();
    let built = builder
        .finish(&mut Sink {
            writer: &writer,
            sections: &mut sections,
        })
        .map_err(|cause| StoreError::Build {
            path: archive.path().to_owned(),
            cause,
        })?;
    let identity = Identity::new(&settled, sha256);
    let index_bytes = writer.finish(&identity, sections)?;
    Ok(IngestReport {
        built,
        scan: scanned,
        index_bytes,
    })
}

/// How an archive is read.
struct Reading<'a> {
    intake: Intake<'a>,
    options: IngestOptions,
    progress: &'a (dyn Fn(u64) + Sync),
    is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl Reading<'_> {
    fn run(
        &self,
        metrics: &Arc<Metrics>,
        parts: &mut Parts,
        builder: &mut Builder,
    ) -> Result<(ScanSummary, [u8; 32]), StoreError> {
        let archive = self.intake.archive;
        // Who waits for bytes need not wait for those of an archive that is no image.
        let is_over = AtomicBool::new(false);
        let is_wanted = || !is_over.load(Ordering::Relaxed) && (self.is_wanted)();
        let is_wanted: &(dyn Fn() -> bool + Sync) = &is_wanted;
        match &self.intake.growing {
            None => {
                let archive = archive.source(metrics)?;
                let source = WhileWanted { archive, is_wanted };
                self.read(&source, &is_over, parts, builder)
            }
            Some(growing) => {
                let file = archive.file().try_clone();
                let file = file.map_err(|cause| self.intake.failed(cause))?;
                let source = growing.source(file, metrics, is_wanted);
                self.read(&source, &is_over, parts, builder)
            }
        }
    }

    /// Scans the archive and digests it beside that, until it `is_over`.
    fn read(
        &self,
        source: &dyn ReadAt,
        is_over: &AtomicBool,
        parts: &mut Parts,
        builder: &mut Builder,
    ) -> Result<(ScanSummary, [u8; 32]), StoreError> {
        let (archive, len) = (self.intake.archive, self.intake.len());
        let (marks, received) = sync_channel(4);
        thread::scope(|scope| {
            let digest = thread::Builder::new()
                .name("digest".to_owned())
                .stack_size(256 * 1024)
                .spawn_scoped(scope, {
                    let wanted = || !is_over.load(Ordering::Relaxed);
                    move || digest::follow(archive.file(), len, &received, wanted)
                })
                .map_err(|cause| StoreError::System {
                    doing: "start a thread",
                    cause,
                })?;
            let report = |read: u64| {
                let _later = marks.try_send(read);
                (self.progress)(read);
            };
            let scanned = scan(
                source,
                &ScanOptions {
                    span_bytes: self.options.span_bytes,
                },
                parts.output(),
                // What is behind the end of the archive counts for its limits.
                &mut |at, bytes| {
                    let pushed = builder.push(at, bytes).map(|_| ControlFlow::Continue(()));
                    pushed.inspect_err(|_| is_over.store(true, Ordering::Relaxed))
                },
                &report,
            );
            let scanned = scanned.map_err(|cause| StoreError::Scan {
                path: archive.path().to_owned(),
                cause,
            });
            // What is behind the end of the archive counts for its digest, too.
            let scanned = scanned.and_then(|scanned| {
                self.intake.wait(self.is_wanted)?;
                Ok(scanned)
            });
            is_over.store(scanned.is_err(), Ordering::Relaxed);
            drop(marks);
            let scanned = scanned?;
            let sha256 = match digest.join() {
                Ok(result) => result,
                Err(_) => Err(io::Error::other("the digest thread panicked")),
            };
            let sha256 = sha256.map_err(|cause| StoreError::Archive {
                path: archive.path().to_owned(),
                cause,
            })?;
            Ok((scanned, sha256))
        })
    }
}

/// An archive that can be read until nobody wants that any more.
struct WhileWanted<'a> {
    archive: ArchiveFile,
    is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl ReadAt for WhileWanted<'_> {
    fn len(&self) -> u64 {
        self.archive.len()
    }

    fn read_exact_at(&self, at: u64, buf: &mut [u8]) -> Result<(), SourceError> {
        if !(self.is_wanted)() {
            return Err(SourceError::Io {
                at,
                len: buf.len(),
                cause: io::Error::other("it was given up"),
            });
        }
        self.archive.read_exact_at(at, buf)
    }

    fn will_need(&self, range: Range<u64>) {
        self.archive.will_need(range);
    }

    fn forget(&self, range: Range<u64>) {
        self.archive.forget(range);
    }
}

/// The key of the name hash is random, so that nobody can aim names at it.
pub(super) fn new_hash_key() -> Result<[u8; 16], StoreError> {
    let mut hash_key = [0; 16];
    rustix::rand::getrandom(&mut hash_key, rustix::rand::GetRandomFlags::empty()).map_err(|e| {
        StoreError::System {
            doing: "get random bytes",
            cause: e.into(),
        }
    })?;
    Ok(hash_key)
}

fn build_options(archive_bytes: u64, options: IngestOptions) -> Result<BuildOptions, StoreError> {
    Ok(BuildOptions {
        ignore_zeros: options.ignore_zeros,
        archive_bytes: Some(archive_bytes),
        ..BuildOptions::new(new_hash_key()?)
    })
}

pub(super) fn make_directory(place: &Path) -> Result<(), StoreError> {
    let Some(directory) = place.parent().filter(|p| !p.as_os_str().is_empty()) else {
        return Ok(());
    };
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory);
    made.map_err(|cause| {
        SidecarError::Io {
            doing: "make the directory of",
            path: place.to_owned(),
            cause,
        }
        .into()
    })
}

/// The sections that the scan writes.
struct Parts {
    spans: SectionWriter,
    windows: SectionWriter,
    checksums: SectionWriter,
    meta: SectionWriter,
}

impl Parts {
    fn start(writer: &SidecarWriter) -> Result<Self, SidecarError> {
        Ok(Self {
            spans: writer.section(SECTION_SPANS)?,
            windows: writer.section(SECTION_WINDOWS)?,
            checksums: writer.section(SECTION_CHECKSUMS)?,
            meta: writer.section(SECTION_META)?,
        })
    }

    fn output(&mut self) -> ScanOutput<'_> {
        ScanOutput {
            spans: &mut self.spans,
            windows: &mut self.windows,
            checksums: &mut self.checksums,
        }
    }

    fn into_sections(self) -> Vec<SectionWriter> {
        vec![self.meta, self.spans, self.checksums, self.windows]
    }
}

/// Gives the builder its sections, one after the other.
pub(super) struct Sink<'a> {
    pub(super) writer: &'a SidecarWriter,
    pub(super) sections: &'a mut Vec<SectionWriter>,
}

impl SectionSink for Sink<'_> {
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn io::Write) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut section = self.writer.section(id).map_err(io::Error::other)?;
        write(&mut section)?;
        self.sections.push(section);
        Ok(())
    }
}

/// Gives the builder its scratch tables: maps of unnamed files beside the
/// index, so that the kernel can write them out when memory is short.
pub(super) struct Spills<'a>(pub(super) &'a SidecarWriter);

impl ArenaProvider for Spills<'_> {
    fn arena(&mut self, _what: &'static str) -> io::Result<Box<dyn Arena>> {
        Ok(Box::new(SpillArena(Spill::new_in(self.0.directory())?)))
    }
}

struct SpillArena(Spill);

impl Arena for SpillArena {
    fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.bytes_mut()
    }

    fn grow(&mut self, new_len: usize) -> io::Result<()> {
        self.0.grow(new_len)
    }
}
