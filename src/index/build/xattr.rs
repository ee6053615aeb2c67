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
use super::report::{Report, WarningKind};
use crate::index::format::{NO_XATTRS, XattrHead, is_xattr_name};
use crate::index::node::Xattr;
use crate::index::reader::XattrSet;

pub(super) struct XattrStore {
    area: Area,
    /// Where the set that was stored last starts.
    last: Option<usize>,
}

impl XattrStore {
    pub(super) fn new(arenas: &mut dyn ArenaProvider, limits: &Limits) -> Result<Self, BuildError> {
        let bytes_max = limits.text_bytes_max.min(NO_XATTRS.into());
        Ok(Self {
            area: Area::new(arenas, "extended attributes", bytes_max)?,
            last: None,
        })
    }

    /// Takes over the sets of an index, at the same offsets. Nothing is stored
    /// yet.
    pub(super) fn adopt(&mut self, sets: &[u8]) -> Result<(), BuildError> {
        self.area.append(&[sets]).map(drop)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.area.used()
    }

    /// Stores the attributes of an entry on top of those at `below`, as setting
    /// them again would, and returns the offset of the set. What the entry does
    /// not bring itself is paid for from `steps_left`.
    pub(super) fn store(
        &mut self,
        entry: &Entry<'_>,
        below: u32,
        limits: &Limits,
        steps_left: &mut u64,
        report: &mut Report,
    ) -> Result<u32, BuildError> {
        let mut set = self.read(below)?;
        let kept = set.len();
        let steps = bytes_u64(kept.saturating_add(entry.xattrs[0].len()));
        *steps_left = steps_left.checked_sub(steps).ok_or_else(|| {
            let max = limits.steps_max;
            entry.limit("steps_max", max.saturating_add(1), max)
        })?;
        for (name, value) in entry.xattrs.into_iter().flatten() {
            match refusal(name) {
                Some(kind) => report.add(kind, entry.path),
                None => set.push(Xattr { name, value }),
            }
        }
        if set.len() == kept {
            return Ok(below);
        }
        // The sort is stable, so of equal names the last is the newest.
        set.sort_by_key(|xattr| xattr.name);
        let distinct = set.chunk_by(|a, b| a.name == b.name);
        let distinct: Vec<_> = distinct.filter_map(<[_]>::last).collect();
        let bytes = distinct.iter().map(|x| x.name.len() + x.value.len());
        let bytes = bytes_u64(bytes.fold(0, usize::saturating_add));
        if bytes > u64::from(limits.xattr_bytes_max) {
            return Err(entry.limit("xattr_bytes_max", bytes, limits.xattr_bytes_max));
        }
        let encoded = encode(&distinct);
        self.append(&encoded, entry, limits)
    }

    fn append(
        &mut self,
        encoded: &[u8],
        entry: &Entry<'_>,
        limits: &Limits,
    ) -> Result<u32, BuildError> {
        let last = self
            .last
            .and_then(|at| Some((at, self.area.used().get(at..)?)));
        let start = match last {
            Some((at, bytes)) if bytes == encoded => at,
            _ if self.area.is_full(encoded.len()) => {
                let bytes = bytes_u64(self.area.len().saturating_add(encoded.len()));
                return Err(entry.limit("text_bytes_max", bytes, limits.text_bytes_max));
            }
            _ => self.area.append(&[encoded])?,
        };
        self.last = Some(start);
        u32::try_from(start).map_err(|_| entry.limit("text_bytes_max", bytes_u64(start), NO_XATTRS))
    }

    /// The attributes of the set at an offset.
    fn read(&self, offset: u32) -> Result<Vec<Xattr<'_>>, BuildError> {
        if offset == NO_XATTRS {
            return Ok(Vec::new());
        }
        XattrSet::at(self.area.used(), offset)
            .and_then(Iterator::collect)
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

/// A set as XATTRS holds it. Lengths fit: limits and names were checked.
fn encode(set: &[&Xattr<'_>]) -> Vec<u8> {
    let count = u32::try_from(set.len()).unwrap_or(u32::MAX);
    let mut out = count.to_le_bytes().to_vec();
    for xattr in set {
        let head = XattrHead {
            value_len: u32::try_from(xattr.value.len()).unwrap_or(u32::MAX).into(),
            name_len: u8::try_from(xattr.name.len()).unwrap_or(u8::MAX),
        };
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(xattr.name);
        out.extend_from_slice(xattr.value);
    }
    out
}
