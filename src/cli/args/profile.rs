//! What may be typed of `distrofs profile`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::lab::parse_time;
use super::service::Service;
use crate::types::ImageOf;

/// `distrofs profile`
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Profile {
    /// Record which parts of an image are read while something starts, for the next
    /// mount to prefetch them.
    Record(ProfileRecord),
    /// Show what was recorded of an image.
    Show(ProfileShow),
    /// Forget what was recorded of an image.
    Rm(ProfileOf),
}

/// `distrofs profile record`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ProfileRecord {
    /// An archive, for a command that is run in a container of its own; or where one is
    /// mounted, for what is read there meanwhile
    #[arg(value_name = "ARCHIVE|MOUNTPOINT", required_unless_present = "served")]
    pub(in crate::cli) image: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) of: OfService,
    /// How long: 500ms, 10s, 5m; a command that still runs is ended then [default: until
    /// the command ends, or Ctrl-C]
    #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
    pub(in crate::cli) limit: Option<Duration>,
    /// Where the index is, if not in its usual place
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) index: Option<PathBuf>,
    /// Print what was recorded as JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) container: ContainerOptions,
    /// The command and its arguments
    #[arg(last = true, value_name = "CMD", conflicts_with = "served")]
    pub(in crate::cli) command: Vec<OsString>,
}

/// An image that a service serves, in place of an archive.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct OfService {
    /// An image that a service serves: the storage container's user, and the path in
    /// its `distros`
    #[arg(
        long = "image",
        id = "served",
        value_name = "UID/PATH",
        conflicts_with_all = ["image", "index"]
    )]
    pub(in crate::cli) served: Option<ImageOf>,
    #[command(flatten)]
    pub(in crate::cli) service: Service,
}

/// How a command is run; `distrofs run` reads these.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ContainerOptions {
    /// As for `run`: what may be written
    #[arg(long, value_name = "paths|tree|none", requires = "command")]
    writable: Option<OsString>,
    /// As for `run`: show something of this machine; repeatable
    #[arg(long = "bind", value_name = "SRC:DST", requires = "command")]
    binds: Vec<OsString>,
    /// As for `run`: the user that the command runs as
    #[arg(long, value_name = "N", requires = "command")]
    uid: Option<OsString>,
    /// As for `run`: set a variable; repeatable
    #[arg(long = "env", value_name = "NAME=VALUE", requires = "command")]
    env: Vec<OsString>,
    /// As for `run`: memory for serving the image
    #[arg(long, value_name = "SIZE", requires = "command")]
    memory: Option<OsString>,
}

impl ContainerOptions {
    /// As they were typed.
    pub(in crate::cli) fn typed(&self) -> impl Iterator<Item = (&'static str, &OsString)> {
        let one = [
            ("--writable", &self.writable),
            ("--uid", &self.uid),
            ("--memory", &self.memory),
        ];
        let one = one
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let binds = self.binds.iter().map(|bind| ("--bind", bind));
        one.chain(binds)
            .chain(self.env.iter().map(|variable| ("--env", variable)))
    }
}

/// `distrofs profile show`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ProfileShow {
    #[command(flatten)]
    pub(in crate::cli) profile: ProfileOf,
    /// Print JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// Of which image a profile is: all of `distrofs profile rm`
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ProfileOf {
    /// The archive, or where it is mounted
    #[arg(value_name = "ARCHIVE|MOUNTPOINT", required_unless_present = "served")]
    pub(in crate::cli) image: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) of: OfService,
    /// Where the index is, if not in its usual place
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) index: Option<PathBuf>,
}
