//! Files without a name.
//!
//! Guarantees: a file from here disappears with its last descriptor, whatever
//! happens to the process.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// A read-write file in `directory` that has no name. Where the filesystem has
/// no `O_TMPFILE`, the file is made and unlinked at once.
pub fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(
        CWD,
        directory,
        flags | OFlags::TMPFILE,
        Mode::RUSR | Mode::WUSR,
    ) {
        Ok(fd) => Ok(fd.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => unlinked_file(directory, flags),
        Err(e) => Err(e.into()),
    }
}

fn unlinked_file(directory: &Path, flags: OFlags) -> io::Result<File> {
    for attempt in 0_u32..100 {
        let path = directory.join(format!(".distrofs.{}-{attempt}.tmp", std::process::id()));
        let flags = flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        match openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => {
                std::fs::remove_file(&path)?;
                return Ok(fd.into());
            }
            Err(Errno::EXIST) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn both_ways_leave_no_name() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        for mut file in [
            unnamed_file(dir.path()).unwrap(),
            unlinked_file(dir.path(), flags).unwrap(),
        ] {
            file.write_all(b"spool").unwrap();
            file.rewind().unwrap();
            let mut back = String::new();
            file.read_to_string(&mut back).unwrap();
            assert_eq!(back, "spool");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
