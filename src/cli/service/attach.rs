//! `distrofs attach`: a view of an image that is served, in this mount namespace.

use std::os::fd::AsFd;

use super::super::Failure;
use super::super::args::Attach;
use super::ask;
use crate::sys::tree;
use crate::view::Dir;
use crate::wire::control::{Reply, Request};

pub(super) fn run(job: Attach) -> Result<(), Failure> {
    let place =
        Dir::open(&job.at).map_err(|cause| format!("cannot open {}: {cause}", job.at.display()))?;
    let request = Request::Attach {
        container: job.container,
        image: job.image,
        writable: job.writable.map(|writable| writable.name().to_owned()),
        passwd: job.passwd,
        at: std::path::absolute(&job.at)
            .ok()
            .map(|at| at.to_string_lossy().into_owned()),
    };
    let mut view = None;
    ask(&job.service.run, &request, |reply, fd| match reply {
        Reply::View => view = fd,
        Reply::Note(note) => eprintln!("distrofs: {note}"),
        _ => {}
    })?;
    let view = view.ok_or("the service gave no view: restart it with this version")?;
    Ok(tree::attach(view.as_fd(), place.as_fd())?)
}
