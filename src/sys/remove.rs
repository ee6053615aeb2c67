//! Removing trees that somebody else made, as deep and as wide as they liked.
//!
//! Guarantees: no link is followed, and nothing outside of the directory is
//! touched. Memory and descriptors do not grow with what is removed: directories
//! in directories are moved out first, so that none is ever walked into deeper than
//! one level.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir as Entries, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;

/// Calls `visit` with the names in a directory, but `.` and `..`; whether there
/// were any.
pub fn each(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&CStr) -> io::Result<()>,
) -> io::Result<bool> {
    let mut is_any = false;
    for entry in Entries::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            is_any = true;
            visit(entry.file_name())?;
        }
    }
    Ok(is_any)
}

/// Removes what has this name in `parent`, with all that is in it; nothing to do if
/// there is none.
pub fn tree(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(cause) => return Err(cause.into()),
    }
    let top = open(parent, name)?;
    let mut moved = 0_u64;
    // Names that come while others are read may be met or not.
    while each(top.as_fd(), |name| {
        match unlinkat(&top, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::ISDIR | Errno::PERM) => {
                empty(open(top.as_fd(), name)?.as_fd(), top.as_fd(), &mut moved)?;
                Ok(unlinkat(&top, name, AtFlags::REMOVEDIR)?)
            }
            Err(cause) => Err(cause.into()),
        }
    })? {}
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn open(parent: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::empty())?)
}

/// Unlinks all files, and moves all directories to `to` under new names.
fn empty(from: BorrowedFd<'_>, to: BorrowedFd<'_>, moved: &mut u64) -> io::Result<()> {
    while each(from, |name| match unlinkat(from, name, AtFlags::empty()) {
        Ok(()) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => move_out(from, name, to, moved),
        Err(cause) => Err(cause.into()),
    })? {}
    Ok(())
}

fn move_out(
    from: BorrowedFd<'_>,
    name: &CStr,
    to: BorrowedFd<'_>,
    moved: &mut u64,
) -> io::Result<()> {
    loop {
        *moved += 1;
        let new = format!(".removed-{moved}");
        match renameat_with(from, name, to, &new, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return Ok(done?),
        }
    }
}
