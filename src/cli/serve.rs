//! `distrofs serve`, and the processes that it starts.

use std::os::fd::AsFd;
use std::path::Path;

use super::Failure;
use super::args::Serve;
use crate::config::ServeConfig;
use crate::supervisor;
use crate::sys::packets::Packets;
use crate::wire::Link;
use crate::worker;

pub(super) fn run(job: &Serve) -> Result<(), Failure> {
    let mut config = match &job.config {
        Some(path) => ServeConfig::read(path)?,
        None => ServeConfig::default(),
    };
    for setting in &job.settings {
        config.set(setting)?;
    }
    config.check()?;
    if job.check {
        print!("{}", toml::to_string(&config)?);
        return Ok(());
    }
    let ready = || eprintln!("distrofs: all images are served");
    Ok(supervisor::run(config, ready)?)
}

/// Its standard input is the connection to the supervisor.
pub(super) fn work(home: &Path) -> Result<(), Failure> {
    let given = std::io::stdin().as_fd().try_clone_to_owned()?;
    let link = Link::from(Packets::from(given));
    if link.peer().is_err() {
        return Err("`distrofs serve` starts this".into());
    }
    let done = worker::run(link);
    done.map_err(|error| format!("the worker of {}: {error}", home.display()).into())
}
