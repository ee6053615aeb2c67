//! A service that cannot outlive its test.
//!
//! Guarantees: when [`Service`] is dropped, also by a panic, its processes are gone
//! and nothing is mounted in its directory; what takes longer than `LIMIT` is
//! aborted.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use distrofs::wire::client::ask_text;
use distrofs::wire::control::Request;
use distrofs::wire::report::Status;
use rustix::process::{Pid, Signal, kill_process};

use super::mount::{END_LIMIT, daemons_below};
use super::program::{Ran, distrofs, eventually, run, wait};
use super::view::{dir, kill_below, mounts_below, unmount_below};

/// No test needs its service for so long.
const LIMIT: Duration = Duration::from_secs(300);

/// How long images may take to be served.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// A mount namespace has copies of all mounts that there are when it is made, also
/// of those of other tests: one service at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Homes, and what serves their images.
pub(crate) struct Service {
    path: PathBuf,
    settings: Vec<String>,
    program: PathBuf,
    tracer: Vec<OsString>,
    supervisor: Option<Child>,
    over: Option<Sender<()>>,
    watchdog: Option<JoinHandle<()>>,
    _dir: tempfile::TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Service {
    /// Homes of these users, and no service yet.
    #[track_caller]
    pub(crate) fn new(homes: &[u32]) -> Self {
        super::need_real_mounts();
        let alone = ONE_AT_A_TIME.lock();
        let directory = super::temp_dir();
        let path = directory
            .path()
            .canonicalize()
            .expect("resolve the directory");
        let (over, wait) = channel();
        let watched = path.clone();
        let watchdog = spawn(move || {
            if wait.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{}: served for too long, aborted", watched.display());
                kill_below(&watched);
                unmount_below(&watched);
            }
        });
        let service = Self {
            path: path.clone(),
            // Nobody else's address, socket and registry.
            settings: vec![
                "listen=".to_owned(),
                "socket=".to_owned(),
                format!("registry={}", path.join("registry").display()),
            ],
            program: super::program::binary(),
            tracer: Vec::new(),
            supervisor: None,
            over: Some(over),
            watchdog: Some(watchdog),
            _dir: directory,
            _alone: alone.unwrap_or_else(PoisonError::into_inner),
        };
        for home in homes {
            dir(&service.distros(*home), 0o755);
            for path in [service.home(*home), service.distros(*home)] {
                chown(path, Some(*home), Some(*home)).expect("chown a home");
            }
        }
        service
    }

    /// Changes a setting, from the next start on.
    pub(crate) fn set(&mut self, setting: &str) {
        self.settings.push(setting.to_owned());
    }

    /// Has another file be the program, from the next start on. It has to be called as
    /// the one under test is.
    pub(crate) fn set_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Has the service be started by this command, from the next start on. It has to
    /// become what it starts.
    pub(crate) fn trace(&mut self, command: &[&OsStr]) {
        self.tracer = command.iter().map(|&word| word.to_owned()).collect();
    }

    /// The supervisor.
    #[track_caller]
    pub(crate) fn supervisor(&self) -> Pid {
        Pid::from_child(self.supervisor.as_ref().expect("it runs"))
    }

    /// How many files the supervisor has open.
    #[track_caller]
    pub(crate) fn descriptors(&self) -> usize {
        let fds = format!("/proc/{}/fd", self.supervisor().as_raw_nonzero());
        fs::read_dir(fds).expect("look at the supervisor").count()
    }

    /// The directory that all is in.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn home(&self, home: u32) -> PathBuf {
        self.path.join("containers").join(home.to_string())
    }

    pub(crate) fn distros(&self, home: u32) -> PathBuf {
        self.home(home).join("distros")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Puts a file into `distros/` as its owner would: whole, by renaming.
    #[track_caller]
    pub(crate) fn upload(&self, home: u32, from: &Path, name: &str) {
        let part = self.distros(home).join(format!("{name}.part"));
        fs::copy(from, &part).expect("copy an archive");
        chown(&part, Some(home), Some(home)).expect("chown an archive");
        fs::rename(&part, self.distros(home).join(name)).expect("put it in its place");
    }

    /// Starts the service, and waits until all images are served.
    #[track_caller]
    pub(crate) fn start(&mut self) {
        self.start_only();
        let log = self.path.join("log");
        let is_ready = || {
            let log = fs::read_to_string(&log).unwrap_or_default();
            log.contains("all images are served")
        };
        let ready = eventually(READY_LIMIT, is_ready);
        assert!(ready, "not ready: {}", self.log());
    }

    /// The same without waiting.
    #[track_caller]
    pub(crate) fn start_only(&mut self) {
        let log = File::create(self.path.join("log")).expect("make a log");
        let mut command = match &self.tracer[..] {
            [] => Command::new(&self.program),
            [tracer, args @ ..] => {
                let mut command = Command::new(tracer);
                command.args(args).arg(&self.program);
                command
            }
        };
        command.args(["serve", "-v"]).args([
            "--set",
            &format!("homes={}", self.path.join("containers").display()),
        ]);
        command.args(["--set", &format!("run={}", self.run_dir().display())]);
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        let child = command.stderr(log).spawn();
        self.supervisor = Some(child.expect("start the service"));
    }

    /// What it said since it was started.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }

    /// Kills the supervisor.
    #[track_caller]
    pub(crate) fn kill(&mut self) {
        let mut supervisor = self.supervisor.take().expect("it runs");
        supervisor.kill().expect("kill the supervisor");
        supervisor.wait().expect("wait for the supervisor");
    }

    /// Has it end, and takes all away.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        self.end(Signal::TERM);
    }

    /// Has it end, and leave all as it is.
    #[track_caller]
    pub(crate) fn hand_over(&mut self) {
        self.end(Signal::HUP);
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) {
        let mut supervisor = self.supervisor.take().expect("it runs");
        let pid = Pid::from_child(&supervisor);
        kill_process(pid, signal).expect("ask the supervisor to end");
        let status = wait(&mut supervisor, END_LIMIT).expect("it ends");
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// Where HTTP is answered, once it is. The setting `listen` has to say that.
    #[track_caller]
    pub(crate) fn http(&self) -> SocketAddr {
        let file = self.run_dir().join("api.addr");
        let address = || fs::read_to_string(&file).ok()?.trim().parse().ok();
        let is_there = eventually(READY_LIMIT, || address().is_some());
        assert!(is_there, "nobody answers HTTP: {}", self.log());
        address().expect("it was there")
    }

    /// The process that answers HTTP, if there is one.
    pub(crate) fn api(&self) -> Option<Pid> {
        daemons_below(&self.run_dir()).first().copied()
    }

    /// What the supervisor says of all homes, and of lines in logs.
    #[track_caller]
    pub(crate) fn told(&self) -> Status {
        let text = ask_text(&self.run_dir(), &Request::Status, END_LIMIT, 1 << 20);
        serde_json::from_str(&text.expect("ask")).expect("a status")
    }

    /// An image with these files and nothing else.
    #[track_caller]
    pub(crate) fn image(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let tree = self.path.join(format!("{name}.tree"));
        dir(&tree, 0o755);
        for (path, content) in files {
            super::view::file(&tree.join(path), 0o644, content.as_bytes());
        }
        let archive = self.path.join(format!("{name}.tgz"));
        super::archive::tar(&tree, &archive, &["-z"]);
        fs::remove_dir_all(&tree).expect("remove the tree");
        archive
    }

    /// The worker of a home, if there is one.
    pub(crate) fn worker(&self, home: u32) -> Option<Pid> {
        daemons_below(&self.home(home)).first().copied()
    }

    /// Where something is mounted, in the order of mounting.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        mounts_below(&self.path)
    }

    /// What `distrofs status --json` says of a home.
    #[track_caller]
    pub(crate) fn status(&self, home: u32) -> serde_json::Value {
        let mut command = distrofs(["status", "--json", "--run"]);
        let homes = run(command.arg(self.run_dir())).ok().json();
        let homes = homes.as_array().expect("a list").iter();
        let found = homes.clone().find(|found| found["home"] == home);
        found
            .unwrap_or_else(|| panic!("no home {home}: {homes:?}"))
            .clone()
    }

    /// A command of the program by a user of no other group, which asks this service:
    /// all that it says.
    #[track_caller]
    pub(crate) fn as_user(&self, uid: u32, args: &[&str]) -> String {
        let script = ["exec $p \"$@\"", "sh"];
        self.script_as(uid, &script, &[args, &["--run", "."]].concat())
    }

    /// A script of the shell by such a user, in a user namespace and a mount namespace of
    /// its own. `$p` is the program.
    #[track_caller]
    pub(crate) fn in_namespaces(&self, uid: u32, script: &str) -> String {
        let inside = [
            "exec unshare --user --map-root-user --mount sh -c \"$1\"",
            "sh",
        ];
        self.script_as(uid, &inside, &[script])
    }

    fn script_as(&self, uid: u32, script: &[&str], args: &[&str]) -> String {
        let mut command = Command::new("setpriv");
        let uid = uid.to_string();
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        // By its descriptor: the program may be where this user cannot go.
        let program = File::open(super::program::binary()).expect("open the program");
        command
            .args(["sh", "-c"])
            .args(script)
            .args(args)
            .env("p", "/proc/self/fd/0");
        command.current_dir(self.run_dir());
        let output = command.stdin(program).output().expect("run as a user");
        (String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr))
            .into_owned()
    }

    /// `distrofs attach` of the image at `30000/PATH`, in a mount namespace of its
    /// own, and then a script of the shell there. `$1` is where the view is.
    #[track_caller]
    pub(crate) fn attached(&self, container: u32, image: &str, script: &str) -> Ran {
        run(&mut self.attaching(container, image, script))
    }

    /// A view of the root that is chosen for a container, while a script of the shell
    /// runs with it as `$1`.
    #[track_caller]
    pub(crate) fn attached_root(&self, container: u32, script: &str) -> Ran {
        let at = self.path.join("at").join(container.to_string());
        dir(&at, 0o755);
        let program = super::program::binary();
        let text = format!(
            "mount --make-rprivate /; '{}' attach {container} --at \"$1\" --run '{}'\n{script}",
            program.display(),
            self.run_dir().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", &text, "sh"]).arg(at);
        run(&mut command)
    }

    pub(crate) fn attaching(&self, container: u32, image: &str, script: &str) -> Command {
        let at = self.path.join("at").join(container.to_string());
        dir(&at, 0o755);
        let program = super::program::binary();
        let text = format!(
            "mount --make-rprivate /; '{}' attach {container} --image {image} --at \"$1\" --run \
             '{}'\n{script}",
            program.display(),
            self.run_dir().display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", &text, "sh"]).arg(at);
        command
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(mut supervisor) = self.supervisor.take() {
            super::attempt(supervisor.kill());
            super::attempt(supervisor.wait());
            if std::thread::panicking() {
                eprintln!("{}", self.log());
            }
        }
        kill_below(&self.path);
        unmount_below(&self.path);
        if !eventually(END_LIMIT, || daemons_below(&self.path).is_empty()) {
            eprintln!("a process does not end: {:?}", daemons_below(&self.path));
        }
        drop(self.over.take());
        if let Some(watchdog) = self.watchdog.take() {
            super::attempt(watchdog.join());
        }
    }
}
