//! The containers that use the images of a home, and what they are told.
//!
//! Known are those that attached a view since this supervisor was started.
//!
//! Guarantees: what a worker says can neither make this grow without an end nor keep
//! writers of logs busy: it is heard so often a minute, and no more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::emperor_log::{EmperorLog, Tone};
use crate::wire::ImagePath;
use crate::wire::report::Views;

/// Containers of one home's images: those of one customer on one server.
const CONTAINERS_MAX: usize = 4096;

/// Of one container: it has one root, and hardly more.
const IMAGES_MAX: usize = 8;

/// Of all images of a home together, in a minute.
const TOLD_MAX: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

/// The consumers of one home's images.
#[derive(Debug)]
pub(super) struct Consumers {
    /// How a home's images are called: its `distros`.
    shown: PathBuf,
    log: Arc<EmperorLog>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// Which images a container attached, the last one last.
    images: BTreeMap<u32, Vec<ImagePath>>,
    views: Views,
    minute: Instant,
    told: u32,
}

impl Consumers {
    /// Of images that are shown below `shown`.
    pub(super) fn new(shown: PathBuf, log: Arc<EmperorLog>) -> Consumers {
        Consumers {
            shown,
            log,
            known: Mutex::new(Known {
                images: BTreeMap::new(),
                views: Views::default(),
                minute: Instant::now(),
                told: 0,
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container got a view of an image, to be attached at `at`.
    pub(super) fn attached(&self, container: u32, path: &ImagePath, at: Option<&str>) {
        let mut known = self.known();
        known.views.attached += 1;
        let is_room = known.images.len() < CONTAINERS_MAX;
        if is_room || known.images.contains_key(&container) {
            let images = known.images.entry(container).or_default();
            images.retain(|other| other != path);
            if images.len() >= IMAGES_MAX {
                images.remove(0);
            }
            images.push(path.clone());
        }
        drop(known);
        let at = at.unwrap_or("its root");
        let text = format!("mounted {} on {at}", self.name(path));
        self.log.write(container, Tone::Notice, &text);
    }

    /// A container wanted a view of an image, and gets none.
    pub(super) fn refused(&self, container: u32, path: &ImagePath, why: &str) {
        self.known().views.refused += 1;
        let text = format!("{} cannot be mounted: {why}", self.name(path));
        self.log.write(container, Tone::Alarm, &text);
    }

    /// A container wanted a view of an image, and gets something else.
    pub(super) fn refused_quietly(&self) {
        self.known().views.refused += 1;
    }

    /// Something about an image that those who use it should know.
    pub(super) fn tell(&self, path: &ImagePath, tone: Tone, text: &str) {
        let mut known = self.known();
        if known.minute.elapsed() >= MINUTE {
            (known.minute, known.told) = (Instant::now(), 0);
        }
        known.told = known.told.saturating_add(1);
        if known.told > TOLD_MAX {
            return;
        }
        let uses = |(container, images): (&u32, &Vec<ImagePath>)| {
            images.contains(path).then_some(*container)
        };
        let consumers: Vec<_> = known.images.iter().filter_map(uses).collect();
        drop(known);
        let text = format!("{}: {text}", self.name(path));
        for container in consumers {
            self.log.write(container, tone, &text);
        }
    }

    pub(super) fn views(&self) -> Views {
        let known = self.known();
        Views {
            containers: u64::try_from(known.images.len()).unwrap_or(u64::MAX),
            ..known.views
        }
    }

    fn name(&self, path: &ImagePath) -> String {
        self.shown.join(path.as_str()).display().to_string()
    }
}
