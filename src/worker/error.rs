//! Why a worker ended.

use std::io;

use crate::config::ConfigError;
use crate::serving::ServingError;
use crate::store::home::HomeError;

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The connection to the supervisor.
    #[error("the connection to the supervisor failed: {0}")]
    Link(io::Error),
    /// It does not know what the supervisor wants.
    #[error("the supervisor said something that this version does not know: restart it")]
    Order,
    /// It must not go on with more rights than it needs.
    #[error("cannot give up rights: {0}")]
    Confine(io::Error),
    /// No threads.
    #[error("no thread could be started ({0}): raise the limit on processes")]
    Thread(io::Error),
    /// The home or the store.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A setting.
    #[error(transparent)]
    Setting(#[from] ConfigError),
    /// No memory.
    #[error(transparent)]
    Serving(#[from] ServingError),
}
