//! One mount being served.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use fuser::{Config, INodeNo, Session, SessionACL};

use crate::config::FuseTuning;
use crate::fs::{FsError, ImageFs};
use crate::fuse::adapter::Adapter;
use crate::metrics::Metrics;
use crate::sys::ioctl::Question;

/// Answers what a mount is asked by ioctl.
pub type Answers = Box<dyn Fn(Question) -> Result<Vec<u8>, FsError> + Send + Sync>;

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
}

impl SessionHandle {
    /// Waits for the end of the session: the last user of the mount is gone.
    pub fn wait(self) -> Result<(), SessionError> {
        let ended = self.thread.join();
        let ended = ended.unwrap_or_else(|_| Err(io::Error::other("the session thread panicked")));
        ended.map_err(SessionError::Connection)
    }

    /// Whether it has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Serves `fs` on the connection `fd` of a fresh mount. When this returns, the
/// mount answers.
pub fn serve(
    fd: OwnedFd,
    fs: Arc<ImageFs>,
    tuning: &FuseTuning,
    metrics: Arc<Metrics>,
    answers: Answers,
) -> Result<SessionHandle, SessionError> {
    let adapter =
        Adapter::start(&fd, fs, tuning, metrics, answers).map_err(SessionError::Thread)?;
    let invalidations = adapter.invalidations();
    let mut config = Config::default();
    // The kernel checks permission bits; without this `fuser` would refuse
    // everybody but the user who mounted.
    config.acl = SessionACL::All;
    config.n_threads = Some(tuning.threads.into());
    let session = Session::from_fd(adapter, fd, SessionACL::All, config);
    let session = session.map_err(SessionError::Handshake)?;
    let notifier = session.notifier();
    invalidations
        .start(move |ino| notifier.inval_inode(INodeNo(ino), 0, 0))
        .map_err(SessionError::Thread)?;
    let thread = std::thread::Builder::new()
        .name("session".to_owned())
        .stack_size(128 * 1024)
        .spawn(move || session.run())
        .map_err(SessionError::Thread)?;
    Ok(SessionHandle { thread })
}
