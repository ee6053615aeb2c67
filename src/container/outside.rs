//! What a container gets of the host: device nodes, and what it is told to bind.
//! All is taken while it can still be seen, and attached later.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::ContainerError;
use crate::sys::tree::{self, Restriction};

/// Devices that every program may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Something of the host that is to be seen inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// Where it is outside.
    pub from: PathBuf,
    /// Where it is inside: absolute.
    pub to: PathBuf,
}

/// What was taken from the host.
#[derive(Debug)]
pub struct Outside {
    /// Device nodes, by name.
    pub(super) devices: Vec<(&'static str, OwnedFd)>,
    /// What is bound, and where.
    pub(super) binds: Vec<(OwnedFd, PathBuf)>,
}

impl Outside {
    /// Takes what a container needs, in the mount namespace of this process.
    pub fn take(binds: &[Bind]) -> Result<Outside, ContainerError> {
        let mut outside = Outside {
            devices: Vec::new(),
            binds: Vec::new(),
        };
        for name in DEVICES {
            let device = tree::clone_all(&Path::new("/dev").join(name))?;
            // They are the host's: root in there must not close them to it.
            tree::restrict(device.as_fd(), Restriction::Change)?;
            outside.devices.push((name, device));
        }
        for bind in binds {
            let taken = tree::clone_all(&bind.from).and_then(|bound| {
                tree::restrict(bound.as_fd(), Restriction::Content)?;
                Ok(bound)
            });
            let bound = taken.map_err(|cause| ContainerError::BindFrom {
                from: bind.from.clone(),
                cause,
            })?;
            outside.binds.push((bound, bind.to.clone()));
        }
        Ok(outside)
    }
}
