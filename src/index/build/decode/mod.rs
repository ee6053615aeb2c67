//! From blocks to entries: which header says what about which entry.
//!
//! Guarantees: an entry is described by its own extended headers first, then by
//! global ones, then by its header block, as POSIX and GNU tar have it; what it
//! needs and this builder lacks is an error that names it, so no wrong bytes
//! are ever served.

mod content;
mod fields;
mod map;

use super::BuildOptions;
use super::arena::{ArenaProvider, bytes_u64};
use super::entry::{Attrs, Entry, EntryKind, Leaf, Sparse, Whole};
use super::error::BuildError;
use super::header::{BLOCK_BYTES, Block, text};
use super::limits::Limits;
use super::pax::Pax;
use super::report::{Report, WarningKind};
use crate::index::escape::EntryName;
use crate::types::StreamOffset;
use map::{MapText, SparseMap};

/// What follows a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another block.
    Block,
    /// The end of the archive; the block that said so may be more than that.
    End { more: bool },
    /// The body of an extended header or a part of a map, so many bytes.
    Text(usize),
    /// Content of something that has no place in the tree.
    Content(u64),
    /// Content of the entry that [`Decoder::entry`] now gives.
    Entry(u64),
}

/// What says something about entries that follow.
#[derive(Clone, Copy, Debug)]
enum Extended {
    LongName,
    LongLink,
    Local,
    Global,
}

#[derive(Clone, Copy, Debug)]
enum TextKind {
    Extended(Extended),
    /// More of the map of a sparse file, in the format of old GNU tar.
    MapExtension,
    /// The same in PAX 1.0.
    MapText,
}

/// The type of the current entry, without what it borrows.
#[derive(Clone, Copy, Debug)]
enum Shape {
    File { size: u64 },
    SparseFile { size: u64 },
    HardLink { has_content: bool },
    Symlink,
    Directory,
    Fifo,
    CharDevice(u32),
    BlockDevice(u32),
}

pub(super) struct Decoder {
    limits: Limits,
    ignore_zeros: bool,
    global: Pax,
    local: Pax,
    long_name: Vec<u8>,
    long_link: Vec<u8>,
    text_kind: TextKind,
    /// Whether something was said about an entry that is still to come, and in
    /// how many bytes.
    announced: bool,
    announced_bytes: u64,
    /// Whether a header was seen.
    started: bool,
    /// Whether the last block was zero.
    after_zero: bool,
    // The current entry.
    offset: u64,
    path: Vec<u8>,
    link: Vec<u8>,
    shape: Shape,
    attrs: Attrs,
    /// Where its data are in the stream, and how many bytes of them.
    start: u64,
    stored: u64,
    map: SparseMap,
    map_text: MapText,
    is_undecided: bool,
}

impl Decoder {
    pub(super) fn new(
        options: &BuildOptions,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        let limits = options.limits;
        Ok(Self {
            limits,
            ignore_zeros: options.ignore_zeros,
            global: Pax::default(),
            local: Pax::default(),
            long_name: Vec::new(),
            long_link: Vec::new(),
            text_kind: TextKind::Extended(Extended::Local),
            announced: false,
            announced_bytes: 0,
            started: false,
            after_zero: false,
            offset: 0,
            path: Vec::new(),
            link: Vec::new(),
            shape: Shape::Directory,
            attrs: Attrs::default(),
            start: 0,
            stored: 0,
            map: SparseMap::new(arenas, limits.sparse_extents_max)?,
            map_text: MapText::default(),
            is_undecided: false,
        })
    }

    /// Takes a block; `offset` is where it starts in the stream.
    pub(super) fn block(
        &mut self,
        offset: u64,
        block: &[u8; BLOCK_BYTES],
        report: &mut Report,
    ) -> Result<Next, BuildError> {
        if block.iter().all(|b| *b == 0) {
            let again = std::mem::replace(&mut self.after_zero, true);
            return Ok(match again && !self.ignore_zeros {
                true => Next::End { more: false },
                false => Next::Block,
            });
        }
        let after_zero = std::mem::replace(&mut self.after_zero, false);
        if after_zero && self.started && !self.ignore_zeros {
            report.add(WarningKind::LoneZeroBlock, &self.path);
            return Ok(Next::End { more: true });
        }
        let header = Block::parse(block).filter(|_| !after_zero || self.ignore_zeros);
        let Some(block) = header else {
            return Err(match self.started {
                false => BuildError::NotTar { offset },
                true => BuildError::Checksum {
                    offset,
                    after: EntryName::new(&self.path),
                },
            });
        };
        self.started = true;
        self.offset = offset;
        let kind = match block.typeflag() {
            b'L' => Extended::LongName,
            b'K' => Extended::LongLink,
            b'x' | b'X' => Extended::Local,
            b'g' => Extended::Global,
            _ => {
                self.name(block)?;
                return self.start(block, report);
            }
        };
        self.announce(block, kind)
    }

    /// Takes the body that [`Next::Text`] asked for.
    pub(super) fn text(&mut self, body: &[u8]) -> Result<Next, BuildError> {
        match self.text_kind {
            TextKind::Extended(kind) => self.extended(kind, body).map(|()| Next::Block),
            TextKind::MapExtension => self.map_extension(body),
            TextKind::MapText => self.map_text(body),
        }
    }

    fn extended(&mut self, kind: Extended, body: &[u8]) -> Result<(), BuildError> {
        let offset = self.offset;
        let invalid = |what| BuildError::Pax { what, offset };
        match kind {
            Extended::LongName => replace(&mut self.long_name, text(body)),
            Extended::LongLink => replace(&mut self.long_link, text(body)),
            Extended::Local => self.local.read(body).map_err(invalid)?,
            Extended::Global => {
                self.global.read(body).map_err(invalid)?;
                self.global.settle();
                let bytes = bytes_u64(self.global.xattr_bytes());
                let max = self.limits.global_xattr_bytes_max;
                return match bytes > u64::from(max) {
                    true => Err(self.entry().limit("global_xattr_bytes_max", bytes, max)),
                    false => Ok(()),
                };
            }
        }
        self.announced = true;
        Ok(())
    }

    /// The entry that [`Next::Entry`] announced.
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            path: &self.path,
            offset: self.offset,
            kind: match self.shape {
                Shape::Directory => EntryKind::Directory,
                Shape::HardLink { has_content } => EntryKind::HardLink {
                    target: &self.link,
                    content: has_content.then_some(Whole {
                        size: self.stored,
                        start: StreamOffset(self.start),
                    }),
                },
                Shape::File { size } => EntryKind::Leaf(Leaf::File(Whole {
                    size,
                    start: StreamOffset(self.start),
                })),
                Shape::SparseFile { size } => EntryKind::Leaf(Leaf::SparseFile(Sparse {
                    size,
                    pieces: self.map.pieces(),
                    start: StreamOffset(self.start),
                })),
                Shape::Symlink => EntryKind::Leaf(Leaf::Symlink(&self.link)),
                Shape::Fifo => EntryKind::Leaf(Leaf::Fifo),
                Shape::CharDevice(rdev) => EntryKind::Leaf(Leaf::CharDevice(rdev)),
                Shape::BlockDevice(rdev) => EntryKind::Leaf(Leaf::BlockDevice(rdev)),
            },
            attrs: self.attrs,
            xattrs: [&self.global.xattrs, &self.local.xattrs],
        }
    }

    /// Forgets what was said about the entry that was just dealt with.
    pub(super) fn entry_done(&mut self) {
        if std::mem::replace(&mut self.announced, false) {
            self.announced_bytes = 0;
            self.local.clear();
            self.long_name.clear();
            self.long_link.clear();
        }
    }

    /// The name of the last entry, as the archive spells it.
    pub(super) fn last_path(&self) -> &[u8] {
        &self.path
    }

    /// Whether the last block was one of zeros.
    pub(super) fn is_after_zero(&self) -> bool {
        self.after_zero
    }

    /// Whether something was said about an entry that never came.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Whether there was anything at all.
    pub(super) fn is_started(&self) -> bool {
        self.started || self.after_zero
    }

    /// An extended header: asks for its body.
    fn announce(&mut self, block: Block<'_>, kind: Extended) -> Result<Next, BuildError> {
        block.path(&mut self.path);
        let size = block.size().ok_or_else(|| self.invalid("size"))?;
        let (limit, max, bytes) = match kind {
            // With the NUL at its end.
            Extended::LongName | Extended::LongLink => {
                let max = self.limits.path_bytes_max.saturating_add(1);
                ("path_bytes_max", max, size)
            }
            Extended::Local => {
                self.announced_bytes = self.announced_bytes.saturating_add(size);
                let max = self.limits.pax_bytes_max;
                ("pax_bytes_max", max, self.announced_bytes)
            }
            Extended::Global => ("pax_bytes_max", self.limits.pax_bytes_max, size),
        };
        self.text_kind = TextKind::Extended(kind);
        match usize::try_from(size) {
            Ok(0) => self.text(&[]),
            Ok(len) if bytes <= u64::from(max) => Ok(Next::Text(len)),
            _ => Err(self.entry().limit(limit, bytes, max)),
        }
    }

    /// Starts the entry of a header block.
    fn start(&mut self, block: Block<'_>, report: &mut Report) -> Result<Next, BuildError> {
        self.shape = match block.typeflag() {
            // Any regular type with a slash at the end is a directory: v7 has
            // no other way to say so, and GNU tar reads all of them like that.
            0 | b'0' | b'7' if self.path.ends_with(b"/") => Shape::Directory,
            0 | b'0' | b'7' | b'S' => Shape::File { size: 0 },
            b'1' => Shape::HardLink { has_content: false },
            b'2' => Shape::Symlink,
            b'5' | b'D' => Shape::Directory,
            b'6' => Shape::Fifo,
            b'3' | b'4' => match self.device(block)? {
                Some(rdev) if block.typeflag() == b'3' => Shape::CharDevice(rdev),
                Some(rdev) => Shape::BlockDevice(rdev),
                None => {
                    report.add(WarningKind::BadDevice, &self.path);
                    return Ok(Next::Content(0));
                }
            },
            b'M' => {
                report.add(WarningKind::Continued, &self.path);
                return self.passed_over(block);
            }
            // The label of the archive, not an entry.
            b'V' => return self.passed_over(block),
            _ => {
                report.add(WarningKind::UnknownType, &self.path);
                Shape::File { size: 0 }
            }
        };
        if self.local.bad_acl || self.global.bad_acl {
            report.add(WarningKind::BadAcl, &self.path);
        }
        self.attrs = self.attrs(block, report)?;
        self.link(block)?;
        self.content(block)
    }
}

fn replace(buffer: &mut Vec<u8>, with: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(with);
}
