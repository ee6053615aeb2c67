//! Commands that ask `distrofs serve`.

mod attach;
mod status;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::Failure;
use super::args::{Abort, Attach, Status};
use crate::sys::packets::Packets;
use crate::wire::Link;
use crate::wire::control::{CONTROL, Reply, Request};

/// How long the service may take: the processes of a container's last start may have
/// to end first.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn attach(job: Attach) -> Result<(), Failure> {
    attach::run(job)
}

pub(super) fn status(job: &Status) -> Result<(), Failure> {
    status::run(job)
}

pub(super) fn abort(job: Abort) -> Result<(), Failure> {
    let request = Request::Abort { image: job.image };
    ask(&job.service.run, &request, |_, _| {})
}

/// Asks the service at `run`, and gives its replies to `hear`.
fn ask(
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

/// The same for what is answered by a text.
fn ask_text(run: &Path, request: &Request) -> Result<String, Failure> {
    let mut text = String::new();
    ask(run, request, |reply, _| {
        if let Reply::Text(piece) = reply {
            text += &piece;
        }
    })?;
    Ok(text)
}
