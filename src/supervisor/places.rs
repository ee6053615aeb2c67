//! The trees at `distros/PATH` of a home: where exploded images were.
//!
//! The directory belongs to the customer, who may put something else there at any
//! time: it is opened from the home's descriptor, without links, and what is
//! mounted or unmounted is what was opened. A new version is mounted beneath the old
//! one, which is then taken away: there is no moment without.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
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
    /// The kernel's numbers of the mounts.
    mounted: BTreeMap<ImagePath, u64>,
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
                mounted.insert(path, number);
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
        let Some(number) = self.mounted.get(path) else {
            return false;
        };
        let place = self.home.place(&place(path));
        place.is_ok_and(|place| tree::id_of(place.as_fd()).is_ok_and(|found| found == *number))
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
        let place = self.home.place(&place(path));
        let place = place.map_err(failed("open the directory"))?;
        let number = tree::id_of(view).map_err(failed("look at the view for"))?;
        if self.is_there(path) {
            tree::replace(view, place.as_fd())?;
        } else {
            tree::attach(view, place.as_fd())?;
        }
        self.mounted.insert(path.clone(), number);
        fs::write(self.notes.join(path.as_str()), number.to_string())
            .map_err(failed("note what is mounted at"))
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
