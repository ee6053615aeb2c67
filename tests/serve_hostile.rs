//! `distrofs serve` over homes whose owners mean harm: `distros/` is theirs, and they
//! may put anything there at any time. After each thing that they do the service is
//! alive, other images are served, and what is not theirs is as it was.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use common::program::{eventually, run};
use common::service::Service;
use rustix::fs::{CWD, RenameFlags, renameat_with};

const S: u32 = 30_000;
const OTHER: u32 = 31_000;
const SOON: Duration = Duration::from_secs(60);
const SECRET: &str = "nobody may see this";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("{}: {e}", path.display()))
}

/// What is at all paths below, links not followed.
fn below(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("read a directory") {
            let path = entry.expect("read a directory").path();
            let kind = fs::symlink_metadata(&path).expect("look").file_type();
            let what = match () {
                () if kind.is_dir() => {
                    dirs.push(path.clone());
                    "a directory".to_owned()
                }
                () if kind.is_file() => read(&path),
                () => format!("{kind:?}"),
            };
            all.insert(path, what);
        }
    }
    all
}

/// Two homes with the image `good` each, and a directory that is nobody's business.
struct Stage {
    service: Service,
    victim: PathBuf,
    untouched: BTreeMap<PathBuf, String>,
    elsewhere: Vec<String>,
}

impl Stage {
    fn new() -> Self {
        let mut service = Service::new(&[S, OTHER]);
        for (home, text) in [(S, "mine"), (OTHER, "theirs")] {
            let image = service.image(&format!("good-{home}"), &[("conf", text)]);
            service.upload(home, &image, "good.tgz");
        }
        let victim = service.path().join("victim");
        common::view::file(&victim.join("file"), 0o600, SECRET.as_bytes());
        common::view::dir(&victim.join("etc"), 0o755);
        let archive = service.image("victim", &[("conf", SECRET)]);
        fs::copy(&archive, victim.join("stolen.tgz")).expect("copy an archive");
        for path in [&victim, &victim.join("stolen.tgz")] {
            chown(path, Some(S), Some(S)).expect("chown");
        }
        service.start();
        Self {
            untouched: below(&victim),
            elsewhere: mounted_elsewhere(),
            victim,
            service,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.service.distros(S).join(name)
    }

    /// Puts an archive with this text in `conf` into the home.
    fn upload(&self, path: &str, text: &str) {
        let image = self.service.image("next", &[("conf", text)]);
        self.service.upload(S, &image, &format!("{path}.tgz"));
    }

    #[track_caller]
    fn served(&self, path: &str, text: &str) {
        let conf = self.at(path).join("conf");
        let is_served = eventually(SOON, || read(&conf) == text);
        assert!(is_served, "{}{}", read(&conf), self.service.log());
    }

    /// The service goes on, and nothing that is not its business changed.
    #[track_caller]
    fn assert_unharmed(&self) {
        let service = &self.service;
        assert_eq!(service.told().homes.len(), 2);
        assert_eq!(read(&service.distros(OTHER).join("good/conf")), "theirs");
        self.attaches("good", "mine");
        assert_eq!(below(&self.victim), self.untouched);
        assert_eq!(mounted_elsewhere(), self.elsewhere);
        for at in service.mounts() {
            let is_ours = at.starts_with(service.run_dir().join("mounts"))
                || [S, OTHER].iter().any(|home| {
                    at.starts_with(service.home(*home)) && at != service.distros(*home)
                });
            assert!(is_ours, "mounted at {}", at.display());
        }
    }

    #[track_caller]
    fn attaches(&self, path: &str, text: &str) {
        let image = format!("{S}/{path}");
        let ran = self.service.attached(30_001, &image, "cat \"$1/conf\"");
        assert_eq!(ran.ok().stdout, text, "{path}");
    }

    /// Waits until the worker has looked at the home once more and did not like it.
    #[track_caller]
    fn disliked(&self) {
        let count = || {
            let log = self.service.log();
            log.matches("cannot look at the images of the home").count()
        };
        let before = count();
        let looked = eventually(SOON, || count() >= before + 2);
        assert!(looked, "{}", self.service.log());
    }

    fn end(self) {
        self.end_with(|_| {});
    }

    fn end_with(mut self, look: impl FnOnce(&Self)) {
        self.service.stop();
        let gone = eventually(SOON, || {
            self.service.mounts().is_empty() && self.service.worker(S).is_none()
        });
        assert!(gone, "{:?}: {}", self.service.mounts(), self.service.log());
        assert_eq!(below(&self.victim), self.untouched);
        assert_eq!(mounted_elsewhere(), self.elsewhere);
        look(&self);
    }
}

/// All mounts that are no test's.
fn mounted_elsewhere() -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let mut targets: Vec<_> = mounts
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|target| !target.contains("/target/tmp/"))
        .map(str::to_owned)
        .collect();
    targets.sort();
    targets
}

/// Appends to a file for ever, until dropped.
fn growing<T>(path: &Path, meanwhile: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let is_done = &is_done;
        let mut file = File::create(path).expect("make a file");
        chown(path, Some(S), Some(S)).expect("chown");
        scope.spawn(move || {
            // So much that it would be noticed, and no disk is filled.
            for _ in 0..5000 {
                if is_done.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all(&[0x1f; 4096]).expect("write");
                sleep(Duration::from_millis(2));
            }
        });
        let stop = Stop(is_done);
        let done = meanwhile();
        drop(stop);
        done
    })
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn whatever_lies_in_distros_the_rest_is_served() {
    let stage = Stage::new();
    let long = "x".repeat(251);
    let shadow = fs::read("/etc/shadow").expect("read /etc/shadow");
    let own = |name: &str| lchown(stage.at(name), Some(S), Some(S)).expect("chown");
    symlink("/etc/shadow", stage.at("shadow.tgz")).expect("link");
    symlink(stage.victim.join("stolen.tgz"), stage.at("stolen.tgz")).expect("link");
    run(Command::new("mkfifo").arg(stage.at("pipe.tgz"))).ok();
    fs::create_dir(stage.at("directory.tgz")).expect("make a directory");
    drop(UnixListener::bind(stage.at("socket.tgz")).expect("make a socket"));
    let theirs = stage.service.image("theirs", &[("conf", SECRET)]);
    chown(&theirs, Some(OTHER), Some(OTHER)).expect("chown");
    fs::hard_link(&theirs, stage.at("hard.tgz")).expect("link");
    for name in ["shadow", "stolen", "pipe", "directory", "socket"] {
        own(&format!("{name}.tgz"));
    }
    for name in ["..tgz", "...tgz", "$(id).tgz", "a\nb.tgz", "-rf.tgz"] {
        fs::write(stage.at(name), SECRET).expect("write a file");
        own(name);
    }
    for name in ["nul", "con", "zero", "self"] {
        stage.upload(name, name);
    }
    let image = stage.service.image("long", &[("conf", &long)]);
    chown(&image, Some(S), Some(S)).expect("chown");
    fs::rename(image, stage.at(&format!("{long}.tgz"))).expect("put it in its place");
    growing(&stage.at("growing.tgz"), || {
        stage.upload("last", "last");
        for name in ["nul", "con", "zero", "self", "last"] {
            stage.served(name, name);
        }
        let status = |name: &str| read(&stage.at(&format!("{name}.status")));
        for (name, why) in [
            ("shadow", "symbolic link"),
            ("stolen", "symbolic link"),
            ("pipe", "pipe"),
            ("directory", "directory"),
            ("socket", "socket"),
            ("hard", "belongs to user 31000"),
            ("growing", "uploading"),
        ] {
            let is_said = eventually(SOON, || status(name).contains(why));
            assert!(is_said, "{name}: {}", status(name));
            stage
                .service
                .attached(30_001, &format!("{S}/{name}"), "true")
                .refused(1, &[]);
        }
        assert!(status("$(id).tgz").contains("another name"));
        // Served, or told that it cannot be.
        let is_settled =
            || read(&stage.at(&long).join("conf")) == long || stage.service.log().contains(&long);
        assert!(eventually(SOON, is_settled), "{}", stage.service.log());
        stage.assert_unharmed();
    });
    for (path, text) in below(&stage.service.distros(S)) {
        let is_theirs = path.ends_with("hard.tgz");
        let is_own = text == SECRET && (path.ends_with(".rejected") || path.is_file());
        assert!(is_theirs || is_own || !text.contains(SECRET), "{path:?}");
        assert!(!text.contains("root:"), "{path:?}: {text}");
    }
    assert_eq!(fs::read("/etc/shadow").expect("read /etc/shadow"), shadow);
    stage.end();
}

#[test]
fn distros_that_is_replaced_leads_nowhere_and_may_come_back() {
    let stage = Stage::new();
    let (distros, away) = (stage.service.distros(S), stage.service.home(S).join("away"));
    let theirs = below(&stage.service.distros(OTHER));
    fs::rename(&distros, &away).expect("rename distros");
    stage.disliked();
    stage.assert_unharmed();
    for target in [&*stage.service.distros(OTHER), Path::new("/etc"), &away] {
        symlink(target, &distros).expect("link");
        stage.disliked();
        stage.assert_unharmed();
        fs::remove_file(&distros).expect("remove a link");
    }
    fs::write(&distros, "a file").expect("write a file");
    stage.disliked();
    fs::remove_file(&distros).expect("remove a file");
    assert_eq!(below(&stage.service.distros(OTHER)), theirs);
    assert!(!Path::new("/etc/good.status").exists());
    // Others go on meanwhile.
    let image = stage.service.image("next", &[("conf", "newer")]);
    stage.service.upload(OTHER, &image, "good.tgz");
    let conf = stage.service.distros(OTHER).join("good/conf");
    assert!(eventually(SOON, || read(&conf) == "newer"));
    // A directory that has nothing.
    fs::create_dir(&distros).expect("make a directory");
    chown(&distros, Some(S), Some(S)).expect("chown");
    stage.upload("fresh", "fresh");
    stage.served("fresh", "fresh");
    fs::remove_file(stage.at("fresh.status")).expect("remove a status");
    fs::rename(&distros, stage.service.home(S).join("fresh")).expect("rename distros");
    fs::rename(&away, &distros).expect("put distros back");
    assert_eq!(read(&stage.at("good/conf")), "mine");
    stage.upload("good", "second");
    stage.served("good", "second");
    stage.end();
}

/// A directory `distros` that was renamed took with it what was mounted in it. The
/// service left that there when it was stopped, for ever.
#[test]
fn a_stop_takes_away_what_was_moved_with_distros() {
    let mut stage = Stage::new();
    let away = stage.service.home(S).join("away");
    fs::rename(stage.service.distros(S), &away).expect("rename distros");
    symlink(stage.service.distros(OTHER), stage.service.distros(S)).expect("link");
    stage.disliked();
    stage.service.stop();
    let gone = eventually(SOON, || stage.service.mounts().is_empty());
    assert!(gone, "{:?}", stage.service.mounts());
    // Nor is a home served whose `distros` is a link.
    stage.service.start();
    let conf = stage.service.distros(OTHER).join("good/conf");
    assert!(eventually(SOON, || read(&conf) == "theirs"));
    let is_alone = eventually(SOON, || stage.service.worker(S).is_none());
    assert!(is_alone, "{}", stage.service.log());
    assert!(!away.join("good/conf").exists());
    fs::remove_file(stage.service.distros(S)).expect("remove a link");
    fs::rename(&away, stage.service.distros(S)).expect("put distros back");
    stage.service.stop();
    stage.service.start();
    stage.served("good", "mine");
    stage.end();
}

#[test]
fn what_is_in_the_way_of_an_image_is_neither_followed_nor_lost() {
    let stage = Stage::new();
    let own = |name: &str| lchown(stage.at(name), Some(S), Some(S)).expect("chown");
    symlink(&stage.victim, stage.at("link")).expect("link");
    symlink("/etc", stage.at("root")).expect("link");
    symlink("nowhere", stage.at("nothing")).expect("link");
    symlink(stage.service.distros(OTHER).join("good"), stage.at("over")).expect("link");
    fs::write(stage.at("file"), "a file").expect("write a file");
    run(Command::new("mkfifo").arg(stage.at("pipe"))).ok();
    common::view::file(&stage.at("full/deep/conf"), 0o644, b"exploded");
    // Where something is said.
    symlink(stage.victim.join("file"), stage.at("plain.status")).expect("link");
    fs::create_dir(stage.at("full.status")).expect("make a directory");
    symlink(&stage.victim, stage.at(".rejected")).expect("link");
    for name in ["link", "root", "nothing", "over", "file", "pipe", "full"] {
        own(name);
    }
    let before = below(&stage.service.distros(OTHER));
    let names = [
        "link", "root", "nothing", "over", "file", "pipe", "full", "plain",
    ];
    fs::write(stage.at("bad.tgz"), [7; 4096]).expect("write a file");
    own("bad.tgz");
    for name in names {
        stage.upload(name, name);
    }
    for name in names {
        let is_taken = eventually(SOON, || !stage.at(&format!("{name}.tgz")).exists());
        assert!(is_taken, "{name}: {}", stage.service.log());
    }
    stage.served("full", "full");
    stage.served("plain", "plain");
    // Containers get them all the same.
    for name in names {
        let image = format!("{S}/{name}");
        let attached = || {
            let ran = stage.service.attached(30_002, &image, "cat \"$1/conf\"");
            ran.stdout == name
        };
        assert!(eventually(SOON, attached), "{name}");
    }
    stage.assert_unharmed();
    assert_eq!(below(&stage.service.distros(OTHER)), before);
    assert_eq!(read(&stage.at("file")), "a file");
    assert!(stage.at("link").is_symlink() && stage.at("plain.status").is_symlink());
    assert!(stage.at("bad.tgz").exists(), "moved through a link");
    // Once nothing is in the way the next version is there.
    for name in ["link", "file"] {
        fs::remove_file(stage.at(name)).expect("remove what is in the way");
        stage.upload(name, "second");
        stage.served(name, "second");
    }
    stage.end_with(|stage| {
        assert_eq!(read(&stage.at("full/deep/conf")), "exploded");
    });
}

/// Between looking and mounting anything may be swapped.
#[test]
fn a_place_that_is_swapped_all_the_time_never_leads_root_astray() {
    let stage = Stage::new();
    let (at, trap) = (stage.at("web"), stage.service.home(S).join("trap"));
    fs::create_dir(&at).expect("make a directory");
    symlink(&stage.victim, &trap).expect("link");
    for path in [&at, &trap] {
        lchown(path, Some(S), Some(S)).expect("chown");
    }
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                // It fails while something is mounted there.
                let swapped = renameat_with(CWD, &at, CWD, &trap, RenameFlags::EXCHANGE);
                common::attempt(swapped);
            }
        });
        let stop = Stop(&is_done);
        for number in 0..8 {
            let text = format!("version {number}");
            stage.upload("web", &text);
            let image = format!("{S}/web");
            let attached = || {
                let ran = stage.service.attached(30_002, &image, "cat \"$1/conf\"");
                ran.stdout == text
            };
            assert!(eventually(SOON, attached), "{}", stage.service.log());
        }
        drop(stop);
    });
    stage.assert_unharmed();
    stage.end();
}
