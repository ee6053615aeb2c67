//! From the growing tables to the finished sections.
//!
//! Guarantees: time linear in the number of entries, but for sorting hashes
//! within each directory; all scratch is in arenas; nothing is kept in memory.

use zerocopy::IntoBytes;

use super::arena::bytes_u64;
use super::error::BuildError;
use super::place::Tree;
use super::report::Report;
use super::tables::Tables;
use crate::index::format::{
    DirRecord, DirentRecord, HashRecord, InodeRecord, META_IGNORED_ZEROS, MetaRecord, VERSION,
    section,
};
use crate::index::summary::Summary;
use crate::types::Ino;

/// Takes finished sections.
pub trait SectionSink {
    /// Stores section `id`, whose bytes `write` writes when it is called, all of
    /// them each time.
    fn section(
        &mut self,
        id: u32,
        write: &mut dyn FnMut(&mut dyn std::io::Write) -> std::io::Result<()>,
    ) -> std::io::Result<()>;
}

impl Tree {
    /// Links, groups, counts and hands all sections to `out`.
    pub(super) fn finish(
        mut self,
        report: &mut Report,
        out: &mut dyn SectionSink,
    ) -> Result<Summary, BuildError> {
        self.link_forward(report)?;
        self.sweep()?;
        let tables = &mut self.tables;
        tables.group()?;
        tables.sort_hashes();
        let mut summary = tables.count()?;
        summary.root = Some(match &self.layers {
            Some(layers) => layers.root,
            None => tables.served_root()?,
        });
        tables.forget_names();
        let meta = self.meta(&summary);
        let tables = &self.tables;
        let plain: [(u32, &[u8]); 8] = [
            (section::META, meta.as_bytes()),
            (section::INODES, tables.inodes.bytes()),
            (section::DIRENTS, tables.grouped.bytes()),
            (section::HASHES, tables.hashes.bytes()),
            (section::NAMES, tables.names.used()),
            (section::EXTENTS, tables.extents.bytes()),
            (section::XATTRS, self.xattrs.bytes()),
            (section::SPARSE, tables.sparse.bytes()),
        ];
        for (id, bytes) in plain {
            out.section(id, &mut |to| to.write_all(bytes))?;
        }
        out.section(section::DIRS, &mut |to| {
            tables.dirs.all().iter().try_for_each(|dir| {
                let record = DirRecord {
                    first: dir.next.get().wrapping_sub(dir.count.get()).into(),
                    count: dir.count,
                    parent: dir.parent,
                    ino: dir.ino,
                };
                to.write_all(record.as_bytes())
            })
        })?;
        Ok(summary)
    }

    fn meta(&self, summary: &Summary) -> MetaRecord {
        let tables = &self.tables;
        MetaRecord {
            version: VERSION.into(),
            root: summary.root.map_or(0, |root| root.record() + 1).into(),
            hash_key: tables.hash_key,
            inode_count: tables.inodes.len().into(),
            dirent_count: tables.grouped.len().into(),
            dir_count: tables.dirs.len().into(),
            sparse_count: tables.sparse.len().into(),
            extent_count: tables.extents.len().into(),
            max_owner: summary.max_owner.into(),
            names_bytes: bytes_u64(tables.names.len()).into(),
            xattrs_bytes: bytes_u64(self.xattrs.bytes().len()).into(),
            live_inodes: summary.inodes.into(),
            files: summary.files.into(),
            directories: summary.directories.into(),
            symlinks: summary.symlinks.into(),
            devices: summary.devices.into(),
            hard_links: summary.hard_links.into(),
            content_bytes: summary.content_bytes.into(),
            with_xattrs: summary.with_xattrs.into(),
            flags: match self.ignore_zeros {
                true => META_IGNORED_ZEROS.into(),
                false => 0.into(),
            },
            reserved: 0.into(),
        }
    }
}

impl Tables {
    /// Counting sort of the names by directory, which keeps archive order, and
    /// the link counts.
    fn group(&mut self) -> Result<(), BuildError> {
        let mut first = 0_u32;
        for dir in self.dirs.all_mut() {
            dir.next.set(first);
            first = first.saturating_add(dir.count.get());
        }
        self.grouped.lengthen(first)?;
        self.hashes.lengthen(first)?;
        self.add_links(Ino::ROOT, 2)?;
        for number in 0..self.dirents.len() {
            let dirent = *self.dirents.get(number)?;
            let (dir, ino) = (dirent.dir.get(), dirent.ino.get());
            if dir == 0 {
                // Its name was taken away.
                continue;
            }
            let (dir, ino) = (self.known_ino(dir)?, self.known_ino(ino)?);
            let dir_number = self.dir_number(dir)?;
            let next = &mut self.dirs.get_mut(dir_number)?.next;
            let place = next.get();
            next.set(place.wrapping_add(1));
            *self.grouped.get_mut(place)? = DirentRecord {
                ino: dirent.ino,
                name: dirent.name,
            };
            *self.hashes.get_mut(place)? = HashRecord {
                hash: dirent.hash,
                dirent: place.into(),
            };
            if self.inode(ino)?.is_dir() {
                self.add_links(dir, 1)?;
                self.add_links(ino, 2)?;
            } else {
                self.add_links(ino, 1)?;
            }
        }
        Ok(())
    }

    fn add_links(&mut self, ino: Ino, more: u32) -> Result<(), BuildError> {
        let nlink = &mut self.inode_mut(ino)?.nlink;
        nlink.set(nlink.get().saturating_add(more));
        Ok(())
    }

    /// Sorts the hashes of each directory, in place.
    fn sort_hashes(&mut self) {
        let hashes = self.hashes.all_mut();
        for dir in self.dirs.all() {
            let (next, count) = (dir.next.get(), dir.count.get());
            let range = usize::try_from(next.wrapping_sub(count)).ok();
            let range = range.zip(usize::try_from(next).ok());
            if let Some(own) = range.and_then(|(from, to)| hashes.get_mut(from..to)) {
                own.sort_unstable_by_key(|h: &HashRecord| (h.hash.get(), h.dirent.get()));
            }
        }
    }

    fn count(&self) -> Result<Summary, BuildError> {
        let mut summary = Summary {
            entries: self.grouped.len().into(),
            ..Summary::default()
        };
        for inode in self.inodes.all() {
            summary.count(inode, self.allocated(inode)?);
        }
        Ok(summary)
    }

    fn allocated(&self, inode: &InodeRecord) -> Result<u64, BuildError> {
        if !inode.is_sparse() {
            return Ok(inode.size.get());
        }
        let number = inode.data.get();
        let lost = |_| BuildError::Scratch {
            what: "sparse files",
            number,
        };
        let record = self.sparse.get(u32::try_from(number).map_err(lost)?)?;
        Ok(record.allocated.get())
    }

    /// The directory to serve: the top, unless all it holds is one directory
    /// and that one is a root filesystem.
    fn served_root(&self) -> Result<Ino, BuildError> {
        let top = self.dirs.get(0)?;
        if top.count.get() != 1 || self.is_rootfs(Ino::ROOT)? {
            return Ok(Ino::ROOT);
        }
        let only = self.grouped.get(0)?.ino.get();
        let only = self.known_ino(only)?;
        match self.inode(only)?.is_dir() && self.is_rootfs(only)? {
            true => Ok(only),
            false => Ok(Ino::ROOT),
        }
    }

    /// Whether a directory looks like the root of a system: `etc` and one of
    /// `bin` and `usr`, or the `.old_root` that pivot_root(2) users leave.
    fn is_rootfs(&self, dir: Ino) -> Result<bool, BuildError> {
        use crate::index::node::FileKind::{Directory, Symlink};
        let kind = |name: &[u8]| -> Result<_, BuildError> {
            match self.find(dir, name)? {
                Some((_, ino)) => Ok(self.inode(ino)?.kind()),
                None => Ok(None),
            }
        };
        if kind(b".old_root")? == Some(Directory) {
            return Ok(true);
        }
        let is_system = |kind| matches!(kind, Some(Directory | Symlink));
        Ok(kind(b"etc")? == Some(Directory)
            && (is_system(kind(b"bin")?) || is_system(kind(b"usr")?)))
    }
}
