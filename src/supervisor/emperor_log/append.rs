//! Writing one line into a container's log, as that container's user.
//!
//! The path is the customer's, and so are the rights of this process: it can do
//! nothing that the customer could not do.
//!
//! Guarantees: what is written to is a regular file with one name, which belongs to
//! this process's user and is at `logs/emperor.log` of the home, without a link on
//! the way; nothing waits for a reader. It is made if only it is missing.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::sys::packets::Packets;
use crate::sys::spawn;

const LOG: &str = "logs/emperor.log";
const MODE: Mode = Mode::from_raw_mode(0o644);

/// Nothing outside of the home, and no link.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Why a line is not written.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// What is asked for is not understood.
    #[error("`distrofs serve` starts this")]
    Asked,
    /// There is no log, and no directory for one.
    #[error("{LOG} is not there: the container has no directory `logs`")]
    Missing,
    /// What is there is no log.
    #[error("{LOG} is {0}: it is left alone")]
    Odd(&'static str),
    /// Anything else.
    #[error("cannot {doing} {LOG}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
}

/// Appends the line that comes through `asked`, with the home.
pub fn append(asked: &Packets) -> Result<(), AppendError> {
    let hidden = spawn::hide();
    hidden.map_err(|cause| AppendError::System {
        doing: "hide before writing to",
        cause,
    })?;
    let packet = asked.receive().ok().flatten().ok_or(AppendError::Asked)?;
    let [home] = &packet.fds[..] else {
        return Err(AppendError::Asked);
    };
    append_line(home.as_fd(), &packet.bytes)
}

fn append_line(home: BorrowedFd<'_>, line: &[u8]) -> Result<(), AppendError> {
    let flags = OFlags::WRONLY
        | OFlags::APPEND
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::NOFOLLOW
        | OFlags::CLOEXEC;
    let open = |flags, mode| openat2(home, LOG, flags, mode, BENEATH);
    let opened = match open(flags, Mode::empty()) {
        Err(Errno::NOENT) => open(flags | OFlags::CREATE | OFlags::EXCL, MODE),
        opened => opened,
    };
    let file = opened.map_err(|error| match error {
        Errno::NOENT => AppendError::Missing,
        Errno::LOOP => AppendError::Odd("behind a symbolic link"),
        Errno::ISDIR => AppendError::Odd("a directory"),
        Errno::NXIO => AppendError::Odd("a pipe or a socket"),
        cause => AppendError::System {
            doing: "open",
            cause: cause.into(),
        },
    })?;
    let failed = |doing| move |cause| AppendError::System { doing, cause };
    let found = fstat(&file).map_err(|error| failed("look at")(error.into()))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(AppendError::Odd("no regular file"));
    }
    if found.st_nlink != 1 {
        return Err(AppendError::Odd("a file with several names"));
    }
    if found.st_uid != geteuid().as_raw() {
        return Err(AppendError::Odd("a file of somebody else"));
    }
    std::fs::File::from(file)
        .write_all(line)
        .map_err(failed("write to"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn append_to(home: &Path) -> Result<(), AppendError> {
        append_line(File::open(home).unwrap().as_fd(), b"line\n")
    }

    fn odd(home: &Path) -> &'static str {
        match append_to(home) {
            Err(AppendError::Odd(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_added_to_a_log_that_is_made_if_need_be() {
        let home = tempfile::tempdir().unwrap();
        let error = append_to(home.path()).unwrap_err();
        assert!(matches!(error, AppendError::Missing), "{error}");
        fs::create_dir(home.path().join("logs")).unwrap();
        append_to(home.path()).unwrap();
        append_to(home.path()).unwrap();
        assert_eq!(fs::read(home.path().join(LOG)).unwrap(), b"line\nline\n");
    }

    #[test]
    fn whatever_is_no_plain_file_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        let (logs, log) = (home.path().join("logs"), home.path().join(LOG));
        let target = home.path().join("target");
        fs::write(&target, "kept").unwrap();
        fs::create_dir(&logs).unwrap();
        for to in ["../target", "../missing", "/dev/null"] {
            symlink(to, &log).unwrap();
            assert_eq!(odd(home.path()), "behind a symbolic link");
            fs::remove_file(&log).unwrap();
        }
        assert!(!home.path().join("missing").exists());
        fs::hard_link(&target, &log).unwrap();
        assert_eq!(odd(home.path()), "a file with several names");
        fs::remove_file(&log).unwrap();
        fs::create_dir(&log).unwrap();
        assert_eq!(odd(home.path()), "a directory");
        fs::remove_dir(&log).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &log, FileType::Fifo, MODE, 0).unwrap();
        assert_eq!(odd(home.path()), "a pipe or a socket");
        // Nor if somebody reads from it.
        let reader = rustix::fs::open(&log, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty());
        assert_eq!(odd(home.path()), "no regular file");
        drop(reader.unwrap());
        fs::remove_file(&log).unwrap();
        fs::remove_dir(&logs).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("emperor.log"), "kept").unwrap();
        symlink("elsewhere", &logs).unwrap();
        assert_eq!(odd(home.path()), "behind a symbolic link");
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(fs::read(elsewhere.join("emperor.log")).unwrap(), b"kept");
    }
}
