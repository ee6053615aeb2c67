//! One mount being served: a fresh one, or one that another process served
//! before (`adopt`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use fuser::{Config, INodeNo, Session, SessionACL};

use crate::config::FuseTuning;
use crate::fs::{FsError, ImageFs};
use crate::fuse::adapter::Adapter;
use crate::fuse::adopt;
use crate::fuse::buffers::Buffers;
use crate::fuse::progress::Oldest;
use crate::metrics::Metrics;
use crate::sys::breadcrumbs::Crumb;
use crate::sys::ioctl::Question;
use crate::sys::nonblock::set_nonblocking;
use crate::trace::Recorder;
use crate::types::KernelOffer;

/// Answers what a mount is asked by ioctl.
pub type Answers = Box<dyn Fn(Question) -> Result<Vec<u8>, FsError> + Send + Sync>;

/// What a session works with.
pub struct Means {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// What it answers when it is asked by ioctl.
    pub answers: Answers,
    /// Notes reads while somebody wants to know of them.
    pub recorder: Arc<Recorder>,
    /// Memory for replies, which other sessions use, too.
    pub buffers: Buffers,
    /// Marks each request that is worked on.
    pub crumb: Crumb,
}

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means")
            .field("buffers", &self.buffers)
            .finish_non_exhaustive()
    }
}

/// Why a session did not begin or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The kernel and the daemon could not agree.
    #[error("no FUSE session could be begun: {0}")]
    Handshake(io::Error),
    /// A thread could not be started.
    #[error("no thread could be started ({0}): raise the limit on processes")]
    Thread(io::Error),
    /// The connection failed.
    #[error("the FUSE session failed: {0}; unmount, and mount again")]
    Connection(io::Error),
}

/// A session that is being served by threads of this process.
#[derive(Debug)]
pub struct SessionHandle {
    thread: JoinHandle<io::Result<()>>,
    offer: KernelOffer,
    oldest: Oldest,
}

impl SessionHandle {
    /// Waits for the end of the session: the last user of the mount is gone.
    pub fn wait(self) -> Result<(), SessionError> {
        let ended = self.thread.join();
        let ended = ended.unwrap_or_else(|_| Err(io::Error::other("the session thread panicked")));
        ended.map_err(SessionError::Connection)
    }

    /// What the kernel offered when the connection began: who adopts it later has to
    /// know.
    pub fn offer(&self) -> KernelOffer {
        self.offer
    }

    /// Tells how old the oldest request is.
    pub fn oldest(&self) -> &Oldest {
        &self.oldest
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// A connection to the kernel.
#[derive(Debug)]
pub enum Connection {
    /// Of a mount that was just made.
    Fresh(OwnedFd),
    /// One that another process served until it ended, and what the kernel offered
    /// when it began.
    Live(OwnedFd, KernelOffer),
}

impl Connection {
    fn fd(&self) -> &OwnedFd {
        match self {
            Connection::Fresh(fd) | Connection::Live(fd, _) => fd,
        }
    }
}

/// Serves `fs` on a connection, marking each request that is worked on with `crumb`.
/// When this returns, the mount answers.
pub fn serve(
    connection: Connection,
    fs: Arc<ImageFs>,
    tuning: &FuseTuning,
    means: Means,
) -> Result<SessionHandle, SessionError> {
    let offer = Arc::new(OnceLock::new());
    // Polling is set for all who have the connection, and whoever polled may have
    // been killed.
    set_nonblocking(connection.fd(), false).map_err(SessionError::Handshake)?;
    let noted = Arc::clone(&offer);
    let adapter = Adapter::start(connection.fd(), fs, tuning, means, noted);
    let adapter = adapter.map_err(SessionError::Thread)?;
    let invalidations = adapter.invalidations();
    let oldest = Oldest(Arc::clone(&adapter.progress));
    let mut config = Config::default();
    // The kernel checks permission bits; without this `fuser` would refuse
    // everybody but the user who mounted.
    config.acl = SessionACL::All;
    config.n_threads = Some(tuning.threads.into());
    let session = match connection {
        Connection::Fresh(fd) => Session::from_fd(adapter, fd, SessionACL::All, config),
        Connection::Live(fd, offer) => adopt::session(adapter, &fd, offer, config),
    };
    let session = session.map_err(SessionError::Handshake)?;
    let offer = *offer
        .get()
        .ok_or_else(|| SessionError::Handshake(io::Error::other("no handshake was made")))?;
    let notifier = session.notifier();
    invalidations.by(move |ino| notifier.inval_inode(INodeNo(ino), 0, 0));
    let thread = std::thread::Builder::new()
        .name("session".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || session.run())
        .map_err(SessionError::Thread)?;
    Ok(SessionHandle {
        thread,
        offer,
        oldest,
    })
}
