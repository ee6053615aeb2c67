//! Sets of extended attributes, stored once for consecutive inodes that share
//! them (an image labelled by SELinux has a handful of sets).
//!
//! Guarantees: attributes of overlayfs never get into an index: an image that
//! could set `trusted.overlay.opaque` or `.redirect` would steer the overlays
//! mounted above it.

use zerocopy::IntoBytes;

use super::arena::{Area, ArenaProvider, bytes_u64};
use super::entry::Entry;
use super::error::BuildError;
use super::limits::Limits;
use super::pax::OwnedXattr;
use super::report::{Report, WarningKind};
use crate::index::format::{NO_XATTRS, XattrHead, is_xattr_name};
use crate::index::reader::XattrSet;

pub(super) struct XattrStore {
    area: Area,
    /// Where the set that was stored last starts.
    last: Option<usize>,
    /// The set being made, encoded.
    encoded: Vec<u8>,
}

impl XattrStore {
    pub(super) fn new(arenas: &mut dyn ArenaProvider, limits: &Limits) -> Result<Self, BuildError> {
        let bytes_max = limits.text_bytes_max.min(NO_XATTRS.into());
        Ok(Self {
            area: Area::new(arenas, "extended attributes", bytes_max)?,
            last: None,
            encoded: Vec::new(),
        })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.area.used()
    }

    /// Stores the attributes of an entry on top of those at `below`, as setting
    /// them again would, and returns the offset of the set.
    pub(super) fn store(
        &mut self,
        entry: &Entry<'_>,
        below: u32,
        limits: &Limits,
        report: &mut Report,
    ) -> Result<u32, BuildError> {
        if entry.xattrs.iter().all(|list| list.is_empty()) {
            return Ok(below);
        }
        let mut set = self.owned(below)?;
        let kept = set.len();
        for (name, value) in entry.xattrs.into_iter().flatten() {
            match refusal(name) {
                Some(kind) => report.add(kind, entry.path),
                None => set.push((name.clone(), value.clone())),
            }
        }
        if set.len() == kept {
            return Ok(below);
        }
        // The sort is stable, so of equal names the last is the newest.
        set.sort_by(|a, b| a.0.cmp(&b.0));
        self.encoded.clear();
        let distinct = set.chunk_by(|a, b| a.0 == b.0);
        let distinct: Vec<_> = distinct.filter_map(<[_]>::last).collect();
        let bytes = distinct
            .iter()
            .map(|(name, value)| name.len() + value.len());
        let bytes = bytes_u64(bytes.fold(0, usize::saturating_add));
        if bytes > u64::from(limits.xattr_bytes_max) {
            return Err(entry.limit("xattr_bytes_max", bytes, limits.xattr_bytes_max));
        }
        encode(&distinct, &mut self.encoded);
        self.append(entry, limits)
    }

    fn append(&mut self, entry: &Entry<'_>, limits: &Limits) -> Result<u32, BuildError> {
        let last = self
            .last
            .and_then(|at| Some((at, self.area.used().get(at..)?)));
        let start = match last {
            Some((at, bytes)) if bytes == self.encoded => at,
            _ if self.area.is_full(self.encoded.len()) => {
                let bytes = self.area.len().saturating_add(self.encoded.len());
                return Err(entry.limit("text_bytes_max", bytes_u64(bytes), limits.text_bytes_max));
            }
            _ => self.area.append(&[&self.encoded])?,
        };
        self.last = Some(start);
        u32::try_from(start).map_err(|_| entry.limit("text_bytes_max", bytes_u64(start), NO_XATTRS))
    }

    /// The set at an offset, taken apart.
    fn owned(&self, offset: u32) -> Result<Vec<OwnedXattr>, BuildError> {
        if offset == NO_XATTRS {
            return Ok(Vec::new());
        }
        let owned = |x: crate::index::Xattr<'_>| (x.name.to_vec(), x.value.to_vec());
        XattrSet::at(self.area.used(), offset)
            .and_then(|set| set.map(|x| x.map(owned)).collect())
            .map_err(|_| BuildError::Scratch {
                what: "extended attributes",
                number: offset.into(),
            })
    }
}

/// Why an attribute is not kept.
fn refusal(name: &[u8]) -> Option<WarningKind> {
    if !is_xattr_name(name) {
        return Some(WarningKind::BadXattr);
    }
    let overlay = name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.");
    overlay.then_some(WarningKind::OverlayXattr)
}

/// Writes a set as XATTRS holds it. Lengths fit: limits and names were checked.
fn encode(set: &[&OwnedXattr], out: &mut Vec<u8>) {
    let count = u32::try_from(set.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
    for (name, value) in set {
        let head = XattrHead {
            value_len: u32::try_from(value.len()).unwrap_or(u32::MAX).into(),
            name_len: u8::try_from(name.len()).unwrap_or(u8::MAX),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(value);
    }
}
