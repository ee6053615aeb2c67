//! The tables as they grow: records in arenas, and the one map in memory.
//!
//! Guarantees: inodes, directories and names refer to each other by number
//! only. The map from (directory, name) to the number of its dirent holds 4
//! bytes and 1 of control for each slot; what it compares is in the arenas. Its
//! hashes are keyed twice, by the index's key and by the process, so an archive
//! cannot aim collisions.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BuildOptions;
use super::arena::{Area, ArenaProvider, Table, bytes_u64};
use super::entry::{Attrs, Entry, Sparse};
use super::error::BuildError;
use super::limits::Limits;
use crate::index::format::{
    DirentRecord, ExtentRecord, HashRecord, InodeRecord, NO_XATTRS, SparseRecord, mode_of_kind,
    name_hash,
};
use crate::index::node::FileKind;
use crate::types::Ino;

/// A directory while it grows.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct GrowingDir {
    pub(super) ino: U32,
    pub(super) parent: U32,
    /// Entries.
    pub(super) count: U32,
    /// Levels below the root.
    pub(super) depth: U32,
    /// When finishing: where its next entry goes. Before: [`super::derive`].
    pub(super) next: U32,
}

/// A name, in the order of the archive.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct GrowingDirent {
    pub(super) ino: U32,
    /// Offset in the names.
    pub(super) name: U32,
    /// Inode of the directory.
    pub(super) dir: U32,
    /// Hash of the name under the index's key.
    pub(super) hash: U32,
}

pub(super) struct Tables {
    pub(super) limits: Limits,
    pub(super) hash_key: [u8; 16],
    pub(super) inodes: Table<InodeRecord>,
    pub(super) dirs: Table<GrowingDir>,
    pub(super) dirents: Table<GrowingDirent>,
    pub(super) names: Area,
    pub(super) sparse: Table<SparseRecord>,
    pub(super) extents: Table<ExtentRecord>,
    /// Filled when finishing.
    pub(super) grouped: Table<DirentRecord>,
    /// Filled when finishing.
    pub(super) hashes: Table<HashRecord>,
    /// How many inode numbers behind those of all inodes stand for something
    /// else, while links that waited are made.
    pub(super) placeholders: u32,
    by_name: HashTable<u32>,
    map_key: RandomState,
}

impl Tables {
    /// Tables with nothing but a root.
    pub(super) fn new(
        options: &BuildOptions,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        let limits = options.limits;
        // One more: the root is not counted, and record numbers plus one fit.
        let most = limits.entries_max.min(u32::MAX - 2) + 1;
        let text_max = limits.text_bytes_max.min(u32::MAX.into());
        let mut tables = Self {
            limits,
            hash_key: options.hash_key,
            inodes: Table::new(arenas, "inodes", most)?,
            dirs: Table::new(arenas, "directories", most)?,
            dirents: Table::new(arenas, "entries", most)?,
            names: Area::new(arenas, "names", text_max)?,
            sparse: Table::new(arenas, "sparse files", most)?,
            extents: Table::new(arenas, "extents", u32::MAX)?,
            grouped: Table::new(arenas, "grouped entries", most)?,
            hashes: Table::new(arenas, "hashes", most)?,
            placeholders: 0,
            by_name: HashTable::new(),
            map_key: RandomState::new(),
        };
        let attrs = Attrs {
            perm: 0o755,
            ..Attrs::default()
        };
        tables.inodes.push(new_inode(FileKind::Directory, &attrs))?;
        tables.dirs.push(GrowingDir {
            ino: 1.into(),
            parent: 1.into(),
            count: 0.into(),
            depth: 0.into(),
            next: 0.into(),
        })?;
        Ok(tables)
    }

    pub(super) fn inode(&self, ino: Ino) -> Result<&InodeRecord, BuildError> {
        self.inodes.get(ino.record())
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> Result<&mut InodeRecord, BuildError> {
        self.inodes.get_mut(ino.record())
    }

    /// The directory that a directory's inode is of.
    pub(super) fn dir(&self, ino: Ino) -> Result<&GrowingDir, BuildError> {
        self.dirs.get(self.dir_number(ino)?)
    }

    /// The number of the dirent that `name` in `dir` is, and its inode.
    pub(super) fn find(&self, dir: Ino, name: &[u8]) -> Result<Option<(u32, Ino)>, BuildError> {
        let hash = name_hash(&self.hash_key, name);
        let dir = U32::new(dir.record() + 1);
        let is_it = |number: &u32| {
            self.dirents.get(*number).is_ok_and(|dirent| {
                dirent.hash.get() == hash && dirent.dir == dir && self.name_is(dirent, name)
            })
        };
        let slot = self.slot(dir.get(), hash);
        let Some(number) = self.by_name.find(slot, is_it) else {
            return Ok(None);
        };
        let ino = self.dirents.get(*number)?.ino.get();
        Ok(Some((*number, self.known_ino(ino)?)))
    }

    /// Adds a name to a directory that does not have it, and returns the number
    /// of its dirent.
    pub(super) fn add_name(
        &mut self,
        entry: &Entry<'_>,
        dir: Ino,
        name: &[u8],
        ino: Ino,
    ) -> Result<u32, BuildError> {
        self.check_room(entry, self.dirents.len())?;
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        let name_at = self.append_text(entry, &[&[len], name])?;
        let hash = name_hash(&self.hash_key, name);
        let number = self.dirents.push(GrowingDirent {
            ino: (ino.record() + 1).into(),
            name: name_at.into(),
            dir: (dir.record() + 1).into(),
            hash: hash.into(),
        })?;
        let dir_number = self.dir_number(dir)?;
        let record = self.dirs.get_mut(dir_number)?;
        record.count.set(record.count.get().saturating_add(1));
        if self.by_name.len() == self.by_name.capacity() {
            let room = self.by_name.capacity().max(1024);
            self.remake_map(room.saturating_mul(2))?;
        } else {
            let slot = self.slot(dir.record() + 1, hash);
            self.by_name.insert_unique(slot, number, |_| 0);
        }
        Ok(number)
    }

    /// Makes the map anew with so much room. It holds every dirent that is in a
    /// directory, so nothing of the old one is needed: the two are never in
    /// memory together, and the dirents are read in order, not in that of their
    /// hashes.
    pub(super) fn remake_map(&mut self, room: usize) -> Result<(), BuildError> {
        self.by_name = HashTable::new();
        let mut map = HashTable::new();
        map.try_reserve(room, |_| 0)
            .map_err(|_| BuildError::Arena {
                what: "the map of names",
                cause: std::io::ErrorKind::OutOfMemory.into(),
            })?;
        let named = (0..).zip(self.dirents.all());
        for (number, dirent) in named.filter(|(_, dirent)| dirent.dir.get() != 0) {
            let slot = self.slot(dirent.dir.get(), dirent.hash.get());
            map.insert_unique(slot, number, |_| 0);
        }
        self.by_name = map;
        Ok(())
    }

    /// The hash of a name in the map.
    fn slot(&self, dir: u32, name_hash: u32) -> u64 {
        self.map_key.hash_one((dir, name_hash))
    }

    /// Gives back the memory of the map; nothing is found by name from then on.
    pub(super) fn forget_names(&mut self) {
        self.by_name = HashTable::new();
    }

    /// Makes an existing name another inode's.
    pub(super) fn point(&mut self, dirent: u32, ino: Ino) -> Result<(), BuildError> {
        self.dirents.get_mut(dirent)?.ino.set(ino.record() + 1);
        Ok(())
    }

    /// Takes a name away. Its dirent remains, in no directory.
    pub(super) fn remove_name(&mut self, dirent: u32) -> Result<(), BuildError> {
        let record = self.dirents.get_mut(dirent)?;
        let hash = record.hash.get();
        let dir = std::mem::replace(&mut record.dir, 0.into()).get();
        let slot = self.slot(dir, hash);
        if let Ok(found) = self.by_name.find_entry(slot, |number| *number == dirent) {
            found.remove();
        }
        let dir = self.known_ino(dir)?;
        let number = self.dir_number(dir)?;
        let count = &mut self.dirs.get_mut(number)?.count;
        count.set(count.get().saturating_sub(1));
        Ok(())
    }

    /// The number that stands for placeholder `number`.
    pub(super) fn placeholder(&self, number: u32) -> Result<Ino, BuildError> {
        let record = self.inodes.len().checked_add(number);
        let ino = record.and_then(Ino::from_record);
        ino.ok_or(BuildError::Scratch {
            what: "inodes",
            number: number.into(),
        })
    }

    /// Which placeholder an inode number stands for, if for one.
    pub(super) fn placeholder_number(&self, ino: Ino) -> Option<u32> {
        let number = ino.record().checked_sub(self.inodes.len())?;
        (number < self.placeholders).then_some(number)
    }

    /// Adds an inode without a name.
    pub(super) fn add_inode(
        &mut self,
        entry: &Entry<'_>,
        record: InodeRecord,
    ) -> Result<Ino, BuildError> {
        self.check_room(entry, self.inodes.len().saturating_sub(1))?;
        let number = self.inodes.push(record)?;
        self.known_ino(number.saturating_add(1))
    }

    /// Adds a directory without a name.
    pub(super) fn add_dir(
        &mut self,
        entry: &Entry<'_>,
        parent: Ino,
        attrs: &Attrs,
    ) -> Result<Ino, BuildError> {
        let depth = self.dir(parent)?.depth.get().saturating_add(1);
        if depth > self.limits.depth_max {
            return Err(entry.limit("depth_max", depth.into(), self.limits.depth_max));
        }
        let mut record = new_inode(FileKind::Directory, attrs);
        record.data = U64::new(self.dirs.len().into());
        let ino = self.add_inode(entry, record)?;
        self.dirs.push(GrowingDir {
            ino: (ino.record() + 1).into(),
            parent: (parent.record() + 1).into(),
            count: 0.into(),
            depth: depth.into(),
            next: 0.into(),
        })?;
        Ok(ino)
    }

    /// Adds the extents of a sparse file and returns the number of its record.
    pub(super) fn add_sparse(
        &mut self,
        entry: &Entry<'_>,
        sparse: Sparse<'_>,
    ) -> Result<u32, BuildError> {
        let first = self.extents.len();
        let max = self.limits.sparse_extents_total_max;
        let count = bytes_u64(sparse.pieces.len()).saturating_add(first.into());
        if count > max.into() {
            return Err(entry.limit("sparse_extents_total_max", count, max));
        }
        let mut allocated = 0_u64;
        for piece in sparse.pieces {
            let stream = sparse.start.0.saturating_add(piece.stream.get());
            allocated = allocated.saturating_add(piece.len.get());
            self.extents.push(ExtentRecord {
                stream: stream.into(),
                ..*piece
            })?;
        }
        self.sparse.push(SparseRecord {
            allocated: allocated.into(),
            first: first.into(),
            count: (self.extents.len() - first).into(),
        })
    }

    /// Appends a link target to the names.
    pub(super) fn add_target(
        &mut self,
        entry: &Entry<'_>,
        target: &[u8],
    ) -> Result<u32, BuildError> {
        let len = u16::try_from(target.len()).unwrap_or(u16::MAX);
        self.append_text(entry, &[&len.to_le_bytes(), target])
    }

    /// The link target of an inode that is a symbolic link.
    pub(super) fn target(&self, record: &InodeRecord) -> Result<&[u8], BuildError> {
        let lost = || BuildError::Scratch {
            what: "names",
            number: record.data.get(),
        };
        let at = usize::try_from(record.data.get()).map_err(|_| lost())?;
        let len = usize::try_from(record.size.get()).map_err(|_| lost())?;
        let text = self.names.used().get(at..).and_then(|text| text.get(2..));
        text.and_then(|text| text.get(..len)).ok_or_else(lost)
    }

    /// The number of a directory's record.
    pub(super) fn dir_number(&self, ino: Ino) -> Result<u32, BuildError> {
        let data = self.inode(ino)?.data.get();
        u32::try_from(data).map_err(|_| BuildError::Scratch {
            what: "directories",
            number: data,
        })
    }

    /// An inode number found in a table where 0 is for none.
    pub(super) fn ino_or_none(&self, number: u32) -> Option<Ino> {
        Ino::new(number.into())
    }

    /// An inode number found in a table.
    pub(super) fn known_ino(&self, number: u32) -> Result<Ino, BuildError> {
        Ino::new(number.into()).ok_or(BuildError::Scratch {
            what: "entries",
            number: number.into(),
        })
    }

    fn name_is(&self, dirent: &GrowingDirent, name: &[u8]) -> bool {
        let at = usize::try_from(dirent.name.get()).unwrap_or(usize::MAX);
        let text = self.names.used().get(at..).and_then(<[u8]>::split_first);
        text.is_some_and(|(len, rest)| usize::from(*len) == name.len() && rest.starts_with(name))
    }

    fn append_text(&mut self, entry: &Entry<'_>, pieces: &[&[u8]]) -> Result<u32, BuildError> {
        let more = pieces.iter().map(|piece| piece.len()).sum();
        let at = self.names.len();
        match u32::try_from(at) {
            Ok(at) if !self.names.is_full(more) => self.names.append(pieces).map(|_| at),
            _ => {
                let bytes = bytes_u64(at.saturating_add(more));
                Err(entry.limit("text_bytes_max", bytes, self.limits.text_bytes_max))
            }
        }
    }

    fn check_room(&self, entry: &Entry<'_>, have: u32) -> Result<(), BuildError> {
        let max = self.limits.entries_max.min(u32::MAX - 2);
        if have < max {
            return Ok(());
        }
        Err(entry.limit("entries_max", u64::from(have) + 1, max))
    }
}

/// A record with no content and no name yet.
pub(super) fn new_inode(kind: FileKind, attrs: &Attrs) -> InodeRecord {
    InodeRecord {
        size: 0.into(),
        data: 0.into(),
        mtime_secs: attrs.mtime.secs.into(),
        mtime_nanos: attrs.mtime.nanos.into(),
        uid: attrs.uid.into(),
        gid: attrs.gid.into(),
        nlink: 0.into(),
        xattrs: NO_XATTRS.into(),
        mode: (mode_of_kind(kind) | attrs.perm).into(),
        flags: 0.into(),
    }
}
