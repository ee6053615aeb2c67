//! Views up and down.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::compose::{self, Note, Wanted, Writable};
use super::dir::Dir;
use super::layers::Layers;
use super::state::LastView;
use super::{Plan, Record, State, ViewError};
use crate::sys::mount::{self, MountError};
use crate::sys::mountinfo;
use crate::sys::tree;

/// How long the processes of a container may take to be gone after it ended, and
/// how often that is looked at.
const END_LOOKS: u32 = 100;
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The file that notes which version of an image a container had last: a digest.
const VERSION: &str = "version";
const VERSION_BYTES_MAX: u64 = 32;

/// A mounted image.
#[derive(Debug)]
pub struct Image {
    /// The archive, absolute.
    pub archive: PathBuf,
    /// Where it is mounted.
    pub mounted_at: PathBuf,
    root: Dir,
    plan: Plan,
}

impl Image {
    /// The image that is mounted at `path`.
    pub fn mounted(path: &Path) -> Result<Image, ViewError> {
        let (at, archive) = Self::find(path)?;
        let root = Dir::open(&at).map_err(ViewError::Ask)?;
        let plan = Plan::ask(root.as_fd())?;
        Ok(Image {
            archive,
            mounted_at: at,
            root,
            plan,
        })
    }

    /// The archive that is mounted at `path`, whether it is still served or not.
    pub fn archive_at(path: &Path) -> Result<PathBuf, ViewError> {
        Self::find(path).map(|(_, archive)| archive)
    }

    fn find(path: &Path) -> Result<(PathBuf, PathBuf), ViewError> {
        let not_an_image = |_| ViewError::NotAnImage(path.to_owned());
        let at = mountinfo::resolve(path).map_err(not_an_image)?;
        let entry = mountinfo::find(&at).map_err(not_an_image)?;
        let entry = entry
            .filter(|entry| mountinfo::is_distrofs(&entry.fs_type))
            .ok_or_else(|| ViewError::NotAnImage(path.to_owned()))?;
        Ok((at, entry.source.into()))
    }

    /// Its root.
    pub fn root(&self) -> &Dir {
        &self.root
    }

    /// Where in it everybody may write.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }
}

/// A view to be made.
#[derive(Debug)]
pub struct NewView<'a> {
    /// Of which image.
    pub image: &'a Image,
    /// The user of the container.
    pub container: u32,
    /// The directory to attach it on.
    pub at: &'a Path,
    /// What the container may write.
    pub writable: Writable,
    /// Whether its user's lines are added to `/etc/passwd` and others.
    pub passwd: bool,
    /// Whether the image is mounted for views only, and to be unmounted with the
    /// last of them.
    pub is_for_views: bool,
}

/// A view, and whether it is there.
#[derive(Clone, Debug)]
pub struct Listed {
    /// What was recorded.
    pub record: Record,
    /// Whether it is attached, in this mount namespace.
    pub is_attached: bool,
}

impl State {
    /// Makes a view: whole, or not at all.
    pub fn up(&self, new: &NewView<'_>) -> Result<Vec<Note>, ViewError> {
        let at_failed = |cause| ViewError::At {
            at: new.at.to_owned(),
            cause,
        };
        let at = place_of(new.at)?;
        let home = self.home(&new.image.archive, new.container)?;
        self.make_way(new, &home, &at)?;
        let place = Dir::open(&at).map_err(at_failed)?;
        let mut notes = Vec::new();
        let version = self.version_of(&home)?;
        let is_other = version.as_deref() != Some(&new.image.plan.version[..]);
        if version.is_some() && is_other {
            notes.push(Note::NewVersion);
        }
        let composed = compose::compose(&Wanted {
            image: &new.image.root,
            plan: &new.image.plan,
            home: &home,
            writable: new.writable,
            passwd: new.passwd.then_some(new.container),
            is_of_user: false,
        })?;
        notes.extend(&composed.notes);
        self.note_view(
            &home,
            &LastView {
                at: at.clone().into(),
                devices: Some(composed.devices.clone()),
            },
        )?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let for_views = new.is_for_views.then_some(&new.image.mounted_at);
        self.write_record(&Record {
            at: at.clone().into(),
            image: new.image.archive.clone().into(),
            container: new.container,
            writable: composed.writable.name().to_owned(),
            mount_id: tree::id_of(composed.tree.as_fd()).map_err(at_failed)?,
            image_mount: for_views.map(|path| path.clone().into()),
            made: since.map_or(0, |since| since.as_secs()),
        })?;
        if let Err(error) = tree::attach(composed.tree.as_fd(), place.as_fd()) {
            self.remove_record(&at)?;
            return Err(error.into());
        }
        // Only now: what fails is tried again, and the change is told then.
        if is_other && let Err(error) = home.write(VERSION, &new.image.plan.version) {
            tracing::warn!(%error, "cannot note which version of the image a container has");
        }
        Ok(notes)
    }

    /// Refuses a view where one is, and one that would write where another does.
    fn make_way(&self, new: &NewView<'_>, home: &Dir, at: &Path) -> Result<(), ViewError> {
        let mut gone = Vec::new();
        if let Some(record) = self.record(at)? {
            if is_attached(&record) {
                return Err(ViewError::Exists(at.to_owned()));
            }
            refuse_if_there(&record)?;
            gone.push(record);
        }
        // One that is remembered elsewhere.
        if is_view(at)? {
            return Err(ViewError::Exists(at.to_owned()));
        }
        if let Some(last) = self.last_view(home)? {
            let record = self.record(Path::new(&last.at))?;
            let is_same = |record: &Record| is_of(record, &new.image.archive, new.container);
            if let Some(record) = record.filter(is_same) {
                refuse_if_there(&record)?;
                gone.push(record);
            }
            self.wait_for_end(home, &last, new.container)?;
        }
        // They went with their namespace, or with a crash.
        for record in gone {
            self.remove_record(Path::new(&record.at))?;
            // The new view may be above the very mount that the one before was.
            if let Some(mounted) = record.image_mount
                && Path::new(&mounted) != new.image.mounted_at
            {
                self.release(Path::new(&mounted))?;
            }
        }
        Ok(())
    }

    /// Waits until nobody uses the layers of a container any more: two overlays
    /// with one upper layer would damage it.
    fn wait_for_end(&self, home: &Dir, last: &LastView, container: u32) -> Result<(), ViewError> {
        if let Some(devices) = &last.devices
            && !devices.iter().any(|device| tree::may_be_there(*device))
        {
            return Ok(());
        }
        let layers = Layers::all(home).map_err(self.failed("look for writable layers"))?;
        for layer in &layers {
            let mut looks = 0;
            while tree::is_in_use(layer.upper.as_fd(), layer.work.as_fd())? {
                looks += 1;
                if looks > END_LOOKS {
                    return Err(ViewError::InUse { container });
                }
                sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    /// Which version of an image a container had last.
    fn version_of(&self, home: &Dir) -> Result<Option<Vec<u8>>, ViewError> {
        home.read(VERSION, VERSION_BYTES_MAX)
            .map_err(self.failed("read which version of an image a container had"))
    }

    /// Takes the view at `path` down. What was written to it stays. Whether it was
    /// there: after a crash, or a second time, there is nothing left to do.
    pub fn down(&self, path: &Path) -> Result<bool, ViewError> {
        let at_failed = |cause| ViewError::At {
            at: path.to_owned(),
            cause,
        };
        let at = place_of(path)?;
        let Some(record) = self.record(&at)? else {
            return match mountinfo::find(&at).map_err(at_failed)? {
                Some(_) => Err(ViewError::NotAView(at)),
                None => Ok(false),
            };
        };
        let is_there = is_attached(&record);
        if is_there {
            tree::detach(&at).map_err(at_failed)?;
        } else if is_covered(&record).map_err(at_failed)? {
            return Err(ViewError::Covered(at));
        }
        self.forget(&record)?;
        Ok(is_there)
    }

    /// Removes a record, and its image's mount if nothing needs that any more.
    fn forget(&self, record: &Record) -> Result<(), ViewError> {
        self.remove_record(Path::new(&record.at))?;
        match &record.image_mount {
            Some(mounted) => self.release(Path::new(mounted)),
            None => Ok(()),
        }
    }

    /// Unmounts an image that was mounted for views, unless one has it.
    pub fn release(&self, mounted: &Path) -> Result<(), ViewError> {
        let has_it = |record: &Record| record.image_mount.as_deref() == Some(mounted.as_os_str());
        if self.records()?.iter().any(has_it) {
            return Ok(());
        }
        match mount::unmount(mounted, true) {
            Ok(()) | Err(MountError::NotMounted { .. }) => {}
            Err(error) => tracing::warn!(%error, "an image that nobody uses stays mounted"),
        }
        match fs::remove_dir(mounted) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(path = %mounted.display(), %error, "cannot remove a directory");
            }
            _ => {}
        }
        Ok(())
    }

    /// All views.
    pub fn list(&self) -> Result<Vec<Listed>, ViewError> {
        let listed = |record: Record| Listed {
            is_attached: is_attached(&record),
            record,
        };
        Ok(self.records()?.into_iter().map(listed).collect())
    }

    /// Removes what a container wrote to an image.
    pub fn reset(&self, image: &Path, container: u32) -> Result<(), ViewError> {
        let mut records = self.records()?;
        records.retain(|record| is_of(record, image, container));
        records.iter().try_for_each(refuse_if_there)?;
        let home = self.home(image, container)?;
        if let Some(last) = self.last_view(&home)? {
            self.wait_for_end(&home, &last, container)?;
        }
        for record in &records {
            self.forget(record)?;
        }
        self.remove_home(image, container)
    }
}

/// The directory that `path` names. If a view is there, its image is not asked for
/// anything: nobody may be there to answer.
fn place_of(path: &Path) -> Result<PathBuf, ViewError> {
    let failed = |cause| ViewError::At {
        at: path.to_owned(),
        cause,
    };
    let at = mountinfo::resolve(path).map_err(failed)?;
    match fs::read_link(&at) {
        Ok(_) => path.canonicalize().map_err(failed),
        Err(_) => Ok(at),
    }
}

/// Whether a view is of this container, and of this image.
fn is_of(record: &Record, image: &Path, container: u32) -> bool {
    Path::new(&record.image) == image && record.container == container
}

/// Refuses to go on with what a view that is there, seen or not, writes to.
fn refuse_if_there(record: &Record) -> Result<(), ViewError> {
    let at = || PathBuf::from(&record.at);
    if is_attached(record) {
        let container = record.container;
        return Err(ViewError::Occupied {
            container,
            at: at(),
        });
    }
    let is_covered = is_covered(record).map_err(|cause| ViewError::At { at: at(), cause })?;
    match is_covered {
        true => Err(ViewError::Covered(at())),
        false => Ok(()),
    }
}

/// Whether what is on top at a place is a view, remembered in whichever state.
fn is_view(at: &Path) -> Result<bool, ViewError> {
    let found = mountinfo::find(at).map_err(|cause| ViewError::At {
        at: at.to_owned(),
        cause,
    })?;
    Ok(found.as_ref().is_some_and(is_ours))
}

fn is_ours(entry: &mountinfo::MountEntry) -> bool {
    entry.source == compose::SOURCE && entry.fs_type == "overlay"
}

/// Whether the mount of a view is at its place, on top.
fn is_attached(record: &Record) -> bool {
    tree::id_at(Path::new(&record.at)).is_ok_and(|id| id == record.mount_id)
}

/// Whether it is there, and something else above it. Mounts are told by their
/// numbers where those are unique, and a path may have been mounted on anew.
fn is_covered(record: &Record) -> io::Result<bool> {
    let at = Path::new(&record.at);
    let entries = mountinfo::all()?;
    Ok(entries
        .iter()
        .any(|entry| entry.target == at && is_ours(entry)))
}
