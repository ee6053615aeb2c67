//! What a layer takes away from those below it.
//!
//! Guarantees: time linear in the number of names for each layer, whatever the
//! layer says. All that it removes is looked up in the layers below as they were
//! before, and goes at the end of the pass, so the order of whiteouts does not
//! matter. A directory that is removed is only cut off from its parent; what is
//! below it follows when finishing, in one pass.

use zerocopy::little_endian::U32;

use super::super::arena::{ArenaProvider, Table};
use super::super::entry::Entry;
use super::super::error::BuildError;
use super::super::limits::Limits;
use super::super::place::{Refusal, Tree};
use super::super::report::{Report, WarningKind};
use super::super::tables::Tables;
use crate::types::Ino;

/// The `depth` of a directory that is in the tree no more.
const CUT_OFF: u32 = u32::MAX;

/// The `next` of a directory that is to be emptied.
const HIDDEN: u32 = 1;

/// What there was before the first entry of a layer.
pub(in super::super) struct Layers {
    /// The directory that the image serves as its root.
    pub(in super::super) root: Ino,
    /// The first name of the layer that is placed now.
    first_dirent: u32,
    /// Numbers of the dirents that a layer removes.
    removed: Table<U32>,
    has_hidden: bool,
    has_cut_off: bool,
}

impl Layers {
    pub(super) fn new(
        root: Ino,
        limits: &Limits,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            root,
            first_dirent: 0,
            removed: Table::new(arenas, "whiteouts", limits.entries_max)?,
            has_hidden: false,
            has_cut_off: false,
        })
    }
}

impl Tree {
    /// What is placed from now on is on top of all that there is.
    pub(super) fn begin_layer(&mut self) {
        self.forget_parent();
        let first = self.tables.dirents.len();
        if let Some(layers) = &mut self.layers {
            layers.first_dirent = first;
        }
    }

    /// Whether a name is of a layer below.
    pub(in super::super) fn is_lower(&self, dirent: u32) -> bool {
        let layers = self.layers.as_ref();
        layers.is_some_and(|layers| dirent < layers.first_dirent)
    }

    /// Says that `name` goes from the directory at `parent`, which ends with a slash
    /// or is empty.
    pub(super) fn remove(
        &mut self,
        entry: &Entry<'_>,
        parent: &[u8],
        name: &[u8],
        report: &mut Report,
    ) -> Result<(), BuildError> {
        let found = match self.lower_directory(entry, parent)? {
            Some(parent) => self.tables.find(parent, name)?,
            None => None,
        };
        let Some((dirent, _)) = found else {
            report.add(WarningKind::NothingToRemove, entry.path);
            return Ok(());
        };
        if let Some(layers) = &mut self.layers {
            let max = self.tables.limits.entries_max;
            if layers.removed.len() >= max {
                return Err(entry.limit("entries_max", u64::from(max) + 1, max));
            }
            layers.removed.push(dirent.into())?;
        }
        Ok(())
    }

    /// Says that all goes that is in the directory at `parent` now. There may be
    /// none: layers say so of directories that they make, too.
    pub(super) fn hide(&mut self, entry: &Entry<'_>, parent: &[u8]) -> Result<(), BuildError> {
        if let Some(dir) = self.lower_directory(entry, parent)? {
            let number = self.tables.dir_number(dir)?;
            self.tables.dirs.get_mut(number)?.next.set(HIDDEN);
            if let Some(layers) = &mut self.layers {
                layers.has_hidden = true;
            }
        }
        Ok(())
    }

    /// Takes away what was said to go.
    pub(super) fn take_all_away(&mut self) -> Result<(), BuildError> {
        let Some(mut layers) = self.layers.take() else {
            return Ok(());
        };
        self.forget_parent();
        for dirent in layers.removed.all() {
            layers.has_cut_off |= self.tables.take_away(dirent.get())?;
        }
        layers.removed.clear();
        if std::mem::replace(&mut layers.has_hidden, false) {
            layers.has_cut_off |= self.tables.empty_hidden()?;
        }
        self.layers = Some(layers);
        Ok(())
    }

    /// The directory at a path, in which something is to be removed, if it is
    /// there.
    fn lower_directory(
        &mut self,
        entry: &Entry<'_>,
        path: &[u8],
    ) -> Result<Option<Ino>, BuildError> {
        match self.existing_parent(entry, path) {
            Ok(dir) => Ok(Some(dir)),
            Err(Refusal::Warn(_)) => Ok(None),
            Err(Refusal::Fail(error)) => Err(error),
        }
    }

    /// Says that a directory is in the tree no more, or will not be in a moment.
    pub(in super::super) fn cut_off(&mut self, ino: Ino) -> Result<(), BuildError> {
        self.tables.cut_off(ino)?;
        if let Some(layers) = &mut self.layers {
            layers.has_cut_off = true;
        }
        Ok(())
    }

    /// Removes all names below directories that are not in the tree.
    pub(in super::super) fn sweep(&mut self) -> Result<(), BuildError> {
        match &self.layers {
            Some(layers) if layers.has_cut_off => self.tables.sweep(),
            _ => Ok(()),
        }
    }
}

impl Tables {
    fn cut_off(&mut self, ino: Ino) -> Result<(), BuildError> {
        let number = self.dir_number(ino)?;
        self.dirs.get_mut(number)?.depth.set(CUT_OFF);
        Ok(())
    }

    /// Takes a name away, if it is there; whether it was that of a directory.
    fn take_away(&mut self, dirent: u32) -> Result<bool, BuildError> {
        let record = *self.dirents.get(dirent)?;
        if record.dir.get() == 0 {
            return Ok(false);
        }
        let ino = self.known_ino(record.ino.get())?;
        let is_dir = self.inode(ino)?.is_dir();
        if is_dir {
            self.cut_off(ino)?;
        }
        self.remove_name(dirent)?;
        Ok(is_dir)
    }

    /// Takes all names away that are in directories to be emptied; whether one
    /// was that of a directory.
    fn empty_hidden(&mut self) -> Result<bool, BuildError> {
        let mut has_cut_off = false;
        for dirent in 0..self.dirents.len() {
            let dir = self.dirents.get(dirent)?.dir.get();
            if let Some(dir) = Ino::new(dir.into())
                && self.dir(dir)?.next.get() == HIDDEN
            {
                has_cut_off |= self.take_away(dirent)?;
            }
        }
        for dir in self.dirs.all_mut() {
            dir.next.set(0);
        }
        Ok(has_cut_off)
    }

    fn sweep(&mut self) -> Result<(), BuildError> {
        // Parents come before what is in them.
        for number in 0..self.dirs.len() {
            let parent = self.known_ino(self.dirs.get(number)?.parent.get())?;
            let is_cut_off = self.dir(parent)?.depth.get() == CUT_OFF;
            let dir = self.dirs.get_mut(number)?;
            if is_cut_off || dir.depth.get() == CUT_OFF {
                dir.depth.set(CUT_OFF);
                dir.count.set(0);
            }
        }
        for number in 0..self.dirents.len() {
            let dir = self.dirents.get(number)?.dir.get();
            if let Some(dir) = Ino::new(dir.into())
                && self.dir(dir)?.depth.get() == CUT_OFF
            {
                self.dirents.get_mut(number)?.dir.set(0);
            }
        }
        Ok(())
    }
}
