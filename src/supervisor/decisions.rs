//! What the registry decided for containers: the last that was heard of it.
//!
//! Guarantees: a change is taken as a whole, or not at all. What was taken is on the
//! disk soon after, and there again when the service is started, with or without a
//! registry. Who may have what is looked at again for each start: only what this table
//! says of both, the container and what stores its image.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::SupervisorError;
use crate::types::{Decision, ImageOf, ImagePath};
use crate::wire::Link;
use crate::wire::control::{DECISIONS_MAX, Decisions};

/// Containers of one server.
const CONTAINERS_MAX: usize = 100_000;

/// The file in the state directory.
const FILE: &str = "decisions.json";

/// What that may take: each container has a short line.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_millis(500);

/// How long whoever decides may take to say all.
const SAID_WITHIN: Duration = Duration::from_secs(60);

/// What a container is to have as its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chosen {
    /// Its custom distro, if it may use one.
    pub(super) image: Option<ImageOf>,
    /// Its platform distro.
    pub(super) default: Option<ImagePath>,
    /// What it may write, if that was decided.
    pub(super) writable: Option<String>,
}

/// All that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    revision: Option<u64>,
    decided: BTreeMap<u32, Decision>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    known: RwLock<Known>,
    changed: SyncSender<()>,
    /// Where it is kept, and what is there. Held while it is written.
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    file: PathBuf,
    /// Whether something changed since.
    is_old: bool,
}

impl Table {
    /// What is kept in the directory `state`. Starts a thread that keeps it.
    pub(super) fn open(state: &Path) -> io::Result<Arc<Table>> {
        let file = state.join(FILE);
        let known = read(&file);
        let (changed, wake) = sync_channel(1);
        let is_old = false;
        let table = Arc::new(Table {
            known: RwLock::new(known),
            changed,
            kept: Mutex::new(Kept { file, is_old }),
        });
        let keeping = Arc::clone(&table);
        std::thread::Builder::new()
            .name("decisions".to_owned())
            .spawn(move || keeping.follow(&wake))?;
        Ok(table)
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what changed, once in a while.
    fn follow(&self, wake: &Receiver<()>) {
        while wake.recv().is_ok() {
            std::thread::sleep(GATHER);
            self.keep();
        }
    }

    /// Writes what changed, if it is not written yet.
    pub(super) fn keep(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut kept.is_old, false) {
            return;
        }
        let known = self.known().clone();
        if let Err(error) = write(&kept.file, &known) {
            kept.is_old = true;
            tracing::error!(
                %error,
                "what the registry decided is not kept: after a restart, containers get what \
                 was decided before, until it answers"
            );
        }
    }

    /// How many are decided, and what the registry calls that.
    pub(super) fn told(&self) -> (u64, Option<u64>) {
        let known = self.known();
        let count = u64::try_from(known.decided.len()).unwrap_or(u64::MAX);
        (count, known.revision)
    }

    /// Takes what follows a request to decide.
    pub(super) fn take(&self, link: &Link) -> Result<(), SupervisorError> {
        let odd = |what: &'static str| SupervisorError::System {
            doing: "take decisions",
            cause: io::Error::other(what),
        };
        let lost = |cause| SupervisorError::System {
            doing: "take decisions",
            cause,
        };
        let mut decided = BTreeMap::new();
        let mut gone = BTreeSet::new();
        let began = Instant::now();
        loop {
            if began.elapsed() > SAID_WITHIN {
                return Err(odd("saying them takes too long"));
            }
            let received = link.receive::<Decisions>().map_err(lost)?;
            let (some, _) = received.ok_or_else(|| odd("not all of them came"))?;
            if some.decided.len().max(some.gone.len()) > DECISIONS_MAX {
                return Err(odd("too many in a message"));
            }
            for decision in some.decided {
                check(&decision).map_err(odd)?;
                decided.insert(decision.container, decision);
            }
            gone.extend(some.gone);
            if decided.len().max(gone.len()) > CONTAINERS_MAX {
                return Err(odd("too many containers"));
            }
            if some.is_last {
                let applied = self.apply(decided, &gone, some.is_all, some.revision);
                return applied.map_err(odd);
            }
        }
    }

    fn apply(
        &self,
        decided: BTreeMap<u32, Decision>,
        gone: &BTreeSet<u32>,
        is_all: bool,
        revision: u64,
    ) -> Result<(), &'static str> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if is_all {
            known.decided = decided;
        } else {
            let stays = |uid: &u32| !gone.contains(uid) && !decided.contains_key(uid);
            let stay = known.decided.keys().filter(|uid| stays(uid)).count();
            if stay.saturating_add(decided.len()) > CONTAINERS_MAX {
                return Err("too many containers");
            }
            known.decided.retain(|uid, _| !gone.contains(uid));
            known.decided.extend(decided);
        }
        known.revision = Some(revision);
        drop(known);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.is_old = true;
        drop(kept);
        // It is full if it will be written anyway.
        let _full = self.changed.try_send(()).is_err();
        Ok(())
    }

    /// What a container is to have; nothing if the registry does not know it.
    pub(super) fn chosen(&self, container: u32) -> Option<Chosen> {
        let known = self.known();
        let decision = known.decided.get(&container)?;
        let may_have = |image: &&ImageOf| {
            let storage = known.decided.get(&image.home);
            !decision.is_storage
                && image.home != container
                && storage.is_some_and(|storage| {
                    storage.is_storage && storage.customer == decision.customer
                })
        };
        Some(Chosen {
            image: decision.image.as_ref().filter(may_have).cloned(),
            default: decision.default.clone(),
            writable: decision.writable.clone(),
        })
    }

    /// Whether a container is to store images; nothing if the registry does not know
    /// it.
    pub(super) fn is_storage(&self, container: u32) -> Option<bool> {
        let known = self.known();
        Some(known.decided.get(&container)?.is_storage)
    }

    /// All that are to.
    pub(super) fn storages(&self) -> Vec<u32> {
        let known = self.known();
        let storages = known.decided.values().filter(|decided| decided.is_storage);
        storages.map(|decided| decided.container).collect()
    }
}

/// Whether a decision is one at all; what is odd about it.
fn check(decision: &Decision) -> Result<(), &'static str> {
    let is_user = |uid: u32| uid != 0 && uid != u32::MAX;
    if !is_user(decision.container) {
        return Err("root is no container");
    }
    if decision
        .image
        .as_ref()
        .is_some_and(|image| !is_user(image.home))
    {
        return Err("root stores no image");
    }
    match decision.writable.as_deref() {
        None | Some("paths" | "tree" | "none") => Ok(()),
        Some(_) => Err("what a container may write is paths, tree or none"),
    }
}

/// What was kept; nothing, if that cannot be used.
fn read(file: &Path) -> Known {
    let text = match fs::metadata(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Known::default(),
        Err(error) => Err(error),
        Ok(found) if found.len() > FILE_BYTES_MAX => Err(io::Error::other("it is too long")),
        Ok(_) => fs::read(file),
    };
    let parsed = text.and_then(|text| {
        let known: Known = serde_json::from_slice(&text)?;
        for (uid, decision) in &known.decided {
            check(decision).map_err(io::Error::other)?;
            if *uid != decision.container {
                return Err(io::Error::other("a decision is of another container"));
            }
        }
        Ok(known)
    });
    parsed.unwrap_or_else(|error: io::Error| {
        let aside = aside(file);
        let moved = fs::rename(file, &aside).is_ok();
        tracing::error!(
            %error,
            moved,
            "{} cannot be used: containers get what the settings say until the registry answers",
            file.display()
        );
        Known::default()
    })
}

fn aside(file: &Path) -> PathBuf {
    file.with_extension("json.damaged")
}

fn write(file: &Path, known: &Known) -> io::Result<()> {
    let new = file.with_extension("json.new");
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut made = options.open(&new)?;
    made.write_all(&serde_json::to_vec(known)?)?;
    made.sync_all()?;
    fs::rename(&new, file)?;
    match file.parent() {
        Some(state) => File::open(state)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(container: u32, customer: u64, is_storage: bool, image: Option<&str>) -> Decision {
        Decision {
            container,
            customer,
            is_storage,
            image: image.map(|image| image.parse().unwrap()),
            default: Some("precise".parse().unwrap()),
            writable: None,
        }
    }

    fn table(state: &Path, decided: &[Decision]) -> Arc<Table> {
        let table = Table::open(state).unwrap();
        let decided = decided.iter().map(|d| (d.container, d.clone())).collect();
        table.apply(decided, &BTreeSet::new(), true, 7).unwrap();
        table
    }

    /// Whatever the registry says, this is looked at here.
    #[test]
    fn only_what_both_allow_is_chosen() {
        let state = tempfile::tempdir().unwrap();
        let table = table(
            state.path(),
            &[
                decision(1, 1, true, None),
                decision(2, 1, false, Some("1/web")),
                decision(3, 2, false, Some("1/web")),
                decision(4, 1, false, Some("2/web")),
                decision(5, 1, true, Some("1/web")),
                decision(6, 1, false, Some("9/web")),
                decision(7, 1, false, None),
            ],
        );
        let image = |uid| table.chosen(uid).unwrap().image;
        assert_eq!(image(2), Some("1/web".parse().unwrap()));
        for uid in [1, 3, 4, 5, 6, 7] {
            assert_eq!(image(uid), None, "{uid}");
            assert_eq!(
                table.chosen(uid).unwrap().default.unwrap().as_str(),
                "precise"
            );
        }
        assert_eq!(table.chosen(8), None);
        assert_eq!(table.storages(), [1, 5]);
        assert_eq!(
            (table.is_storage(2), table.is_storage(8)),
            (Some(false), None)
        );
    }

    #[test]
    fn what_was_taken_is_there_again() {
        let state = tempfile::tempdir().unwrap();
        let kept = state.path().join(FILE);
        let table = table(
            state.path(),
            &[decision(1, 1, true, None), decision(2, 1, false, None)],
        );
        let gone = BTreeSet::from([1]);
        let more = BTreeMap::from([(3, decision(3, 1, true, None))]);
        table.apply(more, &gone, false, 8).unwrap();
        assert_eq!(table.told(), (2, Some(8)));
        table.keep();
        let again = Table::open(state.path()).unwrap();
        assert_eq!(*again.known(), *table.known());
        // One that is damaged is put aside, and what is decided then is kept.
        fs::write(&kept, "{").unwrap();
        let again = Table::open(state.path()).unwrap();
        assert_eq!(again.told(), (0, None));
        assert!(aside(&kept).exists() && !kept.exists());
    }

    #[test]
    fn there_are_never_too_many() {
        let state = tempfile::tempdir().unwrap();
        let table = table(state.path(), &[decision(1, 1, true, None)]);
        let count = u32::try_from(CONTAINERS_MAX).unwrap();
        let many = |first: u32| {
            let all = first..first + count;
            all.map(|uid| (uid, decision(uid, 1, false, None)))
                .collect()
        };
        let none = BTreeSet::new();
        table.apply(many(2), &none, false, 8).unwrap_err();
        assert_eq!(table.told(), (1, Some(7)));
        table.apply(many(1), &none, false, 8).unwrap();
        table
            .apply(many(2), &BTreeSet::from([1]), false, 9)
            .unwrap();
        assert_eq!(table.told(), (u64::from(count), Some(9)));
    }

    #[test]
    fn what_is_no_decision_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let table = table(state.path(), &[decision(1, 1, true, None)]);
        let odd_writable = Decision {
            writable: Some("all".to_owned()),
            ..decision(2, 1, false, None)
        };
        for odd in [
            vec![decision(0, 1, false, None)],
            vec![decision(u32::MAX, 1, false, None)],
            vec![decision(2, 1, false, Some("0/web"))],
            vec![odd_writable],
            vec![decision(2, 1, false, None); DECISIONS_MAX + 1],
        ] {
            let (ours, theirs) = Link::pair().unwrap();
            let all = Decisions {
                decided: odd,
                is_last: true,
                is_all: true,
                ..Decisions::default()
            };
            ours.send(&all, &[]).unwrap();
            assert!(table.take(&theirs).is_err(), "{all:?}");
            assert_eq!(table.told(), (1, Some(7)));
        }
    }

    #[test]
    fn a_change_that_does_not_end_changes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let table = table(state.path(), &[decision(1, 1, true, None)]);
        let (ours, theirs) = Link::pair().unwrap();
        let some = Decisions {
            decided: vec![decision(2, 1, false, None)],
            ..Decisions::default()
        };
        ours.send(&some, &[]).unwrap();
        drop(ours);
        assert!(table.take(&theirs).is_err());
        assert_eq!(table.told(), (1, Some(7)));
    }
}
