//! The header of a sidecar file as bytes, and back.
//!
//! Guarantees: what [`parse`] returns was checked: magic, version, checksum,
//! and that every section lies behind the header and inside the file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use zerocopy::little_endian::{I64, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::read::SidecarError;

/// Size of the header with its section table.
pub(super) const HEADER_BYTES: usize = 4096;

/// Sections start at multiples of this, so that their records are aligned.
pub(super) const SECTION_ALIGN: u64 = 64;

const MAGIC: [u8; 8] = *b"DISTROFX";
const VERSION: u32 = 3;
const SECTIONS_MAX: usize = 64;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone)]
#[repr(C)]
struct Fixed {
    magic: [u8; 8],
    version: U32,
    section_count: U32,
    archive_bytes: U64,
    mtime_secs: I64,
    mtime_nanos: U32,
    _reserved0: U32,
    inode: U64,
    sha256: [u8; 32],
    file_bytes: U64,
    _reserved1: [u8; 36],
    header_crc: U32,
}

const _: () = assert!(size_of::<Fixed>() == 128);

/// One line of the section table.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Section {
    pub(super) id: U32,
    pub(super) crc: U32,
    pub(super) offset: U64,
    pub(super) len: U64,
}

const _: () = assert!(size_of::<Section>() == 24);

impl Section {
    /// The first offset behind it.
    pub(super) fn end(&self) -> Option<u64> {
        self.offset.get().checked_add(self.len.get())
    }
}

const _: () = assert!(size_of::<Fixed>() + SECTIONS_MAX * size_of::<Section>() <= HEADER_BYTES);

/// Which archive a sidecar was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Size of the archive in bytes.
    pub archive_bytes: u64,
    /// Its modification time: seconds, nanoseconds.
    pub mtime: (i64, u32),
    /// Its inode number.
    pub inode: u64,
    /// SHA-256 of its bytes.
    pub sha256: [u8; 32],
}

impl Identity {
    /// The identity of an archive with these attributes and this digest.
    pub fn new(archive: &Metadata, sha256: [u8; 32]) -> Self {
        Self {
            archive_bytes: archive.len(),
            mtime: mtime(archive),
            inode: archive.ino(),
            sha256,
        }
    }

    /// Whether the archive is the very file that was indexed, unchanged.
    pub fn same_file(&self, archive: &Metadata) -> bool {
        self.same_size(archive) && self.mtime == mtime(archive) && self.inode == archive.ino()
    }

    /// Whether it could at least be a copy of it.
    pub fn same_size(&self, archive: &Metadata) -> bool {
        self.archive_bytes == archive.len()
    }
}

fn mtime(file: &Metadata) -> (i64, u32) {
    (file.mtime(), u32::try_from(file.mtime_nsec()).unwrap_or(0))
}

/// The header bytes of a file of `file_bytes` with these sections.
pub(super) fn encode(
    identity: &Identity,
    sections: &[Section],
    file_bytes: u64,
) -> Option<Vec<u8>> {
    let section_count = u32::try_from(sections.len())
        .ok()
        .filter(|n| *n as usize <= SECTIONS_MAX)?;
    let mut fixed = Fixed {
        magic: MAGIC,
        version: VERSION.into(),
        section_count: section_count.into(),
        archive_bytes: identity.archive_bytes.into(),
        mtime_secs: identity.mtime.0.into(),
        mtime_nanos: identity.mtime.1.into(),
        _reserved0: 0.into(),
        inode: identity.inode.into(),
        sha256: identity.sha256,
        file_bytes: file_bytes.into(),
        _reserved1: [0; 36],
        header_crc: 0.into(),
    };
    let table = sections.as_bytes();
    let mut bytes = vec![0; HEADER_BYTES];
    let table_at = size_of::<Fixed>();
    bytes[..table_at].copy_from_slice(fixed.as_bytes());
    bytes[table_at..table_at + table.len()].copy_from_slice(table);
    fixed.header_crc = crc32c::crc32c(&bytes).into();
    bytes[..table_at].copy_from_slice(fixed.as_bytes());
    Some(bytes)
}

/// What a valid header says.
pub(super) struct Parsed {
    pub(super) identity: Identity,
    pub(super) sections: Vec<Section>,
}

/// Checks and takes apart the header of `file`, all bytes of a sidecar file.
pub(super) fn parse(file: &[u8]) -> Result<Parsed, SidecarError> {
    let damaged = |what| SidecarError::Damaged { what };
    let Some(header) = file.get(..HEADER_BYTES) else {
        return Err(if file.get(..8) == Some(&MAGIC) {
            damaged("cut short")
        } else {
            SidecarError::Foreign
        });
    };
    let (fixed, rest) = Fixed::read_from_prefix(header).map_err(|_| damaged("header"))?;
    if fixed.magic != MAGIC {
        return Err(SidecarError::Foreign);
    }
    if fixed.version.get() != VERSION {
        return Err(SidecarError::Version {
            found: fixed.version.get(),
            known: VERSION,
        });
    }
    let blank = Fixed {
        header_crc: 0.into(),
        ..fixed.clone()
    };
    let crc = crc32c::crc32c_append(crc32c::crc32c(blank.as_bytes()), rest);
    if crc != fixed.header_crc.get() {
        return Err(damaged("header checksum"));
    }
    if fixed.file_bytes.get() != file.len() as u64 {
        return Err(damaged("cut short"));
    }
    let count = fixed.section_count.get() as usize;
    let (sections, _) = <[Section]>::ref_from_prefix_with_elems(rest, count.min(SECTIONS_MAX))
        .map_err(|_| damaged("section table"))?;
    let inside = |s: &Section| {
        s.offset.get() >= HEADER_BYTES as u64
            && s.offset.get().is_multiple_of(SECTION_ALIGN)
            && s.end().is_some_and(|end| end <= file.len() as u64)
    };
    if count > SECTIONS_MAX || !sections.iter().all(inside) {
        return Err(damaged("section table"));
    }
    let identity = Identity {
        archive_bytes: fixed.archive_bytes.get(),
        mtime: (fixed.mtime_secs.get(), fixed.mtime_nanos.get()),
        inode: fixed.inode.get(),
        sha256: fixed.sha256,
    };
    Ok(Parsed {
        identity,
        sections: sections.to_vec(),
    })
}
