//! What may be typed, as clap reads it.

mod admin;
mod lab;
mod profile;
mod service;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, Subcommand};

use crate::config::{ByteSize, ConfigError, FuseTuning, LogFormat};
use crate::container::Bind;
use crate::view::Writable;
pub(super) use admin::{
    Admin, AdminCommand, ContainerCommand, ContainerOptions, CustomerCommand, CustomerSet,
    DefaultDistroCommand, DistroCommand, List, ServerCommand,
};
pub(super) use lab::{
    Lab, LabAdvise, LabMrc, LabPlot, LabRecord, LabReplay, LabShow, LabSynth, Shown, Traced,
};
pub(super) use profile::{OfService, Profile, ProfileOf, ProfileRecord, ProfileShow};
pub(super) use service::{
    Abort, Attach, Detach, Image, ImageList, Mode, OneImage, Serve, Status, Target,
};

/// Serves a container image archive as a read-only filesystem, without
/// unpacking it.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub(super) struct Args {
    /// Say more: -v what is done, -vv every detail.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(super) verbose: u8,
    /// How log lines are written; `serve` has a setting for it
    #[arg(long, global = true, value_name = "text|json")]
    pub(super) log_format: Option<LogFormat>,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// One job.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Index an archive, so that mounting it takes no time.
    Index(Index),
    /// Mount an archive on a directory, read-only.
    Mount(Mount),
    /// Run a command in a container of its own, with an archive as its root.
    Run(Run),
    /// Unmount an archive; its serving process ends.
    Umount(Umount),
    /// List what is in an archive, without mounting it.
    Ls(Ls),
    /// Print a file of an archive, without mounting it.
    Cat(Cat),
    /// Show the counters of a mounted archive.
    Stats(Stats),
    /// Check that containers can start from an archive, and show what in it an
    /// owner should know.
    Inspect(Inspect),
    /// Check every checksum of an archive and its index.
    Verify(Verify),
    /// Show what of this machine works, what degrades, and what to do.
    Doctor(Doctor),
    /// Give containers their own views of an image.
    #[command(subcommand)]
    View(View),
    /// Serve the images of storage containers: a service, as root.
    Serve(Serve),
    /// Attach a container's own view of an image that is served: for the hook of a
    /// launcher.
    Attach(Attach),
    /// Take a container's view away again, where `attach` put it.
    Detach(Detach),
    /// Show what a service serves, and how that is doing.
    Status(Status),
    /// Show and change the images that a service has.
    #[command(subcommand)]
    Image(Image),
    /// Say who has which containers and images: customers, servers, containers, distros.
    Admin(Admin),
    /// The laboratory: record what is read, and see what other caches would do.
    #[command(subcommand)]
    Lab(Lab),
    /// Start profiles: which parts of an image a start reads, for the next one to find
    /// them prefetched.
    #[command(subcommand)]
    Profile(Profile),
    /// Break the connections of an image that hangs: who waits for it gets an error.
    Abort(Abort),
    /// What answers HTTP; the service starts it.
    #[command(hide = true)]
    Api {
        /// The directory of the service's sockets, for those who list processes.
        #[arg(long)]
        run: PathBuf,
    },
    /// What writes a line into the log of a container; the service starts it.
    #[command(hide = true)]
    EmperorLog {
        /// The container's home, for those who list processes.
        home: PathBuf,
    },
    /// What serves one home; the service starts it.
    #[command(hide = true)]
    Worker {
        /// Its home, for those who list processes.
        home: PathBuf,
    },
}

/// How to find or make an index.
#[derive(Debug, clap::Args)]
pub(super) struct Indexing {
    /// Where the index is, or is to be made [default: ARCHIVE.dfsx, or the
    /// user's cache directory where that cannot be written]
    #[arg(long, value_name = "PATH")]
    pub(super) index: Option<PathBuf>,
    /// Longest distance of two checkpoints in the uncompressed stream, for an
    /// index made now: smaller is faster random access and a larger index
    #[arg(long, value_name = "SIZE", default_value_t = SPAN, value_parser = parse_span)]
    pub(super) span: ByteSize,
    /// Read on behind the end of the archive, for several that were joined; an
    /// index made without this is made again
    #[arg(long)]
    pub(super) ignore_zeros: bool,
}

/// Distance of checkpoints unless told otherwise.
const SPAN: ByteSize = ByteSize(256 * 1024);

impl Indexing {
    /// An index with spans of about this length.
    pub(super) fn of_span(span: ByteSize) -> Self {
        Self {
            span,
            ..Self::default()
        }
    }
}

impl Default for Indexing {
    fn default() -> Self {
        Self {
            index: None,
            span: SPAN,
            ignore_zeros: false,
        }
    }
}

/// `distrofs index`
#[derive(Debug, clap::Args)]
pub(super) struct Index {
    /// The archive: a tar file, plain or gzip-compressed
    pub(super) archive: PathBuf,
    #[command(flatten)]
    pub(super) indexing: Indexing,
    /// Make the index anew even if a valid one is there
    #[arg(long)]
    pub(super) force: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `distrofs mount`
#[derive(Debug, clap::Args)]
pub(super) struct Mount {
    /// The archive: a tar file, plain or gzip-compressed
    pub(super) archive: PathBuf,
    /// An existing directory
    pub(super) mountpoint: PathBuf,
    #[command(flatten)]
    pub(super) indexing: Indexing,
    /// Memory to stay within, for everything
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_memory)]
    pub(super) memory: ByteSize,
    /// Who owns all files: a user and group number, or `keep` for what the
    /// archive says [default: the owner of the archive file]
    #[arg(long, value_name = "UID:GID|keep", value_parser = parse_owner)]
    pub(super) owner: Option<OwnerArg>,
    /// Keep owners although one is 30000 or more: containers run as those
    /// users, and would own what the archive says is theirs
    #[arg(long)]
    pub(super) i_know: bool,
    /// Show device nodes (they cannot be opened: the mount is `nodev`)
    #[arg(long)]
    pub(super) devices: bool,
    /// The directory of the archive to serve as the root [default: the top, or
    /// the only directory in it if that is a root filesystem]
    #[arg(long, value_name = "PATH")]
    pub(super) root: Option<OsString>,
    /// Do not prefetch what a start profile names
    #[arg(long)]
    pub(super) no_profile: bool,
    /// Serve in the foreground instead of returning once the mount answers
    #[arg(long, short)]
    pub(super) foreground: bool,
    /// Mount options, as for mount(8): nosuid, nodev, noexec, allow_other, …
    #[arg(short = 'o', value_name = "OPTS", value_delimiter = ',')]
    pub(super) options: Vec<String>,
    /// Change a setting, for measurements: KEY=VALUE, repeatable
    #[arg(long, value_name = "KEY=VALUE", help = tune_help())]
    pub(super) tune: Vec<String>,
}

/// `distrofs run`
#[derive(Debug, clap::Args)]
pub(super) struct Run {
    /// The archive: a tar file, plain or gzip-compressed
    pub(super) archive: PathBuf,
    /// What may be written; it is kept in memory, and gone in the end: `paths` that
    /// everybody may write, the whole `tree` as far as permissions let it, or `none`
    #[arg(long, value_name = "paths|tree|none", default_value = "paths", value_parser = parse_writable)]
    pub(super) writable: Writable,
    /// Show something of this machine in the container: a path here, a path there
    #[arg(long = "bind", value_name = "SRC:DST", value_parser = parse_bind)]
    pub(super) binds: Vec<Bind>,
    /// The user, and the group, that the command runs as
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = parse_user)]
    pub(super) uid: u32,
    /// Add the lines of that user to /etc/passwd, group and shadow
    #[arg(long)]
    pub(super) passwd: bool,
    /// Set a variable for the command, besides PATH, HOME and TERM; repeatable
    #[arg(long = "env", value_name = "NAME=VALUE", value_parser = parse_variable)]
    pub(super) env: Vec<(OsString, OsString)>,
    /// Who owns all files, as for `mount` [default: the owner of the archive file,
    /// or yourself where you are not root]
    #[arg(long, value_name = "UID:GID|keep", value_parser = parse_owner)]
    pub(super) owner: Option<OwnerArg>,
    /// Keep owners although one is 30000 or more
    #[arg(long)]
    pub(super) i_know: bool,
    /// Memory to stay within for serving the image
    #[arg(long, value_name = "SIZE", default_value = "64M", value_parser = parse_memory)]
    pub(super) memory: ByteSize,
    /// The directory of the archive that is the root, as for `mount`
    #[arg(long, value_name = "PATH")]
    pub(super) root: Option<OsString>,
    #[command(flatten)]
    pub(super) indexing: Indexing,
    /// Record which reads reach the serving process, for `distrofs lab`
    #[arg(long, value_name = "TRACE")]
    pub(super) trace: Option<PathBuf>,
    /// End the trace after so long; the command goes on
    #[arg(long, value_name = "TIME", requires = "trace", value_parser = lab::parse_time)]
    pub(super) trace_for: Option<Duration>,
    /// Say nothing of the trace
    #[arg(long, hide = true)]
    pub(super) trace_quiet: bool,
    /// Do not prefetch what a start profile names
    #[arg(long)]
    pub(super) no_profile: bool,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(super) command: Vec<OsString>,
}

/// `distrofs umount`
#[derive(Debug, clap::Args)]
pub(super) struct Umount {
    /// Where it is mounted
    pub(super) mountpoint: PathBuf,
    /// Detach now; those who still use it may finish
    #[arg(long, short)]
    pub(super) lazy: bool,
}

/// `distrofs ls`
#[derive(Debug, clap::Args)]
pub(super) struct Ls {
    /// The archive
    pub(super) archive: PathBuf,
    /// A path in it
    #[arg(default_value = "/")]
    pub(super) path: OsString,
    /// One line each with type, mode, links, owner, size and time
    #[arg(short)]
    pub(super) long: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) indexing: Indexing,
}

/// `distrofs cat`
#[derive(Debug, clap::Args)]
pub(super) struct Cat {
    /// The archive
    pub(super) archive: PathBuf,
    /// The path of a file in it
    pub(super) path: OsString,
    #[command(flatten)]
    pub(super) indexing: Indexing,
}

/// `distrofs stats`
#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    /// Where an archive is mounted
    pub(super) mountpoint: PathBuf,
    /// Print JSON, with --watch a line each time
    #[arg(long)]
    pub(super) json: bool,
    /// Show them again and again, every 2 seconds unless told otherwise, with
    /// what happened in each second
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = parse_interval
    )]
    pub(super) watch: Option<Duration>,
}

/// `distrofs inspect`
#[derive(Debug, clap::Args)]
pub(super) struct Inspect {
    /// The archive
    pub(super) archive: PathBuf,
    /// List the packages that dpkg, apk or rpm recorded
    #[arg(long)]
    pub(super) packages: bool,
    /// The user of the container that will start from it
    #[arg(long, value_name = "N")]
    pub(super) uid: Option<u32>,
    /// Name everything that was found, not only the first of each kind
    #[arg(long)]
    pub(super) all: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// The directory of the archive that is the root, as for `mount`
    #[arg(long, value_name = "PATH")]
    pub(super) root: Option<OsString>,
    #[command(flatten)]
    pub(super) indexing: Indexing,
}

/// `distrofs verify`
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// The archive
    pub(super) archive: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) indexing: Indexing,
}

/// `distrofs doctor`
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// `distrofs view`
#[derive(Debug, Subcommand)]
pub(super) enum View {
    /// Attach a view: the image, read-only but for what everybody may write, and
    /// that is the container's own.
    Up(ViewUp),
    /// Take a view down; what the container wrote stays.
    Down(ViewDown),
    /// List the views.
    List(ViewList),
    /// Remove what a container wrote to an image.
    Reset(ViewReset),
}

/// What all commands on views have.
#[derive(Debug, clap::Args)]
pub(super) struct ViewState {
    /// Where views and what containers write are kept, on a filesystem that
    /// overlayfs can write to
    #[arg(long, value_name = "DIR", default_value = "/var/lib/distrofs")]
    pub(super) state: PathBuf,
}

/// `distrofs view up`
#[derive(Debug, clap::Args)]
pub(super) struct ViewUp {
    /// An archive, which is mounted if it is not yet, or where one is mounted
    #[arg(long, value_name = "ARCHIVE|IMAGE_MOUNT")]
    pub(super) image: PathBuf,
    /// The user of the container
    #[arg(long, value_name = "UID")]
    pub(super) container: u32,
    /// An existing directory to attach the view on
    #[arg(long, value_name = "DIR")]
    pub(super) at: PathBuf,
    /// What the container may write: `paths` that everybody may write, as mounts of
    /// their own, all else being read-only; the whole `tree` as far as permissions
    /// let it, in one mount, as launchers need that bind one mount or remount `/`;
    /// `none`
    #[arg(long, value_name = "paths|tree|none", default_value = "paths", value_parser = parse_writable)]
    pub(super) writable: Writable,
    /// Who owns all files, as for `mount`, if an archive is given [default: the
    /// owner of the archive file]
    #[arg(long, value_name = "UID:GID|keep", value_parser = parse_owner)]
    pub(super) owner: Option<OwnerArg>,
    /// Keep owners although one is 30000 or more
    #[arg(long)]
    pub(super) i_know: bool,
    /// Do not prefetch what a start profile names, if an archive is mounted for this
    #[arg(long)]
    pub(super) no_profile: bool,
    /// Add the lines of the container's user to /etc/passwd, group and shadow of
    /// the view
    #[arg(long)]
    pub(super) passwd: bool,
    #[command(flatten)]
    pub(super) state: ViewState,
}

/// `distrofs view down`
#[derive(Debug, clap::Args)]
pub(super) struct ViewDown {
    /// Where the view is
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) state: ViewState,
}

/// `distrofs view list`
#[derive(Debug, clap::Args)]
pub(super) struct ViewList {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) state: ViewState,
}

/// `distrofs view reset`
#[derive(Debug, clap::Args)]
pub(super) struct ViewReset {
    /// The archive, or where it is mounted
    #[arg(long, value_name = "ARCHIVE|IMAGE_MOUNT")]
    pub(super) image: PathBuf,
    /// The user of the container
    #[arg(long, value_name = "UID")]
    pub(super) container: u32,
    #[command(flatten)]
    pub(super) state: ViewState,
}

/// Names may hold colons: the last one that a slash follows parts them.
fn parse_bind(text: &str) -> Result<Bind, String> {
    let parted = text.rfind(":/").filter(|at| *at > 0);
    let (from, to) = parted
        .map(|at| (&text[..at], &text[at + 1..]))
        .ok_or_else(|| {
            "give SRC:DST, DST being absolute, for example /srv/data:/data".to_owned()
        })?;
    Ok(Bind {
        from: from.into(),
        to: to.into(),
    })
}

fn parse_variable(text: &str) -> Result<(OsString, OsString), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err("give NAME=VALUE".to_owned()),
    }
}

/// The last number is "no change" to setuid(2).
fn parse_user(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok().filter(|n| *n != u32::MAX);
    number.ok_or_else(|| "give the number of a user".to_owned())
}

fn parse_writable(text: &str) -> Result<Writable, String> {
    let all = [Writable::Paths, Writable::Tree, Writable::None];
    let found = all.into_iter().find(|writable| writable.name() == text);
    found.ok_or_else(|| "give paths, tree or none".to_owned())
}

/// Whose files they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerArg {
    /// As in the archive.
    Keep,
    /// All of one user and group.
    Squash { uid: u32, gid: u32 },
}

impl std::fmt::Display for OwnerArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            OwnerArg::Keep => f.write_str("keep"),
            OwnerArg::Squash { uid, gid } => write!(f, "{uid}:{gid}"),
        }
    }
}

fn parse_owner(text: &str) -> Result<OwnerArg, String> {
    if text == "keep" {
        return Ok(OwnerArg::Keep);
    }
    // The last number is "no change" to chown(2) and nobody's uid.
    let number = |n: &str| n.parse::<u32>().ok().filter(|n| *n != u32::MAX);
    let parsed = text
        .split_once(':')
        .and_then(|(uid, gid)| Some((number(uid)?, number(gid)?)));
    parsed
        .map(|(uid, gid)| OwnerArg::Squash { uid, gid })
        .ok_or_else(|| "give two numbers as UID:GID, for example 30001:30001, or `keep`".to_owned())
}

/// Below, the counters would mostly count themselves.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds
        .filter(|seconds| (0.1..=86_400.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| {
            "give 0.1 to 86400 seconds, or put --watch behind the mount point".to_owned()
        })
}

/// Below, an index is larger than its archive; above, a random read takes
/// seconds.
fn parse_span(text: &str) -> Result<ByteSize, String> {
    parse_size(text, 32 << 10..=64 << 20, "32K to 64M")
}

/// Below, a decoder for each worker and some blocks do not fit.
fn parse_memory(text: &str) -> Result<ByteSize, String> {
    parse_size(text, 8 << 20..=1 << 40, "at least 8M")
}

fn parse_size(
    text: &str,
    range: std::ops::RangeInclusive<u64>,
    expected: &str,
) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|e: ConfigError| e.to_string())?;
    range
        .contains(&size.0)
        .then_some(size)
        .ok_or_else(|| format!("give {expected}"))
}

fn tune_help() -> String {
    format!(
        "Change a setting, for measurements; repeatable. Keys: {}",
        FuseTuning::KEYS.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn owners_are_two_numbers_or_keep() {
        assert_eq!(parse_owner("keep"), Ok(OwnerArg::Keep));
        assert_eq!(parse_owner("1:2"), Ok(OwnerArg::Squash { uid: 1, gid: 2 }));
        for wrong in ["", "1", "a:b", "1:", "-1:0", "4294967295:0", "1:2:3"] {
            assert!(parse_owner(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_interval_may_be_left_out() {
        let watch = |line: &[&str]| match Args::try_parse_from(line).map(|args| args.command) {
            Ok(Command::Stats(stats)) => stats.watch,
            other => panic!("{other:?}"),
        };
        assert_eq!(watch(&["distrofs", "stats", "/mnt"]), None);
        let two = Some(Duration::from_secs(2));
        assert_eq!(watch(&["distrofs", "stats", "/mnt", "--watch"]), two);
        let half = Some(Duration::from_millis(500));
        assert_eq!(
            watch(&["distrofs", "stats", "--watch", "0.5", "/mnt"]),
            half
        );
        for wrong in ["0", "-1", "/mnt", "nan", "1e9"] {
            assert!(parse_interval(wrong).is_err(), "{wrong}");
        }
    }
}
