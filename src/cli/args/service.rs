//! What is asked of `distrofs serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{Writable, parse_interval, parse_writable};
use crate::types::ImageOf;

/// `distrofs serve`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Serve {
    /// Settings in TOML; all have defaults
    #[arg(long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// Change a setting of the file: KEY=VALUE, repeatable
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(in super::super) settings: Vec<String>,
    /// Check the settings, print all that are in effect, and do nothing else
    #[arg(long)]
    pub(in super::super) check: bool,
}

/// Where the service is found.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Service {
    /// The service's directory for sockets, as its setting `run` says
    #[arg(long, value_name = "DIR", default_value = "/run/distrofs")]
    pub(in super::super) run: PathBuf,
}

/// A container's view, and where it is.
#[derive(Debug, clap::Args)]
pub(in super::super) struct Target {
    /// The image: the storage container's user, and the path in its `distros`
    /// [default: what the registry decides for this container, or the settings name]
    #[arg(long, value_name = "UID/PATH")]
    pub(in super::super) image: Option<ImageOf>,
    /// The directory that the view is attached on, in this mount namespace [default:
    /// where the image is in the storage container's `distros`, so that a launcher
    /// finds this view in place of the tree that all share]
    #[arg(long, value_name = "DIR")]
    pub(in super::super) at: Option<PathBuf>,
}

/// `distrofs detach`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Detach {
    /// The user of the container
    pub(in super::super) container: u32,
    #[command(flatten)]
    pub(in super::super) target: Target,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// `distrofs attach`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Attach {
    /// The user of the container
    pub(in super::super) container: u32,
    #[command(flatten)]
    pub(in super::super) target: Target,
    /// What the container may write [default: as the service's settings say]
    #[arg(long, value_name = "paths|tree|none", value_parser = parse_writable)]
    pub(in super::super) writable: Option<Writable>,
    /// Add the lines of the container's user to /etc/passwd, group and shadow of
    /// the view
    #[arg(long)]
    pub(in super::super) passwd: bool,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// `distrofs status`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Status {
    /// Print JSON, with --watch a line each time
    #[arg(long)]
    pub(in super::super) json: bool,
    /// Show it again and again, every 2 seconds unless told otherwise
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = parse_interval
    )]
    pub(in super::super) watch: Option<Duration>,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// `distrofs abort`
#[derive(Debug, clap::Args)]
pub(in super::super) struct Abort {
    /// The image: the storage container's user, and the path in its `distros`
    #[arg(value_name = "UID/PATH")]
    pub(in super::super) image: ImageOf,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// `distrofs image`
#[derive(Debug, Subcommand)]
pub(in super::super) enum Image {
    /// List images, and what is uploaded to become one.
    List(ImageList),
    /// Show an image: what is served, what is wrong, what containers need of it.
    Show(OneImage),
    /// List the versions of an image that are kept.
    Versions(OneImage),
    /// Go back to a version that is kept, or forward again: new starts get it.
    Rollback(ImageRollback),
    /// Forget an image, or one of its versions. Containers that have it keep it.
    Rm(ImageRm),
    /// Say how many versions of an image are kept.
    Keep(ImageKeep),
    /// Remove archives from the disk that nobody keeps or uses.
    Gc(ImageList),
    /// Compare all that an image is made of with its checksums.
    Verify(OneImage),
    /// Give directories or files in an image another mode, in this version and all
    /// that follow: with 777 or 1777 containers can write there.
    Chmod(ImageChmod),
    /// Remove the exploded tree that an image hides.
    Reclaim(OneImage),
}

/// Of one home, or of all.
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImageList {
    /// The user of the storage container [default: all that who asks may see]
    #[arg(value_name = "UID")]
    pub(in super::super) home: Option<u32>,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// An image.
#[derive(Debug, clap::Args)]
pub(in super::super) struct OneImage {
    /// The image: the storage container's user, and the path in its `distros`
    #[arg(value_name = "UID/PATH")]
    pub(in super::super) image: ImageOf,
    /// Print JSON
    #[arg(long)]
    pub(in super::super) json: bool,
    #[command(flatten)]
    pub(in super::super) service: Service,
}

/// `distrofs image rollback`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImageRollback {
    #[command(flatten)]
    pub(in super::super) one: OneImage,
    /// The first digits of its digest, or `previous`: the one before the current one
    #[arg(default_value = "previous")]
    pub(in super::super) version: String,
}

/// `distrofs image rm`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImageRm {
    #[command(flatten)]
    pub(in super::super) one: OneImage,
    /// Forget only this version, which must not be the current one: the first digits
    /// of its digest
    #[arg(long)]
    pub(in super::super) version: Option<String>,
}

/// `distrofs image keep`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImageKeep {
    #[command(flatten)]
    pub(in super::super) one: OneImage,
    /// How many; without it as many as of other images
    pub(in super::super) versions: Option<u32>,
}

/// `distrofs image chmod`
#[derive(Debug, clap::Args)]
pub(in super::super) struct ImageChmod {
    #[command(flatten)]
    pub(in super::super) one: OneImage,
    /// The mode in octal digits, as 1777; `archive` for that of the archive again
    #[arg(value_parser = parse_mode)]
    pub(in super::super) mode: Mode,
    /// Where in the image, as /var/cache
    #[arg(required = true, value_name = "DIR")]
    pub(in super::super) places: Vec<String>,
}

/// A mode that something in an image is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Mode {
    /// As in the archive.
    Archive,
    /// These permission bits.
    Bits(u32),
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    if text == "archive" {
        return Ok(Mode::Archive);
    }
    let bits = u32::from_str_radix(text, 8)
        .ok()
        .filter(|bits| *bits <= 0o7777);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    bits.filter(|_| is_plain)
        .map(Mode::Bits)
        .ok_or_else(|| "give up to four octal digits, as 777 or 1777, or `archive`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_octal() {
        assert_eq!(parse_mode("archive"), Ok(Mode::Archive));
        assert_eq!(parse_mode("1777"), Ok(Mode::Bits(0o1777)));
        for wrong in ["", "+7", "8", "17777", "0o7", "a+w"] {
            assert!(parse_mode(wrong).is_err(), "{wrong}");
        }
    }
}
