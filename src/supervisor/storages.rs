//! Homes that begin and end to store images, as the registry decides.
//!
//! Guarantees: nothing is removed. A home that ends serves what containers use until
//! they end, also if its worker dies meanwhile; one that begins again meanwhile goes on.
//! A home that the registry says nothing of is served as without one, until it was told
//! of and then was forgotten.
//! What is made in a home is made with its user's rights, and no link is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags};

use super::home::Home;
use super::{Supervisor, SupervisorError};
use crate::sys::as_user::as_user;
use crate::wire::Order;

/// What is known while homes begin and end.
#[derive(Debug)]
pub(super) struct Following {
    /// Homes that are served though the registry never said anything of them.
    undecided: BTreeSet<u32>,
    /// Why homes are not served that should be, as it was said.
    failing: BTreeMap<u32, String>,
}

impl Following {
    /// As it is at first, with these homes.
    pub(super) fn of(undecided: impl Iterator<Item = u32>) -> Following {
        Following {
            undecided: undecided.collect(),
            failing: BTreeMap::new(),
        }
    }
}

impl Supervisor {
    /// Begins and ends to serve homes, so that it is as was decided.
    pub(super) fn follow(&self) {
        let mut following = self.following();
        let storages: BTreeSet<_> = self.decisions.storages().into_iter().collect();
        for home in self.homes() {
            let uid = home.uid;
            let is_wanted = match self.decisions.is_storage(uid) {
                Some(is_storage) => {
                    following.undecided.remove(&uid);
                    is_storage
                }
                None => following.undecided.contains(&uid),
            };
            if is_wanted {
                let revived = home.revive();
                self.note(&mut following, uid, revived);
            } else {
                home.retire();
            }
        }
        let there: BTreeSet<_> = self.homes().iter().map(|home| home.uid).collect();
        for uid in &storages - &there {
            // A container may be made later than it is decided on.
            let home = self.config.homes.join(uid.to_string());
            if home.symlink_metadata().is_ok() {
                let begun = self.begin(uid);
                self.note(&mut following, uid, begun);
            }
        }
        let is_wanted = |uid: &u32| there.contains(uid) || storages.contains(uid);
        following.failing.retain(|uid, _| is_wanted(uid));
    }

    /// Waits until homes are as was decided.
    pub(super) fn following(&self) -> MutexGuard<'_, Following> {
        let following = self.following.lock();
        following.unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that a home is not served, and why.
    fn note(&self, following: &mut Following, uid: u32, begun: Result<(), SupervisorError>) {
        let Err(error) = begun else {
            following.failing.remove(&uid);
            return;
        };
        let text = format!("custom distros cannot be stored: {error}");
        if following.failing.get(&uid) != Some(&text) {
            self.raise(uid, &text);
            following.failing.insert(uid, text);
        }
    }

    /// Begins to serve a home that was not served before.
    fn begin(&self, uid: u32) -> Result<(), SupervisorError> {
        make(&self.config.homes.join(uid.to_string()), uid)?;
        let home = super::home(&self.config, uid, Arc::clone(&self.log))?;
        let home = Arc::new(home);
        let mut homes = self.homes.write().unwrap_or_else(PoisonError::into_inner);
        homes.insert(uid, Arc::clone(&home));
        drop(homes);
        tracing::info!(home = uid, "it stores custom distros from now on");
        home.spawn();
        Ok(())
    }
}

impl Home {
    /// Serves it, in a thread of its own.
    pub(super) fn spawn(self: &Arc<Self>) {
        let mut known = self.known();
        if std::mem::replace(&mut known.is_running, true) {
            return;
        }
        drop(known);
        let home = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name(format!("home {}", self.uid))
            .spawn(move || home.run());
        if let Err(error) = started {
            tracing::error!(home = self.uid, %error, "a home is not served");
            self.known().is_running = false;
        }
    }

    /// Offers nothing any more, and ends when nobody uses anything of it.
    fn retire(&self) {
        let mut known = self.known();
        if std::mem::replace(&mut known.is_retired, true) {
            return;
        }
        tracing::info!(home = self.uid, "it stores no custom distros any more");
        self.withdraw(&mut known);
        self.drain(&known);
        self.settled.notify_all();
    }

    /// Offers what it has again, if it does not.
    fn revive(self: &Arc<Self>) -> Result<(), SupervisorError> {
        let known = self.known();
        if known.is_running && !known.is_retired {
            return Ok(());
        }
        drop(known);
        make(self.path(), self.uid)?;
        let mut known = self.known();
        if std::mem::replace(&mut known.is_retired, false) {
            tracing::info!(home = self.uid, "it stores custom distros again");
            known.is_settled = false;
            // Another worker goes on, and looks at what there is.
            let told = known.orders.as_ref();
            match told.map(|orders| orders.give(Order::Leave, &[])) {
                Some(Err(error)) => {
                    tracing::error!(home = self.uid, %error, "a worker is not told to leave");
                }
                told => known.is_relieved = told.is_some(),
            }
        }
        drop(known);
        self.spawn();
        Ok(())
    }

    /// Whether nothing is left to be done. Then its thread ends.
    pub(super) fn is_over(&self) -> bool {
        let mut known = self.known();
        let is_over = known.is_retired && known.mounts.is_empty();
        if is_over {
            known.is_running = false;
            if let Err(error) = known.points.sweep(|_| false) {
                tracing::warn!(home = self.uid, %error, "mounts of before are left");
            }
            self.settled.notify_all();
        }
        is_over
    }
}

/// Makes `distros` in a home.
fn make(home: &Path, uid: u32) -> Result<(), SupervisorError> {
    make_distros(home, uid).map_err(|cause| SupervisorError::Directory {
        doing: "make distros in",
        path: home.to_owned(),
        cause,
    })
}

/// Makes `distros` in a home, if there is nothing of that name.
fn make_distros(home: &Path, uid: u32) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |at: &Path| rustix::fs::open(at, flags, Mode::empty());
    let opened: OwnedFd = open(home)?;
    let found = std::fs::File::from(opened.try_clone()?).metadata()?;
    if found.uid() != uid {
        return Err(io::Error::other(format!(
            "the home belongs to user {}",
            found.uid()
        )));
    }
    let distros = Path::new("/proc/self/fd")
        .join(opened.as_raw_fd().to_string())
        .join("distros");
    let made = as_user(uid, found.gid(), || {
        DirBuilder::new().mode(0o755).create(&distros)
    })?;
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    match open(&distros) {
        Ok(_) => Ok(()),
        Err(error) => Err(io::Error::other(format!(
            "distros is no directory: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{chown, symlink};

    use super::*;

    #[test]
    fn distros_is_the_users_and_never_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(dir.path(), open).unwrap();
        fs::create_dir(&home).unwrap();
        let uid = 30_000;
        assert!(make_distros(&home, uid).is_err(), "of root");
        chown(&home, Some(uid), Some(uid)).unwrap();
        for _ in 0..2 {
            make_distros(&home, uid).unwrap();
            let made = fs::metadata(home.join("distros")).unwrap();
            assert_eq!((made.uid(), made.gid()), (uid, uid));
        }
        fs::remove_dir(home.join("distros")).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        symlink(&elsewhere, home.join("distros")).unwrap();
        assert!(make_distros(&home, uid).is_err());
        assert!(!elsewhere.exists());
        fs::remove_file(home.join("distros")).unwrap();
        fs::write(home.join("distros"), "").unwrap();
        assert!(make_distros(&home, uid).is_err());
    }
}
