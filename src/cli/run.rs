//! `distrofs run`: a command in a container of its own, with an archive as its
//! root.
//!
//! This process serves the image and waits; the container's first process is its
//! child, and ends with it, however it ends. All mounts are made in mount
//! namespaces of the two, and what is written is kept in memory: nothing is left.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::args::{OwnerArg, Run};
use super::lab::collect::{Collector, Feed};
use super::lab::record::{self, Recorded};
use super::opening::{self, Opened, say_made};
use super::serving::{self, Serve, Serving};
use super::{Failure, text};
use crate::config::FuseTuning;
use crate::container::{self, Outside, Program};
use crate::metrics::Metrics;
use crate::sys::contain::{self, Child, FAILED};
use crate::sys::mount::MountOptions;
use crate::sys::signal::Signals;
use crate::sys::{namespace, pass, tree};
use crate::view::{self, Composed, Dir, Image, SOURCE, Wanted};

/// The largest trace that is written.
const TRACE_BYTES_MAX: u64 = 256 << 20;

/// The longest name that a host can have, less some room.
const HOSTNAME_CHARS_MAX: usize = 63;

pub(super) fn run(job: Run) -> ExitCode {
    match start(job) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("distrofs: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn start(job: Run) -> Result<u8, Failure> {
    let metrics = Arc::new(Metrics::default());
    let opened = opening::open(&job.archive, &job.indexing, false, &metrics)?;
    say_made(&opened.index);
    // Opened where the caller sees it: some directories are covered later.
    let trace = job.trace.as_deref().map(record::create).transpose()?;
    let is_of_user = !namespace::may_mount();
    if is_of_user {
        if job.owner.is_some() {
            return Err("--owner takes root: without, all files are your own".into());
        }
        contain::become_root_of_own().map_err(no_namespace)?;
    }
    namespace::of_this_process()
        .map_err(|cause| format!("cannot make a mount namespace: {cause}"))?;
    let outside = Outside::take(&job.binds)?;
    let place = Place::make()?;
    // Both processes are told of signals, each of its own.
    let mut signals = Signals::block_passed_on()?;
    let theirs = Signals::block_passed_on()?;
    let program = Program {
        command: job.command.clone(),
        uid: job.uid,
        is_of_user,
        hostname: hostname(&job.archive),
        env: job.env.clone(),
    };
    let root = place.root.clone();
    let (child, socket) = contain::contained(move |socket| {
        container::run(outside, &program, &root, theirs, &socket)
    })?;
    // The socket is closed by an error, upon which the child ends.
    let (serving, composed) = compose(&job, &opened, &place, is_of_user, &metrics)?;
    let tracing = trace.map(|to| Tracing::begin(&serving, to, job.trace_for));
    let tracing = tracing.transpose()?;
    pass::send(&socket, composed.tree.as_fd())?;
    drop((composed, socket));
    let status = attend(&child, &mut signals)?;
    if let (Some(tracing), Some(path)) = (tracing, &job.trace) {
        let recorded = tracing.end()?;
        if !job.trace_quiet {
            record::tell(path, &recorded, false)?;
        }
    }
    Ok(status)
}

/// A trace that is written while the command runs.
struct Tracing {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<Recorded, Failure>>,
}

impl Tracing {
    fn begin(serving: &Serving, to: File, limit: Option<Duration>) -> Result<Tracing, Failure> {
        let feed = Feed::Here(Arc::clone(&serving.recording));
        let command = std::env::args().collect::<Vec<_>>().join(" ");
        let mut collector = Collector::begin(vec![feed], || Ok(to), TRACE_BYTES_MAX, &command)?;
        let ended = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ended);
        let thread = std::thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || {
                collector.until(&told, limit, |_, _| {})?;
                collector.finish()
            })?;
        Ok(Tracing { ended, thread })
    }

    fn end(self) -> Result<Recorded, Failure> {
        self.ended.store(true, Ordering::Relaxed);
        let ended = self.thread.join();
        ended.map_err(|_| "writing the trace failed")?
    }
}

fn attend(child: &Child, signals: &mut Signals) -> Result<u8, Failure> {
    let status = child.attend(signals);
    status.map_err(|cause| format!("cannot wait for the container: {cause}").into())
}

/// Where things are mounted, in a namespace of this process.
struct Place {
    image: PathBuf,
    written: PathBuf,
    root: PathBuf,
}

impl Place {
    fn make() -> io::Result<Place> {
        let place = namespace::cover()?;
        let made = |name: &str| {
            let path = place.join(name);
            fs::create_dir(&path).map(|()| path)
        };
        Ok(Place {
            image: made("image")?,
            written: made("written")?,
            root: made("root")?,
        })
    }
}

/// Serves the image, and composes the view that is to be the container's root.
fn compose(
    job: &Run,
    opened: &Opened,
    place: &Place,
    is_of_user: bool,
    metrics: &Arc<Metrics>,
) -> Result<(Serving, Composed), Failure> {
    let yourself = OwnerArg::Squash { uid: 0, gid: 0 };
    let serve = Serve {
        mountpoint: place.image.clone(),
        memory_bytes: job.memory.0,
        owner: if is_of_user {
            Some(yourself)
        } else {
            job.owner
        },
        keep_container_owners: job.i_know,
        devices: false,
        root: job.root.clone(),
        options: MountOptions::default(),
        tuning: FuseTuning {
            profile: !job.no_profile,
            ..FuseTuning::default()
        },
    };
    let serving = serving::start(opened, &serve, metrics)?;
    let image = Image::mounted(&place.image)?;
    let memory = tree::filesystem("tmpfs", &[("mode", "700")], false)?;
    let written = Dir::open(&place.written)?;
    tree::attach(memory.as_fd(), written.as_fd())?;
    let home = Dir::from(memory);
    let composed = view::compose(&Wanted {
        image: image.root(),
        plan: image.plan(),
        home: &home,
        writable: job.writable,
        passwd: job.passwd.then_some(job.uid),
        is_of_user,
        source: SOURCE,
    })?;
    for note in &composed.notes {
        eprintln!("distrofs: {note}");
    }
    Ok((serving, composed))
}

/// A name for the host inside, made of the archive's.
fn hostname(archive: &Path) -> String {
    let name = archive.file_name().unwrap_or(archive.as_os_str());
    let name = text::printable(name.as_encoded_bytes()).into_owned();
    let name = name.split('.').next().unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = name.chars().map(plain).take(HOSTNAME_CHARS_MAX).collect();
    match name.is_empty() {
        true => "distrofs".to_owned(),
        false => name,
    }
}

/// What of this machine stands in the way of a user's own namespaces.
fn no_namespace(cause: io::Error) -> Failure {
    let setting = |path: &str, closed: &str| {
        fs::read_to_string(path).is_ok_and(|value| value.trim() == closed)
    };
    let why = [
        ("/proc/sys/user/max_user_namespaces", "0"),
        ("/proc/sys/kernel/unprivileged_userns_clone", "0"),
        (
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ),
    ];
    let found = why.iter().find(|(path, closed)| setting(path, closed));
    let advice = match found {
        Some((path, value)) => format!("{path} is {value}: change it, or run this as root"),
        None => "run it as root, or see `distrofs doctor`".to_owned(),
    };
    format!("cannot make a user namespace: {cause}; {advice}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_get_plain_names() {
        assert_eq!(hostname(Path::new("/a/debian 12.tar.gz")), "debian-12");
        assert_eq!(hostname(Path::new(".tgz")), "distrofs");
        assert_eq!(
            hostname(Path::new(&"x".repeat(200))).len(),
            HOSTNAME_CHARS_MAX
        );
    }
}
