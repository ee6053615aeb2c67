//! `distrofs mount`: archive to answering mount, then serve until it ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use super::args::{self, Indexing, OwnerArg};
use super::opening::{self, Opened, say_made};
use super::report::Reporter;
use super::settle::settle;
use super::{Failure, finish, served};
use crate::budget::MemoryBudget;
use crate::cache::{BlockCache, CachedReader, ImageId, Prefetcher};
use crate::config::FuseTuning;
use crate::fs::{FsOptions, ImageFs, Owner};
use crate::fuse::{self, Answers};
use crate::index::Index;
use crate::inspect::CONTAINER_IDS;
use crate::metrics::Metrics;
use crate::source::BlockSource;
use crate::source::tables::SECTION_WINDOWS;
use crate::store::{Archive, Image, OpenedIndex};
use crate::sys::daemon::{self, Ready};
use crate::sys::ioctl::Question;
use crate::sys::mount::{self, Mount, MountOptions, MountRequest};
use crate::sys::signal::Signals;
use crate::types::Ino;
use crate::view::Plan;

/// The part of the memory limit that tables read ahead may take of the page
/// cache, which a limited group of processes has to pay for.
const TABLES_SHARE: u64 = 8;

/// A mount whose arguments were checked.
struct Job {
    archive: PathBuf,
    mountpoint: PathBuf,
    indexing: Indexing,
    memory_bytes: u64,
    owner: Option<OwnerArg>,
    keep_container_owners: bool,
    devices: bool,
    root: Option<std::ffi::OsString>,
    options: MountOptions,
    tuning: FuseTuning,
}

impl Job {
    fn check(args: args::Mount) -> Result<Self, Failure> {
        let mut tuning = FuseTuning::default();
        for setting in &args.tune {
            tuning.set(setting)?;
        }
        Ok(Self {
            options: MountOptions::parse(&args.options.join(","))?,
            mountpoint: std::path::absolute(&args.mountpoint)?,
            archive: args.archive,
            indexing: args.indexing,
            memory_bytes: args.memory.0,
            owner: args.owner,
            keep_container_owners: args.i_know,
            devices: args.devices,
            root: args.root,
            tuning,
        })
    }
}

pub(super) fn run(args: args::Mount) -> ExitCode {
    let foreground = args.foreground;
    let job = match Job::check(args) {
        Ok(job) => job,
        Err(error) => {
            eprintln!("distrofs: {error}");
            return ExitCode::from(2);
        }
    };
    if foreground {
        return finish(serve(&job, Ready::foreground()));
    }
    let work = |ready| match serve(&job, ready) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("distrofs: {error}");
            1
        }
    };
    match daemon::background(work) {
        Ok(status) => ExitCode::from(status),
        Err(error) => finish(Err(
            format!("cannot start in the background: {error}").into()
        )),
    }
}

fn serve(job: &Job, ready: Ready) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, false, &metrics)?;
    say_made(&opened.index);
    // Ctrl-C ends indexing at once. From here on no thread may be started that
    // a signal could find and kill the process by.
    let signals = Signals::block()?;
    let budget = MemoryBudget::new(job.memory_bytes);
    read_tables(&opened.index, job.memory_bytes);
    let image = Image::open(&opened.archive, &opened.index, &budget, &metrics)?;
    let index = image.index.clone();
    let root = served::root(job.root.as_deref(), &index)?;
    let owner = owner(job, &opened.archive, &index)?;
    let devices = job.devices;
    let options = FsOptions {
        root,
        owner,
        devices,
    };
    let reporter = reporter(&opened, &index, &budget, &metrics);
    let fs = assemble(image, options, &budget, &metrics)?;
    let request = MountRequest {
        source: job.archive.canonicalize()?.into_os_string(),
        target: job.mountpoint.clone(),
        allow_other: job
            .options
            .allow_other
            .unwrap_or(rustix::process::geteuid().is_root()),
        flags: job.options.clone(),
    };
    let (mounted, connection) = mount::mount(&request)?;
    let answers = answers(reporter, index.clone(), root, &opened.index);
    let session = fuse::serve(connection, Arc::new(fs), &job.tuning, metrics, answers)?;
    if job.tuning.read_ahead_kib > 0
        && let Err(error) = mounted.set_read_ahead(job.tuning.read_ahead_kib)
    {
        tracing::info!(%error, "the kernel keeps its own read-ahead");
    }
    settle(mounted.target(), &index, root).map_err(|e| {
        format!(
            "{}: the mount does not answer: {e}",
            mounted.target().display()
        )
    })?;
    let mounted = Arc::new(mounted);
    let _watcher = signals.watch(ending(Arc::clone(&mounted)))?;
    ready.tell()?;
    session.wait()?;
    Ok(())
}

/// Has the tables of the index read while mounting goes on: the first users
/// would wait for each page. Not the windows, most of an index, of which each
/// reader needs others.
fn read_tables(index: &OpenedIndex, memory_bytes: u64) {
    index
        .sidecar
        .read_ahead(&[SECTION_WINDOWS], memory_bytes / TABLES_SHARE);
}

/// What a signal does: the first detaches the mount and lets its users finish,
/// the second breaks the connection.
fn ending(mounted: Arc<Mount>) -> impl FnMut(i32) + Send {
    let mut asked = false;
    move |_signal| {
        let done = if asked {
            mount::abort_connection(mounted.device()).map_err(Failure::from)
        } else {
            mounted.unmount(true).map_err(Failure::from)
        };
        if let Err(error) = done {
            tracing::error!(%error, "cannot end the mount");
        }
        asked = true;
    }
}

/// What tells `stats` how the mount is doing.
fn reporter(
    opened: &Opened,
    index: &Index,
    budget: &MemoryBudget,
    metrics: &Arc<Metrics>,
) -> Reporter {
    Reporter::new(
        Arc::clone(metrics),
        budget.clone(),
        (opened.archive.path(), opened.archive.metadata().len()),
        index,
        opened.index.sidecar.len(),
    )
}

/// What the mount answers when it is asked by ioctl.
fn answers(reporter: Reporter, index: Index, root: Ino, opened: &OpenedIndex) -> Answers {
    let version = opened.sidecar.identity().sha256;
    // An image never changes.
    let plan = OnceLock::new();
    Box::new(move |question| match question {
        Question::Report => Ok(serde_json::to_vec(&reporter.report()).unwrap_or_default()),
        Question::Plan(from) => {
            let plan = plan.get_or_init(|| Plan::of(&index, root, version));
            Ok(plan.as_ref().map_err(Clone::clone)?.answer(from))
        }
    })
}

/// The image's filesystem, with everything below it.
fn assemble(
    image: Image,
    options: FsOptions,
    budget: &MemoryBudget,
    metrics: &Arc<Metrics>,
) -> Result<ImageFs, Failure> {
    let Image { index, source } = image;
    let cache = BlockCache::new(budget, Arc::clone(metrics)).ok_or("no memory for a cache")?;
    let source: Arc<dyn BlockSource> = source;
    let prefetcher = Prefetcher::start()?;
    let reader = CachedReader::new(
        ImageId(0),
        source,
        Arc::new(cache),
        Some(prefetcher),
        Arc::clone(metrics),
    );
    Ok(ImageFs::new(index, reader, options, Arc::clone(metrics))?)
}

/// Who owns the files: as asked, or whoever owns the archive.
fn owner(job: &Job, archive: &Archive, index: &Index) -> Result<Owner, Failure> {
    use std::os::unix::fs::MetadataExt;
    match job.owner {
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
            if max >= CONTAINER_IDS && !job.keep_container_owners {
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
