//! Archives that are sent: taken in as they come, and what is said of them meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::super::images::Images;
use super::super::questions::Receiving;
use super::{Library, PROGRESS_EVERY};
use crate::store::home::{Arrival, Incoming, Outcome, Work};
use crate::text;
use crate::types::ImagePath;
use crate::wire::upload::Received;

const STACK_BYTES: usize = 1 << 20;

/// What is said by a worker that was told to stop.
const STOPPED: &str = "the service is being stopped: send it again in a moment";

/// How far an archive is that is being sent.
#[derive(Debug)]
pub(super) struct Progress {
    path: ImagePath,
    announced: Option<u64>,
    bytes: AtomicU64,
    indexed: AtomicU64,
    began: Instant,
    told: Mutex<Instant>,
    /// Whether no more bytes of it are needed.
    is_over: AtomicBool,
}

impl Progress {
    pub(super) fn path(&self) -> &ImagePath {
        &self.path
    }

    /// The same as an owner is told.
    pub(super) fn receiving(&self) -> Receiving {
        Receiving {
            bytes: self.bytes.load(Ordering::Relaxed),
            total: self.announced,
            indexed_bytes: self.indexed.load(Ordering::Relaxed),
            seconds: self.began.elapsed().as_secs_f64(),
        }
    }

    /// The same in words.
    pub(super) fn state(&self) -> String {
        let Receiving {
            bytes,
            total,
            indexed_bytes,
            ..
        } = self.receiving();
        let of = total.map_or(String::new(), |total| format!(" of {}", text::bytes(total)));
        let (bytes, indexed) = (text::bytes(bytes), text::bytes(indexed_bytes));
        format!("receiving: {bytes}{of} so far, {indexed} of it indexed")
    }
}

/// An archive that is being sent, for who gives its bytes.
pub(in crate::worker) struct Sending<'a> {
    library: &'a Library,
    arrival: &'a Arrival<'a>,
    progress: &'a Progress,
}

impl Sending<'_> {
    /// Whether no more bytes of it are needed.
    pub(in crate::worker) fn is_over(&self) -> bool {
        self.progress.is_over.load(Ordering::Relaxed)
    }

    /// Notes how far it is, and says so now and then.
    pub(in crate::worker) fn tell(&self) {
        let bytes = self.arrival.bytes();
        self.progress.bytes.store(bytes, Ordering::Relaxed);
        let is_due = {
            let mut told = self.progress.told.lock();
            let is_due = told.elapsed() >= PROGRESS_EVERY;
            if is_due {
                *told = Instant::now();
            }
            is_due
        };
        if is_due {
            self.library.tell_now();
        }
    }
}

/// Has who gives bytes know that no more are needed, however it came to that.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Library {
    /// Takes in the archive that `feed` gives, and offers what is new then.
    pub(in crate::worker) fn receive(
        &self,
        images: &Images,
        path: &ImagePath,
        announced: Option<u64>,
        feed: impl FnOnce(Incoming, &Sending<'_>),
    ) -> Received {
        let began = Instant::now();
        let (outcome, bytes) = match self.home.arrive(path, announced) {
            Ok((incoming, arrival)) => {
                let progress = Arc::new(Progress {
                    path: path.clone(),
                    announced,
                    bytes: AtomicU64::new(0),
                    indexed: AtomicU64::new(0),
                    began,
                    told: Mutex::new(began),
                    is_over: AtomicBool::new(false),
                });
                self.receiving.lock().push(Arc::clone(&progress));
                let sending = Sending {
                    library: self,
                    arrival: &arrival,
                    progress: &progress,
                };
                let outcome = self.take_while(images, &sending, || feed(incoming, &sending));
                self.receiving
                    .lock()
                    .retain(|other| !Arc::ptr_eq(other, &progress));
                (outcome, arrival.bytes())
            }
            Err(outcome) => (outcome, 0),
        };
        images.ingested.count(&outcome, bytes, began.elapsed());
        self.settle(images, path, outcome)
    }

    /// Takes in what `feed` gives meanwhile.
    fn take_while(&self, images: &Images, sending: &Sending<'_>, feed: impl FnOnce()) -> Outcome {
        let progress = |_: &ImagePath, bytes, _| {
            sending.progress.indexed.store(bytes, Ordering::Relaxed);
            sending.tell();
        };
        std::thread::scope(|scope| {
            let taking = std::thread::Builder::new()
                .name("take in".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, || {
                    let own = images.own_work();
                    let _open = own.open();
                    let work = Work {
                        metrics: &self.metrics,
                        progress: &progress,
                        stop: &self.stop,
                    };
                    let _over = Over(&sending.progress.is_over);
                    sending.arrival.take(work)
                });
            let taking = match taking {
                Ok(taking) => taking,
                Err(error) => {
                    let why = format!("no thread could be started ({error}): send it again");
                    return Outcome::Later(why);
                }
            };
            feed();
            taking.join().unwrap_or_else(|_| {
                Outcome::Later("reading it failed in a way that nobody expected".to_owned())
            })
        })
    }

    /// Does what an archive that was sent asks for; what its sender is told.
    fn settle(&self, images: &Images, path: &ImagePath, outcome: Outcome) -> Received {
        let reason = match outcome {
            Outcome::Ready { version, notes, .. } => {
                images.say(path, "a new version was taken in");
                self.desk.lock().taken(path, notes.clone());
                self.changed();
                if let Err(error) = self.refresh(images) {
                    tracing::warn!(%path, %error, "a new version is offered later");
                }
                return Received::Taken {
                    version: version.sha256,
                    bytes: version.bytes,
                    entries: version.entries,
                    notes,
                };
            }
            Outcome::Rejected(reason) => {
                self.desk.lock().rejected(path, &reason);
                self.changed();
                return Received::Rejected { reason };
            }
            Outcome::Later(reason) | Outcome::Refused(reason) | Outcome::Truncated(reason) => {
                reason
            }
            Outcome::Stopped | Outcome::Busy | Outcome::Gone => STOPPED.to_owned(),
        };
        tracing::info!(%path, reason, "an archive that was sent was not taken in");
        Received::Failed { reason }
    }
}
