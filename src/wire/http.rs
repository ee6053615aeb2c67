//! What the process that answers HTTP is told when it is started, and what it says.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What to do. With descriptors of the directory of the service's sockets, and of
/// what is said to be there, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpJob {
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// Whether there is a Unix socket to listen at.
    pub has_socket: bool,
    /// Whether there is the directory of the registry, which is to be used.
    pub has_registry: bool,
    /// Where that is.
    pub registry: PathBuf,
    /// This server's name in the registry; empty if it is the only one.
    pub server: String,
    /// How long an archive may be, in bytes.
    pub image_bytes_max: u64,
    /// Whether a proxy says in `X-Forwarded-For` for whom it asks.
    pub is_forwarded: bool,
}

/// Where it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listening {
    /// By TCP, if it does.
    pub address: Option<SocketAddr>,
}
