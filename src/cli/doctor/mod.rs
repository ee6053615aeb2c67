//! `distrofs doctor`: what of this machine works, what degrades, what is
//! missing, and what to do about it.
//!
//! Guarantees: what is tried is undone before the command ends; nothing is
//! changed. What only root may try is not tried for others, and said so.

mod fuse;
mod system;

use std::io::{self, Write};

use serde::Serialize;

use super::{Failure, Verdict, args};
use crate::sys::namespace;
use crate::sys::probe::{self, FuseOffer};
use crate::text::table::{Align, Table};

/// How it is with something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Works,
    /// Mounting works without it, but something is slower or not there.
    Degrades,
    /// Mounting is impossible without it.
    Missing,
}

/// Something that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    state: State,
    found: String,
    /// What that means, and what to do; nothing where all is well.
    means: Option<&'static str>,
    advice: Option<&'static str>,
}

impl Check {
    fn works(what: &'static str, found: impl Into<String>) -> Self {
        Self {
            what,
            state: State::Works,
            found: found.into(),
            means: None,
            advice: None,
        }
    }

    fn degrades(
        what: &'static str,
        found: impl Into<String>,
        means: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            what,
            state: State::Degrades,
            found: found.into(),
            means: Some(means),
            advice: Some(advice),
        }
    }

    fn missing(
        what: &'static str,
        found: impl Into<String>,
        means: &'static str,
        advice: &'static str,
    ) -> Self {
        Self {
            state: State::Missing,
            ..Self::degrades(what, found, means, advice)
        }
    }
}

/// What root tried in a mount namespace of its own.
struct Tried {
    fuse: io::Result<FuseOffer>,
    overlay: io::Result<()>,
    detached_mounts: io::Result<()>,
}

/// The machine as the checks see it.
struct Machine {
    is_root: bool,
    /// Version of the kernel.
    kernel: (u32, u32),
    release: String,
    /// Nothing for ordinary users; an error where even root may not.
    tried: Option<io::Result<Tried>>,
}

#[derive(Debug, Serialize)]
struct Printed {
    kernel: String,
    root: bool,
    can_mount: bool,
    checks: Vec<Check>,
}

pub(super) fn run(job: &args::Doctor) -> Result<Verdict, Failure> {
    let machine = Machine::look()?;
    let checks: Vec<_> = system::kernel(&machine)
        .into_iter()
        .chain(fuse::checks(&machine))
        .chain(system::checks(&machine))
        .collect();
    let printed = Printed {
        can_mount: checks.iter().all(|check| check.state != State::Missing),
        kernel: machine.release,
        root: machine.is_root,
        checks,
    };
    let mut out = io::stdout().lock();
    if job.json {
        serde_json::to_writer(&mut out, &printed).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&printed, &mut out)?;
    }
    Ok(match printed.can_mount {
        true => Verdict::Good,
        false => Verdict::Bad,
    })
}

impl Machine {
    fn look() -> io::Result<Self> {
        let is_root = rustix::process::geteuid().is_root();
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
        let release = release.trim().to_owned();
        let tried = is_root.then(|| {
            namespace::of_a_thread(|directory| Tried {
                fuse: probe::fuse_offer(directory),
                overlay: probe::overlay(directory),
                detached_mounts: probe::detached_mounts(directory),
            })
        });
        Ok(Self {
            is_root,
            kernel: version(&release),
            release,
            tried,
        })
    }

    fn is_at_least(&self, version: (u32, u32)) -> bool {
        self.kernel >= version
    }
}

/// `6.18.44-fc` as 6 and 18.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn print(printed: &Printed, out: &mut dyn Write) -> io::Result<()> {
    let columns = [
        ("what", Align::Left),
        ("state", Align::Left),
        ("found", Align::Left),
    ];
    let mut table = Table::new(columns);
    for check in &printed.checks {
        let state = match check.state {
            State::Works => "works",
            State::Degrades => "degrades",
            State::Missing => "missing",
        };
        table.row([check.what, state, &check.found].map(str::to_owned));
        if let Some(means) = check.means {
            table.below(&format!("means: {means}"));
        }
        if let Some(advice) = check.advice {
            table.below(&format!("do:    {advice}"));
        }
    }
    table.write(out, "")?;
    let who = if printed.root { "root" } else { "this user" };
    let verdict = if printed.can_mount { "can" } else { "cannot" };
    writeln!(out, "\n{who} {verdict} mount images here")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_told_by_their_first_two_numbers() {
        assert_eq!(version("6.18.44-fc-v657"), (6, 18));
        assert_eq!(version("5.4"), (5, 4));
        assert_eq!(version("6.1-rc3"), (6, 1));
        assert_eq!(version(""), (0, 0));
    }
}
