//! A real mount that a test cannot leave behind and that cannot hang it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use distrofs::config::FuseTuning;
use distrofs::fs::ImageFs;
use distrofs::fuse::{Connection, SessionHandle, serve};
use distrofs::metrics::{Metrics, Op};
use distrofs::sys::mount::{Mount, MountOptions, MountRequest, abort_connection, mount};

/// After this a test has failed: the connection is cut, and whatever waits for
/// the mount gets an error.
const LIMIT: Duration = Duration::from_secs(60);

/// A mount, unmounted lazily when dropped.
pub(crate) struct Mounted {
    pub(crate) path: PathBuf,
    pub(crate) mount: Mount,
    pub(crate) metrics: Arc<Metrics>,
    session: Option<SessionHandle>,
    _alive: Sender<()>,
    _dir: tempfile::TempDir,
}

pub(crate) fn mounted(fs: ImageFs, settings: &[&str]) -> Mounted {
    let dir = tempfile::tempdir().unwrap();
    mounted_at(dir, fs, settings)
}

fn mounted_at(dir: tempfile::TempDir, fs: ImageFs, settings: &[&str]) -> Mounted {
    let mut tuning = FuseTuning::default();
    settings
        .iter()
        .for_each(|setting| tuning.set(setting).unwrap());
    let (mount, fd) = mount(&request(dir.path())).unwrap_or_else(|error| panic!("{error}"));
    let alive = watch(&mount);
    let fs = Arc::new(fs);
    let metrics = fs.metrics();
    let reported = Arc::clone(&metrics);
    let report = Box::new(move |_| Ok(serde_json::to_vec(&reported.snapshot()).unwrap()));
    let session = serve(
        Connection::Fresh(fd),
        fs,
        &tuning,
        distrofs::fuse::Means {
            metrics: Arc::clone(&metrics),
            answers: report,
            recorder: Default::default(),
            buffers: distrofs::fuse::Buffers::new(4 << 20),
            crumb: Default::default(),
        },
    )
    .unwrap();
    let path = mount.target().to_owned();
    Mounted {
        path,
        mount,
        metrics,
        session: Some(session),
        _alive: alive,
        _dir: dir,
    }
}

pub(crate) fn request(target: &Path) -> MountRequest {
    MountRequest {
        source: "a test, with spaces".into(),
        target: target.to_owned(),
        allow_other: true,
        flags: MountOptions::default(),
    }
}

/// Cuts the connection when the time is over, unless the sender is dropped before.
fn watch(mount: &Mount) -> Sender<()> {
    let (alive, ended) = channel();
    let device = mount.device();
    std::thread::spawn(move || {
        if ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
            eprintln!("a test hangs on its mount: the connection is cut");
            if abort_connection(device).is_err() {
                std::process::abort();
            }
        }
    });
    alive
}

impl Mounted {
    pub(crate) fn count(&self, op: Op) -> u64 {
        self.metrics.count(op)
    }

    /// All requests that somebody waits for.
    pub(crate) fn requests(&self) -> u64 {
        Op::ALL
            .iter()
            .filter(|op| **op != Op::Forget)
            .map(|op| self.count(*op))
            .sum()
    }

    /// How long the oldest request is in progress.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.session.as_ref().unwrap().oldest().age()
    }

    pub(crate) fn session(&mut self) -> SessionHandle {
        self.session.take().unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let unmounted = self.mount.unmount(true);
        if let (Ok(()), Some(session)) = (&unmounted, self.session.take())
            && !std::thread::panicking()
        {
            session.wait().unwrap();
        }
        if let Err(error) = unmounted {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}
