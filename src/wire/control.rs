//! What is asked of the supervisor by commands on the same machine: one request a
//! connection, and its replies until `Done` or `Failed`.

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

use super::ImagePath;
use crate::types::Decision;
pub use crate::types::ImageOf;

/// The name of the socket in the directory `run`.
pub const CONTROL: &str = "control.sock";

/// What is asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Request {
    /// A view for a container, to be attached by whoever asks. Root; a container's user
    /// its own view, of the image that is chosen for it.
    Attach {
        /// The user of the container.
        container: u32,
        /// Of which image; none for the one that is chosen for the container.
        image: Option<ImageOf>,
        /// What it may write: `paths`, `tree` or `none`; none is what the settings
        /// say.
        writable: Option<String>,
        /// Whether its user's lines are added to `/etc/passwd` and others.
        passwd: bool,
        /// Where it will be, for the container's log.
        #[serde(default)]
        at: Option<String>,
    },
    /// Where an unmodified launcher looks for the root of a container. As for
    /// `Attach`.
    Place {
        /// The user of the container.
        container: u32,
        /// Of which image; none for the one that is chosen for the container.
        image: Option<ImageOf>,
    },
    /// How everything is doing. Root and the user that answers HTTP all, others their
    /// home.
    Status,
    /// How what is served is doing: a
    /// [`WorkerReport`](super::served::WorkerReport). Root, the user that answers
    /// HTTP, or whose home it is.
    Report {
        /// Of which home.
        home: u32,
    },
    /// Something about images, which the worker of a home answers. Root, the user that
    /// answers HTTP, or whose home it is.
    Ask {
        /// Of which home.
        home: u32,
        /// JSON, for the worker.
        question: String,
    },
    /// What containers are to have from now on. Root and the user that answers HTTP.
    /// On the same connection [`Decisions`] follow, until the last: all of them are
    /// taken, or none. What was taken is kept, also when the service is started again.
    Decide,
    /// Restarts a container, in the way that the settings say. Root and the user that
    /// answers HTTP.
    Restart {
        /// The user of the container.
        container: u32,
    },
    /// Alarms that were raised and not taken yet, as the text of a JSON list of
    /// [`Raised`](crate::types::Raised): after a moment, if there is none at once. Root
    /// and the user that answers HTTP.
    Alarms {
        /// Those with numbers up to this one were taken, and are forgotten.
        taken: u64,
    },
    /// A way to send an archive to the worker of a home, which is then a version of an
    /// image: replied by `Upload`, with a stream socket for [`upload`](super::upload).
    /// Root, the user that answers HTTP, or whose home it is.
    Upload {
        /// Of which image.
        image: ImageOf,
        /// How long it will be, if that is known.
        bytes: Option<u64>,
    },
    /// Breaks the connection of an image that hangs. Root, or whose home it is.
    Abort {
        /// Which.
        image: ImageOf,
    },
}

/// Some of what containers are to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// Of these containers.
    pub decided: Vec<Decision>,
    /// Of these nothing is known any more.
    pub gone: Vec<u32>,
    /// Whether nothing is known of any other: in the last one.
    pub is_all: bool,
    /// Whether this is the last one.
    pub is_last: bool,
    /// What the registry calls this state, to be found in [`Status`]: in the last one.
    ///
    /// [`Status`]: super::report::Status
    pub revision: u64,
}

/// How many decisions fit a message.
pub const DECISIONS_MAX: usize = 64;

/// What is replied.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reply {
    /// A view, with the descriptor of its mounts.
    View,
    /// Where to send an archive, with the descriptor of a stream socket.
    Upload,
    /// Where a container's root is.
    Place {
        /// The home of the storage container.
        home: PathBuf,
        /// Where in its `distros/`.
        path: ImagePath,
    },
    /// The container's root is the platform's, where a launcher finds it by itself. With
    /// `Place` as well: it is, if the image cannot be had.
    Platform {
        /// Where it is.
        at: PathBuf,
    },
    /// Something worth knowing.
    Note(String),
    /// A piece of a text; pieces are to be joined.
    Text(String),
    /// That was all.
    Done,
    /// It cannot be done, and why.
    Failed(String),
}
