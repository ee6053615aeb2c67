//! What is known of one home at the moment.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::mpsc::SyncSender;

use super::deaths::Deaths;
use super::mounts::{Held, MountPoints};
use super::orders::Orders;
use super::places::Places;
use crate::types::KernelOffer;
use crate::wire::{ImagePath, MountNo, Version};

/// What is mounted for a home, and who serves it.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) points: MountPoints,
    pub(super) places: Places,
    pub(super) mounts: BTreeMap<MountNo, Held>,
    /// The version of each image that new starts get.
    pub(super) current: BTreeMap<ImagePath, MountNo>,
    pub(super) orders: Option<Orders>,
    /// The process of the worker.
    pub(super) worker: Option<u32>,
    /// Whether another one is to go on with what it serves: it was told to end by the
    /// supervisor before, or is of another build.
    pub(super) is_relieved: bool,
    /// Mounts that it is to go on with, and has not said yet that it does.
    pub(super) handed: BTreeSet<MountNo>,
    pub(super) deaths: Deaths,
    /// Whether nothing is offered any more: the home stores no images now.
    pub(super) is_retired: bool,
    /// Whether there is a thread that serves the home, or will be.
    pub(super) is_running: bool,
    /// Whether all that was there is served.
    pub(super) is_settled: bool,
    /// Mounts that were made and do not answer yet.
    pub(super) expected: Vec<MountNo>,
    /// Whether the last worker ended by a fault that no image can be the reason for.
    pub(super) after_fault: bool,
    /// Questions that are not answered yet.
    pub(super) asked: BTreeMap<u64, SyncSender<String>>,
    pub(super) questions: u64,
}

impl Known {
    /// The worker is gone.
    pub(super) fn lose(&mut self) {
        self.orders = None;
        self.worker = None;
        self.is_relieved = false;
        self.handed.clear();
        self.asked.clear();
    }

    pub(super) fn answered(&mut self, id: u64, piece: String) {
        let is_last = piece.is_empty();
        let is_lost = match self.asked.get(&id) {
            Some(asked) => asked.try_send(piece).is_err(),
            None => false,
        };
        if is_last || is_lost {
            self.asked.remove(&id);
        }
    }

    pub(super) fn is_current(&self, path: &ImagePath, version: Version) -> bool {
        let is_same = |mount: &MountNo| {
            self.mounts
                .get(mount)
                .is_some_and(|held| held.path == *path && held.version == version)
        };
        self.current.get(path).is_some_and(is_same) || self.expected.iter().any(is_same)
    }

    pub(super) fn unanswered(&self) -> impl Iterator<Item = MountNo> {
        let unanswered = |(mount, held): (&MountNo, &Held)| held.offer.is_none().then_some(*mount);
        self.mounts.iter().filter_map(unanswered)
    }

    /// Lets a mount go that nobody serves any more.
    pub(super) fn forget(&mut self, mount: MountNo) {
        if let Some(mut held) = self.mounts.remove(&mount) {
            held.detach();
        }
        self.expected.retain(|expected| *expected != mount);
        self.handed.remove(&mount);
        self.current.retain(|_, current| *current != mount);
    }

    /// What a worker served for the supervisor before. One that is not read any more
    /// is tried again.
    pub(super) fn hold(
        &mut self,
        mount: MountNo,
        path: ImagePath,
        version: Version,
        offer: KernelOffer,
        mut fds: Vec<OwnedFd>,
    ) {
        if fds.is_empty() || self.mounts.contains_key(&mount) {
            return;
        }
        let files = fds.split_off(1);
        let Some(connection) = fds.pop() else { return };
        let mounted = self.points.found(mount);
        if mounted.is_some() && self.places.is_there(&path) {
            self.current.insert(path.clone(), mount);
        }
        let held = Held {
            at: self.points.at(mount),
            path,
            version,
            mounted,
            connection,
            files,
            offer: Some(offer),
            is_tombstone: false,
        };
        self.mounts.insert(mount, held);
    }
}
