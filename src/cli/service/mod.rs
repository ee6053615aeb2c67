//! Commands that ask `distrofs serve`.

mod attach;
pub(super) mod image;
mod status;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use super::args::{self, Abort, Attach, Detach, Status};
use super::{Failure, Verdict};
use crate::wire::client;
use crate::wire::control::{Reply, Request};

/// How long the service may take: the processes of a container's last start may have
/// to end first.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) fn attach(job: Attach) -> Result<(), Failure> {
    attach::run(job)
}

pub(super) fn detach(job: &Detach) -> Result<(), Failure> {
    attach::undo(job)
}

pub(super) fn status(job: &Status) -> Result<(), Failure> {
    status::run(job)
}

pub(super) fn image(job: args::Image) -> Result<Verdict, Failure> {
    image::run(job)
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
    let asked = client::ask(run, request, PATIENCE, |reply, fd| {
        hear(reply, fd);
        Ok(())
    });
    Ok(asked?)
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
