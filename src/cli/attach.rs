//! `distrofs attach`: a view of an image that is served, in this mount namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::args::Attach;
use crate::sys::packets::Packets;
use crate::sys::tree;
use crate::view::Dir;
use crate::wire::Link;
use crate::wire::control::{CONTROL, Reply, Request};

/// How long the service may take: the processes of the container's last start may
/// have to end first.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn run(job: Attach) -> Result<(), Failure> {
    let place =
        Dir::open(&job.at).map_err(|cause| format!("cannot open {}: {cause}", job.at.display()))?;
    let request = Request::Attach {
        container: job.container,
        image: job.image,
        writable: job.writable.map(|writable| writable.name().to_owned()),
        passwd: job.passwd,
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

/// Asks the service at `run`, and gives its replies to `hear`.
pub(super) fn ask(
    run: &Path,
    request: &Request,
    mut hear: impl FnMut(Reply, Option<OwnedFd>),
) -> Result<(), Failure> {
    let socket = run.join(CONTROL);
    let link = Packets::connect(&socket).map(Link::from).map_err(|cause| {
        format!(
            "no service answers at {}: {cause}: start `distrofs serve`, or name its directory \
             with --run",
            socket.display()
        )
    })?;
    link.set_sending(PATIENCE)?;
    link.set_receiving(PATIENCE)?;
    link.send(request, &[])?;
    loop {
        match link.receive::<Reply>()? {
            None => return Err("the service ended: try again".into()),
            Some((Reply::Done, _)) => return Ok(()),
            Some((Reply::Failed(why), _)) => return Err(why.into()),
            Some((reply, fds)) => hear(reply, fds.into_iter().next()),
        }
    }
}
