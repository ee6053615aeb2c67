//! The process that answers HTTP: started, and started again when it ends.
//!
//! It has no rights and is told nothing: it asks at the control socket like any
//! other, and is known there by its user. Whether it is there or not, images are
//! served.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::sys::packets::Packets;
use crate::sys::spawn::Spawn;

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
    listen: SocketAddr,
    run: PathBuf,
    /// Whether there will be no more; the connection to the one of the moment.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    is_over: bool,
    process: Option<rustix::fd::OwnedFd>,
}

impl Api {
    /// Listening at `listen` as `user`, for the service at `run`.
    pub(super) fn new(user: u32, listen: SocketAddr, run: PathBuf) -> Arc<Api> {
        Arc::new(Api {
            user,
            listen,
            run,
            state: Mutex::default(),
        })
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
        let (ours, theirs) = Packets::pair()?;
        let mut child = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.is_over {
                return Ok(true);
            }
            let child = Spawn {
                uid: self.user,
                gid: GROUP,
                args: vec![
                    API.into(),
                    "--run".into(),
                    self.run.clone().into(),
                    "--listen".into(),
                    self.listen.to_string().into(),
                ],
                given: theirs.as_fd(),
                groups: Vec::new(),
            }
            .start()?;
            let process = pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
            state.process = process.ok();
            child
        };
        drop(theirs);
        // Where it asks, though the way there may be closed to its user.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let told = rustix::fs::open(&self.run, flags, Mode::empty())
            .map_err(io::Error::from)
            .and_then(|run| ours.send(b"run", &[run.as_fd()]));
        if let Err(error) = told {
            tracing::warn!(%error, "what answers HTTP is not told where to ask");
            ours.close();
        }
        // It says once where it listens. Then the connection tells each of both that
        // the other is there.
        if let Ok(Some(packet)) = ours.receive() {
            self.note(&packet.bytes);
            let _over = ours.receive().is_err();
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

    /// Notes where it listens, if it says that.
    fn note(&self, said: &[u8]) {
        let address = std::str::from_utf8(said).ok();
        let Some(address) = address.and_then(|text| text.parse::<SocketAddr>().ok()) else {
            return;
        };
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
