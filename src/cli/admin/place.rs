//! The registry's directory, and the user it belongs to.
//!
//! Guarantees: it is made if it is not there, for that user only. Nothing in it is ever
//! made or opened by root: that user could have put anything there.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use super::super::Failure;
use crate::sys::spawn::become_user;

/// The group of a user that owns nothing else.
const GROUP: u32 = 65_534;

/// Makes the directory if need be, and this process one of its user.
pub(super) fn enter(dir: &Path, user: u32) -> Result<(), Failure> {
    let shown = dir.display();
    match rustix::process::geteuid() {
        own if own.as_raw() == user => return Ok(()),
        own if own.is_root() => {}
        _ => {
            return Err(format!(
                "the registry is of user {user} (the setting api_user): run this as root, or as \
                 that user"
            )
            .into());
        }
    }
    let made = make(dir, user);
    let owner = made.map_err(|cause| format!("{shown}: {cause}: make it, as {user}:{GROUP}"))?;
    if owner != user {
        return Err(format!(
            "{shown} belongs to user {owner}, and the registry is of user {user} (the setting \
             api_user): `chown -R {user}:{GROUP} {shown}`, or choose another directory \
             (registry)"
        )
        .into());
    }
    become_user(user, GROUP).map_err(|cause| format!("cannot become user {user}: {cause}").into())
}

/// Whose it is then.
fn make(dir: &Path, user: u32) -> io::Result<u32> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let open = open(dir)?;
    let owner = open.metadata()?.uid();
    // One that was just made, now or by a command that was killed.
    if owner == 0 && dir.read_dir()?.next().is_none() {
        open.set_permissions(Permissions::from_mode(0o700))?;
        fchown(&open, Some(user), Some(GROUP))?;
        return Ok(user);
    }
    Ok(owner)
}

fn open(dir: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    OpenOptions::new().read(true).custom_flags(flags).open(dir)
}
