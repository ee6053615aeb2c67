//! Directories of ours, and of images, by their descriptors.
//!
//! Guarantees: no symbolic link is followed and nothing outside of the directory
//! is reached, whatever is in it. Files appear whole or not at all. Removing takes
//! memory and descriptors that do not grow with what is removed: trees below may
//! be a container's, and as deep as it liked.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Timestamps, XattrFlags, fchmod,
    fchown, fgetxattr, flistxattr, fsetxattr, fstat, futimens, mkdirat, openat, openat2, renameat,
};
use rustix::io::Errno;

use crate::sys::remove;

/// Nothing outside of a directory, and no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// How often a path with `..` in it is tried: the kernel gives up on one when
/// something is mounted or renamed meanwhile, wherever that is (openat2(2)).
const WITHIN_TRIES: u32 = 1000;

/// Extended attributes of one list or value at most (`XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// An open directory.
#[derive(Debug)]
pub struct Dir(OwnedFd);

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Dir {
    fn from(fd: OwnedFd) -> Self {
        Dir(fd)
    }
}

impl From<Dir> for OwnedFd {
    fn from(dir: Dir) -> Self {
        dir.0
    }
}

impl Dir {
    /// The directory at `path`, which may lead through links.
    pub fn open(path: &Path) -> io::Result<Dir> {
        let fd = openat(CWD, path, DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Dir(fd))
    }

    /// What is at `path` below: a directory if `flags` say so.
    fn beneath(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = CString::new(path)?;
        let flags = flags | OFlags::CLOEXEC;
        Ok(openat2(&self.0, &path, flags, Mode::empty(), BENEATH)?)
    }

    /// A directory below.
    pub fn sub(&self, path: &[u8]) -> io::Result<Dir> {
        self.beneath(path, DIRECTORY).map(Dir)
    }

    /// The same, if there is something.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Dir>> {
        found(self.sub(path))
    }

    /// A regular file below, for reading.
    pub(super) fn file(&self, path: &[u8]) -> io::Result<File> {
        // A pipe would wait for somebody to write.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = self.beneath(path, flags)?;
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::RegularFile => Ok(fd.into()),
            _ => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// A file or directory below, to mount on.
    pub fn place(&self, path: &[u8]) -> io::Result<OwnedFd> {
        // With NOFOLLOW a link could be opened itself.
        self.beneath(path, OFlags::PATH)
    }

    /// What `path` leads to for a process whose root this is, links followed, to
    /// mount on.
    pub fn within(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..WITHIN_TRIES {
            match openat2(&self.0, path, flags, Mode::empty(), within) {
                Err(Errno::AGAIN) => {}
                opened => return Ok(opened?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// What is at the name, if anything; a link is a link.
    pub(super) fn kind(&self, name: &[u8]) -> io::Result<Option<FileType>> {
        let name = CString::new(name)?;
        let stat = rustix::fs::statat(&self.0, &name, AtFlags::SYMLINK_NOFOLLOW);
        let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
        found(kind.map_err(io::Error::from))
    }

    /// Its attributes.
    pub(super) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// A directory right below, made if it is not there, for nobody else.
    pub(super) fn make(&self, name: &str) -> io::Result<Dir> {
        // Mostly it is.
        if let Some(there) = self.find(name.as_bytes())? {
            return Ok(there);
        }
        match mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => self.sub(name.as_bytes()),
            Err(cause) => Err(cause.into()),
        }
    }

    /// A directory right below with the attributes of another: whole, if there is
    /// one of that name.
    pub(super) fn make_like(&self, name: &str, like: &Dir) -> io::Result<Dir> {
        if let Some(there) = self.find(name.as_bytes())? {
            return Ok(there);
        }
        let unfinished = format!("{name}.new");
        let made = self.make(&unfinished)?;
        copy_attributes(like.as_fd(), made.as_fd())?;
        renameat(&self.0, &unfinished, &self.0, name)?;
        Ok(made)
    }

    /// A file right below with the content that `write` gives it and the
    /// attributes of `like`, in place of what was there.
    pub(super) fn write_like(
        &self,
        name: &str,
        like: Option<BorrowedFd<'_>>,
        mode: Mode,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let unfinished = format!("{name}.new");
        let mut file = self.create(&unfinished)?;
        write(&mut file)?;
        match like {
            Some(like) => copy_attributes(like, file.as_fd())?,
            None => fchmod(&file, mode)?,
        }
        Ok(renameat(&self.0, &unfinished, &self.0, name)?)
    }

    /// A file right below, for nobody else, in place of what was there. It need not
    /// outlast the machine: mounts do not either.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let unfinished = format!("{name}.new");
        self.create(&unfinished)?.write_all(bytes)?;
        Ok(renameat(&self.0, &unfinished, &self.0, name)?)
    }

    /// A file right below that is there to be locked.
    pub(super) fn lock_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// An empty file right below, for nobody else.
    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?.into())
    }

    /// The content of a file right below, if there is one, of at most `max` bytes.
    pub(super) fn read(&self, name: &str, max: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = found(self.file(name.as_bytes()))? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > max {
            return Err(io::Error::other(format!(
                "{name} is longer than {max} bytes"
            )));
        }
        Ok(Some(bytes))
    }

    /// Whether there is anything in it.
    pub(super) fn has_any(&self) -> io::Result<bool> {
        remove::each(self.as_fd(), |_| Ok(()))
    }

    /// The names in it, but `.` and `..`. Of directories that are ours alone.
    pub(super) fn names(&self) -> io::Result<Vec<CString>> {
        let mut names = Vec::new();
        remove::each(self.as_fd(), |name| {
            names.push(name.to_owned());
            Ok(())
        })?;
        Ok(names)
    }

    /// Removes what has this name right below, with all that is in it; nothing to
    /// do if there is none.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        remove::tree(self.as_fd(), &CString::new(name)?)
    }
}

/// Nothing, if that is why it failed.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Gives `to` the owner, the mode, the times and the attributes of `from` that are
/// everybody's matter.
pub(super) fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fstat(from)?;
    let now = fstat(to)?;
    if (now.st_uid, now.st_gid) != (stat.st_uid, stat.st_gid) {
        let owner = rustix::fs::Uid::from_raw(stat.st_uid);
        let group = rustix::fs::Gid::from_raw(stat.st_gid);
        fchown(to, Some(owner), Some(group))?;
    }
    // After the owner, which takes set-id bits away.
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from, to)?;
    let time = |secs, nanos: u64| rustix::fs::Timespec {
        tv_sec: secs,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    Ok(futimens(to, &times)?)
}

fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut nothing: [u8; 0] = [];
    match flistxattr(from, &mut nothing) {
        Ok(0) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
        listed => listed?,
    };
    let mut names = vec![0; XATTR_BYTES_MAX];
    let len = flistxattr(from, &mut names[..])?;
    let mut value = vec![0; XATTR_BYTES_MAX];
    for name in names[..len].split_inclusive(|byte| *byte == 0) {
        let Ok(name) = CStr::from_bytes_with_nul(name) else {
            continue;
        };
        let is_everybodys = |prefix: &[u8]| name.to_bytes().starts_with(prefix);
        if is_everybodys(b"user.") || is_everybodys(b"system.posix_acl_") {
            let len = fgetxattr(from, name, &mut value[..])?;
            fsetxattr(to, name, &value[..len], XattrFlags::empty())?;
        }
    }
    Ok(())
}

/// The longest name that is made of what it stands for.
const NAME_BYTES_MAX: usize = 200;

/// A name for a directory or file of ours that stands for a path: the path itself,
/// with all but letters, digits, `-` and `_` as `%` and two hexadecimal digits, or
/// `%%` and a digest if that is too long.
pub(super) fn key(path: &[u8]) -> String {
    use std::fmt::Write;

    use sha2::{Digest, Sha256};
    let mut name = String::new();
    for byte in path {
        // Nothing fails that is written to a string.
        let _written = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {
                name.write_char(char::from(*byte))
            }
            _ => write!(name, "%{byte:02x}"),
        };
    }
    if name.len() <= NAME_BYTES_MAX && !name.is_empty() {
        return name;
    }
    let digest = Sha256::digest(path);
    let digest = digest.iter().map(|byte| format!("{byte:02x}"));
    digest.fold("%%".to_owned(), |name, byte| name + &byte)
}

/// The same for a path of the host.
pub(super) fn key_of(path: &Path) -> String {
    key(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_and_places_outside_are_not_reached() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        fs::write(dir.path().join("out"), "x").unwrap();
        symlink("deep", dir.path().join("in/link")).unwrap();
        symlink("../out", dir.path().join("in/out")).unwrap();
        let inside = Dir::open(&dir.path().join("in")).unwrap();
        assert!(inside.sub(b"deep").is_ok());
        for path in ["link", "link/x", "..", "deep/../..", "/etc", "deep/../link"] {
            assert!(inside.sub(path.as_bytes()).is_err(), "{path}");
        }
        assert!(inside.file(b"out").is_err());
        assert!(inside.place(b"link").is_err());
        assert!(inside.file(b"deep").is_err());
        assert!(inside.find(b"none").unwrap().is_none());
        assert_eq!(inside.kind(b"link").unwrap(), Some(FileType::Symlink));
    }

    #[test]
    fn what_is_made_is_whole_and_like_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let like = dir.path().join("like");
        fs::create_dir(&like).unwrap();
        fs::set_permissions(&like, PermissionsExt::from_mode(0o1777)).unwrap();
        let here = Dir::open(dir.path()).unwrap();
        // What was left of a time that was cut short.
        here.make("upper.new").unwrap();
        let made = here.make_like("upper", &Dir::open(&like).unwrap()).unwrap();
        assert_eq!(made.stat().unwrap().st_mode & 0o7777, 0o1777);
        let (a, b) = (made.stat().unwrap(), fs::metadata(&like).unwrap());
        use std::os::unix::fs::MetadataExt;
        assert_eq!(a.st_mtime, b.mtime());
        fs::write(dir.path().join("upper/kept"), "x").unwrap();
        here.make_like("upper", &here).unwrap();
        assert!(dir.path().join("upper/kept").exists());
        here.write("file", b"one").unwrap();
        here.write("file", b"two").unwrap();
        assert_eq!(here.read("file", 3).unwrap().unwrap(), b"two");
        assert!(here.read("file", 2).is_err());
        assert_eq!(here.read("none", 2).unwrap(), None);
    }

    #[test]
    fn names_stand_for_one_path_each() {
        assert_eq!(key(b"var/tmp"), "var%2ftmp");
        assert_eq!(key(b"..%\xff"), "%2e%2e%25%ff");
        let long = vec![b'x'; 300];
        assert!(key(&long).starts_with("%%") && key(&long).len() < 255);
        assert_ne!(key(&long), key(&long[1..]));
        assert_ne!(key(b""), key(b"%"));
    }

    /// A container makes directories in directories by relative paths, without an
    /// end: whoever removes them must not run out of stack or descriptors.
    #[test]
    fn trees_of_any_depth_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let here = Dir::open(dir.path()).unwrap();
        let mut at = here.make("deep").unwrap();
        for _ in 0..3000 {
            at.write("file", b"x").unwrap();
            at.make(".removed-5").unwrap();
            at = at.make("d").unwrap();
        }
        symlink("/etc", dir.path().join("deep/link")).unwrap();
        fs::write(dir.path().join("other"), "x").unwrap();
        here.remove("deep").unwrap();
        here.remove("deep").unwrap();
        assert_eq!(here.names().unwrap(), [c"other".to_owned()]);
        here.remove("other").unwrap();
        assert!(here.names().unwrap().is_empty());
    }
}
