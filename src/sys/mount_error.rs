//! Why something could not be mounted or unmounted, and what to do about it.

use std::io;
use std::path::PathBuf;

/// Why something could not be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// A word after `-o` that is none.
    #[error(
        "unknown mount option {option:?}: use suid, nosuid, dev, nodev, exec, noexec or allow_other; an image is always mounted ro,noatime"
    )]
    Option {
        /// The word.
        option: String,
    },
    /// The kernel has no FUSE, or this container has no device for it.
    #[error(
        "/dev/fuse cannot be used ({0}): load the module with `modprobe fuse`, or give the container the device (10:229)"
    )]
    NoDevice(io::Error),
    /// The place cannot be mounted on.
    #[error("cannot mount on {}: {cause}", target.display())]
    Target {
        /// The place.
        target: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The place is no directory.
    #[error("cannot mount on {}: it is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Neither privilege nor helper.
    #[error("mounting needs root or the program fusermount3: install the package fuse3")]
    NoHelper,
    /// The helper may not let others in.
    #[error(
        "allow_other is not permitted to ordinary users here: add the line user_allow_other to /etc/fuse.conf, or mount without it"
    )]
    AllowOtherForbidden,
    /// The helper may not open the device as this user.
    #[error(
        "ordinary users may not open /dev/fuse here ({what}): `chmod 666 /dev/fuse`, as udev does, or mount as root"
    )]
    DeviceClosed {
        /// What the helper said.
        what: String,
    },
    /// The helper refused.
    #[error("fusermount3 refused: {what}")]
    Helper {
        /// What it said.
        what: String,
    },
    /// Somebody uses it.
    #[error("{} is in use: end what uses it (see `fuser -vm`), or unmount it with --lazy", target.display())]
    Busy {
        /// The place.
        target: PathBuf,
    },
    /// It is not mounted.
    #[error("{} is not a distrofs mount", target.display())]
    NotMounted {
        /// The place.
        target: PathBuf,
    },
    /// Any other call that failed.
    #[error(transparent)]
    System(io::Error),
}
