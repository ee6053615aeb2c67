//! What is asked of the supervisor by commands on the same machine: one request a
//! connection, and its replies until `Done` or `Failed`.

use serde::{Deserialize, Serialize};

use std::path::PathBuf;

use super::ImagePath;
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
    /// Something about images, which the worker of a home answers. Root, or whose
    /// home it is.
    Ask {
        /// Of which home.
        home: u32,
        /// JSON, for the worker.
        question: String,
    },
    /// Breaks the connection of an image that hangs. Root, or whose home it is.
    Abort {
        /// Which.
        image: ImageOf,
    },
}

/// What is replied.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Reply {
    /// A view, with the descriptor of its mounts.
    View,
    /// Where a container's root is.
    Place {
        /// The home of the storage container.
        home: PathBuf,
        /// Where in its `distros/`.
        path: ImagePath,
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
