//! The trees at `distros/PATH` of a home: where exploded images were.
//!
//! The directory belongs to the customer, who may put something else there at any
//! time: it is opened from the home's descriptor, without links, and what is
//! mounted or unmounted is what was opened. What was mounted is unmounted wherever the
//! directory was moved to. A new version is mounted beneath the old
//! one, which is then taken away: there is no moment without.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::SupervisorError;
use crate::sys::tree;
use crate::view::Dir;
use crate::wire::ImagePath;

/// What is mounted for containers in one home.
#[derive(Debug)]
pub(super) struct Places {
    home: Dir,
    /// Where is noted what is mounted, for the next supervisor.
    notes: PathBuf,
    mounted: BTreeMap<ImagePath, Mounted>,
}

/// A mount.
#[derive(Debug)]
struct Mounted {
    /// The kernel's number of it.
    number: u64,
    /// Its root, if it was seen since this process was started.
    root: Option<OwnedFd>,
}

impl Places {
    pub(super) fn new(home: Dir, notes: PathBuf) -> io::Result<Places> {
        fs::create_dir_all(&notes)?;
        let mut mounted = BTreeMap::new();
        for entry in fs::read_dir(&notes)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(path) = name.to_str().and_then(|name| name.parse().ok())
                && let Ok(number) = fs::read_to_string(entry.path())
                && let Ok(number) = number.trim().parse()
            {
                let root = home.place(&place(&path));
                let is_it = |root: &OwnedFd| tree::id_of(root.as_fd()).is_ok_and(|n| n == number);
                let root = root.ok().filter(is_it);
                mounted.insert(path, Mounted { number, root });
            }
        }
        Ok(Places {
            home,
            notes,
            mounted,
        })
    }

    /// Whether a tree of ours is there, on top.
    pub(super) fn is_there(&self, path: &ImagePath) -> bool {
        let Some(mounted) = self.mounted.get(path) else {
            return false;
        };
        let found = self.home.place(&place(path));
        let found = found.and_then(|place| tree::id_of(place.as_fd()));
        found.is_ok_and(|found| found == mounted.number)
    }

    /// Which trees there should be.
    pub(super) fn all(&self) -> Vec<ImagePath> {
        self.mounted.keys().cloned().collect()
    }

    /// Attaches a tree, in place of the one before.
    pub(super) fn publish(
        &mut self,
        path: &ImagePath,
        view: BorrowedFd<'_>,
    ) -> Result<(), SupervisorError> {
        let failed = |doing| {
            let path = shown(path);
            move |cause| SupervisorError::Directory { doing, path, cause }
        };
        let is_there = self.is_there(path);
        let place = self.home.place(&place(path));
        let place = place.map_err(failed("open the directory"))?;
        if !is_there {
            self.detach_moved(path);
        }
        let number = tree::id_of(view).map_err(failed("look at the view for"))?;
        let root = view.try_clone_to_owned();
        let root = Some(root.map_err(failed("keep the view for"))?);
        if is_there {
            tree::replace(view, place.as_fd())?;
        } else {
            tree::attach(view, place.as_fd())?;
        }
        self.mounted.insert(path.clone(), Mounted { number, root });
        fs::write(self.notes.join(path.as_str()), number.to_string())
            .map_err(failed("note what is mounted at"))
    }

    /// Detaches a tree that is not at its place any more, or under something else there.
    fn detach_moved(&self, path: &ImagePath) {
        let root = self.mounted.get(path).and_then(|m| m.root.as_ref());
        // It fails if it is nowhere: a directory that was removed takes it along.
        if root.is_some_and(|root| tree::detach_open(root.as_fd()).is_ok()) {
            tracing::info!(%path, "a tree was moved away, and unmounted there");
        }
    }

    /// Takes a tree away: what is below comes back.
    pub(super) fn retract(&mut self, path: &ImagePath) -> Result<(), SupervisorError> {
        let failed = |doing| {
            let path = shown(path);
            move |cause| SupervisorError::Directory { doing, path, cause }
        };
        if self.is_there(path) {
            let place = self.home.place(&place(path));
            let place = place.map_err(failed("open the directory"))?;
            tree::detach_open(place.as_fd()).map_err(failed("unmount the view at"))?;
        } else {
            self.detach_moved(path);
        }
        self.mounted.remove(path);
        match fs::remove_file(self.notes.join(path.as_str())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("forget what was mounted at")(error))
            }
            _ => Ok(()),
        }
    }
}

fn shown(path: &ImagePath) -> PathBuf {
    PathBuf::from("distros").join(path.as_str())
}

fn place(path: &ImagePath) -> Vec<u8> {
    format!("distros/{path}").into_bytes()
}
