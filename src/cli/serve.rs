//! `distrofs serve`, and the processes that it starts.

use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use tracing::Level;

use super::Failure;
use super::args::Serve;
use super::logging::{self, Logging, Origin};
use crate::api;
use crate::config::ServeConfig;
use crate::supervisor;
use crate::sys::packets::Packets;
use crate::wire::Link;
use crate::worker;

pub(super) fn run(job: &Serve, logging: Logging) -> Result<(), Failure> {
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
    let logging = logging.or(config.log);
    logging.start(Origin::of("supervisor"));
    logging.pass_on()?;
    let ready = || logging::say(Level::INFO, "all images are served");
    Ok(supervisor::run(config, ready)?)
}

pub(super) fn work(home: &Path) -> Result<(), Failure> {
    let done = worker::run(Link::from(given()?));
    done.map_err(|error| format!("the worker of {}: {error}", home.display()).into())
}

pub(super) fn api(run: &Path) -> Result<(), Failure> {
    let done = api::run(Link::from(given()?));
    done.map_err(|error| format!("HTTP for {}: {error}", run.display()).into())
}

/// What a container made of its log is no failure of this program.
pub(super) fn append() -> ExitCode {
    let done = given().and_then(|given| Ok(supervisor::append(&given)?));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::info!(%error, "a line was not written");
            ExitCode::FAILURE
        }
    }
}

/// Their standard input is the connection to the supervisor.
fn given() -> Result<Packets, Failure> {
    let given = Packets::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    match given.peer() {
        Ok(_) => Ok(given),
        Err(_) => Err("`distrofs serve` starts this".into()),
    }
}
