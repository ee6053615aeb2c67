//! The directory of the registry: made for the user that answers HTTP. What is in it
//! is not looked at here.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, chown};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Opens the directory, after making it if need be.
pub(super) fn directory(at: &Path, user: u32, group: u32) -> io::Result<OwnedFd> {
    match DirBuilder::new().mode(0o700).create(at) {
        Ok(()) => chown(at, Some(user), Some(group))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(at, flags, Mode::empty())?;
    let owner = rustix::fs::fstat(&opened)?.st_uid;
    if owner != user {
        return Err(io::Error::other(format!(
            "it belongs to user {owner}, and should to {user}: give it away (chown -R), or set \
             `registry` or `api_user`"
        )));
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_directory_is_used() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("registry");
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let (user, group) = (user.as_raw(), group.as_raw());
        // Made, and found.
        directory(&at, user, group).unwrap();
        directory(&at, user, group).unwrap();
        let error = directory(&at, user + 1, group).unwrap_err();
        assert!(error.to_string().contains("chown"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&at, &link).unwrap();
        assert!(directory(&link, user, group).is_err());
    }
}
