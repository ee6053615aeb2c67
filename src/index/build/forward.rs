//! Hard links to what comes later in the archive.
//!
//! Guarantees: such a link is made when all of the archive is known, as if its
//! target had come first; what replaced its name in the meantime stays. Chains
//! of such links are followed in time linear in their number, whatever their
//! order; circles and links to nothing are left out with a warning, and what was
//! there under their name stays. Nothing is held in memory: the links wait in
//! arenas. No tar unpacks such archives (the link fails), but some writers make
//! them, and images lack files then.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::arena::{Area, ArenaProvider, Table, bytes_u64};
use super::entry::{Attrs, Entry, EntryKind};
use super::error::BuildError;
use super::limits::Limits;
use super::place::{Refusal, Tree, split};
use super::report::{Report, WarningKind};
use crate::types::Ino;

/// A link that waits.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Waiting {
    /// Of its header in the stream.
    offset: U64,
    /// Where its path is in the texts; its target follows.
    path: U32,
    path_len: U32,
    target_len: U32,
    /// What its name named when it came; 0: nothing.
    before: U32,
    state: U32,
    /// The name that it was given when finishing.
    dirent: U32,
    /// What its target was found to be, perhaps another link that waits; in
    /// the end, what it links to. 0: nothing.
    to: U32,
    /// The link that led to this one while a chain is followed, plus one.
    from: U32,
}

/// It is not known yet what it links to.
const OPEN: u32 = 0;
/// Its chain is being followed.
const FOLLOWED: u32 = 1;
/// `to` is final; it is linked.
const LINKED: u32 = 2;
/// It leads nowhere.
const LOST: u32 = 3;
/// Its name was given to something else, or could not be given.
const DROPPED: u32 = 4;

/// The links that wait.
pub(super) struct Forward {
    waiting: Table<Waiting>,
    texts: Area,
}

impl Forward {
    pub(super) fn new(arenas: &mut dyn ArenaProvider, limits: &Limits) -> Result<Self, BuildError> {
        let text_max = limits.text_bytes_max.min(u32::MAX.into());
        Ok(Self {
            waiting: Table::new(arenas, "hard links", limits.entries_max)?,
            texts: Area::new(arenas, "hard links", text_max)?,
        })
    }

    /// Keeps a link for later. `before` is what its name names now.
    pub(super) fn add(
        &mut self,
        entry: &Entry<'_>,
        target: &[u8],
        before: Option<Ino>,
        limits: &Limits,
    ) -> Result<(), BuildError> {
        let count = u64::from(self.waiting.len()) + 1;
        if count > limits.entries_max.into() {
            return Err(entry.limit("entries_max", count, limits.entries_max));
        }
        let bytes = entry.path.len().saturating_add(target.len());
        if self.texts.is_full(bytes) {
            let bytes = bytes_u64(self.texts.len().saturating_add(bytes));
            return Err(entry.limit("text_bytes_max", bytes, limits.text_bytes_max));
        }
        let path = self.texts.append(&[entry.path, target])?;
        // Lengths and offsets fit: the limits of paths and of texts do.
        let small = |n: usize| U32::new(u32::try_from(n).unwrap_or(u32::MAX));
        self.waiting.push(Waiting {
            offset: entry.offset.into(),
            path: small(path),
            path_len: small(entry.path.len()),
            target_len: small(target.len()),
            before: before.map_or(0, |ino| ino.record() + 1).into(),
            state: OPEN.into(),
            dirent: 0.into(),
            to: 0.into(),
            from: 0.into(),
        })?;
        Ok(())
    }

    fn text(&self, start: u32, len: u32) -> Result<&[u8], BuildError> {
        let range = usize::try_from(start).ok().zip(usize::try_from(len).ok());
        let range = range.and_then(|(start, len)| Some(start..start.checked_add(len)?));
        let text = range.and_then(|range| self.texts.used().get(range));
        text.ok_or(BuildError::Scratch {
            what: "hard links",
            number: start.into(),
        })
    }

    /// A link as the entry that it was, without attributes.
    fn entry(&self, link: &Waiting) -> Result<Entry<'_>, BuildError> {
        let (start, len) = (link.path.get(), link.path_len.get());
        let target = self.text(start.saturating_add(len), link.target_len.get())?;
        Ok(Entry {
            path: self.text(start, len)?,
            offset: link.offset.get(),
            kind: EntryKind::HardLink {
                target,
                content: None,
            },
            attrs: Attrs::default(),
            xattrs: [&[], &[]],
        })
    }
}

impl Tree {
    /// Makes the links that wait.
    pub(super) fn link_forward(&mut self, report: &mut Report) -> Result<(), BuildError> {
        let Some(mut forward) = self.forward.take() else {
            return Ok(());
        };
        if forward.waiting.len() > 0 {
            self.tables.placeholders = forward.waiting.len();
            self.name_all(&mut forward, report)?;
            self.find_all(&mut forward, report)?;
            for number in 0..forward.waiting.len() {
                forward.follow(number, &self.tables)?;
            }
            self.link_all(&forward, report)?;
            self.tables.placeholders = 0;
            forward.waiting.clear();
            forward.texts.clear();
        }
        // For what another layer brings.
        self.forward = Some(forward);
        Ok(())
    }

    /// Gives each its name, with a number behind those of all inodes for now.
    fn name_all(&mut self, forward: &mut Forward, report: &mut Report) -> Result<(), BuildError> {
        for number in 0..forward.waiting.len() {
            let link = *forward.waiting.get(number)?;
            let entry = forward.entry(&link)?;
            let own = self.tables.placeholder(number)?;
            let named = self.name_one(&entry, &link, own);
            let (state, dirent, before) = match named {
                Ok(Some((dirent, there))) => {
                    let before = match self.tables.placeholder_number(there) {
                        Some(earlier) => {
                            let earlier = forward.waiting.get_mut(earlier)?;
                            earlier.state.set(DROPPED);
                            earlier.before
                        }
                        None => link.before,
                    };
                    (OPEN, dirent, before)
                }
                Ok(None) => (DROPPED, 0, link.before),
                Err(Refusal::Warn(kind)) => {
                    report.add(kind, entry.path);
                    (DROPPED, 0, link.before)
                }
                Err(Refusal::Fail(error)) => return Err(error),
            };
            let link = forward.waiting.get_mut(number)?;
            link.state.set(state);
            link.dirent.set(dirent);
            link.before = before;
        }
        Ok(())
    }

    /// Gives a link its name, unless something else has it since; returns the
    /// name and whose it was, or is.
    fn name_one(
        &mut self,
        entry: &Entry<'_>,
        link: &Waiting,
        own: Ino,
    ) -> Result<Option<(u32, Ino)>, Refusal> {
        let mut path = Vec::new();
        super::place::normalise(entry.path, &mut path).map_err(Refusal::Warn)?;
        let (parent, name) = split(&path);
        let parent = self.existing_parent(entry, parent)?;
        let Some((dirent, there)) = self.tables.find(parent, name)? else {
            let dirent = self.tables.add_name(entry, parent, name, own)?;
            return Ok(Some((dirent, own)));
        };
        let is_earlier = self.tables.placeholder_number(there).is_some();
        if !is_earlier && there.record() + 1 != link.before.get() {
            return Ok(None);
        }
        self.tables.point(dirent, own)?;
        Ok(Some((dirent, there)))
    }

    /// Finds the targets.
    fn find_all(&mut self, forward: &mut Forward, report: &mut Report) -> Result<(), BuildError> {
        for number in 0..forward.waiting.len() {
            let link = *forward.waiting.get(number)?;
            if link.state.get() == DROPPED {
                continue;
            }
            let entry = forward.entry(&link)?;
            let EntryKind::HardLink { target, .. } = entry.kind else {
                continue;
            };
            let to = match self.hard_link_target(&entry, target) {
                Ok(found) => found.record() + 1,
                Err(Refusal::Warn(kind)) => {
                    report.add(kind, entry.path);
                    0
                }
                Err(Refusal::Fail(error)) => return Err(error),
            };
            forward.waiting.get_mut(number)?.to.set(to);
        }
        Ok(())
    }

    /// Makes the names what they are found to be.
    fn link_all(&mut self, forward: &Forward, report: &mut Report) -> Result<(), BuildError> {
        for link in forward.waiting.all() {
            let (dirent, to) = (link.dirent.get(), link.to.get());
            match link.state.get() {
                DROPPED => continue,
                // Reported when its target was not found.
                LOST if to == 0 => {}
                LOST => report.add(WarningKind::LinkTargetMissing, forward.entry(link)?.path),
                _ => {
                    let to = self.tables.known_ino(to)?;
                    self.tables.point(dirent, to)?;
                    continue;
                }
            }
            match Ino::new(link.before.get().into()) {
                Some(before) => self.tables.point(dirent, before)?,
                None => self.tables.remove_name(dirent)?,
            }
        }
        Ok(())
    }
}

impl Forward {
    /// Follows the chain that begins with link `first` to its end, and settles
    /// all links on it.
    fn follow(&mut self, first: u32, tables: &super::tables::Tables) -> Result<(), BuildError> {
        if self.waiting.get(first)?.state.get() != OPEN {
            return Ok(());
        }
        let mut at = first;
        let mut circle = None;
        // What the end of the chain links to.
        let mut end = loop {
            let link = self.waiting.get_mut(at)?;
            link.state.set(FOLLOWED);
            let to = tables.ino_or_none(link.to.get());
            let Some(next) = to.and_then(|to| tables.placeholder_number(to)) else {
                break to;
            };
            let target = self.waiting.get_mut(next)?;
            match target.state.get() {
                OPEN => {
                    target.from.set(at + 1);
                    at = next;
                }
                LINKED => break tables.ino_or_none(target.to.get()),
                // What is there stays there, and can be linked to.
                LOST => break tables.ino_or_none(target.before.get()),
                FOLLOWED => {
                    circle = Some(next);
                    break None;
                }
                _ => break None,
            }
        };
        loop {
            let link = self.waiting.get_mut(at)?;
            match end {
                Some(ino) => {
                    link.state.set(LINKED);
                    link.to.set(ino.record() + 1);
                }
                None => link.state.set(LOST),
            }
            // All of a circle is lost, wherever it was entered.
            if end.is_none() && circle.is_none_or(|start| start == at) {
                circle = None;
                end = tables.ino_or_none(link.before.get());
            }
            match link.from.get().checked_sub(1) {
                Some(from) => at = from,
                None => return Ok(()),
            }
        }
    }
}
