//! [`Folder`]: a directory by its descriptor, whoever else works in it.
//!
//! Guarantees: no symbolic link is followed, nothing outside of the directory and
//! nothing on another mount is reached; opening never waits. Nothing is written
//! through a name: files appear whole, by a rename, and stay after a crash.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Stat, fchmod, fstat,
    fsync, mkdirat, openat, openat2, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;

const WITHIN: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// What a file is written as until it is whole. Only one process and thread at a
/// time writes into a folder.
const UNFINISHED: &str = ".distrofs.new";

/// An open directory.
#[derive(Debug)]
pub struct Folder(OwnedFd);

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: any bytes.
    pub name: Vec<u8>,
    /// What the directory says that it is; [`FileType::Unknown`] where it does not.
    pub kind: FileType,
}

/// Which file it is, and in which state: another one, or one that was written,
/// has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Stamp {
    inode: u64,
    bytes: u64,
    mtime: (i64, u64),
}

impl Stamp {
    /// The stamp of a file with these attributes.
    pub fn of(stat: &Stat) -> Stamp {
        #[expect(
            clippy::unnecessary_cast,
            clippy::cast_sign_loss,
            reason = "types differ between architectures; neither is negative"
        )]
        Stamp {
            inode: stat.st_ino as u64,
            bytes: stat.st_size as u64,
            mtime: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When it was written last: seconds since 1970, nanoseconds.
    pub fn mtime(&self) -> (i64, u64) {
        self.mtime
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Folder {
    fn from(fd: OwnedFd) -> Self {
        Folder(fd)
    }
}

impl Folder {
    /// The directory at `path`, which may lead through links: one of ours.
    pub fn open(path: &Path) -> io::Result<Folder> {
        let fd = openat(CWD, path, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Folder(fd))
    }

    /// A directory right below.
    pub fn sub(&self, name: &[u8]) -> io::Result<Folder> {
        self.within(name, DIRECTORY).map(Folder)
    }

    /// The same, made for nobody else if there is none.
    pub fn make(&self, name: &str) -> io::Result<Folder> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.sub(name.as_bytes()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Has a directory be right below, whatever is mounted on it.
    pub fn place(&self, name: &str) -> io::Result<()> {
        match mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(cause) => Err(cause.into()),
        }
    }

    fn within(&self, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let name = CString::new(name)?;
        Ok(openat2(&self.0, &name, flags, Mode::empty(), WITHIN)?)
    }

    /// A regular file right below, for reading.
    pub fn file(&self, name: &[u8]) -> io::Result<File> {
        // Opening a device can do something; what is there now is looked at again.
        let not_regular = || io::Error::other("it is not a regular file");
        match self.stat(name)?.map(|stat| kind_of(&stat)) {
            None => return Err(io::ErrorKind::NotFound.into()),
            Some(FileType::RegularFile) => {}
            Some(_) => return Err(not_regular()),
        }
        let fd = self.within(name, OFlags::RDONLY | OFlags::NOCTTY)?;
        match kind_of(&fstat(&fd)?) {
            FileType::RegularFile => Ok(fd.into()),
            _ => Err(not_regular()),
        }
    }

    /// The attributes of what has this name, if something has; a link is a link.
    pub fn stat(&self, name: &[u8]) -> io::Result<Option<Stat>> {
        let name = CString::new(name)?;
        match statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Its own attributes.
    pub fn own_stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// The stamp of the regular file of this name, if there is one.
    pub fn stamp(&self, name: &[u8]) -> io::Result<Option<Stamp>> {
        let stat = self.stat(name)?;
        let file = stat.filter(|stat| kind_of(stat) == FileType::RegularFile);
        Ok(file.map(|stat| Stamp::of(&stat)))
    }

    /// Up to `max` of the names in it, and whether there are more.
    pub fn entries(&self, max: usize) -> io::Result<(Vec<Entry>, bool)> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if entries.len() == max {
                return Ok((entries, true));
            }
            entries.push(Entry {
                name: name.to_vec(),
                kind: entry.file_type(),
            });
        }
        Ok((entries, false))
    }

    /// The first `max` bytes of a regular file right below, if there is one.
    pub fn read(&self, name: &[u8], max: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.file(name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        let mut bytes = Vec::new();
        file.take(max).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// A file right below with this content, in place of the file that was there;
    /// a directory in the way is an error. It stays after a crash of the machine.
    pub fn replace(&self, name: &[u8], bytes: &[u8], mode: u32) -> io::Result<()> {
        let synced = |file: File| file.sync_all();
        self.put_by(name, bytes, mode, synced)?;
        self.sync()
    }

    /// The same, but the machine may crash and leave the file that was there, or an
    /// empty one.
    pub fn put(&self, name: &[u8], bytes: &[u8], mode: u32) -> io::Result<()> {
        self.put_by(name, bytes, mode, |_| Ok(()))
    }

    fn put_by(
        &self,
        name: &[u8],
        bytes: &[u8],
        mode: u32,
        close: impl FnOnce(File) -> io::Result<()>,
    ) -> io::Result<()> {
        self.remove(UNFINISHED.as_bytes())?;
        let mut file = self.create(UNFINISHED)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| Ok(fchmod(&file, Mode::from_raw_mode(mode))?))
            .and_then(|()| close(file))
            .and_then(|()| self.rename(UNFINISHED.as_bytes(), self, name));
        if written.is_err() {
            // A full disk is to have its room back.
            let _gone_already = self.remove(UNFINISHED.as_bytes());
        }
        written
    }

    /// A new file right below, for nobody else.
    pub fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// A file right below that is there to be locked.
    pub(super) fn lock_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// Gives what has a name another one, in place of a file that has that.
    pub fn rename(&self, name: &[u8], to: &Folder, new: &[u8]) -> io::Result<()> {
        let (name, new) = (CString::new(name)?, CString::new(new)?);
        Ok(renameat(&self.0, &name, &to.0, &new)?)
    }

    /// The same where nothing has that name; whether it was so.
    pub fn rename_if_free(&self, name: &[u8], to: &Folder, new: &[u8]) -> io::Result<bool> {
        let (name, new) = (CString::new(name)?, CString::new(new)?);
        match renameat_with(&self.0, &name, &to.0, &new, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Removes what has this name, unless it is a directory; whether something had.
    pub fn remove(&self, name: &[u8]) -> io::Result<bool> {
        match unlinkat(&self.0, CString::new(name)?, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Removes a directory with nothing in it; whether there is nothing more to do:
    /// one that something is mounted on has to wait.
    pub fn remove_empty(&self, name: &str) -> io::Result<bool> {
        match unlinkat(&self.0, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => Ok(true),
            Err(Errno::BUSY) => Ok(false),
            Err(cause) => Err(cause.into()),
        }
    }

    /// Waits until what was renamed and removed would outlast a crash.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fsync(&self.0)?)
    }
}

/// What a file with these attributes is.
pub fn kind_of(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_but_regular_files_right_below_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/deep"), "x").unwrap();
        fs::write(at("file"), "content").unwrap();
        symlink("file", at("link")).unwrap();
        symlink("sub", at("way")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        for name in ["link", "pipe", "sub", "way/deep", "../file", "/etc/passwd"] {
            assert!(folder.file(name.as_bytes()).is_err(), "{name}");
        }
        assert!(folder.sub(b"way").is_err());
        assert!(folder.sub(b"sub").is_ok());
        assert_eq!(folder.read(b"file", 4).unwrap().unwrap(), b"cont");
        assert_eq!(folder.read(b"none", 4).unwrap(), None);
        let (entries, more) = folder.entries(3).unwrap();
        assert!(entries.len() == 3 && more);
        assert!(!folder.entries(5).unwrap().1);
    }

    #[test]
    fn what_is_written_replaces_links_and_not_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("victim"), "precious").unwrap();
        symlink("victim", at("name")).unwrap();
        symlink("victim", at(UNFINISHED)).unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.replace(b"name", b"new", 0o644).unwrap();
        assert_eq!(fs::read(at("victim")).unwrap(), b"precious");
        assert_eq!(fs::read(at("name")).unwrap(), b"new");
        assert!(!at("name").is_symlink());
        fs::create_dir(at("in-the-way")).unwrap();
        assert!(folder.replace(b"in-the-way", b"new", 0o644).is_err());
        assert_eq!(folder.entries(9).unwrap().0.len(), 3);
    }

    #[test]
    fn a_name_that_is_taken_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("a"), "a").unwrap();
        fs::write(at("b"), "b").unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        assert!(!folder.rename_if_free(b"a", &folder, b"b").unwrap());
        assert!(folder.rename_if_free(b"a", &folder, b"c").unwrap());
        assert_eq!(fs::read(at("b")).unwrap(), b"b");
        assert!(folder.remove(b"c").unwrap() && !folder.remove(b"c").unwrap());
    }
}
