//! Which images end workers.
//!
//! A worker that dies is no news: the next one goes on. But one that dies of the
//! image that it reads dies again when it reads on, and takes all other images of the
//! home along each time. So a death is counted against the image that alone can be
//! the reason ([`Found::culprit`]), and after some deaths the image becomes a
//! tombstone: its version is not read any more.
//!
//! Guarantees: only a worker's own fault is counted, never that somebody killed it or
//! that it took too much memory; a version is forgiven when its image gets another
//! one, and all are when this process ends.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::known::Known;
use crate::sys::breadcrumbs::{self, Found};
use crate::wire::report::Tombstone;
use crate::wire::{ImagePath, MountNo, Version};

/// So many deaths of one image are no accident.
const DEATHS_MAX: u32 = 3;

/// After so long without one, deaths are forgotten. Whoever reads what cannot be read
/// tries again at once, as the kernel does for him; an image that ends a worker now
/// and then is better served with interruptions than not at all.
const QUIET: Duration = Duration::from_secs(10 * 60);

/// A version of an image.
type Name = (ImagePath, Version);

/// What was counted.
#[derive(Debug, Default)]
pub(super) struct Deaths(BTreeMap<Name, Counted>);

#[derive(Clone, Copy, Debug)]
struct Counted {
    deaths: u32,
    last: Instant,
}

impl Counted {
    fn is_tombstone(&self) -> bool {
        self.deaths >= DEATHS_MAX
    }
}

impl Deaths {
    /// Counts a death of a worker against an image; how many there were.
    fn count(&mut self, name: Name, now: Instant) -> u32 {
        let is_recent = |counted: &Counted| {
            counted.is_tombstone() || now.saturating_duration_since(counted.last) < QUIET
        };
        self.0.retain(|_, counted| is_recent(counted));
        let counted = self.0.entry(name).or_insert(Counted {
            deaths: 0,
            last: now,
        });
        counted.deaths = counted.deaths.saturating_add(1);
        counted.last = now;
        counted.deaths
    }

    /// Whether a version is not to be read any more.
    pub(super) fn is_tombstone(&self, path: &ImagePath, version: Version) -> bool {
        let counted = self.0.get(&(path.clone(), version));
        counted.is_some_and(Counted::is_tombstone)
    }

    /// Whether there is such a version of an image.
    pub(super) fn has(&self, path: &ImagePath) -> bool {
        let is_one = |((of, _), counted): (&Name, &Counted)| of == path && counted.is_tombstone();
        self.0.iter().any(is_one)
    }

    /// Forgives all versions of an image but this one.
    pub(super) fn forgive_others(&mut self, path: &ImagePath, version: Version) {
        self.0
            .retain(|(of, other), _| of != path || *other == version);
    }

    /// All that is not to be read any more.
    pub(super) fn tombstones(&self) -> Vec<Tombstone> {
        let all = self.0.iter().filter(|(_, counted)| counted.is_tombstone());
        let tombstone = |((path, version), counted): (&Name, &Counted)| Tombstone {
            path: path.clone(),
            version: *version,
            why: format!(
                "reading it ended the worker {} times, so it is not read any more and all who use \
                 it get errors (EIO): upload a new version, or run `distrofs image verify`; when \
                 the service is restarted it is tried again",
                counted.deaths
            ),
        };
        all.map(tombstone).collect()
    }
}

impl Known {
    /// Notes how the worker of `home` died, and what it was doing.
    pub(super) fn mourn(&mut self, home: u32, status: ExitStatus, found: &Found) {
        let Some(signal) = status.signal().filter(|s| breadcrumbs::is_fault(*s)) else {
            return;
        };
        let culprit = found.culprit();
        let held = culprit.and_then(|label| self.mounts.get(&MountNo(label)));
        let Some(held) = held else {
            self.after_fault = true;
            tracing::error!(
                home,
                signal,
                ?found,
                "a worker ended by a fault of its own, and no single image can be the reason"
            );
            return;
        };
        let (path, version) = (held.path.clone(), held.version);
        let deaths = self.deaths.count((path.clone(), version), Instant::now());
        tracing::error!(
            home,
            %path,
            ?version,
            signal,
            deaths,
            most = DEATHS_MAX,
            "a worker ended while it read an image"
        );
        if deaths < DEATHS_MAX {
            return;
        }
        for held in self.mounts.values_mut() {
            held.is_tombstone |= held.path == path && held.version == version;
        }
        for tombstone in self.deaths.tombstones() {
            if (&tombstone.path, tombstone.version) == (&path, version) {
                tracing::error!(home, %path, ?version, why = %tombstone.why, "an image is dead");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str, version: u8) -> Name {
        (path.parse().unwrap(), Version::new([version; 32]))
    }

    #[test]
    fn three_deaths_of_one_version_are_too_many() {
        let mut deaths = Deaths::default();
        let now = Instant::now();
        for (i, count) in [(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)] {
            assert_eq!(deaths.count(name("a", i), now), count);
        }
        let (path, version) = name("a", 1);
        assert!(deaths.is_tombstone(&path, version));
        assert!(!deaths.is_tombstone(&path, Version::new([2; 32])));
        assert!(!deaths.is_tombstone(&"b".parse().unwrap(), version));
        let [tombstone] = &deaths.tombstones()[..] else {
            panic!("one tombstone");
        };
        assert_eq!((&tombstone.path, tombstone.version), (&path, version));
        assert!(tombstone.why.contains("3 times") && tombstone.why.contains("upload"));
        // Another version of another image forgives nothing.
        deaths.forgive_others(&"b".parse().unwrap(), version);
        deaths.forgive_others(&path, version);
        assert!(deaths.is_tombstone(&path, version));
        deaths.forgive_others(&path, Version::new([3; 32]));
        assert!(deaths.tombstones().is_empty());
        assert_eq!(deaths.count((path, version), now), 1);
    }

    #[test]
    fn deaths_long_ago_are_forgotten_and_tombstones_stay() {
        let mut deaths = Deaths::default();
        let mut now = Instant::now();
        for _ in 0..2 * DEATHS_MAX {
            assert_eq!(deaths.count(name("a", 1), now), 1);
            now += QUIET;
        }
        for count in 1..=DEATHS_MAX {
            now += QUIET / 2;
            assert_eq!(deaths.count(name("b", 1), now), count);
        }
        deaths.count(name("c", 1), now + 100 * QUIET);
        let (path, version) = name("b", 1);
        assert!(deaths.is_tombstone(&path, version));
    }
}
