//! `distrofs mount`: archive to answering mount, then serve until it ends.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::args::{self, Indexing};
use super::opening::{self, say_made};
use super::serving::{self, Serve, Serving};
use super::{Failure, finish};
use crate::config::FuseTuning;
use crate::metrics::Metrics;
use crate::sys::daemon::{self, Ready};
use crate::sys::mount::{self, Mount, MountOptions};
use crate::sys::signal::Signals;

/// A mount whose arguments were checked.
struct Job {
    archive: PathBuf,
    indexing: Indexing,
    serve: Serve,
}

impl Job {
    fn check(args: args::Mount) -> Result<Self, Failure> {
        let mut tuning = FuseTuning::default();
        for setting in &args.tune {
            tuning.set(setting)?;
        }
        tuning.profile &= !args.no_profile;
        let options = MountOptions::parse(&args.options.join(","))?;
        Ok(Self {
            serve: Serve {
                mountpoint: std::path::absolute(&args.mountpoint)?,
                memory_bytes: args.memory.0,
                owner: args.owner,
                keep_container_owners: args.i_know,
                devices: args.devices,
                root: args.root,
                options,
                tuning,
            },
            archive: args.archive,
            indexing: args.indexing,
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
    let Serving {
        mounted, session, ..
    } = serving::start(&opened, &job.serve, &metrics)?;
    let mounted = Arc::new(mounted);
    let _watcher = signals.watch(ending(Arc::clone(&mounted)))?;
    ready.tell()?;
    session.wait()?;
    Ok(())
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
