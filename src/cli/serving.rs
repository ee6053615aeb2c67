//! Serving an image: from an opened archive to a mount that answers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use super::args::OwnerArg;
use super::opening::Opened;
use super::{Failure, served};
use crate::config::FuseTuning;
use crate::fs::{FsOptions, Owner};
use crate::fuse::{Connection, SessionHandle};
use crate::index::Index;
use crate::inspect::CONTAINER_IDS;
use crate::metrics::Metrics;
use crate::serving::recording::Recording;
use crate::serving::{Parts, Prepared, Shared, Warmer, settle};
use crate::source::BlockSource;
use crate::source::tables::SECTION_WINDOWS;
use crate::store::{Archive, Image, OpenedIndex, find_profile, profile_places};
use crate::sys::breadcrumbs::Crumb;
use crate::sys::mount::{self, Mount, MountOptions, MountRequest};

/// The part of the memory limit that tables read ahead may take of the page
/// cache, which a limited group of processes has to pay for.
const TABLES_SHARE: u64 = 8;

/// How an image is to be served.
pub(super) struct Serve {
    pub(super) mountpoint: PathBuf,
    pub(super) memory_bytes: u64,
    pub(super) owner: Option<OwnerArg>,
    pub(super) keep_container_owners: bool,
    pub(super) devices: bool,
    pub(super) root: Option<OsString>,
    pub(super) options: MountOptions,
    pub(super) tuning: FuseTuning,
}

/// An image that is being served.
pub(super) struct Serving {
    pub(super) mounted: Mount,
    pub(super) session: SessionHandle,
    pub(super) recording: Arc<Recording>,
}

/// Mounts an image. When this returns, the mount has answered. Starts threads.
pub(super) fn start(
    opened: &Opened,
    how: &Serve,
    metrics: &Arc<Metrics>,
) -> Result<Serving, Failure> {
    let shared = Shared::new(how.memory_bytes, metrics)?;
    read_tables(&opened.index, how.memory_bytes);
    let image = Image::sharing(&opened.archive, &opened.index, shared.decoders(), metrics)?;
    let (index, span_count) = (image.index.clone(), image.source.span_count());
    let root = served::root(how.root.as_deref(), &index)?;
    let options = FsOptions {
        root,
        owner: owner(how, &opened.archive, &index)?,
        devices: how.devices,
    };
    let parts = Parts {
        index: image.index,
        source: image.source,
        version: opened.index.sidecar.identity().sha256,
        name: opened.archive.path(),
        archive_bytes: opened.archive.metadata().len(),
        index_bytes: opened.index.sidecar.len(),
    };
    let prepared = Prepared::new(parts, options, &how.tuning, (&shared, metrics))?;
    let recording = Arc::clone(prepared.recording());
    if how.tuning.profile {
        warm(opened, span_count, prepared.warmer());
    }
    let request = MountRequest {
        source: opened.archive.real_path().into(),
        target: how.mountpoint.clone(),
        allow_other: how
            .options
            .allow_other
            .unwrap_or(rustix::process::geteuid().is_root()),
        flags: how.options.clone(),
    };
    let (mounted, connection) = mount::mount(&request)?;
    let session = prepared.serve(Connection::Fresh(connection), Crumb::default())?;
    if how.tuning.read_ahead_kib > 0
        && let Err(error) = mounted.set_read_ahead(how.tuning.read_ahead_kib)
    {
        tracing::info!(%error, "the kernel keeps its own read-ahead");
    }
    settle(mounted.target(), &index, root).map_err(|e| {
        format!(
            "{}: the mount does not answer: {e}",
            mounted.target().display()
        )
    })?;
    Ok(Serving {
        mounted,
        session,
        recording,
    })
}

/// Prefetches what a start reads, if there is a profile of one.
fn warm(opened: &Opened, span_count: u32, warmer: &Warmer) {
    let places = profile_places(&opened.archive, &opened.index.place);
    if let Some((place, profile)) = find_profile(&places, opened.index.digest(), span_count) {
        tracing::info!(profile = %place.display(), "a start profile is used");
        warmer.warm(&profile);
    }
}

/// Has the tables of the index read while mounting goes on: the first users
/// would wait for each page. Not the windows, most of an index, of which each
/// reader needs others.
fn read_tables(index: &OpenedIndex, memory_bytes: u64) {
    index
        .sidecar
        .read_ahead(&[SECTION_WINDOWS], memory_bytes / TABLES_SHARE);
}

/// Who owns the files: as asked, or whoever owns the archive.
fn owner(how: &Serve, archive: &Archive, index: &Index) -> Result<Owner, Failure> {
    use std::os::unix::fs::MetadataExt;
    match how.owner {
        Some(OwnerArg::Squash { uid, gid }) => Ok(Owner::Squash { uid, gid }),
        None => {
            let file = archive.metadata();
            Ok(Owner::Squash {
                uid: file.uid(),
                gid: file.gid(),
            })
        }
        Some(OwnerArg::Keep) => {
            let max = index.summary().max_owner;
            if max >= CONTAINER_IDS && !how.keep_container_owners {
                return Err(format!(
                    "--owner keep: the archive has files of user or group {max}, and containers \
                     run as users from {CONTAINER_IDS} on: add --i-know if that is meant"
                )
                .into());
            }
            Ok(Owner::Keep)
        }
    }
}
