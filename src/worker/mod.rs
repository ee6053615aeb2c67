//! The process that serves the images of one customer, as that customer's user.
//!
//! It takes in what is uploaded, indexes it, and serves what the supervisor
//! mounted. It has no rights: no capabilities, no files but its home's and its
//! store, no mounts. If it dies, another one goes on with the same connections; if
//! the supervisor dies, it goes on serving and waits for the next.
//!
//! | module | what it is |
//! |---|---|
//! | `images` | what is offered, and what is served |
//! | [`questions`], `answering` | what owners ask, and how it is answered |
//! | `ingested` | what was taken in, counted |
//! | `library` | the images of the home, and their files |
//! | `receiving` | archives that are sent |
//! | `profiles` | what starts read, recorded and prefetched |
//! | `marked`, `tombstone` | what is left for the next worker, and what it does not do again |

mod answering;
mod error;
mod images;
mod ingested;
mod library;
mod marked;
mod profiles;
pub mod questions;
mod receiving;
pub mod status;
mod tombstone;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

pub use error::WorkerError;

use crate::sys::breadcrumbs::Breadcrumbs;
use crate::sys::confine::confine;
use crate::sys::packets::Listener;
use crate::sys::spawn;
use crate::sys::sqlite;
use crate::sys::watch::Watch;
use crate::wire::{Link, Order, PROTOCOL};
use answering::Answering;
use images::Images;
use library::{Library, Looked};
use receiving::Receiving;

/// How long an order may be on its way to a supervisor that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

const KEEPER_STACK_BYTES: usize = 128 * 1024;

/// After how many looks what is not served is offered again.
const OFFER_AGAIN_LOOKS: u64 = 60;

/// How often the home, and what is served, is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Works until it is told to leave, or until nothing is served any more by a worker
/// that is told to take nothing in.
pub fn run(link: Link) -> Result<(), WorkerError> {
    spawn::hide().map_err(WorkerError::Confine)?;
    let Some((Order::Begin(begin), fds)) = link.receive().map_err(WorkerError::Link)? else {
        return Err(WorkerError::Order);
    };
    if begin.protocol != PROTOCOL {
        return Err(WorkerError::Order);
    }
    let [home, bare, store, listener, trail] =
        <[OwnedFd; 5]>::try_from(fds).map_err(|_| WorkerError::Order)?;
    let breadcrumbs = Breadcrumbs::of(&trail).map_err(WorkerError::Confine)?;
    breadcrumbs.note_faults();
    sqlite::keep_paths().map_err(WorkerError::Confine)?;
    if !confine(&[&home, &store]).map_err(WorkerError::Confine)? {
        tracing::warn!("this kernel has no Landlock: what users may do is all that confines");
    }
    let listener = Listener::from(listener);
    let images = Arc::new(Images::new(&begin, breadcrumbs)?);
    images.connect(Some(link.try_clone().map_err(WorkerError::Link)?));
    let library = Arc::new(Library::open(home, bare, store, &begin)?);
    images.keep_profiles_in(library.profiles());
    let answering = Answering::new(&library, &images);
    let receiving = Receiving::new(&library, &images);
    let looking = Arc::clone(&images);
    std::thread::Builder::new()
        .name("library".to_owned())
        .spawn(move || look(&library, &looking))
        .map_err(WorkerError::Thread)?;
    let keeping = Arc::clone(&images);
    std::thread::Builder::new()
        .name("keeper".to_owned())
        .stack_size(KEEPER_STACK_BYTES)
        .spawn(move || keep(&keeping))
        .map_err(WorkerError::Thread)?;
    let mut link = Some(link);
    loop {
        if let Some(link) = link.take()
            && attend(&link, &images, &answering, &receiving)? == Attended::Left
        {
            return Ok(());
        }
        images.connect(None);
        tracing::warn!("the supervisor is gone: going on, and waiting for the next one");
        link = next(&listener)?;
        if let Some(link) = &link {
            images.connect(Some(link.try_clone().map_err(WorkerError::Link)?));
        }
    }
}

/// The next supervisor, if it is one.
fn next(listener: &Listener) -> Result<Option<Link>, WorkerError> {
    let packets = listener.accept().map_err(WorkerError::Link)?;
    let peer = packets.peer().map_err(WorkerError::Link)?;
    if peer.uid != 0 {
        tracing::warn!(
            uid = peer.uid,
            "somebody who is not root wanted to supervise"
        );
        return Ok(None);
    }
    Ok(Some(Link::from(packets)))
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attended {
    /// It was told to leave.
    Left,
    /// The supervisor is gone.
    Alone,
}

/// Does what the supervisor says.
fn attend(
    link: &Link,
    images: &Arc<Images>,
    answering: &Answering,
    receiving: &Receiving,
) -> Result<Attended, WorkerError> {
    loop {
        let (order, fds) = match link.receive::<Order>() {
            Ok(Some(received)) => received,
            Ok(None) => return Ok(Attended::Alone),
            Err(error) => {
                tracing::error!(%error, "an order that is not understood");
                return Ok(Attended::Alone);
            }
        };
        match order {
            Order::Begin(_) => return Err(WorkerError::Order),
            Order::Serve {
                mount,
                path,
                version,
            } => images.serve(mount, path, version, fds)?,
            Order::Adopt {
                mount,
                path,
                version,
                offer,
                is_tombstone: true,
            } => images.bury(mount, (path, version), offer, fds)?,
            Order::Adopt {
                mount,
                path,
                version,
                offer,
                is_tombstone: false,
            } => images.adopt(mount, path, version, offer, fds)?,
            Order::Prefetch { mount } => images.prefetch(mount),
            Order::Ask { id, question } => answering.answer(id, &question),
            Order::Upload { path, bytes } => receiving.begin(path, bytes, fds)?,
            Order::Drain => {
                if images.drain() {
                    return Ok(Attended::Left);
                }
            }
            Order::Leave => return Ok(Attended::Left),
        }
    }
}

/// Looks after what is served, until nothing is and nothing will be.
fn keep(images: &Images) -> ! {
    let mut looks = 0_u64;
    loop {
        std::thread::sleep(LOOK_EVERY);
        looks += 1;
        if looks.is_multiple_of(OFFER_AGAIN_LOOKS) && !images.is_draining() {
            images.offer_again();
        }
        if images.look() && images.is_draining() {
            std::process::exit(0);
        }
    }
}

/// Looks at the home again and again.
fn look(library: &Library, images: &Images) {
    let mut settled = false;
    let own = images.own_work();
    let mut before = Looked::default();
    let mut watch = Watch::new()
        .inspect_err(|error| tracing::info!(%error, "uploads are noticed late"))
        .ok();
    while !images.is_draining() {
        let seen = {
            let _open = own.open();
            library.look(images, &mut before)
        };
        if let Err(error) = &seen {
            tracing::warn!(%error, "cannot look at the images of the home");
        }
        if !settled {
            settled = true;
            images.settle();
        }
        let waited = watch.as_mut().map(|watch| {
            library.follow(watch)?;
            watch.wait(LOOK_EVERY)
        });
        if !matches!(waited, Some(Ok(()))) {
            std::thread::sleep(LOOK_EVERY);
        }
    }
    if !settled {
        // Who waits for what was there has it: nothing will be offered.
        images.settle();
    }
}
