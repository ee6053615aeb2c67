//! What clients want of a home: answers of its worker, how it is doing, views.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::SupervisorError;
use super::home::Home;
use crate::sys::{cgroup, mount};
use crate::view::{Composed, Detached, Dir, Image};
use crate::wire::report::{HomeStatus, ImageStatus};
use crate::wire::served::REPORT;
use crate::wire::{ImagePath, Order};

/// How long a worker may take between two pieces of an answer, and how many may wait
/// to be passed on.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const ANSWER_PIECES_MAX: usize = 256;

/// How long an archive may wait for a worker that is being started.
const UPLOAD_WITHIN: Duration = Duration::from_secs(10);

/// The same for how it is doing, which it knows.
const REPORT_WITHIN: Duration = Duration::from_secs(5);

impl Home {
    pub(super) fn tombstone(&self, path: &ImagePath) -> SupervisorError {
        SupervisorError::Tombstone {
            home: self.uid,
            path: path.clone(),
        }
    }

    /// Asks the worker something; each piece of its answer is given to `hear`.
    pub(super) fn ask(
        &self,
        question: String,
        hear: impl FnMut(String) -> std::io::Result<()>,
    ) -> Result<(), SupervisorError> {
        self.ask_within(ANSWER_WITHIN, question, hear)
    }

    /// Asks the worker how what it serves is doing.
    pub(super) fn report(
        &self,
        hear: impl FnMut(String) -> std::io::Result<()>,
    ) -> Result<(), SupervisorError> {
        self.ask_within(REPORT_WITHIN, REPORT.to_owned(), hear)
    }

    fn ask_within(
        &self,
        within: Duration,
        question: String,
        mut hear: impl FnMut(String) -> std::io::Result<()>,
    ) -> Result<(), SupervisorError> {
        let failed = self.failed("ask it");
        // A worker that says more than is heard loses its answer.
        let (answer, answered) = sync_channel(ANSWER_PIECES_MAX);
        let mut known = self.known();
        known.questions += 1;
        let id = known.questions;
        let given = match &known.orders {
            Some(orders) => orders.give(Order::Ask { id, question }, &[]),
            None => Err(std::io::Error::other("it is being started: try again")),
        };
        given.map_err(&failed)?;
        known.asked.insert(id, answer);
        drop(known);
        loop {
            match answered.recv_timeout(within) {
                Ok(piece) if piece.is_empty() => return Ok(()),
                Ok(piece) => hear(piece).map_err(&failed)?,
                Err(_) => {
                    self.known().asked.remove(&id);
                    return Err(failed(std::io::Error::other("it does not answer")));
                }
            }
        }
    }

    /// How it is doing.
    pub(super) fn status(&self) -> HomeStatus {
        let known = self.known();
        let images = known.mounts.iter().map(|(mount, held)| ImageStatus {
            path: held.path.clone(),
            version: held.version,
            is_current: known.current.get(&held.path) == Some(mount),
            mount: mount.0,
            is_tombstone: held.is_tombstone,
        });
        let of_group = |group: &PathBuf| {
            let all = group.parent().map(cgroup::processes);
            all.and_then(Result::ok).map_or(0, |all| all.len())
        };
        let others = self.groups.iter().map(of_group).max().unwrap_or(0);
        HomeStatus {
            home: self.uid,
            worker: known.worker,
            restarts: self.restarts.load(Ordering::Relaxed),
            memory_bytes: self
                .groups
                .iter()
                .find_map(|group| cgroup::memory_bytes(group)),
            memory_limit_bytes: self.begin.memory_bytes,
            other_processes: u64::try_from(others).unwrap_or(u64::MAX),
            views: self.consumers.views(),
            images: images.collect(),
            tombstones: known.deaths.tombstones(),
        }
    }

    /// A way to send an archive to the worker, to become a version of an image.
    pub(super) fn upload(
        &self,
        path: &ImagePath,
        bytes: Option<u64>,
    ) -> Result<OwnedFd, SupervisorError> {
        let known = self.known();
        let waited = self
            .settled
            .wait_timeout_while(known, UPLOAD_WITHIN, |known| {
                (known.orders.is_none() || known.is_relieved) && !known.is_retired
            });
        let (known, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let Some(orders) = known.orders.as_ref().filter(|_| !known.is_retired) else {
            return Err(SupervisorError::Starting { home: self.uid });
        };
        let failed = self.failed("send it an archive");
        let (ours, theirs) = UnixStream::pair().map_err(&failed)?;
        let path = path.clone();
        let order = Order::Upload { path, bytes };
        orders.give(order, &[theirs.as_fd()]).map_err(&failed)?;
        Ok(ours.into())
    }

    /// Breaks the connections of an image: who waits for an answer gets an error.
    pub(super) fn abort(&self, path: &ImagePath) -> Result<(), SupervisorError> {
        let known = self.known();
        let mut mounts = known
            .mounts
            .values()
            .filter(|held| held.path == *path)
            .peekable();
        if mounts.peek().is_none() {
            return Err(SupervisorError::NoImage {
                home: self.uid,
                path: path.clone(),
            });
        }
        for held in mounts {
            mount::abort(held.connection.as_fd()).map_err(|cause| SupervisorError::System {
                doing: "break a connection",
                cause,
            })?;
        }
        Ok(())
    }

    /// A view of an image, for a container.
    pub(super) fn view(
        &self,
        path: &ImagePath,
        wanted: &Detached,
    ) -> Result<Composed, SupervisorError> {
        let known = self.known();
        let current = known.current.get(path);
        let held = current.and_then(|mount| known.mounts.get(mount));
        let at = held.map(|held| held.at.clone());
        let is_settled = known.is_settled && known.expected.is_empty();
        if held.map_or(known.deaths.has(path), |held| held.is_tombstone) {
            return Err(self.tombstone(path));
        }
        if let (Some(mount), Some(orders)) = (current, &known.orders)
            && let Err(error) = orders.give(Order::Prefetch { mount: *mount }, &[])
        {
            tracing::info!(%error, "a worker cannot be told of a view");
        }
        drop(known);
        let image = match at {
            Some(at) => Image::mounted(&at)?,
            None if is_settled => self.exploded(path)?,
            None => return Err(SupervisorError::Starting { home: self.uid }),
        };
        Ok(self.views.detached(&image, wanted)?)
    }

    /// A tree that is there as before anything of ours was.
    fn exploded(&self, path: &ImagePath) -> Result<Image, SupervisorError> {
        let none = || SupervisorError::NoImage {
            home: self.uid,
            path: path.clone(),
        };
        let failed = self.failed("use the directory of it");
        let home = Dir::from(self.home.try_clone().map_err(failed)?);
        // Whatever is wrong with it, a customer did it.
        let root = home.sub(format!("distros/{path}").as_bytes());
        let root = root.map_err(|_| none())?;
        let name = self.paths.home.join("distros").join(path.as_str());
        Image::exploded(root, &name)?.ok_or_else(none)
    }
}
