//! One home: its worker, and what is mounted for it.
//!
//! One thread listens to the worker, and starts the next one when it dies. All that
//! the worker says is taken for what a customer may have made it say: it can mount
//! what it offers, in its own home, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::SupervisorError;
use super::consumers::Consumers;
use super::deaths::Deaths;
use super::emperor_log::Tone;
use super::known::Known;
use super::mounts::{MountPoints, descriptors};
use super::orders::Orders;
use super::places::Places;
use super::process::Process;
use crate::sys::breadcrumbs::Trail;
use crate::sys::packets::Listener;
use crate::sys::tree;
use crate::view::{Image, State, Writable};
use crate::wire::{Begin, ImagePath, Link, MountNo, News, Order, Version};

/// Mounts of one home: a worker that offers without an end must not fill the kernel.
const MOUNTS_MAX: usize = 4096;

/// Where things of one home are.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) home: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) mounts: PathBuf,
    pub(super) notes: PathBuf,
}

/// A home that is served.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) uid: u32,
    pub(super) begin: Begin,
    pub(super) groups: Vec<PathBuf>,
    pub(super) home: OwnedFd,
    /// The home without what is mounted in it.
    bare: OwnedFd,
    store: OwnedFd,
    pub(super) paths: Paths,
    pub(super) views: State,
    read_ahead_kib: u32,
    pub(super) consumers: Consumers,
    known: Mutex<Known>,
    /// Told of all that may be waited for.
    pub(super) settled: Condvar,
    stopping: AtomicBool,
    pub(super) restarts: AtomicU64,
}

impl Home {
    pub(super) fn new(
        begin: Begin,
        groups: Vec<PathBuf>,
        (home, store): (OwnedFd, OwnedFd),
        paths: Paths,
        views: State,
        (read_ahead_kib, consumers): (u32, Consumers),
    ) -> Result<Home, SupervisorError> {
        let points = MountPoints::new(paths.mounts.clone(), paths.home.join("distros"))?;
        let directory = |cause| SupervisorError::Directory {
            doing: "use",
            path: paths.notes.clone(),
            cause,
        };
        let of_home = home.try_clone().map_err(directory)?;
        let places = Places::new(of_home.into(), paths.notes.clone()).map_err(directory)?;
        Ok(Home {
            uid: begin.uid,
            begin,
            groups,
            bare: tree::clone(home.as_fd())?,
            home,
            store,
            paths,
            views,
            read_ahead_kib,
            consumers,
            known: Mutex::new(Known {
                points,
                places,
                mounts: BTreeMap::new(),
                current: BTreeMap::new(),
                orders: None,
                worker: None,
                is_relieved: false,
                handed: BTreeSet::new(),
                deaths: Deaths::default(),
                is_retired: false,
                is_running: false,
                is_settled: false,
                expected: Vec::new(),
                after_fault: false,
                asked: BTreeMap::new(),
                questions: 0,
            }),
            settled: Condvar::new(),
            stopping: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
        })
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, doing: &'static str) -> impl Fn(std::io::Error) -> SupervisorError {
        let home = self.uid;
        move |cause| SupervisorError::Worker { home, doing, cause }
    }

    /// Where the home is.
    pub(super) fn path(&self) -> &Path {
        &self.paths.home
    }

    /// Serves the home until it is stopped.
    pub(super) fn run(self: &Arc<Self>) {
        let mut process = Process::new();
        let mut link = self.take_over();
        while !self.stopping.load(Ordering::Relaxed) {
            if link.is_none() && self.is_over() {
                break;
            }
            if link.is_none() {
                match self.start(&mut process) {
                    Ok(started) => link = Some(started),
                    Err(error) => tracing::error!(home = self.uid, %error, "no worker"),
                }
            }
            if let Some(link) = link.take() {
                self.listen(&link, &mut process);
                link.close();
            }
            self.known().lose();
            if self.stopping.load(Ordering::Relaxed) {
                break;
            }
            if self.is_over() {
                process.end();
                break;
            }
            if let Some((status, found)) = process.end() {
                self.known().mourn(self.uid, status, &found);
            }
            let pause = process.pause();
            self.restarts.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                home = self.uid,
                ?pause,
                "a worker is gone: starting another one"
            );
            std::thread::sleep(pause);
        }
    }

    /// A new worker, which goes on with what the one before served.
    fn start(&self, process: &mut Process) -> Result<Link, SupervisorError> {
        let doing = self.failed("start it");
        let (ours, theirs) = Link::pair().map_err(&doing)?;
        let listener = Listener::bind(&self.paths.socket, 0o600).map_err(&doing)?;
        let trail = Trail::new().map_err(&doing)?;
        let marks = trail.as_fd().try_clone_to_owned().map_err(&doing)?;
        process
            .start(
                &self.begin,
                &self.paths.home,
                &self.groups,
                theirs.as_fd(),
                trail,
            )
            .map_err(&doing)?;
        drop(theirs);
        let orders = ours.try_clone().and_then(Orders::new).map_err(&doing)?;
        let fds = [&self.home, &self.bare, &self.store].map(AsFd::as_fd);
        let others = [listener.as_fd(), marks.as_fd()];
        let fds: Vec<_> = fds.into_iter().chain(others).collect();
        let mut begin = self.begin.clone();
        begin.after_fault = std::mem::take(&mut self.known().after_fault);
        orders.give(Order::Begin(begin), &fds).map_err(&doing)?;
        let mut known = self.known();
        // Those that never answered have no users, and are offered again.
        let unanswered: Vec<_> = known.unanswered().collect();
        for mount in unanswered {
            known.forget(mount);
        }
        for (mount, held) in &known.mounts {
            let Some(offer) = held.offer else { continue };
            let order = Order::Adopt {
                mount: *mount,
                path: held.path.clone(),
                version: held.version,
                offer,
                is_tombstone: held.is_tombstone,
            };
            orders.give(order, &descriptors(held)).map_err(&doing)?;
        }
        let known = &mut *known;
        known.handed = known.mounts.keys().copied().collect();
        known.orders = Some(orders);
        if known.is_retired {
            self.drain(known);
        }
        self.settled.notify_all();
        Ok(ours)
    }

    /// Does what the worker's news ask for, until it is gone.
    fn listen(self: &Arc<Self>, link: &Link, process: &mut Process) {
        if !self.greet(link, process) {
            return;
        }
        loop {
            match link.receive::<News>() {
                Ok(None) => return,
                Ok(Some((news, fds))) => {
                    if let Err(error) = self.hear(news, fds) {
                        tracing::error!(home = self.uid, %error, "an image is not served");
                    }
                }
                Err(error) => {
                    tracing::error!(home = self.uid, %error, "a worker said something odd");
                    return;
                }
            }
        }
    }

    fn hear(self: &Arc<Self>, news: News, fds: Vec<OwnedFd>) -> Result<(), SupervisorError> {
        match news {
            News::Hello { .. } => Ok(()),
            News::Offer { path, version } => self.mount(&path, version, fds),
            News::Serving { mount, offer } => self.serving(mount, offer),
            News::Failed { mount, why } => {
                let mut known = self.known();
                if let Some(held) = known.mounts.get(&mount) {
                    tracing::error!(home = self.uid, path = %held.path, ?why, "not served");
                }
                known.forget(mount);
                self.settled.notify_all();
                Ok(())
            }
            News::Ended { mount } => self.ended(mount),
            News::Gone { path } => self.gone(&path),
            News::Holding {
                mount,
                path,
                version,
                offer,
                is_tombstone,
            } => {
                let mut known = self.known();
                known.is_relieved |= is_tombstone;
                known.hold(mount, path, version, offer, fds);
                if known.is_retired {
                    self.withdraw(&mut known);
                }
                Ok(())
            }
            News::Settled => {
                let mut known = self.known();
                let swept = known
                    .points
                    .sweep(|mount| known.mounts.contains_key(&mount));
                if let Err(error) = swept {
                    tracing::warn!(home = self.uid, %error, "mounts of before are left");
                }
                if known.is_relieved {
                    // Another one goes on with what it held, and takes in what is new.
                    drop(known);
                    return self.order(Order::Leave);
                }
                known.is_settled = true;
                self.settled.notify_all();
                Ok(())
            }
            News::Answer { id, piece } => {
                self.known().answered(id, piece);
                Ok(())
            }
            News::Said { path, text } => {
                tracing::info!(home = self.uid, %path, ?text, "an image");
                self.consumers.tell(&path, Tone::Notice, &text);
                Ok(())
            }
        }
    }

    fn order(&self, order: Order) -> Result<(), SupervisorError> {
        let given = match &self.known().orders {
            Some(orders) => orders.give(order, &[]),
            None => Ok(()),
        };
        given.map_err(self.failed("tell it"))
    }

    /// Mounts what is offered, and has it served.
    fn mount(
        &self,
        path: &ImagePath,
        version: Version,
        files: Vec<OwnedFd>,
    ) -> Result<(), SupervisorError> {
        let mut known = self.known();
        if self.stopping.load(Ordering::Relaxed)
            || known.is_relieved
            || known.is_retired
            || known.is_current(path, version)
        {
            return Ok(());
        }
        known.deaths.forgive_others(path, version);
        if known.deaths.is_tombstone(path, version) {
            if !known.current.contains_key(path) {
                known.places.retract(path)?;
            }
            return Err(self.tombstone(path));
        }
        if known.mounts.len() >= MOUNTS_MAX {
            return Err(self.failed("mount more for it")(std::io::Error::other(
                "there are too many images and versions in use",
            )));
        }
        let (mount, held) = known.points.mount(path, version, files)?;
        let order = Order::Serve {
            mount,
            path: path.clone(),
            version,
        };
        let given = match &known.orders {
            Some(orders) => orders.give(order, &[held.connection.as_fd()]),
            None => Ok(()),
        };
        known.mounts.insert(mount, held);
        known.expected.push(mount);
        given.map_err(self.failed("tell it"))
    }

    /// A mount answers: containers get it from now on.
    fn serving(
        self: &Arc<Self>,
        mount: MountNo,
        offer: crate::types::KernelOffer,
    ) -> Result<(), SupervisorError> {
        let mut known = self.known();
        let Some(held) = known.mounts.get_mut(&mount) else {
            return Ok(());
        };
        if held.offer.replace(offer).is_some() {
            // Adopted.
            known.handed.remove(&mount);
            self.settled.notify_all();
            return Ok(());
        }
        let (path, at) = (held.path.clone(), held.at.clone());
        if let Some(mounted) = &held.mounted
            && self.read_ahead_kib > 0
            && let Err(error) = mounted.set_read_ahead(self.read_ahead_kib)
        {
            tracing::info!(%error, "the kernel keeps its own read-ahead");
        }
        drop(known);
        // The image is asked, and may not answer: this thread is the one that would
        // start the next worker.
        let home = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name("publish".to_owned())
            .spawn(move || match home.publish(mount, &path, &at) {
                Ok(()) => tracing::info!(home = home.uid, %path, "an image is served"),
                Err(error) => tracing::error!(home = home.uid, %error, "an image is not served"),
            });
        started.map(drop).map_err(|cause| {
            // Nobody would ever get it, nor unmount it.
            self.known().forget(mount);
            self.settled.notify_all();
            self.failed("start a thread for it")(cause)
        })
    }

    /// Has new starts get a mount, and shows it in the home.
    fn publish(&self, mount: MountNo, path: &ImagePath, at: &Path) -> Result<(), SupervisorError> {
        let view = Image::mounted(at).and_then(|image| self.views.shared(&image, Writable::Tree));
        let mut known = self.known();
        known.expected.retain(|expected| *expected != mount);
        self.settled.notify_all();
        if known
            .mounts
            .get(&mount)
            .is_none_or(|held| held.mounted.is_none())
        {
            // It was taken away meanwhile, and is offered again if it is to be had.
            return Ok(());
        }
        // Or this one, if it could not be shown at once.
        let before = known
            .current
            .get(path)
            .copied()
            .filter(|before| *before != mount);
        let is_outdated = before.is_some_and(|before| before > mount);
        if self.stopping.load(Ordering::Relaxed) || known.is_retired || is_outdated {
            if let Some(held) = known.mounts.get_mut(&mount) {
                held.detach();
            }
            return Ok(());
        }
        known.current.insert(path.clone(), mount);
        if let (Some(_), Some(held)) = (before, known.mounts.get(&mount)) {
            let text = format!("the next start gets version {}", held.version.short());
            self.consumers.tell(path, Tone::Notice, &text);
        }
        let published = view
            .map_err(SupervisorError::from)
            .and_then(|view| known.places.publish(path, view.tree.as_fd()));
        if let Some(before) = before
            && let Some(held) = known.mounts.get_mut(&before)
        {
            held.detach();
        }
        published
    }

    /// Shows again what could not be shown in the home, or was moved away there.
    pub(super) fn mend(&self) {
        let known = self.known();
        let missing = known.current.iter().filter_map(|(path, mount)| {
            let held = known.mounts.get(mount)?;
            let can_be = held.mounted.is_some() && held.offer.is_some() && !held.is_tombstone;
            (can_be && !known.places.is_there(path))
                .then(|| (*mount, path.clone(), held.at.clone()))
        });
        let missing: Vec<_> = missing.collect();
        drop(known);
        for (mount, path, at) in missing {
            match self.publish(mount, &path, &at) {
                Ok(()) => tracing::info!(home = self.uid, %path, "an image is shown again"),
                Err(error) => tracing::info!(home = self.uid, %error, "an image is not shown"),
            }
        }
    }

    /// Nobody uses a mount any more; or its connection was broken, and then new starts
    /// get another one.
    fn ended(&self, mount: MountNo) -> Result<(), SupervisorError> {
        let mut known = self.known();
        let is_current = known.current.values().any(|current| *current == mount);
        let again = known.mounts.get_mut(&mount).map(|held| {
            let files = std::mem::take(&mut held.files);
            (held.path.clone(), held.version, files)
        });
        known.forget(mount);
        drop(known);
        match again {
            Some((path, version, files)) if is_current => self.mount(&path, version, files),
            _ => Ok(()),
        }
    }

    fn gone(&self, path: &ImagePath) -> Result<(), SupervisorError> {
        let mut known = self.known();
        let retracted = known.places.retract(path);
        let text = "it is gone: the next start will not have it";
        self.consumers.tell(path, Tone::Notice, text);
        if let Some(mount) = known.current.remove(path)
            && let Some(held) = known.mounts.get_mut(&mount)
        {
            held.detach();
        }
        retracted
    }

    /// Waits until all that was there when this began is served, or cannot be.
    pub(super) fn wait_until_settled(&self, patience: Duration) -> bool {
        let known = self.known();
        let waited = self.settled.wait_timeout_while(known, patience, |known| {
            !known.is_retired && (!known.is_settled || !known.expected.is_empty())
        });
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Takes everything away that new starts would get; who uses something may
    /// finish, and the worker ends after the last.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let mut known = self.known();
        self.withdraw(&mut known);
        let orders = known.orders.take();
        drop(known);
        let Some(orders) = orders else { return };
        if let Err(error) = orders.give(Order::Drain, &[]) {
            tracing::warn!(home = self.uid, %error, "a worker was not told to end");
        }
        orders.finish();
    }

    /// Waits until an image can be had, or it is known that it cannot.
    pub(super) fn wait_for(&self, path: &ImagePath, patience: Duration) {
        let known = self.known();
        let waited = self.settled.wait_timeout_while(known, patience, |known| {
            let is_known = known.is_settled && known.expected.is_empty();
            !known.is_retired && !is_known && !known.current.contains_key(path)
        });
        // Whoever looks again sees what came of it.
        drop(waited);
    }

    /// Has a worker take nothing in any more, and end when nobody uses what it serves.
    pub(super) fn drain(&self, known: &Known) {
        let given = known
            .orders
            .as_ref()
            .map(|orders| orders.give(Order::Drain, &[]));
        if let Some(Err(error)) = given {
            tracing::warn!(home = self.uid, %error, "a worker was not told to end");
        }
    }

    /// Takes everything away that new starts would get.
    pub(super) fn withdraw(&self, known: &mut Known) {
        for path in known.places.all() {
            if let Err(error) = known.places.retract(&path) {
                tracing::error!(home = self.uid, %error, "a view stays");
            }
        }
        known.current.clear();
        known.expected.clear();
        for held in known.mounts.values_mut() {
            held.detach();
        }
    }
}
