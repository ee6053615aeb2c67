//! The process that answers HTTP: started, and started again when it ends.
//!
//! It has no rights but to the directory of the registry: it asks at the control
//! socket like any other, and is known there by its user. Whether it is there or not,
//! images are served, and containers start.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::registry;
use crate::config::ServeConfig;
use crate::sys::spawn::Spawn;
use crate::sys::stream;
use crate::wire::Link;
use crate::wire::http::{HttpJob, Listening};

/// The command of this program that answers HTTP.
pub const API: &str = "api";

/// The file in the directory `run` that says where it answers.
pub const ADDRESS: &str = "api.addr";

/// Its group: nobody's.
const GROUP: u32 = 65_534;

/// One that ends at once is started again after this time, and twice that the next
/// time.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
const LIVED: Duration = Duration::from_secs(60);

/// What the process is to do.
#[derive(Debug)]
pub(super) struct Api {
    user: u32,
    run: PathBuf,
    socket: Option<PathBuf>,
    job: HttpJob,
    /// Whether there will be no more; the connection to the one of the moment.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    process: Option<rustix::fd::OwnedFd>,
}

impl Api {
    /// As the settings say; none if nothing is to be answered.
    pub(super) fn new(config: &ServeConfig) -> Option<Arc<Api>> {
        let (listen, socket) = (config.listen().ok().flatten(), config.socket());
        if listen.is_none() && socket.is_none() {
            return None;
        }
        Some(Arc::new(Api {
            user: config.api_user,
            run: config.run.clone(),
            job: HttpJob {
                listen,
                has_socket: false,
                has_registry: false,
                registry: config.registry.clone(),
                server: config.server.clone(),
                image_bytes_max: config.image_bytes_max.0,
                is_forwarded: config.forwarded,
            },
            socket,
            state: Mutex::default(),
        }))
    }

    /// Keeps one running until it is stopped.
    pub(super) fn run(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let began = Instant::now();
            match self.once() {
                Ok(true) => return,
                Ok(false) => tracing::warn!(?pause, "what answers HTTP ended: starting it again"),
                Err(error) => tracing::error!(%error, ?pause, "nothing answers HTTP"),
            }
            if began.elapsed() >= LIVED {
                pause = PAUSE_MIN;
            }
            std::thread::sleep(pause);
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    /// Runs one until it ends; whether there shall be no more.
    fn once(&self) -> io::Result<bool> {
        let (ours, theirs) = Link::pair()?;
        let mut child = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return Ok(true);
            }
            let child = Spawn {
                uid: self.user,
                gid: GROUP,
                args: vec![API.into(), "--run".into(), self.run.clone().into()],
                given: theirs.as_fd(),
                groups: Vec::new(),
            }
            .start()?;
            let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
            state.process = process.ok();
            child
        };
        drop(theirs);
        if let Err(error) = self.tell(&ours) {
            tracing::warn!(%error, "what answers HTTP is not told what to do");
            ours.close();
        }
        // It says once where it listens. Then the connection tells each of both that
        // the other is there.
        if let Ok(Some((Listening { address }, _))) = ours.receive() {
            self.note(address);
            let _over = ours.receive::<Listening>().is_err();
        }
        // What closed it, or says more, has to end.
        let _ended = child.kill().is_err();
        child.wait()?;
        let file = self.run.join(ADDRESS);
        if let Err(error) = fs::remove_file(file)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "cannot remove {ADDRESS}");
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.process = None;
        Ok(state.is_over)
    }

    /// Tells the process what to do, and gives it what its user could not open.
    fn tell(&self, process: &Link) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let run = rustix::fs::open(&self.run, flags, Mode::empty())?;
        let registry = registry::directory(&self.job.registry, self.user, GROUP)
            .inspect_err(|error| {
                let at = self.job.registry.display();
                tracing::error!(%error, "no registry at {at}: nothing is answered below /api");
            })
            .ok();
        let socket = self.socket.as_deref().and_then(listen);
        let job = HttpJob {
            has_registry: registry.is_some(),
            has_socket: socket.is_some(),
            ..self.job.clone()
        };
        let fds = [Some(&run), registry.as_ref(), socket.as_ref()];
        let fds: Vec<_> = fds.into_iter().flatten().map(AsFd::as_fd).collect();
        process.send(&job, &fds)
    }

    /// Notes where it listens.
    fn note(&self, address: Option<SocketAddr>) {
        let Some(address) = address else { return };
        tracing::info!(%address, "HTTP is answered");
        let (file, new) = (self.run.join(ADDRESS), self.run.join("api.addr.new"));
        let written = fs::write(&new, format!("{address}\n")).and_then(|()| fs::rename(new, file));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write {ADDRESS}");
        }
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_over = true;
        if let Some(process) = &state.process {
            // It may have ended.
            let _ended = pidfd_send_signal(process, Signal::KILL).is_err();
        }
    }
}

/// A Unix socket that everybody may connect to.
fn listen(at: &Path) -> Option<OwnedFd> {
    let listening = stream::listen(at, 0o666);
    listening
        .inspect_err(|error| {
            let at = at.display();
            tracing::error!(%error, "cannot answer HTTP at {at}: change `socket`");
        })
        .ok()
}
