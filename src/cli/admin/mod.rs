//! `distrofs admin`: what administrators say of customers, containers and images.
//!
//! Guarantees: what root may read or make is opened first; then this process becomes
//! the user that owns the registry, for good, and only then is anything of a file or of
//! the registry read. No password is in arguments or in a list. What was changed is
//! with the service before the command ends, or it is said that it is not.

mod container;
mod customer;
mod distro;
mod files;
mod place;
mod server;
mod service;

use std::io::{self, Write};

use serde::Serialize;

use super::args::{Admin, AdminCommand, List};
use super::{Failure, text};
use crate::config::ServeConfig;
use crate::registry::Registry;
use crate::text::table::{Align, Table};
use files::Opened;

pub(super) fn run(job: Admin) -> Result<(), Failure> {
    let mut config = match &job.config {
        Some(path) => ServeConfig::read(path)?,
        None => ServeConfig::default(),
    };
    for setting in &job.settings {
        config.set(setting)?;
    }
    config.check()?;
    let opened = Opened::of(&job.command)?;
    place::enter(&config.registry, config.api_user)?;
    let mut registry = Registry::open(&config.registry)?;
    let before = registry.revision()?;
    let registry = &mut registry;
    match job.command {
        AdminCommand::Customer(job) => customer::run(registry, job)?,
        AdminCommand::Server(job) => server::run(registry, job)?,
        AdminCommand::Container(job) => container::run(registry, job)?,
        AdminCommand::Distro(job) => distro::run(registry, job)?,
        AdminCommand::DefaultDistro(job) => distro::run_default(registry, job)?,
        AdminCommand::Import { .. }
        | AdminCommand::Backup { .. }
        | AdminCommand::Restore { .. } => {
            opened.run(registry)?;
        }
    }
    match registry.revision()? {
        after if after == before => Ok(()),
        after => service::wait(&config.run, after),
    }
}

/// Prints all of a kind, for people or as JSON.
fn print<T: Serialize, const N: usize>(
    how: List,
    all: &[T],
    columns: [(&'static str, Align); N],
    row: impl Fn(&T) -> [String; N],
) -> Result<(), Failure> {
    let mut out = io::stdout();
    if how.json {
        serde_json::to_writer(&mut out, all)?;
        return Ok(writeln!(out)?);
    }
    let mut table = Table::new(columns);
    for one in all {
        let shown = row(one).map(|cell| text::printable(cell.as_bytes()).into_owned());
        table.row(shown);
    }
    match all.is_empty() {
        true => writeln!(out, "None.")?,
        false => table.write(&mut out, "")?,
    }
    Ok(())
}

/// What is not there.
fn or_none(text: Option<&String>) -> String {
    text.map_or_else(|| "-".to_owned(), String::clone)
}
