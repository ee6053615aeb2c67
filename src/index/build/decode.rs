//! From blocks to entries: which header says what about which entry.
//!
//! Guarantees: an entry is described by its own extended headers first, then by
//! global ones, then by its header block, as POSIX and GNU tar have it; what it
//! needs and this builder lacks is an error that names it, so no wrong bytes
//! are ever served.

use super::arena::bytes_u64;
use super::entry::{Attrs, Entry, EntryKind, Leaf};
use super::error::BuildError;
use super::header::{BLOCK_BYTES, Block, text};
use super::limits::Limits;
use super::pax::Pax;
use super::report::{Report, WarningKind};
use crate::index::escape::EntryName;
use crate::index::node::Extent;
use crate::types::{StreamOffset, Timestamp};

/// The owner of what has none that Linux could have: `nobody`.
const OVERFLOW_OWNER: u32 = 65_534;

/// What follows a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another block.
    Block,
    /// The end of the archive.
    End,
    /// The body of an extended header, so many bytes.
    Text(usize),
    /// Content of something that has no place in the tree.
    Content(u64),
    /// Content of the entry that [`Decoder::entry`] now gives.
    Entry(u64),
}

#[derive(Clone, Copy, Debug)]
enum TextKind {
    LongName,
    LongLink,
    Local,
    Global,
}

/// The type of the current entry, without what it borrows.
#[derive(Clone, Copy, Debug)]
enum Shape {
    File { size: u64 },
    HardLink,
    Symlink,
    Directory,
    Fifo,
    CharDevice(u32),
    BlockDevice(u32),
}

pub(super) struct Decoder {
    limits: Limits,
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
    extents: Vec<Extent>,
}

impl Decoder {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            global: Pax::default(),
            local: Pax::default(),
            long_name: Vec::new(),
            long_link: Vec::new(),
            text_kind: TextKind::Local,
            announced: false,
            announced_bytes: 0,
            started: false,
            after_zero: false,
            offset: 0,
            path: Vec::new(),
            link: Vec::new(),
            shape: Shape::Directory,
            attrs: Attrs::default(),
            extents: Vec::new(),
        }
    }

    /// Takes a block; `offset` is where it starts in the stream.
    pub(super) fn block(
        &mut self,
        offset: u64,
        block: &[u8; BLOCK_BYTES],
        report: &mut Report,
    ) -> Result<Next, BuildError> {
        if block.iter().all(|b| *b == 0) {
            let end = std::mem::replace(&mut self.after_zero, true);
            return Ok(if end { Next::End } else { Next::Block });
        }
        let Some(block) = Block::parse(block) else {
            return Err(match self.started || self.after_zero {
                false => BuildError::NotTar { offset },
                true => BuildError::Checksum {
                    offset,
                    after: EntryName::new(&self.path),
                },
            });
        };
        self.started = true;
        self.offset = offset;
        let lone_zero = std::mem::replace(&mut self.after_zero, false);
        let kind = match block.typeflag() {
            b'L' => TextKind::LongName,
            b'K' => TextKind::LongLink,
            b'x' | b'X' => TextKind::Local,
            b'g' => TextKind::Global,
            _ => {
                self.name(block)?;
                if lone_zero {
                    report.add(WarningKind::LoneZeroBlock, &self.path);
                }
                return self.start(block, report);
            }
        };
        self.announce(block, kind)
    }

    /// Takes the body that [`Next::Text`] asked for.
    pub(super) fn text(&mut self, body: &[u8]) -> Result<(), BuildError> {
        let offset = self.offset;
        let invalid = |what| BuildError::Pax { what, offset };
        self.announced |= !matches!(self.text_kind, TextKind::Global);
        match self.text_kind {
            TextKind::LongName => replace(&mut self.long_name, text(body)),
            TextKind::LongLink => replace(&mut self.long_link, text(body)),
            TextKind::Local => self.local.read(body).map_err(invalid)?,
            TextKind::Global => {
                self.global.read(body).map_err(invalid)?;
                self.global.settle_xattrs();
                let bytes = bytes_u64(self.global.xattr_bytes());
                let max = self.limits.global_xattr_bytes_max;
                if bytes > u64::from(max) {
                    return Err(self.entry().limit("global_xattr_bytes_max", bytes, max));
                }
            }
        }
        Ok(())
    }

    /// The entry that [`Next::Entry`] announced.
    pub(super) fn entry(&self) -> Entry<'_> {
        Entry {
            path: &self.path,
            offset: self.offset,
            kind: match self.shape {
                Shape::Directory => EntryKind::Directory,
                Shape::HardLink => EntryKind::HardLink(&self.link),
                Shape::File { size } => EntryKind::Leaf(Leaf::File {
                    size,
                    extents: &self.extents,
                }),
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

    /// Whether something was said about an entry that never came.
    pub(super) fn is_announced(&self) -> bool {
        self.announced
    }

    /// Whether there was anything at all.
    pub(super) fn is_started(&self) -> bool {
        self.started || self.after_zero
    }

    /// An extended header: asks for its body.
    fn announce(&mut self, block: Block<'_>, kind: TextKind) -> Result<Next, BuildError> {
        block.path(&mut self.path);
        let size = block.size().ok_or_else(|| self.invalid("size"))?;
        let (limit, max, bytes) = match kind {
            // With the NUL at its end.
            TextKind::LongName | TextKind::LongLink => {
                let max = self.limits.path_bytes_max.saturating_add(1);
                ("path_bytes_max", max, size)
            }
            TextKind::Local => {
                self.announced_bytes = self.announced_bytes.saturating_add(size);
                let max = self.limits.pax_bytes_max;
                ("pax_bytes_max", max, self.announced_bytes)
            }
            TextKind::Global => ("pax_bytes_max", self.limits.pax_bytes_max, size),
        };
        self.text_kind = kind;
        match usize::try_from(size) {
            Ok(0) => self.text(&[]).map(|()| Next::Block),
            Ok(len) if bytes <= u64::from(max) => Ok(Next::Text(len)),
            _ => Err(self.entry().limit(limit, bytes, max)),
        }
    }

    /// Finds the name of the current entry, for everything said about it later.
    fn name(&mut self, block: Block<'_>) -> Result<(), BuildError> {
        match self.local.path.over(&self.global.path) {
            Some(path) => replace(&mut self.path, path),
            None if !self.long_name.is_empty() => replace(&mut self.path, &self.long_name),
            None => block.path(&mut self.path),
        }
        self.check_path_len(self.path.len())?;
        match self.local.unsupported.or(self.global.unsupported) {
            Some(what) => Err(self.unsupported(what)),
            None => Ok(()),
        }
    }

    /// Starts the entry of a header block.
    fn start(&mut self, block: Block<'_>, report: &mut Report) -> Result<Next, BuildError> {
        let is_directory_name = self.path.ends_with(b"/");
        self.shape = match block.typeflag() {
            // Any regular type with a slash at the end is a directory: v7 has
            // no other way to say so, and GNU tar reads all of them like that.
            0 | b'0' | b'7' if is_directory_name => Shape::Directory,
            0 | b'0' | b'7' => Shape::File {
                size: self.size(block)?,
            },
            b'1' => Shape::HardLink,
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
            b'S' => return Err(self.unsupported("a sparse file")),
            b'M' => return Err(self.unsupported("an archive in several volumes")),
            b'N' => return Err(self.unsupported("a table of long names (old GNU tar)")),
            // The label of the archive, not an entry.
            b'V' => return self.content(block).map(Next::Content),
            _ => {
                report.add(WarningKind::UnknownType, &self.path);
                return self.content(block).map(Next::Content);
            }
        };
        self.attrs = self.attrs(block, report)?;
        self.link(block)?;
        self.content(block).map(Next::Entry)
    }

    fn link(&mut self, block: Block<'_>) -> Result<(), BuildError> {
        let max = match self.shape {
            Shape::HardLink => self.limits.path_bytes_max,
            Shape::Symlink => self.limits.link_bytes_max.into(),
            _ => return Ok(()),
        };
        match self.local.linkpath.over(&self.global.linkpath) {
            Some(link) => replace(&mut self.link, link),
            None if !self.long_link.is_empty() => replace(&mut self.link, &self.long_link),
            None => replace(&mut self.link, block.link()),
        }
        match bytes_u64(self.link.len()) {
            len if len <= u64::from(max) => Ok(()),
            len if matches!(self.shape, Shape::Symlink) => {
                Err(self.entry().limit("link_bytes_max", len, max))
            }
            len => Err(self.entry().limit("path_bytes_max", len, max)),
        }
    }

    /// Bytes of content behind the header, and where they are. Links, devices,
    /// directories and fifos have none, whatever their size field says (POSIX;
    /// some writers put a size there).
    fn content(&mut self, block: Block<'_>) -> Result<u64, BuildError> {
        self.extents.clear();
        if matches!(block.typeflag(), b'1'..=b'6') {
            return Ok(0);
        }
        let size = self.size(block)?;
        let start = self.offset.checked_add(bytes_u64(BLOCK_BYTES));
        let padded = size.checked_next_multiple_of(bytes_u64(BLOCK_BYTES));
        let end = start
            .zip(padded)
            .and_then(|(start, len)| start.checked_add(len));
        let (Some(start), Some(_)) = (start, end) else {
            return Err(self.invalid("size"));
        };
        if size > 0 {
            self.extents.push(Extent {
                file_offset: 0,
                stream: StreamOffset(start),
                len: size,
            });
        }
        Ok(size)
    }

    fn size(&self, block: Block<'_>) -> Result<u64, BuildError> {
        let size = match self.local.size.over(&self.global.size) {
            Some(size) => Some(*size),
            None => block.size(),
        };
        // A file offset of Linux is signed.
        size.filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| self.invalid("size"))
    }

    fn attrs(&self, block: Block<'_>, report: &mut Report) -> Result<Attrs, BuildError> {
        let mode = block.mode().ok_or_else(|| self.invalid("mode"))?;
        let uid = self.local.uid.over(&self.global.uid).copied();
        let gid = self.local.gid.over(&self.global.gid).copied();
        let uid = uid.or_else(|| block.uid());
        let gid = gid.or_else(|| block.gid());
        let mut owner = |number: Option<i64>, field| -> Result<u32, BuildError> {
            let number = number.ok_or_else(|| self.invalid(field))?;
            // The largest number stands for "no change" in every call.
            match u32::try_from(number) {
                Ok(id) if id != u32::MAX => Ok(id),
                _ => {
                    report.add(WarningKind::BadOwner, &self.path);
                    Ok(OVERFLOW_OWNER)
                }
            }
        };
        let mtime = match self.local.mtime.over(&self.global.mtime) {
            Some(mtime) => *mtime,
            None => Timestamp {
                secs: block.mtime().ok_or_else(|| self.invalid("mtime"))?,
                nanos: 0,
            },
        };
        Ok(Attrs {
            perm: u16::try_from(mode & 0o7777).unwrap_or_default(),
            uid: owner(uid, "uid")?,
            gid: owner(gid, "gid")?,
            mtime,
        })
    }

    /// The device number as Linux packs it, if it has such a one.
    fn device(&self, block: Block<'_>) -> Result<Option<u32>, BuildError> {
        let (major, minor) = block.device().ok_or_else(|| self.invalid("device"))?;
        Ok(makedev(major, minor))
    }

    fn check_path_len(&self, len: usize) -> Result<(), BuildError> {
        let max = self.limits.path_bytes_max;
        match bytes_u64(len) {
            len if len > u64::from(max) => Err(self.entry().limit("path_bytes_max", len, max)),
            _ => Ok(()),
        }
    }

    fn invalid(&self, field: &'static str) -> BuildError {
        BuildError::Header {
            field,
            entry: EntryName::new(&self.path),
            offset: self.offset,
        }
    }

    fn unsupported(&self, what: &'static str) -> BuildError {
        BuildError::Unsupported {
            what,
            entry: EntryName::new(&self.path),
            offset: self.offset,
        }
    }
}

/// 12 bits of major and 20 of minor number, as `makedev(3)` packs them.
fn makedev(major: i64, minor: i64) -> Option<u32> {
    let major = u32::try_from(major).ok().filter(|n| *n < 1 << 12)?;
    let minor = u32::try_from(minor).ok().filter(|n| *n < 1 << 20)?;
    Some((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

fn replace(buffer: &mut Vec<u8>, with: &[u8]) {
    buffer.clear();
    buffer.extend_from_slice(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_packed_as_linux_does() {
        assert_eq!(makedev(8, 1), Some(0x801));
        assert_eq!(makedev(259, 0x12345), Some(0x1231_0345));
        assert_eq!(makedev(0xfff, 0xf_ffff), Some(u32::MAX));
        assert_eq!(makedev(0x1000, 0), None);
        assert_eq!(makedev(0, 0x10_0000), None);
        assert_eq!(makedev(-1, 0), None);
    }
}
