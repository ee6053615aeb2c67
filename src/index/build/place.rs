//! Where an entry goes: the rules of `tar -x`.
//!
//! Guarantees: the tree is what GNU tar (as root, with `-p`) makes in an empty
//! directory. On purpose it is not where GNU tar reports an error: such an entry
//! is left out with a warning, and what is there under its name stays (GNU tar
//! removes it before a hard link that then fails); a hard link to what is not
//! there yet waits for it; and links are followed as if the image were the root
//! of the system, so an absolute one leads into the image and is usable at once
//! (GNU tar makes those last and fails on entries behind them). The rules:
//!
//! | new \ there | file, link, device | empty directory | directory with entries |
//! |---|---|---|---|
//! | directory | replaces | same one, new attributes | same one, new attributes |
//! | all else | replaces | replaces | left out |
//!
//! To replace makes a new inode: other names of the old one keep it. Content of
//! a hard link becomes that of the file that it links to. Where layers go on top
//! of an image (module `derive`), "left out" is "replaces" too, with all that is
//! in the directory.

use super::BuildOptions;
use super::arena::{ArenaProvider, bytes_u64};
use super::derive::Layers;
use super::entry::{Attrs, Entry, EntryKind, Leaf, Sparse, Whole};
use super::error::BuildError;
use super::forward::Forward;
use super::report::{Report, WarningKind};
use super::tables::{Tables, new_inode};
use super::xattr::XattrStore;
use crate::index::escape::EntryName;
use crate::index::format::{FLAG_SPARSE, InodeRecord, NAME_BYTES_MAX, mode_of_kind};
use crate::index::node::FileKind;
use crate::index::walk::{Nodes, Shape, Stop, Walk, walk};
use crate::types::Ino;

/// The tree that entries are placed in.
pub(super) struct Tree {
    pub(super) tables: Tables,
    pub(super) xattrs: XattrStore,
    /// Hard links to what may still come; taken when finishing.
    pub(super) forward: Option<Forward>,
    pub(super) ignore_zeros: bool,
    /// Where there was an image before the first entry.
    pub(super) layers: Option<Layers>,
    steps_left: u64,
    /// The path of the entry that is being placed, without `.` and `//`.
    path: Vec<u8>,
    /// The last parent and its path, so that a run of entries in one directory
    /// walks to it once. Empty means none.
    parent_path: Vec<u8>,
    parent: Ino,
    /// Whether an entry gave the root its time.
    entry_seen: bool,
}

/// What a name is to be given.
#[derive(Clone, Copy)]
enum New<'a> {
    /// An inode that has a name already.
    Name(Ino),
    Directory,
    Leaf(Leaf<'a>),
}

/// Why an entry was not placed.
pub(super) enum Refusal {
    /// It is left out.
    Warn(WarningKind),
    /// The archive cannot be indexed.
    Fail(BuildError),
}

impl From<BuildError> for Refusal {
    fn from(error: BuildError) -> Self {
        Refusal::Fail(error)
    }
}

impl Tree {
    pub(super) fn new(
        options: &BuildOptions,
        arenas: &mut dyn ArenaProvider,
    ) -> Result<Self, BuildError> {
        Ok(Self {
            tables: Tables::new(options, arenas)?,
            xattrs: XattrStore::new(arenas, &options.limits)?,
            forward: Some(Forward::new(arenas, &options.limits)?),
            ignore_zeros: options.ignore_zeros,
            layers: None,
            steps_left: options.limits.steps_max,
            path: Vec::new(),
            parent_path: Vec::new(),
            parent: Ino::ROOT,
            entry_seen: false,
        })
    }

    /// The directory that paths start in.
    pub(super) fn top(&self) -> Ino {
        self.layers.as_ref().map_or(Ino::ROOT, |layers| layers.root)
    }

    /// Places an entry, or leaves it out and says why in `report`.
    pub(super) fn place(
        &mut self,
        entry: &Entry<'_>,
        report: &mut Report,
    ) -> Result<(), BuildError> {
        if !self.entry_seen && self.layers.is_none() {
            self.entry_seen = true;
            let root = self.tables.inode_mut(Ino::ROOT)?;
            root.mtime_secs.set(entry.attrs.mtime.secs);
            root.mtime_nanos.set(entry.attrs.mtime.nanos);
        }
        let mut path = std::mem::take(&mut self.path);
        let placed = normalise(entry.path, &mut path)
            .map_err(Refusal::Warn)
            .and_then(|()| self.place_at(entry, &path, report));
        self.path = path;
        match placed {
            Err(Refusal::Warn(kind)) => report.add(kind, entry.path),
            Err(Refusal::Fail(error)) => return Err(error),
            Ok(()) => {}
        }
        Ok(())
    }

    fn place_at(
        &mut self,
        entry: &Entry<'_>,
        path: &[u8],
        report: &mut Report,
    ) -> Result<(), Refusal> {
        let is_dir = matches!(entry.kind, EntryKind::Directory);
        if path.is_empty() {
            return match is_dir {
                true => Ok(self.update_dir(entry, self.top(), report)?),
                false => Err(Refusal::Warn(WarningKind::BadName)),
            };
        }
        let (parent, name) = split(path);
        // Made before anything that can fail, as tar does: it tries again with
        // parents whatever the reason for failing was.
        let parent = self.parent(entry, parent)?;
        let new = match entry.kind {
            EntryKind::Directory => New::Directory,
            EntryKind::HardLink { target, .. } => match self.hard_link_target(entry, target) {
                Err(Refusal::Warn(WarningKind::LinkTargetMissing)) => {
                    return self.wait_for(entry, target, parent, name);
                }
                found => New::Name(found?),
            },
            EntryKind::Leaf(Leaf::Symlink(to)) if to.is_empty() || to.contains(&0) => {
                return Err(Refusal::Warn(WarningKind::BadLink));
            }
            EntryKind::Leaf(leaf) => New::Leaf(leaf),
        };
        self.give(entry, parent, name, new, report)?;
        match (new, entry.kind) {
            (New::Name(ino), EntryKind::HardLink { content, .. }) => {
                Ok(self.replace_content(entry, ino, content)?)
            }
            _ => Ok(()),
        }
    }

    /// Makes `name` in `parent` what is new.
    fn give(
        &mut self,
        entry: &Entry<'_>,
        parent: Ino,
        name: &[u8],
        new: New<'_>,
        report: &mut Report,
    ) -> Result<(), Refusal> {
        let Some((dirent, there)) = self.tables.find(parent, name)? else {
            let ino = self.make(new, entry, parent, report)?;
            self.tables.add_name(entry, parent, name, ino)?;
            return Ok(());
        };
        let shape = shape_of(self.tables.inode(there)?);
        if shape == Shape::Directory {
            if matches!(new, New::Directory) {
                return Ok(self.update_dir(entry, there, report)?);
            }
            if self.tables.dir(there)?.count.get() > 0 {
                if self.layers.is_none() {
                    return Err(Refusal::Warn(WarningKind::DirectoryNotEmpty));
                }
                self.cut_off(there)?;
            }
        }
        if matches!(new, New::Name(ino) if ino == there) {
            return Ok(());
        }
        let ino = self.make(new, entry, parent, report)?;
        if shape != Shape::Other {
            // The path to the last parent may have led through it.
            self.forget_parent();
        }
        if self.is_lower(dirent) {
            // Its content is behind all that is in the directory.
            self.tables.remove_name(dirent)?;
            self.tables.add_name(entry, parent, name, ino)?;
            return Ok(());
        }
        Ok(self.tables.point(dirent, ino)?)
    }

    /// Keeps a hard link until its target is there; not if it would have to
    /// replace a directory then, which entries may be placed in until then.
    fn wait_for(
        &mut self,
        entry: &Entry<'_>,
        target: &[u8],
        parent: Ino,
        name: &[u8],
    ) -> Result<(), Refusal> {
        let there = self.tables.find(parent, name)?.map(|(_, ino)| ino);
        let is_dir = match there {
            Some(ino) => self.tables.inode(ino)?.is_dir(),
            None => false,
        };
        match &mut self.forward {
            Some(forward) if !is_dir => {
                Ok(forward.add(entry, target, there, &self.tables.limits)?)
            }
            _ => Err(Refusal::Warn(WarningKind::LinkTargetMissing)),
        }
    }

    /// Gives a file the content that came with another name of it.
    fn replace_content(
        &mut self,
        entry: &Entry<'_>,
        ino: Ino,
        content: Option<Whole>,
    ) -> Result<(), BuildError> {
        let record = self.tables.inode_mut(ino)?;
        let Some(content) = content.filter(|_| record.kind() == Some(FileKind::Regular)) else {
            return Ok(());
        };
        if record.is_sparse() {
            return Err(BuildError::Unsupported {
                what: "content of a hard link to a sparse file",
                entry: EntryName::new(entry.path),
                offset: entry.offset,
            });
        }
        record.size.set(content.size);
        record.data.set(content.start.0);
        Ok(())
    }

    /// The inode that a new name gets.
    fn make(
        &mut self,
        new: New<'_>,
        entry: &Entry<'_>,
        parent: Ino,
        report: &mut Report,
    ) -> Result<Ino, BuildError> {
        let ino = match new {
            New::Name(linked) => return Ok(linked),
            New::Directory => self.tables.add_dir(entry, parent, &entry.attrs)?,
            New::Leaf(leaf) => {
                let record = self.leaf_record(entry, leaf)?;
                self.tables.add_inode(entry, record)?
            }
        };
        self.set_xattrs(entry, ino, report)?;
        Ok(ino)
    }

    fn leaf_record(
        &mut self,
        entry: &Entry<'_>,
        leaf: Leaf<'_>,
    ) -> Result<InodeRecord, BuildError> {
        let kind = match leaf {
            Leaf::File(_) | Leaf::SparseFile(_) => FileKind::Regular,
            Leaf::Symlink(_) => FileKind::Symlink,
            Leaf::Fifo => FileKind::Fifo,
            Leaf::CharDevice(_) => FileKind::CharDevice,
            Leaf::BlockDevice(_) => FileKind::BlockDevice,
        };
        let mut record = new_inode(kind, &entry.attrs);
        match leaf {
            Leaf::Fifo => {}
            Leaf::CharDevice(rdev) | Leaf::BlockDevice(rdev) => record.data.set(rdev.into()),
            Leaf::Symlink(target) => {
                // Linux has no other permissions for links.
                record.mode.set(mode_of_kind(kind) | 0o777);
                record.size.set(bytes_u64(target.len()));
                record
                    .data
                    .set(self.tables.add_target(entry, target)?.into());
            }
            Leaf::File(content) => {
                record.size.set(content.size);
                if content.size > 0 {
                    record.data.set(content.start.0);
                }
            }
            Leaf::SparseFile(sparse) => self.sparse_content(entry, sparse, &mut record)?,
        }
        Ok(record)
    }

    /// Gives a record the content of a sparse file, which may turn out to have
    /// no holes.
    fn sparse_content(
        &mut self,
        entry: &Entry<'_>,
        sparse: Sparse<'_>,
        record: &mut InodeRecord,
    ) -> Result<(), BuildError> {
        record.size.set(sparse.size);
        match sparse.pieces {
            [] if sparse.size == 0 => {}
            [one] if one.file_offset.get() == 0 && one.len.get() == sparse.size => {
                let start = sparse.start.0.saturating_add(one.stream.get());
                record.data.set(start);
            }
            _ => {
                record.flags.set(FLAG_SPARSE);
                let number = self.tables.add_sparse(entry, sparse)?;
                record.data.set(number.into());
            }
        }
        Ok(())
    }

    /// Gives a directory that is there the attributes of an entry.
    fn update_dir(
        &mut self,
        entry: &Entry<'_>,
        ino: Ino,
        report: &mut Report,
    ) -> Result<(), BuildError> {
        let attrs = &entry.attrs;
        let record = self.tables.inode_mut(ino)?;
        record
            .mode
            .set(mode_of_kind(FileKind::Directory) | attrs.perm);
        record.uid.set(attrs.uid);
        record.gid.set(attrs.gid);
        record.mtime_secs.set(attrs.mtime.secs);
        record.mtime_nanos.set(attrs.mtime.nanos);
        self.set_xattrs(entry, ino, report)
    }

    fn set_xattrs(
        &mut self,
        entry: &Entry<'_>,
        ino: Ino,
        report: &mut Report,
    ) -> Result<(), BuildError> {
        if entry.xattrs.iter().all(|list| list.is_empty()) {
            return Ok(());
        }
        let below = self.tables.inode(ino)?.xattrs.get();
        let (limits, steps_left) = (&self.tables.limits, &mut self.steps_left);
        let set = self
            .xattrs
            .store(entry, below, limits, steps_left, report)?;
        self.tables.inode_mut(ino)?.xattrs.set(set);
        Ok(())
    }

    /// The inode that a hard link is to share: links on the way are followed,
    /// one at the end is itself what is linked, as link(2) does.
    pub(super) fn hard_link_target(
        &mut self,
        entry: &Entry<'_>,
        target: &[u8],
    ) -> Result<Ino, Refusal> {
        let missing = WarningKind::LinkTargetMissing;
        let mut path = Vec::new();
        normalise(target, &mut path).map_err(|_| Refusal::Warn(missing))?;
        let found = self.walk(None, &path, false);
        let found = found.map_err(|stop| self.refusal(entry, stop, missing, missing))?;
        let is_placeholder = self.tables.placeholder_number(found).is_some();
        match !is_placeholder && self.tables.inode(found)?.is_dir() {
            true => Err(Refusal::Warn(WarningKind::LinkToDirectory)),
            false => Ok(found),
        }
    }

    /// The directory at `path`, which ends with a slash or is empty; made where
    /// it is missing.
    fn parent(&mut self, entry: &Entry<'_>, path: &[u8]) -> Result<Ino, Refusal> {
        if path.is_empty() {
            return Ok(self.top());
        }
        if path == self.parent_path {
            return Ok(self.parent);
        }
        let found = self.walk(Some(entry), path, true);
        let found = found.map_err(|stop| self.no_parent(entry, stop))?;
        self.parent_path.clear();
        self.parent_path.extend_from_slice(path);
        self.parent = found;
        Ok(found)
    }

    /// To be called when a directory may have gone.
    pub(super) fn forget_parent(&mut self) {
        self.parent_path.clear();
    }

    /// The same, but nothing is made and no parent remembered.
    pub(super) fn existing_parent(
        &mut self,
        entry: &Entry<'_>,
        path: &[u8],
    ) -> Result<Ino, Refusal> {
        let found = self.walk(None, path, true);
        found.map_err(|stop| self.no_parent(entry, stop))
    }

    fn no_parent(&self, entry: &Entry<'_>, stop: Stop<BuildError>) -> Refusal {
        let (file, nothing) = (WarningKind::ParentNotDirectory, WarningKind::ParentNotFound);
        self.refusal(entry, stop, file, nothing)
    }

    /// What a walk that did not arrive means for an entry.
    fn refusal(
        &self,
        entry: &Entry<'_>,
        stop: Stop<BuildError>,
        not_directory: WarningKind,
        not_found: WarningKind,
    ) -> Refusal {
        let max = self.tables.limits.steps_max;
        match stop {
            Stop::NotDirectory => Refusal::Warn(not_directory),
            Stop::NotFound | Stop::TooManyLinks => Refusal::Warn(not_found),
            Stop::TooManySteps => {
                Refusal::Fail(entry.limit("steps_max", max.saturating_add(1), max))
            }
            Stop::Failed(error) => Refusal::Fail(error),
        }
    }

    /// The inode at `path` itself, with no link on the way.
    pub(super) fn walk_plainly(&mut self, path: &[u8]) -> Result<Ino, Stop<BuildError>> {
        // The lengths of paths and their number are limited.
        let mut steps = u64::MAX;
        let mut how = Walk {
            top: self.top(),
            links_max: 0,
            steps_left: &mut steps,
            follow_last: false,
        };
        let tables = &mut self.tables;
        let mut nodes = Growing {
            tables,
            maker: None,
        };
        walk(&mut nodes, &mut how, path)
    }

    fn walk(
        &mut self,
        maker: Option<&Entry<'_>>,
        path: &[u8],
        follow_last: bool,
    ) -> Result<Ino, Stop<BuildError>> {
        let mut how = Walk {
            top: self.top(),
            links_max: self.tables.limits.links_max,
            steps_left: &mut self.steps_left,
            follow_last,
        };
        let tables = &mut self.tables;
        walk(&mut Growing { tables, maker }, &mut how, path)
    }
}

/// The growing tables as a tree to walk, that makes missing directories for
/// `maker`.
struct Growing<'a> {
    tables: &'a mut Tables,
    maker: Option<&'a Entry<'a>>,
}

impl Nodes for Growing<'_> {
    type Error = BuildError;

    fn child(&mut self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, BuildError> {
        Ok(self.tables.find(dir, name)?.map(|(_, ino)| ino))
    }

    fn absent(&mut self, dir: Ino, name: &[u8]) -> Result<Option<Ino>, BuildError> {
        let Some(entry) = self.maker else {
            return Ok(None);
        };
        let attrs = Attrs {
            perm: 0o755,
            ..entry.attrs
        };
        let ino = self.tables.add_dir(entry, dir, &attrs)?;
        self.tables.add_name(entry, dir, name, ino)?;
        Ok(Some(ino))
    }

    fn parent(&mut self, dir: Ino) -> Result<Ino, BuildError> {
        let parent = self.tables.dir(dir)?.parent.get();
        self.tables.known_ino(parent)
    }

    fn shape(&mut self, ino: Ino) -> Result<Shape, BuildError> {
        if self.tables.placeholder_number(ino).is_some() {
            return Ok(Shape::Other);
        }
        Ok(shape_of(self.tables.inode(ino)?))
    }

    fn read_link(&mut self, ino: Ino, into: &mut Vec<u8>) -> Result<(), BuildError> {
        let record = *self.tables.inode(ino)?;
        into.clear();
        into.extend_from_slice(self.tables.target(&record)?);
        Ok(())
    }
}

fn shape_of(record: &InodeRecord) -> Shape {
    match record.kind() {
        Some(FileKind::Directory) => Shape::Directory,
        Some(FileKind::Symlink) => Shape::Link,
        _ => Shape::Other,
    }
}

/// The path of a directory with a slash at its end, or nothing, and the name in
/// it.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = path.iter().rposition(|b| *b == b'/');
    path.split_at(slash.map_or(0, |at| at + 1))
}

/// Writes `raw` over `path` without leading, double and trailing slashes and
/// without `.` components; says what is wrong with a name that cannot be.
pub(super) fn normalise(raw: &[u8], path: &mut Vec<u8>) -> Result<(), WarningKind> {
    path.clear();
    for name in raw.split(|b| *b == b'/') {
        match name {
            b"" | b"." => continue,
            b".." => return Err(WarningKind::DotDot),
            name if name.len() > NAME_BYTES_MAX => return Err(WarningKind::BadName),
            name if name.contains(&0) => return Err(WarningKind::BadName),
            name => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
            }
        }
    }
    Ok(())
}
