//! `distrofs attach` and `distrofs detach`: a view of an image that is served, in this
//! mount namespace; or the platform's distro, for a container that has no image.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::super::Failure;
use super::super::args::{Attach, Detach, Target};
use super::ask;
use crate::sys::{mountinfo, tree};
use crate::types::{ImageOf, ImagePath};
use crate::view::{Dir, is_ours};
use crate::wire::control::{Reply, Request};

/// A place to mount on, and what it is called.
struct Place {
    open: OwnedFd,
    shown: PathBuf,
}

/// Where a container's root belongs.
enum Found {
    /// There.
    At(Place),
    /// Where it belongs there is nothing to mount on, and why.
    Missing(String),
    /// Nowhere: it is the platform's distro, which a launcher finds by itself.
    Platform(PathBuf),
}

impl Found {
    /// What is below a home belongs to a customer: no link is followed there.
    fn of(container: u32, target: &Target, run: &Path) -> Result<Found, Failure> {
        if let Some(at) = &target.at {
            let open = Dir::open(at).map_err(|cause| failed(at, &cause))?;
            let (open, shown) = (open.into(), std::path::absolute(at)?);
            return Ok(Found::At(Place { open, shown }));
        }
        let (home, path) = match chosen(container, target.image.clone(), run)? {
            (Some(found), _) => found,
            (None, Some(platform)) => return Ok(Found::Platform(platform)),
            (None, None) => return Err("the service names no place: give --at".into()),
        };
        let below = format!("distros/{path}");
        let shown = home.join(&below);
        let open = Dir::open(&home).and_then(|home| home.place(below.as_bytes()));
        Ok(match open {
            Ok(open) => Found::At(Place { open, shown }),
            Err(cause) => Found::Missing(failed(&shown, &cause)),
        })
    }
}

fn failed(shown: &Path, cause: &std::io::Error) -> String {
    format!("cannot open {}: {cause}", shown.display())
}

/// Where a launcher looks for the image of a container, as a home and a path in its
/// `distros`; and for the platform's distro, which it has else.
type Chosen = (Option<(PathBuf, ImagePath)>, Option<PathBuf>);

fn chosen(container: u32, image: Option<ImageOf>, run: &Path) -> Result<Chosen, Failure> {
    let (mut found, mut platform) = (None, None);
    let request = Request::Place { container, image };
    ask(run, &request, |reply, _| match reply {
        Reply::Place { home, path } => found = Some((home, path)),
        Reply::Platform { at } => platform = Some(at),
        _ => {}
    })?;
    Ok((found, platform))
}

pub(super) fn run(job: Attach) -> Result<(), Failure> {
    let run = &job.service.run;
    let place = match Found::of(job.container, &job.target, run)? {
        Found::At(place) => Ok(place),
        // It may get the platform's distro, and its owner is to know.
        Found::Missing(why) if job.target.image.is_none() => Err(why),
        Found::Missing(why) => return Err(why.into()),
        Found::Platform(at) => {
            say_nothing_is_mounted(job.container, &at);
            return Ok(());
        }
    };
    let at = place.as_ref().ok().map(|place| place.shown.clone());
    let request = Request::Attach {
        container: job.container,
        image: job.target.image,
        writable: job.writable.map(|writable| writable.name().to_owned()),
        passwd: job.passwd,
        at: at.map(|at| at.to_string_lossy().into_owned()),
    };
    let (mut view, mut platform) = (None, None);
    ask(run, &request, |reply, fd| match reply {
        Reply::View => view = fd,
        Reply::Platform { at } => platform = Some(at),
        Reply::Note(note) => eprintln!("distrofs: {note}"),
        _ => {}
    })?;
    let view = view.ok_or("the service gave no view: restart it with this version")?;
    match (place, platform) {
        (Ok(place), _) => Ok(tree::attach(view.as_fd(), place.open.as_fd())?),
        (Err(_), Some(at)) => {
            say_nothing_is_mounted(job.container, &at);
            Ok(())
        }
        (Err(why), None) => Err(why.into()),
    }
}

fn say_nothing_is_mounted(container: u32, platform: &Path) {
    let at = platform.display();
    eprintln!(
        "distrofs: the root of container {container} is the platform's {at}: nothing is mounted"
    );
}

pub(super) fn undo(job: &Detach) -> Result<(), Failure> {
    let run = &job.service.run;
    let place = match Found::of(job.container, &job.target, run)? {
        Found::At(place) => place,
        Found::Missing(why) => return Err(why.into()),
        Found::Platform(at) => {
            say_nothing_is_mounted(job.container, &at);
            return Ok(());
        }
    };
    let shown = place.shown.display();
    // The tree that all share, and what is of somebody else, stay.
    let is_its = match mountinfo::of_root(place.open.as_fd())? {
        Some(entry) => is_ours(&entry) || is_platform(&place, job.container, run)?,
        None => false,
    };
    if !is_its {
        return Err(format!("no view of a container is attached on {shown}").into());
    }
    tree::detach_open(place.open.as_fd())
        .map_err(|cause| format!("cannot unmount {shown}: {cause}").into())
}

/// Whether what is mounted there is the platform's distro of a container.
fn is_platform(place: &Place, container: u32, run: &Path) -> Result<bool, Failure> {
    // Of one that has no such distro the service says why.
    let Ok((_, Some(platform))) = chosen(container, None, run) else {
        return Ok(false);
    };
    let Ok(expected) = fs::metadata(&platform) else {
        return Ok(false);
    };
    let found = File::from(place.open.try_clone()?).metadata()?;
    Ok((found.dev(), found.ino()) == (expected.dev(), expected.ino()))
}
