//! The process that mounts: root, and as little as that can be.
//!
//! It holds the connections of all mounts, starts a worker for each home and the
//! next one when that dies, composes views and hands them out. It opens no archive
//! and no index, speaks no HTTP and has no database: what it parses is its settings
//! and the short messages of `wire`.
//!
//! # Signals, and how the program is replaced
//!
//! `SIGTERM` and `SIGINT` stop the service: everything is unmounted that nobody uses,
//! and nothing new starts. `SIGHUP` ends this process only: workers and mounts go on,
//! and wait for the next supervisor. So the program is replaced by renaming the new
//! file over the old one, sending `SIGHUP`, and starting `distrofs serve` again: it
//! relieves the workers of the old build one by one (`handover`). Until then, workers
//! are started from the file that this process was, wherever that is now: those of a
//! home and its supervisor are always one build. Of systemd that takes
//! `RestartKillSignal=SIGHUP` and `KillMode=process`
//! (`dist/distrofs.service`).
//!
//! | module | what it is |
//! |---|---|
//! | `decisions` | what the registry decided for containers |
//! | `roots`, `restart` | which root a container gets, and how it starts anew |
//! | `alarms` | what waits for the registry |
//! | `storages` | homes that begin and end to store images |
//! | `asked` | what clients want of a home |
//! | `home`, `known` | one home: its worker, and what is mounted for it |
//! | `deaths` | images that end workers |
//! | `handover` | from one supervisor to the next |
//! | `process`, `orders` | the worker's process, and what it is told |
//! | `mounts` | the mounts of images |
//! | `places` | the trees at `distros/PATH` |
//! | `control`, `reply` | what commands ask |
//! | `api`, `registry` | the process that answers HTTP, and the directory it has |
//! | `consumers`, `emperor_log` | containers that use images, and lines in their logs |

mod alarms;
mod api;
mod asked;
mod consumers;
mod control;
mod deaths;
mod decisions;
mod emperor_log;
mod error;
mod handover;
mod home;
mod known;
mod mounts;
mod notify;
mod orders;
mod places;
mod process;
mod registry;
mod reply;
mod restart;
mod roots;
mod storages;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

pub use api::{ADDRESS, API};
pub use emperor_log::{APPEND, AppendError, append};
pub use error::SupervisorError;
pub use process::WORKER;

use crate::config::{FuseTuning, ServeConfig};
use crate::sys::cgroup::{self, Limits};
use crate::sys::packets::Listener;
use crate::sys::signal::{HANGUP, Signals};
use crate::types::ImageOf;
use crate::view::State;
use crate::wire::control::CONTROL;
use crate::wire::report::Decided;
use crate::wire::{Begin, PROTOCOL};
use alarms::Alarms;
use api::Api;
use consumers::Consumers;
use decisions::Table;
use emperor_log::EmperorLog;
use home::{Home, Paths};
use storages::Following;

/// How long images may take to be served before this is called ready.
const SETTLE_WITHIN: Duration = Duration::from_secs(600);

/// How long something may be missing that could not be shown at once.
const MEND_EVERY: Duration = Duration::from_secs(10);

/// The control group of a worker, in that of its storage container.
const GROUP: &str = "distrofs";

/// All homes.
#[derive(Debug)]
pub struct Supervisor {
    config: ServeConfig,
    homes: RwLock<BTreeMap<u32, Arc<Home>>>,
    decisions: Arc<Table>,
    alarms: Alarms,
    /// Held while homes begin and end.
    following: Mutex<Following>,
    log: Arc<EmperorLog>,
    _lock: File,
}

/// Serves until a signal asks it to end, or to hand over. `ready` is called once all images that were
/// there are served.
pub fn run(config: ServeConfig, ready: impl FnOnce()) -> Result<(), SupervisorError> {
    if !rustix::process::geteuid().is_root() {
        return Err(SupervisorError::NotRoot);
    }
    let system = |doing| move |cause| SupervisorError::System { doing, cause };
    let mut signals = Signals::block().map_err(system("block signals"))?;
    let supervisor = Arc::new(Supervisor::new(config)?);
    let socket = supervisor.config.run.join(CONTROL);
    // Who asks is looked at for each question.
    let listener = Listener::bind(&socket, 0o666).map_err(directory("listen at", &socket))?;
    let thread = |name: String, work: Box<dyn FnOnce() + Send>| {
        let started = std::thread::Builder::new().name(name).spawn(work);
        started.map(drop).map_err(system("start a thread"))
    };
    supervisor.follow();
    supervisor.homes().iter().for_each(Home::spawn);
    let asked = Arc::clone(&supervisor);
    thread(
        "control".to_owned(),
        Box::new(move || control::answer(&asked, &listener)),
    )?;
    let api = supervisor.api();
    if let Some(api) = api.clone() {
        thread("api".to_owned(), Box::new(move || api.run()))?;
    }
    let mended = Arc::clone(&supervisor);
    thread("mend".to_owned(), Box::new(move || mend(&mended)))?;
    for home in supervisor.homes() {
        if !home.wait_until_settled(SETTLE_WITHIN) {
            tracing::error!(home = home.uid, "not all images are served yet");
        }
    }
    ready();
    notify::notify("READY=1").map_err(system("tell the service manager"))?;
    loop {
        let signal = signals.wait().map_err(system("wait for signals"))?;
        tracing::info!(signal, "ending");
        supervisor.decisions.keep();
        if signal == HANGUP {
            if !supervisor.homes().iter().all(|home| home.may_be_left()) {
                tracing::error!("not handed over, as a worker is missing: try again");
                continue;
            }
        } else {
            // Whoever waits for this process waits for what it stops, not for this.
            let _told = notify::notify("STOPPING=1").is_ok();
            if let Some(api) = &api {
                api.stop();
            }
            supervisor.homes().iter().for_each(|home| home.stop());
        }
        return Ok(());
    }
}

/// Looks now and then whether all images are where they should be.
fn mend(supervisor: &Supervisor) {
    loop {
        std::thread::sleep(MEND_EVERY);
        supervisor.homes().iter().for_each(|home| home.mend());
        supervisor.follow();
    }
}

impl Supervisor {
    fn new(config: ServeConfig) -> Result<Supervisor, SupervisorError> {
        let run = config.run.clone();
        make(&run, 0o711)?;
        let lock = run.join("lock");
        let lock = File::create(&lock).map_err(directory("make the file", &lock))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            return Err(SupervisorError::Running(run));
        }
        let state = config.state();
        make(&state, 0o700)?;
        let on = |path: &Path| {
            let found = fs::metadata(path).map_err(directory("open the directory", path))?;
            Ok::<_, SupervisorError>(found.dev())
        };
        if on(&state)? != on(&config.homes)? {
            return Err(SupervisorError::Elsewhere {
                state,
                homes: config.homes,
            });
        }
        let homes = homes(&config)?;
        let log = EmperorLog::start(config.homes.clone());
        let log = Arc::new(log.map_err(|cause| SupervisorError::System {
            doing: "start a thread",
            cause,
        })?);
        let following = Following::of(homes.iter().copied());
        let left = left_workers(&run.join("workers"));
        let begun = homes
            .iter()
            .map(|uid| Ok((*uid, home(&config, *uid, Arc::clone(&log)).map(Arc::new)?)));
        let mut begun = begun.collect::<Result<BTreeMap<_, _>, SupervisorError>>()?;
        for uid in left {
            let Entry::Vacant(free) = begun.entry(uid) else {
                continue;
            };
            // What containers have of it goes on, whoever decides.
            match home(&config, uid, Arc::clone(&log)) {
                Ok(home) => drop(free.insert(Arc::new(home))),
                Err(error) => tracing::warn!(home = uid, %error, "a worker is left alone"),
            }
        }
        let decisions = Table::open(&state).map_err(directory("use", &state))?;
        Ok(Supervisor {
            homes: RwLock::new(begun),
            decisions,
            alarms: Alarms::open(&state),
            following: Mutex::new(following),
            config,
            log,
            _lock: lock,
        })
    }

    /// What answers HTTP, if something is to.
    fn api(&self) -> Option<Arc<Api>> {
        Api::new(&self.config)
    }

    /// Whether somebody may ask for a container's root: root for any, and a container's
    /// user for what is chosen for it.
    fn allow(&self, uid: u32, container: u32, image: Option<&ImageOf>) -> bool {
        let own = match self.decisions.chosen(container) {
            Some(chosen) => chosen.image,
            None => self.config.image_of(container).cloned(),
        };
        let is_own = uid == container && (image.is_none() || image == own.as_ref());
        uid == 0 || is_own
    }

    /// The image that was asked for, or that the settings name.
    fn named(&self, container: u32, image: Option<ImageOf>) -> Result<ImageOf, SupervisorError> {
        let image = image.or_else(|| self.config.image_of(container).cloned());
        image.ok_or(SupervisorError::NotChosen { container })
    }

    /// What the registry decided, as far as it is known.
    fn decided(&self) -> Decided {
        let (containers, revision) = self.decisions.told();
        Decided {
            containers,
            revision,
            alarms_waiting: self.alarms.waiting(),
        }
    }

    /// All homes, also those that only go on with what is used.
    fn homes(&self) -> Vec<Arc<Home>> {
        let homes = self.homes.read().unwrap_or_else(PoisonError::into_inner);
        homes.values().cloned().collect()
    }

    /// A home that is served, or goes on with something.
    fn any_home(&self, uid: u32) -> Result<Arc<Home>, SupervisorError> {
        let homes = self.homes.read().unwrap_or_else(PoisonError::into_inner);
        let found = homes.get(&uid).filter(|home| home.is_there());
        found.cloned().ok_or(SupervisorError::NoHome { home: uid })
    }

    /// A home that is served.
    fn home(&self, uid: u32) -> Result<Arc<Home>, SupervisorError> {
        let homes = self.homes.read().unwrap_or_else(PoisonError::into_inner);
        let found = homes.get(&uid).filter(|home| home.is_served());
        found.cloned().ok_or(SupervisorError::NoHome { home: uid })
    }
}

/// Those that were named, or all that have a directory `distros`.
fn homes(config: &ServeConfig) -> Result<Vec<u32>, SupervisorError> {
    if !config.storage.is_empty() {
        return Ok(config.storage.clone());
    }
    let failed = directory("read the directory", &config.homes);
    let mut homes = Vec::new();
    for entry in fs::read_dir(&config.homes).map_err(&failed)? {
        let entry = entry.map_err(&failed)?;
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        let Some(uid @ 1..) = number else { continue };
        let distros = fs::symlink_metadata(entry.path().join("distros"));
        if distros.is_ok_and(|distros| distros.is_dir()) {
            homes.push(uid);
        }
    }
    homes.sort_unstable();
    Ok(homes)
}

/// Homes whose workers a supervisor before may have left.
fn left_workers(sockets: &Path) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(sockets) else {
        return Vec::new();
    };
    let number = |name: &str| name.strip_suffix(".sock")?.parse().ok();
    let entries = entries.filter_map(Result::ok);
    let numbers = entries.filter_map(|entry| number(entry.file_name().to_str()?));
    numbers.filter(|uid| *uid != 0).collect()
}

fn home(config: &ServeConfig, uid: u32, log: Arc<EmperorLog>) -> Result<Home, SupervisorError> {
    let path = config.homes.join(uid.to_string());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |path: &Path| {
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map_err(|cause| directory("open the directory", path)(cause.into()))
    };
    let opened = open(&path)?;
    let found = rustix::fs::fstat(&opened).map_err(|e| directory("look at", &path)(e.into()))?;
    if found.st_uid != uid {
        return Err(SupervisorError::Home {
            why: format!("it belongs to user {}, and should to {uid}", found.st_uid),
            path,
        });
    }
    if uid == config.api_user {
        return Err(SupervisorError::Home {
            why: "its user is the `api_user`, who is told of all homes: name another one".into(),
            path,
        });
    }
    let state = config.state();
    let stores = state.join("stores");
    make(&stores, 0o711)?;
    let store = stores.join(uid.to_string());
    make(&store, 0o700)?;
    std::os::unix::fs::chown(&store, Some(uid), Some(found.st_gid))
        .map_err(directory("give away", &store))?;
    for name in ["workers", "mounts"] {
        make(&config.run.join(name), 0o700)?;
    }
    let paths = Paths {
        socket: config.run.join("workers").join(format!("{uid}.sock")),
        mounts: config.run.join("mounts").join(uid.to_string()),
        notes: config.run.join("workers").join(uid.to_string()),
        home: path,
    };
    let begin = Begin {
        protocol: PROTOCOL,
        uid,
        gid: found.st_gid,
        memory_bytes: config.memory.0,
        versions_kept: config.versions_kept,
        tune: config.tune.clone(),
        after_fault: false,
    };
    let mut tuning = FuseTuning::default();
    for setting in &config.tune {
        tuning
            .set(setting)
            .map_err(|error| SupervisorError::System {
                doing: "use a setting",
                cause: io::Error::other(error),
            })?;
    }
    let views = State::open(&state.join("views"))?;
    let opened = (opened, open(&store)?);
    let groups = groups(config, uid)?;
    let consumers = Consumers::new(paths.home.join("distros"), log);
    let settings = (tuning.read_ahead_kib, consumers);
    Home::new(begin, groups, opened, paths, views, settings)
}

/// The control groups of a home's worker, made if need be.
fn groups(config: &ServeConfig, uid: u32) -> Result<Vec<PathBuf>, SupervisorError> {
    let limits = Limits {
        memory_bytes: config.memory.0,
        cpu_weight: config.cpu_weight,
    };
    let make = |template: &String| {
        let parent = PathBuf::from(template.replace("{uid}", &uid.to_string()));
        cgroup::make(&parent, GROUP, limits).map_err(directory("make a group in", &parent))
    };
    config.cgroups.iter().map(make).collect()
}

/// A directory of ours, made if need be.
fn make(path: &Path, mode: u32) -> Result<(), SupervisorError> {
    let made = DirBuilder::new().recursive(true).mode(mode).create(path);
    made.map_err(directory("make the directory", path))
}

fn directory(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> SupervisorError {
    let path = path.to_owned();
    move |cause| SupervisorError::Directory {
        doing,
        path: path.clone(),
        cause,
    }
}
