//! What a header block and its extended headers together say about an entry:
//! name, owner, time, size, device.

use super::{Decoder, Shape, replace};
use crate::index::build::arena::bytes_u64;
use crate::index::build::entry::Attrs;
use crate::index::build::error::BuildError;
use crate::index::build::header::Block;
use crate::index::build::report::{Report, WarningKind};
use crate::index::escape::EntryName;
use crate::types::Timestamp;

/// The owner of what has none that Linux could have: `nobody`.
const OVERFLOW_OWNER: u32 = 65_534;

impl Decoder {
    /// Finds the name of the current entry, for everything said about it later.
    pub(super) fn name(&mut self, block: Block<'_>) -> Result<(), BuildError> {
        let local = self.local.sparse.name.as_ref();
        match local.or(self.local.path.over(&self.global.path)) {
            Some(path) => replace(&mut self.path, path),
            None if !self.long_name.is_empty() => replace(&mut self.path, &self.long_name),
            None => block.path(&mut self.path),
        }
        let max = self.limits.path_bytes_max;
        match bytes_u64(self.path.len()) {
            len if len > u64::from(max) => Err(self.entry().limit("path_bytes_max", len, max)),
            _ => Ok(()),
        }
    }

    /// Finds what a link leads to.
    pub(super) fn link(&mut self, block: Block<'_>) -> Result<(), BuildError> {
        let (limit, max) = match self.shape {
            Shape::HardLink { .. } => ("path_bytes_max", self.limits.path_bytes_max),
            Shape::Symlink => ("link_bytes_max", self.limits.link_bytes_max.into()),
            _ => return Ok(()),
        };
        match self.local.linkpath.over(&self.global.linkpath) {
            Some(link) => replace(&mut self.link, link),
            None if !self.long_link.is_empty() => replace(&mut self.link, &self.long_link),
            None => replace(&mut self.link, block.link()),
        }
        match bytes_u64(self.link.len()) {
            len if len > u64::from(max) => Err(self.entry().limit(limit, len, max)),
            _ => Ok(()),
        }
    }

    /// Bytes of content behind the header, for types that have any.
    pub(super) fn size(&self, block: Block<'_>) -> Result<u64, BuildError> {
        let size = match self.local.size.over(&self.global.size) {
            Some(size) => Some(*size),
            None => block.size(),
        };
        // A file offset of Linux is signed.
        size.filter(|size| i64::try_from(*size).is_ok())
            .ok_or_else(|| self.invalid("size"))
    }

    pub(super) fn attrs(&self, block: Block<'_>, report: &mut Report) -> Result<Attrs, BuildError> {
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
    pub(super) fn device(&self, block: Block<'_>) -> Result<Option<u32>, BuildError> {
        let (local, global) = (&self.local, &self.global);
        let major = local.dev_major.over(&global.dev_major);
        let minor = local.dev_minor.over(&global.dev_minor);
        let (major, minor) = match (major, minor, block.device()) {
            (Some(major), Some(minor), _) => (*major, *minor),
            (major, minor, Some((header_major, header_minor))) => (
                major.copied().unwrap_or(header_major),
                minor.copied().unwrap_or(header_minor),
            ),
            _ => return Err(self.invalid("device")),
        };
        Ok(makedev(major, minor))
    }

    pub(super) fn invalid(&self, field: &'static str) -> BuildError {
        BuildError::Header {
            field,
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
