//! Views up and down.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::compose::{self, Composed, Note, Wanted, Writable};
use super::dir::Dir;
use super::layers::Layers;
use super::state::{Home, LastView, Records};
use super::{Plan, Record, State, Turn, ViewError};
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
    /// Then nothing is known of it.
    is_exploded: bool,
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
            is_exploded: false,
        })
    }

    /// A tree that is there as it is, exploded from an archive, and called `name`;
    /// none if nothing is in it. Where in it everybody may write is not known.
    pub fn exploded(root: Dir, name: &Path) -> Result<Option<Image>, ViewError> {
        if !root.has_any().map_err(ViewError::Ask)? {
            return Ok(None);
        }
        Ok(Some(Image {
            archive: name.to_owned(),
            mounted_at: name.to_owned(),
            root,
            plan: Plan::default(),
            is_exploded: true,
        }))
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

/// A view to be attached by somebody else.
#[derive(Clone, Copy, Debug)]
pub struct Detached {
    /// The user of the container.
    pub container: u32,
    /// What the container may write.
    pub writable: Writable,
    /// Whether its user's lines are added to `/etc/passwd` and others.
    pub passwd: bool,
}

/// A view that was composed, and is noted nowhere yet.
#[derive(Debug)]
struct Prepared {
    composed: Composed,
    notes: Vec<Note>,
    /// Whether the container had another version of the image before.
    is_other: bool,
}

impl Prepared {
    /// With all that is worth knowing.
    fn told(mut self) -> Composed {
        self.composed.notes = self.notes;
        self.composed
    }
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
        let home = self.home(&new.image.archive, &new.container.to_string())?;
        self.refuse_second(new, &home, &at)?;
        let place = Dir::open(&at).map_err(at_failed)?;
        self.wait_for_end(&home, new.container)?;
        let prepared = self.prepare(
            &home,
            &Wanted {
                image: &new.image.root,
                plan: &new.image.plan,
                home: &home.dir,
                writable: new.writable,
                passwd: new.passwd.then_some(new.container),
                is_of_user: false,
                source: compose::SOURCE,
            },
        )?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let for_views = new.is_for_views.then_some(&new.image.mounted_at);
        let record = Record {
            at: at.clone().into(),
            image: new.image.archive.clone().into(),
            container: new.container,
            writable: prepared.composed.writable.name().to_owned(),
            mount_id: tree::id_of(prepared.composed.tree.as_fd()).map_err(at_failed)?,
            image_mount: for_views.map(|path| path.clone().into()),
            made: since.map_or(0, |since| since.as_secs()),
        };
        let records = self.lock_records()?;
        // Another container's may have come there meanwhile.
        let gone = self.gone(&records, new, &home, &at)?;
        self.note(&home, &at, &prepared)?;
        records.write(&record)?;
        if let Err(error) = tree::attach(prepared.composed.tree.as_fd(), place.as_fd()) {
            records.remove(&at)?;
            return Err(error.into());
        }
        for record in gone {
            let place = Path::new(&record.at);
            if place != at {
                records.remove(place)?;
            }
            // The new view may be above the very mount that the one before was.
            if record.image_mount.as_deref() != Some(new.image.mounted_at.as_os_str()) {
                self.release_of(&records, &record)?;
            }
        }
        self.note_version(&home, new.image, &prepared);
        Ok(prepared.notes)
    }

    /// Composes a view for somebody else to attach: a container's own namespace is
    /// nothing that could be seen from here. It is the only one of that container
    /// and image, and is remembered until the next one is wanted.
    pub fn detached(&self, image: &Image, wanted: &Detached) -> Result<Composed, ViewError> {
        if image.is_exploded && wanted.writable == Writable::Paths {
            return Err(ViewError::Exploded(image.archive.clone()));
        }
        let home = self.home(&image.archive, &wanted.container.to_string())?;
        self.wait_for_end(&home, wanted.container)?;
        let prepared = self.prepare(
            &home,
            &Wanted {
                image: &image.root,
                plan: &image.plan,
                home: &home.dir,
                writable: wanted.writable,
                passwd: wanted.passwd.then_some(wanted.container),
                is_of_user: false,
                source: compose::SOURCE,
            },
        )?;
        self.note(&home, Path::new(""), &prepared)?;
        self.note_version(&home, image, &prepared);
        Ok(prepared.told())
    }

    /// Composes a view that all containers share, and with it what they write. If
    /// one is still in use, of another version perhaps, what is written to it stays
    /// with those who use it: two overlays with one upper layer would damage it.
    pub fn shared(&self, image: &Image, writable: Writable) -> Result<Composed, ViewError> {
        const SHARED: &str = "shared.";
        let archive = &image.archive;
        let mut number = self.last_home(archive, SHARED)?;
        let mut home = self.home(archive, &format!("{SHARED}{number}"))?;
        if self.is_in_use(&home)? {
            number += 1;
            home = self.home(archive, &format!("{SHARED}{number}"))?;
        }
        let prepared = self.prepare(
            &home,
            &Wanted {
                image: &image.root,
                plan: &image.plan,
                home: &home.dir,
                writable,
                passwd: None,
                is_of_user: false,
                source: compose::SHARED_SOURCE,
            },
        )?;
        self.note(&home, Path::new(""), &prepared)?;
        self.note_version(&home, image, &prepared);
        for before in 0..number {
            let name = format!("{SHARED}{before}");
            let home = self.home(archive, &name)?;
            if !self.is_in_use(&home)? {
                self.remove_home(archive, &name)?;
            }
        }
        Ok(prepared.told())
    }

    /// Composes a view above layers that nobody uses.
    fn prepare(&self, home: &Home, wanted: &Wanted<'_>) -> Result<Prepared, ViewError> {
        let version = self.version_of(&home.dir)?;
        let is_other = version.as_deref() != Some(&wanted.plan.version[..]);
        let composed = compose::compose(wanted)?;
        let changed = (version.is_some() && is_other).then_some(Note::NewVersion);
        let notes = changed.into_iter().chain(composed.notes.iter().copied());
        Ok(Prepared {
            notes: notes.collect(),
            composed,
            is_other,
        })
    }

    /// Notes what uses the container's layers from now on.
    fn note(&self, home: &Home, at: &Path, prepared: &Prepared) -> Result<(), ViewError> {
        let view = LastView {
            at: at.into(),
            devices: Some(prepared.composed.devices.clone()),
        };
        self.note_view(home, &view)
    }

    /// Notes which version a container has, once its view is there: what fails is
    /// tried again, and the change is told then.
    fn note_version(&self, home: &Home, image: &Image, prepared: &Prepared) {
        if prepared.is_other
            && let Err(error) = home.dir.write(VERSION, &image.plan.version)
        {
            tracing::warn!(%error, "cannot note which version of the image a container has");
        }
    }

    /// Refuses a view where one is, and one that would write where another does.
    fn refuse_second(&self, new: &NewView<'_>, home: &Home, at: &Path) -> Result<(), ViewError> {
        let records = self.lock_records()?;
        self.gone(&records, new, home, at).map(drop)
    }

    /// The same; the records of views that went with their namespace, or with a
    /// crash.
    fn gone(
        &self,
        records: &Records<'_>,
        new: &NewView<'_>,
        home: &Home,
        at: &Path,
    ) -> Result<Vec<Record>, ViewError> {
        let mut gone = Vec::new();
        if let Some(record) = records.at(at)? {
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
            let record = records.at(Path::new(&last.at))?;
            let is_same = |record: &Record| {
                Path::new(&record.at) != at && is_of(record, &new.image.archive, new.container)
            };
            if let Some(record) = record.filter(is_same) {
                refuse_if_there(&record)?;
                gone.push(record);
            }
        }
        Ok(gone)
    }

    /// Waits until nobody uses the layers of a container any more: two overlays
    /// with one upper layer would damage it.
    fn wait_for_end(&self, home: &Home, container: u32) -> Result<(), ViewError> {
        let mut looks = 0;
        while self.is_in_use(home)? {
            looks += 1;
            if looks > END_LOOKS {
                return Err(ViewError::InUse { container });
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Whether somebody uses layers that are kept there.
    fn is_in_use(&self, home: &Home) -> Result<bool, ViewError> {
        let Some(last) = self.last_view(home)? else {
            return Ok(false);
        };
        if let Some(devices) = &last.devices
            && !devices.iter().any(|device| tree::may_be_there(*device))
        {
            return Ok(false);
        }
        let layers = Layers::all(&home.dir).map_err(self.failed("look for writable layers"))?;
        for layer in &layers {
            if tree::is_in_use(layer.upper.as_fd(), layer.work.as_fd())? {
                return Ok(true);
            }
        }
        Ok(false)
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
        let records = self.lock_records()?;
        let Some(record) = records.at(&at)? else {
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
        self.forget(&records, &record)?;
        Ok(is_there)
    }

    /// Removes a record, and its image's mount if nothing needs that any more.
    fn forget(&self, records: &Records<'_>, record: &Record) -> Result<(), ViewError> {
        records.remove(Path::new(&record.at))?;
        self.release_of(records, record)
    }

    /// Unmounts the image of a record that is gone, if it was mounted for views and
    /// no other one has it. Who is about to have it has its turn.
    fn release_of(&self, records: &Records<'_>, record: &Record) -> Result<(), ViewError> {
        let Some(mounted) = &record.image_mount else {
            return Ok(());
        };
        match self.try_turn(Path::new(&record.image))? {
            Some(turn) => release(records, &turn, Path::new(mounted)),
            None => Ok(()),
        }
    }

    /// Unmounts an image that was mounted for views, unless one has it.
    pub fn release(&self, turn: &Turn, mounted: &Path) -> Result<(), ViewError> {
        release(&self.lock_records()?, turn, mounted)
    }

    /// All views.
    pub fn list(&self) -> Result<Vec<Listed>, ViewError> {
        let listed = |record: Record| Listed {
            is_attached: is_attached(&record),
            record,
        };
        Ok(self
            .lock_records()?
            .all()?
            .into_iter()
            .map(listed)
            .collect())
    }

    /// Removes what a container wrote to an image.
    pub fn reset(&self, image: &Path, container: u32) -> Result<(), ViewError> {
        let name = container.to_string();
        let home = self.home(image, &name)?;
        let mut all = self.lock_records()?.all()?;
        all.retain(|record| is_of(record, image, container));
        all.iter().try_for_each(refuse_if_there)?;
        self.wait_for_end(&home, container)?;
        let records = self.lock_records()?;
        for record in &all {
            self.forget(&records, record)?;
        }
        drop(records);
        self.remove_home(image, &name)
    }
}

fn release(records: &Records<'_>, _turn: &Turn, mounted: &Path) -> Result<(), ViewError> {
    let has_it = |record: &Record| record.image_mount.as_deref() == Some(mounted.as_os_str());
    if records.all()?.iter().any(has_it) {
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

/// Whether a mount is a container's own view, and not one that all share.
pub fn is_ours(entry: &mountinfo::MountEntry) -> bool {
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
