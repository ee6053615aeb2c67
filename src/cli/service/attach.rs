//! `distrofs attach` and `distrofs detach`: a view of an image that is served, in this
//! mount namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::super::Failure;
use super::super::args::{Attach, Detach, Target};
use super::ask;
use crate::sys::{mountinfo, tree};
use crate::view::{Dir, is_ours};
use crate::wire::control::{Reply, Request};

/// A place to mount on, and what it is called.
struct Place {
    open: OwnedFd,
    shown: PathBuf,
}

impl Place {
    /// Where a container's view belongs. What is below a home belongs to a customer:
    /// no link is followed there.
    fn find(container: u32, target: &Target, run: &Path) -> Result<Place, Failure> {
        let failed = |shown: &Path, cause| format!("cannot open {}: {cause}", shown.display());
        if let Some(at) = &target.at {
            let open = Dir::open(at).map_err(|cause| failed(at, cause))?;
            let shown = std::path::absolute(at)?;
            let open = open.into();
            return Ok(Place { open, shown });
        }
        let image = target.image.clone();
        let mut found = None;
        ask(run, &Request::Place { container, image }, |reply, _| {
            if let Reply::Place { home, path } = reply {
                found = Some((home, path));
            }
        })?;
        let (home, path) = found.ok_or("the service names no place: give --at")?;
        let below = format!("distros/{path}");
        let shown = home.join(&below);
        let open = Dir::open(&home).and_then(|home| home.place(below.as_bytes()));
        let open = open.map_err(|cause| failed(&shown, cause))?;
        Ok(Place { open, shown })
    }
}

pub(super) fn run(job: Attach) -> Result<(), Failure> {
    let run = &job.service.run;
    let place = Place::find(job.container, &job.target, run)?;
    let request = Request::Attach {
        container: job.container,
        image: job.target.image,
        writable: job.writable.map(|writable| writable.name().to_owned()),
        passwd: job.passwd,
        at: Some(place.shown.to_string_lossy().into_owned()),
    };
    let mut view = None;
    ask(run, &request, |reply, fd| match reply {
        Reply::View => view = fd,
        Reply::Note(note) => eprintln!("distrofs: {note}"),
        _ => {}
    })?;
    let view = view.ok_or("the service gave no view: restart it with this version")?;
    Ok(tree::attach(view.as_fd(), place.open.as_fd())?)
}

pub(super) fn undo(job: &Detach) -> Result<(), Failure> {
    let place = Place::find(job.container, &job.target, &job.service.run)?;
    let shown = place.shown.display();
    // The tree that all share, and what is of somebody else, stay.
    let mounted = mountinfo::of_root(place.open.as_fd())?;
    if !mounted.is_some_and(|entry| is_ours(&entry)) {
        return Err(format!("no view of a container is attached on {shown}").into());
    }
    tree::detach_open(place.open.as_fd())
        .map_err(|cause| format!("cannot unmount {shown}: {cause}").into())
}
