//! Why the supervisor cannot do something.

use std::io;
use std::path::PathBuf;

use crate::sys::mount::MountError;
use crate::sys::tree::TreeError;
use crate::view::ViewError;
use crate::wire::ImagePath;

/// Why the supervisor cannot do something.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// It takes root.
    #[error("serving homes needs root: run it as root (to mount one archive, `distrofs mount`)")]
    NotRoot,
    /// There is one already.
    #[error("another `distrofs serve` runs with {}: stop it first, or name another run directory", .0.display())]
    Running(PathBuf),
    /// A directory of its own.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Directory {
        /// What was tried.
        doing: &'static str,
        /// With which.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
    /// The state is elsewhere.
    #[error(
        "{} is not on the filesystem of {}: archives are moved from there, and belong to the \
         same quota; name another directory as `state`",
        state.display(),
        homes.display()
    )]
    Elsewhere {
        /// Where state would be.
        state: PathBuf,
        /// Where homes are.
        homes: PathBuf,
    },
    /// A home that is none.
    #[error("{}: {why}", path.display())]
    Home {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A process could not be started, or is not heard.
    #[error("the worker of home {home}: cannot {doing}: {cause}")]
    Worker {
        /// The user of the home.
        home: u32,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
    /// There is none.
    #[error("home {home} is not served: `distrofs status` shows those that are")]
    NoHome {
        /// The user of the home.
        home: u32,
    },
    /// There is none.
    #[error("home {home} has no image {path}: `distrofs image list` shows those that it has")]
    NoImage {
        /// The user of the home.
        home: u32,
        /// What was asked for.
        path: ImagePath,
    },
    /// Nobody said which image it is to have.
    #[error(
        "no image is chosen for container {container}: give --image, or name it in the settings, under containers"
    )]
    NotChosen {
        /// The user of the container.
        container: u32,
    },
    /// It has no root at all.
    #[error(
        "container {container} has no platform distro: {why}: choose one (`distrofs admin \
         container set`), and see that it is there"
    )]
    NoPlatform {
        /// The user of the container.
        container: u32,
        /// What is wrong.
        why: String,
    },
    /// A container cannot be restarted.
    #[error("container {container} is not restarted: {cause}")]
    Restart {
        /// The user of the container.
        container: u32,
        /// Why not.
        cause: io::Error,
    },
    /// An archive is longer than it may be.
    #[error("the archive is too long: {bytes} bytes, and {bytes_max} are allowed")]
    TooLong {
        /// How long it is.
        bytes: u64,
        /// The setting `image_bytes_max`.
        bytes_max: u64,
    },
    /// It is not known yet what there is.
    #[error("home {home} is being started: try again")]
    Starting {
        /// The user of the home.
        home: u32,
    },
    /// It is there, and not read any more.
    #[error(
        "image {path} of home {home} is not read any more, as that ended its worker again and \
         again: upload a new version (`distrofs status` tells more)"
    )]
    Tombstone {
        /// The user of the home.
        home: u32,
        /// What was asked for.
        path: ImagePath,
    },
    /// Somebody asked who must not.
    #[error("that is for root only, or for whose home it is")]
    Forbidden,
    /// Mounting.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// Views.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Attaching.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Anything else of the system.
    #[error("cannot {doing}: {cause}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        cause: io::Error,
    },
}
