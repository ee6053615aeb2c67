//! What is asked of `distrofs admin`.

use std::path::PathBuf;

use clap::{ArgAction, Subcommand};

use super::{Writable, parse_writable};

/// `distrofs admin`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Admin {
    /// Settings of the service in TOML: where the registry is, and whose
    #[arg(long, value_name = "FILE", global = true)]
    pub(in super::super) config: Option<PathBuf>,
    /// Change a setting of the file: KEY=VALUE, repeatable
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub(in super::super) settings: Vec<String>,
    #[command(subcommand)]
    pub(in super::super) command: AdminCommand,
}

/// One job of administrators.
#[derive(Debug, Subcommand)]
pub(in super::super) enum AdminCommand {
    /// Who may ask the API.
    #[command(subcommand)]
    Customer(CustomerCommand),
    /// Where containers are.
    #[command(subcommand)]
    Server(ServerCommand),
    /// Whose containers there are, and what they have.
    #[command(subcommand)]
    Container(ContainerCommand),
    /// Images of customers.
    #[command(subcommand)]
    Distro(DistroCommand),
    /// Distros of the platform: directories below the setting `distros`.
    #[command(subcommand)]
    DefaultDistro(DefaultDistroCommand),
    /// Make all that a file in JSON says (docs/admin.md), or nothing of it.
    Import {
        /// The file
        file: PathBuf,
    },
    /// Write a copy of the registry into a new file, while it is in use.
    Backup {
        /// A file that is not there yet
        file: PathBuf,
    },
    /// Put a backup in place of the registry, while it is in use.
    Restore {
        /// What `backup` wrote
        file: PathBuf,
    },
}

/// All of a kind.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(in super::super) struct List {
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
}

/// `distrofs admin customer`
#[derive(Debug, Subcommand)]
pub(in super::super) enum CustomerCommand {
    /// Add a customer; the password is made and printed, unless it is given.
    Add(CustomerSet),
    /// Change a customer.
    Set {
        #[command(flatten)]
        change: CustomerSet,
        /// Make another password, and print it
        #[arg(long, conflicts_with = "password_stdin")]
        new_password: bool,
    },
    /// Remove a customer who has no container.
    Rm {
        /// Their name
        username: String,
    },
    /// List customers.
    List(List),
}

/// What is known of a customer.
#[derive(Debug, clap::Args)]
pub(in super::super) struct CustomerSet {
    /// The name that they give when asked
    pub(in super::super) username: String,
    #[arg(long)]
    pub(in super::super) email: Option<String>,
    /// The number for taxes
    #[arg(long)]
    pub(in super::super) vat: Option<String>,
    #[arg(long)]
    pub(in super::super) company: Option<String>,
    /// Read the password from standard input: one line
    #[arg(long)]
    pub(in super::super) password_stdin: bool,
}

/// `distrofs admin server`
#[derive(Debug, Subcommand)]
pub(in super::super) enum ServerCommand {
    /// Add a server.
    Add {
        /// Its name, as its setting `server` says
        name: String,
        /// Where customers reach it
        #[arg(long, default_value = "")]
        address: String,
    },
    /// Change a server.
    Set {
        /// Its name
        name: String,
        /// Where customers reach it
        #[arg(long)]
        address: Option<String>,
        /// Another name
        #[arg(long, value_name = "NAME")]
        rename: Option<String>,
    },
    /// Remove a server that has no container.
    Rm {
        /// Its name
        name: String,
    },
    /// List servers.
    List(List),
}

/// `distrofs admin default-distro`
#[derive(Debug, Subcommand)]
pub(in super::super) enum DefaultDistroCommand {
    /// Add one.
    Add {
        /// Its name, and that of its directory
        name: String,
    },
    /// Change one.
    Set {
        /// Its name
        name: String,
        /// Another name, as its directory has
        #[arg(long, value_name = "NAME")]
        rename: String,
    },
    /// Remove one that no container has.
    Rm {
        /// Its name
        name: String,
    },
    /// List them.
    List(List),
}

/// `distrofs admin container`
#[derive(Debug, Subcommand)]
pub(in super::super) enum ContainerCommand {
    /// Add a container.
    Add(ContainerAdd),
    /// Change a container; another root restarts it.
    Set(ContainerSet),
    /// Remove a container that stores no custom distro, and its alarms.
    Rm {
        /// Its user
        uid: u32,
    },
    /// List containers.
    List(List),
}

/// `distrofs admin container add`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ContainerAdd {
    /// Its user
    pub(in super::super) uid: u32,
    /// Whose it is
    #[arg(long, value_name = "NAME")]
    pub(in super::super) customer: String,
    /// Where it is
    #[arg(long, value_name = "NAME")]
    pub(in super::super) server: String,
    #[command(flatten)]
    pub(in super::super) options: ContainerOptions,
}

/// `distrofs admin container set`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ContainerSet {
    /// Its user
    pub(in super::super) uid: u32,
    /// Give it to another customer: nothing is left of what the last one wrote
    #[arg(long, value_name = "NAME")]
    pub(in super::super) customer: Option<String>,
    /// Where it is
    #[arg(long, value_name = "NAME")]
    pub(in super::super) server: Option<String>,
    /// Its custom distro, by number
    #[arg(long, value_name = "ID|none", value_parser = parse_distro)]
    pub(in super::super) custom_distro: Option<NoneOr<i64>>,
    #[command(flatten)]
    pub(in super::super) options: ContainerOptions,
}

/// What can be said of a container.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ContainerOptions {
    /// What its customer calls it [default: its number]
    #[arg(long)]
    pub(in super::super) name: Option<String>,
    #[arg(long)]
    pub(in super::super) hostname: Option<String>,
    #[arg(long)]
    pub(in super::super) ip: Option<String>,
    /// Its memory
    #[arg(long, value_name = "MIB")]
    pub(in super::super) memory: Option<u64>,
    /// Its share of the disk
    #[arg(long, value_name = "MIB")]
    pub(in super::super) storage: Option<u64>,
    /// Its default distro
    #[arg(long, value_name = "NAME|none", value_parser = parse_name)]
    pub(in super::super) distro: Option<NoneOr<String>>,
    /// Whether it stores images
    #[arg(long, value_name = "on|off", value_parser = parse_switch, action = ArgAction::Set)]
    pub(in super::super) custom_distros_storage: Option<bool>,
    /// What it may write in its image; `default`: what the service's settings say
    #[arg(long, value_name = "paths|tree|none|default", value_parser = parse_may_write)]
    pub(in super::super) writable: Option<MayWrite>,
}

/// Something, or that there is to be none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct NoneOr<T>(pub(in super::super) Option<T>);

/// What a container may write, or that the settings say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct MayWrite(pub(in super::super) Option<Writable>);

/// `distrofs admin distro`
#[derive(Debug, Subcommand)]
pub(in super::super) enum DistroCommand {
    /// Add a custom distro, and print its number.
    Add(DistroAdd),
    /// Change a custom distro.
    Set(DistroSet),
    /// Remove a custom distro: who has it goes back to the default distro. Files stay.
    Rm {
        /// Its number
        id: i64,
    },
    /// List custom distros.
    List(List),
}

/// `distrofs admin distro add`
#[derive(Debug, clap::Args)]
pub(in super::super) struct DistroAdd {
    /// The user of the storage container
    #[arg(value_name = "UID")]
    pub(in super::super) container: u32,
    /// Where it is in `distros` there
    #[arg(long)]
    pub(in super::super) path: String,
    /// What it is called [default: as its path]
    #[arg(long)]
    pub(in super::super) name: Option<String>,
    #[arg(long, default_value = "")]
    pub(in super::super) note: String,
}

/// `distrofs admin distro set`
#[derive(Debug, clap::Args)]
pub(in super::super) struct DistroSet {
    /// Its number
    pub(in super::super) id: i64,
    /// Where it is in `distros`
    #[arg(long)]
    pub(in super::super) path: Option<String>,
    /// What it is called
    #[arg(long)]
    pub(in super::super) name: Option<String>,
    #[arg(long)]
    pub(in super::super) note: Option<String>,
}

fn parse_distro(text: &str) -> Result<NoneOr<i64>, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(NoneOr(None)),
        (_, Ok(id)) => Ok(NoneOr(Some(id))),
        _ => Err("give the number that `distrofs admin distro list` shows, or none".to_owned()),
    }
}

fn parse_name(text: &str) -> Result<NoneOr<String>, String> {
    Ok(NoneOr((text != "none").then(|| text.to_owned())))
}

fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("give on or off".to_owned()),
    }
}

fn parse_may_write(text: &str) -> Result<MayWrite, String> {
    match text {
        "default" => Ok(MayWrite(None)),
        _ => parse_writable(text).map(|writable| MayWrite(Some(writable))),
    }
}
