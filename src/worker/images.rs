//! What is offered to the supervisor, and what is served.
//!
//! Guarantees: of everything that is served the files and the connection are kept,
//! so that the next supervisor gets them; each mount is told to be served, failed
//! or ended, in this order.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::ingested::Ingested;
use super::marked::Marked;
use super::profiles::Start;
use super::tombstone::Tombstones;
use super::{PATIENCE, WorkerError};
use crate::config::FuseTuning;
use crate::fs::{FsError, FsOptions, Owner};
use crate::fuse::{Connection, SessionHandle};
use crate::metrics::Metrics;
use crate::serving::report::{self, Reporter};
use crate::serving::{Parts, Prepared, Shared};
use crate::source::BlockSource;
use crate::store::{ImageFiles, home};
use crate::sys::breadcrumbs::{Breadcrumbs, Crumb, OWN};
use crate::sys::process;
use crate::types::{Ino, KernelOffer, Region};
use crate::wire::served::{ImageReport, WorkerReport};
use crate::wire::{Begin, ImagePath, Link, MountNo, News, PROTOCOL, Version};

/// After so many looks without a request an image's index needs no memory, and after
/// more of them nothing does.
const LOOKS_IDLE: u32 = 10;
const LOOKS_ASLEEP: u32 = 60;

/// What is said of an image that is not read any more.
const TOMBSTONE: &str = "it is not read any more, as that ended the worker again and again: all \
    who use it get errors";

/// An image of a version.
type Name = (ImagePath, Version);

struct Served {
    name: Name,
    offer: KernelOffer,
    connection: OwnedFd,
    files: Arc<ImageFiles>,
    begun: Begun,
    /// Requests at the last look, and looks since there were others.
    requests: u64,
    idle: u32,
}

/// A session, and what it takes memory for.
struct Begun {
    session: SessionHandle,
    regions: Vec<Arc<dyn Region>>,
    /// What it is made of.
    archives: Vec<Version>,
    metrics: Arc<Metrics>,
    reporter: Reporter,
    start: Arc<Start>,
}

impl Served {
    /// Looks whether it is used; how many looks it was not.
    fn look(&mut self) -> u32 {
        let requests = self.begun.metrics.arrivals();
        self.idle = match requests == self.requests {
            true => self.idle.saturating_add(1),
            false => 0,
        };
        self.requests = requests;
        if self.idle == LOOKS_IDLE {
            self.begun.regions.iter().for_each(|region| region.trim());
        }
        self.idle
    }
}

#[derive(Default)]
struct Table {
    offered: BTreeMap<Name, Arc<ImageFiles>>,
    served: BTreeMap<MountNo, Served>,
    tombstones: Tombstones,
    /// Whether all that was there when this began is offered.
    is_settled: bool,
    link: Option<Link>,
}

/// All of them.
pub(super) struct Images {
    owner: Owner,
    tuning: FuseTuning,
    shared: Shared,
    table: Mutex<Table>,
    draining: AtomicBool,
    pub(super) ingested: Ingested,
    start: Instant,
    breadcrumbs: Breadcrumbs,
    /// Where start profiles are, once the store is open.
    profiles: OnceLock<PathBuf>,
}

impl Images {
    pub(super) fn new(begin: &Begin, breadcrumbs: Breadcrumbs) -> Result<Images, WorkerError> {
        let mut tuning = FuseTuning::default();
        for setting in &begin.tune {
            tuning.set(setting)?;
        }
        Ok(Images {
            owner: Owner::Squash {
                uid: begin.uid,
                gid: begin.gid,
            },
            tuning,
            shared: Shared::new(begin.memory_bytes, &Arc::default())?,
            table: Mutex::default(),
            draining: AtomicBool::new(false),
            ingested: Ingested::default(),
            start: Instant::now(),
            breadcrumbs,
            profiles: OnceLock::new(),
        })
    }

    /// Says where start profiles are kept.
    pub(super) fn keep_profiles_in(&self, directory: PathBuf) {
        // There is one store.
        let _is_first = self.profiles.set(directory).is_ok();
    }

    /// Where the start profile of a version is.
    pub(super) fn profile_place(&self, version: &Version) -> Option<PathBuf> {
        let directory = self.profiles.get()?;
        Some(directory.join(home::profile_name(version)))
    }

    /// What a mount is recorded and prefetched with, unless that is switched off.
    pub(super) fn start_of(&self, mount: MountNo) -> Option<Arc<Start>> {
        let table = self.table.lock();
        let served = table.served.get(&mount).filter(|_| self.tuning.profile);
        served.map(|served| Arc::clone(&served.begun.start))
    }

    /// The same of the version of an image that was mounted last.
    pub(super) fn newest_start(&self, path: &ImagePath) -> Option<Arc<Start>> {
        let table = self.table.lock();
        let is_of_path = |served: &&Served| served.name.0 == *path;
        let served = table.served.values().rev().find(is_of_path);
        served.map(|served| Arc::clone(&served.begun.start))
    }

    /// Tells a supervisor who this is and what it serves.
    pub(super) fn connect(&self, link: Option<Link>) {
        let mut table = self.table.lock();
        table.link = link;
        let Table {
            offered,
            served,
            tombstones,
            is_settled,
            link: Some(link),
        } = &*table
        else {
            return;
        };
        let told = || {
            link.set_sending(PATIENCE)?;
            let hello = News::Hello {
                protocol: PROTOCOL,
                pid: std::process::id(),
                is_draining: self.is_draining(),
                build: process::build().unwrap_or_default(),
            };
            link.send(&hello, &[])?;
            for (mount, served) in served {
                let holding = News::Holding {
                    mount: *mount,
                    path: served.name.0.clone(),
                    version: served.name.1,
                    offer: served.offer,
                    is_tombstone: false,
                };
                let fds = std::iter::once(served.connection.as_fd());
                let fds: Vec<_> = fds.chain(served.files.borrowed()).collect();
                link.send(&holding, &fds)?;
            }
            tombstones.tell(link)?;
            for ((path, version), files) in offered {
                send_offer(link, path, *version, files)?;
            }
            match is_settled {
                true => link.send(&News::Settled, &[]),
                false => Ok(()),
            }
        };
        if let Err(error) = told() {
            give_up(link, &error);
        }
    }

    /// All that was there when this began is offered.
    pub(super) fn settle(&self) {
        let mut table = self.table.lock();
        table.is_settled = true;
        tell(&table, &News::Settled, &[]);
    }

    /// Tells the supervisor, if there is one; the next one is told what matters.
    pub(super) fn tell(&self, news: &News, fds: &[BorrowedFd<'_>]) {
        tell(&self.table.lock(), news, fds);
    }

    /// Offers an image in place of what was offered there before.
    pub(super) fn offer(&self, path: &ImagePath, version: Version, files: Arc<ImageFiles>) {
        let mut table = self.table.lock();
        table.offered.retain(|(other, _), _| other != path);
        table
            .offered
            .insert((path.clone(), version), Arc::clone(&files));
        if let Some(link) = &table.link
            && let Err(error) = send_offer(link, path, version, &files)
        {
            give_up(link, &error);
        }
    }

    /// Offers again what is not served: mounting it failed, perhaps.
    pub(super) fn offer_again(&self) {
        let table = self.table.lock();
        let Some(link) = &table.link else { return };
        let is_served = |name: &Name| table.served.values().any(|served| served.name == *name);
        for (name, files) in &table.offered {
            if !is_served(name)
                && let Err(error) = send_offer(link, &name.0, name.1, files)
            {
                give_up(link, &error);
                return;
            }
        }
    }

    /// Tells those who use an image what is done with it.
    pub(super) fn say(&self, path: &ImagePath, text: &str) {
        let (path, text) = (path.clone(), text.to_owned());
        self.tell(&News::Said { path, text }, &[]);
    }

    /// The versions that are served or offered, and the archives that they are made
    /// of as far as those are served.
    pub(super) fn in_use(&self) -> BTreeSet<Version> {
        let table = self.table.lock();
        let offered = table.offered.keys().map(|(_, version)| *version);
        let served = table.served.values();
        let served = served.flat_map(|served| {
            std::iter::once(served.name.1).chain(served.begun.archives.iter().copied())
        });
        offered
            .chain(served)
            .chain(table.tombstones.versions())
            .collect()
    }

    /// Offers nothing at `path` any more.
    pub(super) fn withdraw(&self, path: &ImagePath) {
        let mut table = self.table.lock();
        table.offered.retain(|(other, _), _| other != path);
        tell(&table, &News::Gone { path: path.clone() }, &[]);
    }

    /// Serves what was offered on a fresh connection.
    pub(super) fn serve(
        self: &Arc<Self>,
        mount: MountNo,
        path: ImagePath,
        version: Version,
        fds: Vec<OwnedFd>,
    ) -> Result<(), WorkerError> {
        let [connection] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| WorkerError::Order)?;
        let name = (path, version);
        let files = self.table.lock().offered.get(&name).cloned();
        match files {
            Some(files) => self.start(mount, name, connection, files, None),
            None => self.failed(mount, "it is not offered any more"),
        }
        Ok(())
    }

    /// Goes on with what another worker served.
    pub(super) fn adopt(
        self: &Arc<Self>,
        mount: MountNo,
        path: ImagePath,
        version: Version,
        offer: KernelOffer,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), WorkerError> {
        let files = match fds.is_empty() {
            true => None,
            false => ImageFiles::received(fds.split_off(1)),
        };
        let (Some(connection), Some(files)) = (fds.pop(), files) else {
            return Err(WorkerError::Order);
        };
        let files = Arc::new(files);
        self.start(mount, (path, version), connection, files, Some(offer));
        Ok(())
    }

    /// Answers with errors on the connection of an image whose reading ended workers.
    pub(super) fn bury(
        &self,
        mount: MountNo,
        name: Name,
        offer: KernelOffer,
        mut fds: Vec<OwnedFd>,
    ) -> Result<(), WorkerError> {
        if fds.is_empty() {
            return Err(WorkerError::Order);
        }
        let files = fds.split_off(1);
        let Some(connection) = fds.pop() else {
            return Err(WorkerError::Order);
        };
        let mut table = self.table.lock();
        let (path, text) = (name.0.clone(), TOMBSTONE.to_owned());
        let buried = table.tombstones.bury(mount, name, offer, connection, files);
        let news = match buried {
            Ok(()) => News::Serving { mount, offer },
            Err(error) => News::Failed {
                mount,
                why: error.to_string(),
            },
        };
        tell(&table, &news, &[]);
        tell(&table, &News::Said { path, text }, &[]);
        Ok(())
    }

    fn start(
        self: &Arc<Self>,
        mount: MountNo,
        name: Name,
        connection: OwnedFd,
        files: Arc<ImageFiles>,
        offer: Option<KernelOffer>,
    ) {
        let crumb = self.breadcrumbs.crumb(mount.0);
        let _open = crumb.open();
        let kept = connection.try_clone();
        let begun = kept.map_err(|error| error.to_string()).and_then(|kept| {
            // A panic is no reason to end: of this image nothing is served, that is all.
            let begun = catch_unwind(AssertUnwindSafe(|| {
                self.session(&name, connection, &files, offer, &crumb)
            }));
            let begun = begun.map_err(|_| FsError::Panicked.to_string())??;
            Ok((kept, begun))
        });
        let (connection, begun) = match begun {
            Ok(begun) => begun,
            Err(why) => {
                self.failed(mount, &why);
                return;
            }
        };
        let offer = begun.session.offer();
        let mut table = self.table.lock();
        tell(&table, &News::Serving { mount, offer }, &[]);
        let served = Served {
            name,
            offer,
            connection,
            files,
            begun,
            requests: 0,
            idle: 0,
        };
        table.served.insert(mount, served);
    }

    /// Notices mounts that nobody uses any more, and what needs no memory. To be
    /// called again and again; whether nothing is served.
    pub(super) fn look(&self) -> bool {
        let mut table = self.table.lock();
        let is_over = |(mount, served): (&MountNo, &Served)| {
            served.begun.session.is_finished().then_some(*mount)
        };
        let over: Vec<_> = table.served.iter().filter_map(is_over).collect();
        for mount in over {
            if let Some(served) = table.served.remove(&mount)
                && let Err(error) = served.begun.session.wait()
            {
                tracing::error!(mount = mount.0, %error, "a mount ended");
            }
            tell(&table, &News::Ended { mount }, &[]);
        }
        for mount in table.tombstones.sweep() {
            tell(&table, &News::Ended { mount }, &[]);
        }
        let idle = table.served.values_mut().map(Served::look).min();
        if idle == Some(LOOKS_ASLEEP) {
            self.shared.trim();
        }
        table.served.is_empty() && table.tombstones.is_empty()
    }

    fn session(
        &self,
        name: &Name,
        connection: OwnedFd,
        files: &ImageFiles,
        offer: Option<KernelOffer>,
        crumb: &Crumb,
    ) -> Result<Begun, String> {
        let metrics = Arc::new(Metrics::default());
        let prepare = || -> Result<_, Box<dyn std::error::Error>> {
            let label = Path::new(name.0.as_str());
            let opened = files.open(label, name.1, self.shared.decoders(), &metrics)?;
            let root = opened.index.summary().root.unwrap_or(Ino::ROOT);
            let source: Arc<dyn BlockSource> = Arc::new(Marked {
                source: opened.source,
                crumb: crumb.clone(),
            });
            let parts = Parts {
                index: opened.index,
                source: Arc::clone(&source),
                version: *name.1.bytes(),
                name: label,
                archive_bytes: opened.archive_bytes,
                index_bytes: opened.index_bytes,
            };
            let reporter = Reporter::new(
                Arc::clone(&metrics),
                self.shared.budget().clone(),
                (parts.name, parts.archive_bytes),
                &parts.index,
                parts.index_bytes,
            );
            let options = FsOptions {
                root,
                owner: self.owner,
                devices: false,
            };
            let prepared = Prepared::new(parts, options, &self.tuning, (&self.shared, &metrics))?;
            let start = Arc::new(Start::new(name.1, &prepared, source));
            Ok((
                prepared,
                (opened.regions, opened.archives),
                (reporter, start),
            ))
        };
        let (prepared, (regions, archives), (reporter, start)) =
            prepare().map_err(|error| error.to_string())?;
        if self.tuning.profile
            && let Some(place) = self.profile_place(&name.1)
        {
            start.warm(&place);
        }
        let connection = match offer {
            None => Connection::Fresh(connection),
            Some(offer) => Connection::Live(connection, offer),
        };
        let session = prepared.serve(connection, crumb.clone());
        Ok(Begun {
            session: session.map_err(|error| error.to_string())?,
            regions,
            archives,
            metrics,
            reporter,
            start,
        })
    }

    fn failed(&self, mount: MountNo, why: &str) {
        let why = why.to_owned();
        self.tell(&News::Failed { mount, why }, &[]);
    }

    /// How what is served is doing.
    pub(super) fn report(&self) -> WorkerReport {
        let table = self.table.lock();
        let of_image = |(mount, served): (&MountNo, &Served)| {
            let oldest = served.begun.session.oldest().age();
            ImageReport {
                mount: mount.0,
                path: served.name.0.clone(),
                oldest_request_seconds: oldest.as_ref().map_or(0.0, Duration::as_secs_f64),
                report: served.begun.reporter.detailed(),
            }
        };
        let images: Vec<_> = table.served.iter().map(of_image).collect();
        let mapped = images
            .iter()
            .map(|image| image.report.memory.index_mapped_bytes);
        WorkerReport {
            memory: report::memory(self.shared.budget(), mapped.sum()),
            ingest: self.ingested.report(),
            uptime_seconds: self.start.elapsed().as_secs_f64(),
            images,
        }
    }

    /// Takes nothing in any more; whether nothing is served.
    pub(super) fn drain(&self) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        let table = self.table.lock();
        table.served.is_empty() && table.tombstones.is_empty()
    }

    /// Marks work of this process that is for no image that is mounted.
    pub(super) fn own_work(&self) -> Crumb {
        self.breadcrumbs.crumb(OWN)
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

fn tell(table: &Table, news: &News, fds: &[BorrowedFd<'_>]) {
    if let Some(link) = &table.link
        && let Err(error) = link.send(news, fds)
    {
        give_up(link, &error);
    }
}

/// It would not know any more what is served. The next one is told everything.
fn give_up(link: &Link, error: &io::Error) {
    tracing::warn!(%error, "the supervisor does not listen");
    link.close();
}

fn send_offer(
    link: &Link,
    path: &ImagePath,
    version: Version,
    files: &ImageFiles,
) -> io::Result<()> {
    let offer = News::Offer {
        path: path.clone(),
        version,
    };
    let fds: Vec<_> = files.borrowed().collect();
    link.send(&offer, &fds)
}
