//! What a storage home does with what is dropped into it, as the user that it
//! belongs to, who has no privilege, while somebody else has bad intentions there.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::view::as_user;
use distrofs::budget::MemoryBudget;
use distrofs::metrics::Metrics;
use distrofs::store::IngestOptions;
use distrofs::store::home::{Home, HomeError, Options, Outcome, Scan, State, Work};
use distrofs::types::ImagePath;
use distrofs::worker::status::{Checks, Facts, StatusFiles};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, makedev, mknodat, renameat_with};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The storage container's user, and another one.
const OWNER: u32 = 30_000;
const OTHER: u32 = 30_001;

/// A home of the owner's, with its store, where the owner can get to.
struct Place {
    top: PathBuf,
    _dir: tempfile::TempDir,
    disk: Option<PathBuf>,
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(disk) = &self.disk {
            common::attempt(unmount(disk, UnmountFlags::DETACH));
        }
    }
}

impl Place {
    fn new() -> Place {
        Place::made(None)
    }

    /// On a disk of its own, of so many bytes.
    fn on_disk(bytes: u64) -> Place {
        Place::made(Some(bytes))
    }

    fn made(disk_bytes: Option<u64>) -> Place {
        assert!(
            rustix::process::geteuid().is_root(),
            "this test becomes other users: run it as root (scripts/test does, through sudo)"
        );
        let dir = tempfile::Builder::new().prefix("distrofs-test-").tempdir();
        let dir = dir.expect("make a temporary directory");
        let top = dir.path().to_owned();
        fs::set_permissions(&top, PermissionsExt::from_mode(0o755)).expect("set the mode");
        let disk = disk_bytes.map(|bytes| {
            let options = std::ffi::CString::new(format!("size={bytes},mode=755"));
            let options = options.expect("no NUL");
            mount("none", &top, "tmpfs", MountFlags::empty(), &*options).expect("mount a disk");
            top.clone()
        });
        let place = Place {
            top,
            _dir: dir,
            disk,
        };
        for name in ["home", "store"] {
            let path = place.top.join(name);
            fs::create_dir(&path).expect("make a directory");
            fs::set_permissions(&path, PermissionsExt::from_mode(0o700)).expect("set the mode");
            chown(&path, Some(OWNER), Some(OWNER)).expect("chown");
        }
        as_user(OWNER, || {
            fs::create_dir(place.at("")).expect("make distros")
        });
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.top.join("home/distros").join(name)
    }

    /// As the owner does it.
    fn upload(&self, name: &str, bytes: &[u8]) {
        as_user(OWNER, || fs::write(self.at(name), bytes).expect("upload"));
    }

    /// As the owner.
    fn home(&self) -> Home {
        self.home_with(|_| {})
    }

    fn home_with(&self, change: impl FnOnce(&mut Options)) -> Home {
        let mut options = Options::new(IngestOptions {
            span_bytes: 256 << 10,
            ignore_zeros: false,
        });
        options.retry_after = Duration::ZERO;
        change(&mut options);
        let directory = File::open(self.top.join("home")).expect("open the home");
        let home = Home::open(directory.into(), &self.top.join("store"), options);
        let home = home.expect("open the home with its store");
        assert_eq!(home.recover().expect("recover"), []);
        home
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = fs::read_dir(self.top.join(directory)).expect("read a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let mut names: Vec<_> = names
            .map(|name| name.to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

fn work<T>(job: impl FnOnce(Work<'_>) -> T) -> T {
    job(Work {
        metrics: &Arc::new(Metrics::default()),
        progress: &|_, _, _| {},
        stop: &AtomicBool::new(false),
    })
}

/// One round of what a worker does over and over: what came of what was finished.
fn round(home: &Home, status: &mut StatusFiles) -> Result<(Scan, Vec<Outcome>), HomeError> {
    let scan = home.scan()?;
    let finished = scan.sightings.iter().filter(|s| s.state == State::Finished);
    let outcomes = finished.map(|s| work(|work| home.take(s, work)));
    let outcomes = outcomes.collect();
    let images = home.images()?;
    let mut checks = Checks::default();
    let budget = MemoryBudget::new(64 << 20);
    for record in &images.records {
        let metrics = Arc::default();
        let made = home
            .compose(record, &budget, &metrics)
            .expect("it can be served");
        checks.look(&record.path, made.version, &made.files, &budget, &metrics);
    }
    let after = home.scan()?;
    let facts = Facts {
        names_max: home.options().names_max,
        scan: &after,
        images: &images,
        rejections: &home.rejections()?,
        indexing: None,
        checks: &checks,
        notes: &BTreeMap::new(),
    };
    let max = home.options().names_max;
    status.update(&home.distros()?, &facts.statuses(), max);
    Ok((scan, outcomes))
}

/// A tar archive of one file.
fn tar(content: &[u8]) -> Vec<u8> {
    let mut block = [0; 512];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    put(0, b"file");
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut archive = block.to_vec();
    archive.extend_from_slice(content);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    archive
}

fn path(name: &str) -> ImagePath {
    ImagePath::new(name.as_bytes()).expect("a name of an image")
}

/// The content of the one file of what is served as this image: its archive.
#[track_caller]
fn served(home: &Home, name: &str) -> Vec<u8> {
    let record = home.image(&path(name)).expect("an image");
    let (archive, _) = home.open_image(&record.current).expect("an archive");
    fs::read(archive.path()).expect("read the archive")
}

/// Everything that somebody could put where uploads go.
fn plant_everything(place: &Place) {
    let archive = tar(b"x");
    let good = ["good.tar", "hard.tar", "closed.tar", &*long_name()];
    for name in good {
        place.upload(name, &archive);
    }
    place.upload("a b.tar", &archive);
    place.upload("cut.tar", &archive[..700]);
    place.upload("text.tgz", &[b'x'; 3000]);
    place.upload("web.tgz.part", &archive);
    place.upload(".hidden.tgz", &archive);
    as_user(OWNER, || {
        let at = |name: &str| place.at(name);
        fs::hard_link(at("hard.tar"), at("hard")).expect("link");
        fs::set_permissions(at("closed.tar"), PermissionsExt::from_mode(0o200)).expect("chmod");
        symlink("/etc/shadow", at("shadow.tgz")).expect("link");
        symlink("good.tar", at("link.tar")).expect("link");
        symlink("/etc/shadow", at("good.status")).expect("link");
        fs::create_dir(at("dir.tgz")).expect("make a directory");
        fs::create_dir(at("cut.status")).expect("make a directory");
        fs::write(at("text.status"), "my own notes").expect("write");
        let not_text = std::ffi::OsStr::from_bytes(b"\xff\x1b[2J.tar");
        fs::write(at("").join(not_text), &archive).expect("write");
        let mode = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, at("pipe.tgz"), FileType::Fifo, mode, 0).expect("make a pipe");
        drop(UnixListener::bind(at("socket.tar")).expect("make a socket"));
    });
    let mode = Mode::from_raw_mode(0o666);
    let zero = makedev(1, 5);
    let device = place.at("device.tar");
    mknodat(CWD, &device, FileType::CharacterDevice, mode, zero).expect("make a device");
    fs::write(place.at("root.tar"), &archive).expect("write");
    fs::write(place.at("other.tar"), &archive).expect("write");
    chown(place.at("other.tar"), Some(OTHER), Some(OTHER)).expect("chown");
}

fn long_name() -> String {
    format!("{}.tar", "x".repeat(251))
}

#[test]
fn whatever_is_there_is_served_or_refused_with_its_reason() {
    let place = Place::new();
    plant_everything(&place);
    let shadow = fs::read("/etc/shadow").expect("read /etc/shadow");
    let growing = File::create(place.at("growing.tar")).expect("create");
    chown(place.at("growing.tar"), Some(OWNER), Some(OWNER)).expect("chown");
    as_user(OWNER, || {
        let home = place.home();
        let mut status = StatusFiles::default();
        let (scan, outcomes) = round(&home, &mut status).expect("a round");
        let refused = [
            ("hard.tar", "2 names"),
            ("closed.tar", "chmod u+r"),
            ("a b.tar", "another name"),
            ("shadow.tgz", "symbolic link"),
            ("link.tar", "symbolic link"),
            ("dir.tgz", "directory"),
            ("pipe.tgz", "pipe"),
            ("socket.tar", "socket"),
            ("device.tar", "device"),
            ("root.tar", "user 0"),
            ("other.tar", "user 30001"),
        ];
        for (name, why) in refused {
            let sighting = scan.sightings.iter().find(|s| s.name == name.as_bytes());
            let state = &sighting
                .unwrap_or_else(|| panic!("{name} was not seen"))
                .state;
            assert!(
                matches!(state, State::Refused(reason) if reason.contains(why)),
                "{name}: {state:?}"
            );
        }
        let growing = scan.sightings.iter().filter(|s| s.state == State::Growing);
        assert_eq!(growing.count(), 1);
        let ready = outcomes
            .iter()
            .filter(|o| matches!(o, Outcome::Ready { .. }));
        assert_eq!(ready.count(), 2, "{outcomes:?}");
        assert_eq!(outcomes.len(), 4, "{outcomes:?}");
        assert_eq!(home.images().expect("images").records.len(), 2);
        assert_eq!(served(&home, "good"), tar(b"x"));
        // Again, with what there is then.
        round(&home, &mut status).expect("a round");
        let said = |name: &str| fs::read_to_string(place.at(name)).expect("a status");
        assert!(said("shadow.status").contains("symbolic link"));
        assert!(said("hard.status").contains("2 names"));
        assert!(said("growing.status").contains("uploading"));
        assert!(said("a b.tar.status").contains("another name"));
        // What was in the way stayed.
        assert!(place.at("good.status").is_symlink() && place.at("cut.status").is_dir());
        assert_eq!(said("text.status"), "my own notes");
        assert_eq!(
            place.names("home/distros/.rejected"),
            ["text.tgz", "text.tgz.reason"]
        );
    });
    drop(growing);
    assert_eq!(fs::read("/etc/shadow").expect("read /etc/shadow"), shadow);
    for name in place.names("store/archives") {
        let file = place.top.join("store/archives").join(name);
        assert_eq!(fs::metadata(file).expect("a file").uid(), OWNER);
    }
}

#[test]
fn distros_that_leads_elsewhere_is_not_gone_into() {
    let place = Place::new();
    place.upload("web.tar", &tar(b"x"));
    let elsewhere = place.top.join("elsewhere");
    as_user(OWNER, || {
        let home = place.home();
        let distros = place.top.join("home/distros");
        fs::rename(&distros, place.top.join("home/moved")).expect("rename");
        for target in ["moved", "/etc", elsewhere.to_str().expect("text")] {
            symlink(target, &distros).expect("link");
            let error = home.scan().expect_err("a link was followed");
            assert!(error.to_string().contains("not a link"), "{error}");
            assert!(home.images().expect("images").records.is_empty());
            fs::remove_file(&distros).expect("remove");
        }
        fs::write(&distros, "x").expect("write");
        assert!(matches!(home.scan(), Err(HomeError::Distros { .. })));
        fs::remove_file(&distros).expect("remove");
        fs::rename(place.top.join("home/moved"), &distros).expect("rename");
        round(&home, &mut StatusFiles::default()).expect("a round");
        assert_eq!(served(&home, "web"), tar(b"x"));
    });
}

/// Names and the directory itself change hands all the time while uploads are taken
/// in: every archive is in the store or still in the home, and nothing else is taken
/// for one.
#[test]
fn what_is_swapped_all_the_time_is_never_mixed_up_or_lost() {
    const UPLOADS: usize = 60;
    let place = Place::new();
    let content = |number: usize| tar(format!("upload {number}").as_bytes());
    let outside = place.top.join("outside");
    fs::write(&outside, "precious").expect("write");
    let newest = AtomicUsize::new(0);
    let is_done = AtomicBool::new(false);
    as_user(OWNER, || {
        for distros in ["home/distros", "home/other"] {
            let at = |name: &str| place.top.join(distros).join(name);
            common::attempt(fs::create_dir(at("")));
            symlink(&outside, at("link")).expect("link");
            fs::create_dir(at("dir")).expect("make a directory");
            let mode = Mode::RUSR | Mode::WUSR;
            mknodat(CWD, at("pipe"), FileType::Fifo, mode, 0).expect("make a pipe");
        }
        symlink("other", place.top.join("home/link")).expect("link");
        let home = place.home();
        thread::scope(|scope| {
            scope.spawn(|| swap_all_the_time(&place, &newest, &is_done));
            let mut status = StatusFiles::default();
            for number in 0..UPLOADS {
                let upload = place.top.join("home/.upload");
                fs::write(&upload, content(number)).expect("upload");
                let name = place.at(&format!("image-{number}.tar"));
                newest.store(number, Ordering::Relaxed);
                // Whatever `distros` is now.
                while fs::rename(&upload, &name).is_err() {}
                // It fails where it is no directory.
                while let Err(error) = round(&home, &mut status) {
                    assert!(matches!(error, HomeError::Distros { .. }), "{error}");
                }
            }
            is_done.store(true, Ordering::Relaxed);
        });
        let (ready, _) = (
            home.images().expect("images"),
            round(&home, &mut StatusFiles::default()),
        );
        println!("{} of {UPLOADS} taken under way", ready.records.len());
        assert_eq!(place.names("store/incoming"), [""; 0]);
        let images = home.images().expect("images");
        assert!(images.unusable.is_empty() && !images.records.is_empty());
        let mut left: Vec<_> = (0..UPLOADS).map(content).collect();
        for version in images.records.iter().flat_map(|record| &record.versions) {
            let (archive, _) = home.open_image(&version.sha256).expect("an archive");
            let bytes = fs::read(archive.path()).expect("read");
            let known = left.iter().position(|content| *content == bytes);
            left.swap_remove(known.expect("an archive that was uploaded, taken once"));
        }
        for bytes in files_below(&place.top.join("home")) {
            left.retain(|content| *content != bytes);
        }
        assert!(left.is_empty(), "{} are lost", left.len());
    });
    let left = fs::read_to_string(&outside).expect("read");
    assert_eq!(left, "precious");
}

fn swap_all_the_time(place: &Place, newest: &AtomicUsize, is_done: &AtomicBool) {
    let swap = |a: &Path, b: &Path| {
        common::attempt(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE));
    };
    while !is_done.load(Ordering::Relaxed) {
        let upload = format!("image-{}.tar", newest.load(Ordering::Relaxed));
        for name in ["link", "dir", "pipe"] {
            swap(&place.at(&upload), &place.at(name));
            swap(&place.at(&upload), &place.at(name));
        }
        let distros = place.top.join("home/distros");
        for name in ["home/other", "home/link"] {
            swap(&distros, &place.top.join(name));
            swap(&distros, &place.top.join(name));
        }
    }
}

/// The bytes of all regular files in a tree.
fn files_below(dir: &Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).expect("read a directory") {
            let entry = entry.expect("an entry");
            let kind = entry.file_type().expect("a type");
            if kind.is_dir() {
                pending.push(entry.path());
            } else if kind.is_file() {
                files.push(fs::read(entry.path()).expect("read a file"));
            }
        }
    }
    files
}

/// As with scp over an upload that is being indexed: it waits, then goes on with the
/// file where it was.
#[test]
fn a_writer_waits_for_the_lease_and_then_has_the_upload() {
    let place = Place::new();
    place.upload("web.tar", &tar(&vec![7; 16 << 20]));
    as_user(OWNER, || {
        let home = place.home();
        let scan = home.scan().expect("a scan");
        let wanted = tar(b"new");
        let (begin, begun) = std::sync::mpsc::sync_channel(1);
        let waiting = AtomicBool::new(false);
        let (upload, wanted) = (place.at("web.tar"), &wanted);
        let outcome = thread::scope(|scope| {
            let waiting = &waiting;
            scope.spawn(move || {
                begun.recv().expect("indexing begins");
                waiting.store(true, Ordering::Relaxed);
                // This waits until the lease is given up.
                let mut file = File::create(upload).expect("open for writing");
                file.write_all(wanted).expect("write");
            });
            let told = Mutex::new(begin);
            let progress = |_: &ImagePath, _: u64, _: u64| {
                let told = told.lock().expect("the lock");
                common::attempt(told.try_send(()));
                // Indexing is not done before somebody wants to write.
                while !waiting.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                thread::sleep(Duration::from_millis(100));
            };
            let stop = AtomicBool::new(false);
            home.take(
                &scan.sightings[0],
                Work {
                    metrics: &Arc::default(),
                    progress: &progress,
                    stop: &stop,
                },
            )
        });
        assert_eq!(outcome, Outcome::Busy);
        assert!(home.images().expect("images").records.is_empty());
        round(&home, &mut StatusFiles::default()).expect("a round");
        assert_eq!(&served(&home, "web"), wanted);
    });
}

#[test]
fn a_file_that_grows_for_ever_is_never_taken_and_keeps_nobody_waiting() {
    let place = Place::new();
    as_user(OWNER, || {
        let home = place.home();
        let is_done = AtomicBool::new(false);
        let mut options = File::options();
        options.create(true).append(true).mode(0o600);
        let mut file = options.open(place.at("endless.tar")).expect("create");
        file.write_all(&tar(b"x")).expect("write");
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    file.write_all(&[0; 512]).expect("write");
                }
            });
            let mut status = StatusFiles::default();
            for number in 0..20 {
                let name = format!("image-{number}.tar");
                fs::write(place.at(&name), tar(name.as_bytes())).expect("upload");
                let (scan, outcomes) = round(&home, &mut status).expect("a round");
                let endless = scan.sightings.iter().find(|s| s.name == b"endless.tar");
                assert_eq!(endless.expect("it is seen").state, State::Growing);
                assert!(matches!(outcomes[..], [Outcome::Ready { .. }]));
            }
            is_done.store(true, Ordering::Relaxed);
        });
        assert_eq!(home.images().expect("images").records.len(), 20);
        let said = fs::read_to_string(place.at("endless.status")).expect("a status");
        assert!(said.contains("uploading"), "{said}");
    });
}

#[test]
fn fifty_uploads_at_once_by_fifty_writers() {
    let place = Place::new();
    as_user(OWNER, || {
        let home = place.home();
        let mut status = StatusFiles::default();
        let (ready, other) = thread::scope(|scope| {
            let writers: Vec<_> = (0..50_u8)
                .map(|number| {
                    let (place, name) = (&place, format!("image-{number:02}.tar"));
                    scope.spawn(move || {
                        let mut bytes = tar(&vec![number; 40_000]);
                        if number.is_multiple_of(5) {
                            bytes = vec![b'x'; 40_000];
                        }
                        let mut file = File::create(place.at(&name)).expect("create");
                        for chunk in bytes.chunks(1000) {
                            file.write_all(chunk).expect("write");
                            thread::yield_now();
                        }
                    })
                })
                .collect();
            let mut seen = (0, 0);
            let mut count = |outcomes: Vec<Outcome>| {
                for outcome in outcomes {
                    match outcome {
                        Outcome::Ready { .. } => seen.0 += 1,
                        Outcome::Rejected(_) => seen.1 += 1,
                        // Created, and not open any more or not yet.
                        Outcome::Busy | Outcome::Truncated(_) => {}
                        other => panic!("{other:?}"),
                    }
                }
            };
            while writers.iter().any(|writer| !writer.is_finished()) {
                count(round(&home, &mut status).expect("a round").1);
            }
            count(round(&home, &mut status).expect("a round").1);
            seen
        });
        assert_eq!((ready, other), (40, 10));
        assert_eq!(place.names("home/distros/.rejected").len(), 20);
        let names = place.names("home/distros");
        assert_eq!(names.iter().filter(|n| n.ends_with(".status")).count(), 50);
        assert_eq!(names.len(), 51, "{names:?}");
    });
}

/// Nothing is lost, and it goes on when there is room.
#[test]
fn a_full_disk_loses_nothing() {
    let place = Place::on_disk(8 << 20);
    // Hard to index: an index of a megabyte.
    place.upload("web.tar", &tar(&vec![7; 5 << 20]));
    let filler = place.top.join("filler");
    let fill = || {
        let mut file = File::create(&filler).expect("create");
        while file.write_all(&[1; 4096]).is_ok() {}
    };
    fill();
    as_user(OWNER, || {
        let home = place.home();
        let scan = home.scan().expect("a scan");
        let outcome = work(|work| home.take(&scan.sightings[0], work));
        assert!(
            matches!(&outcome, Outcome::Later(why) if why.contains("more room")),
            "{outcome:?}"
        );
        assert_eq!(place.names("home/distros"), ["web.tar"]);
        assert_eq!(place.names("store/incoming"), [""; 0]);
        assert!(home.images().expect("images").records.is_empty());
    });
    fs::remove_file(&filler).expect("remove");
    as_user(OWNER, || {
        let home = place.home();
        round(&home, &mut StatusFiles::default()).expect("a round");
        assert_eq!(served(&home, "web").len(), (5 << 20) + 1536);
    });
}

/// The store is on another disk: nothing could be moved.
#[test]
fn a_store_on_another_filesystem_is_said_to_be() {
    let (place, other) = (Place::new(), Place::on_disk(1 << 20));
    as_user(OWNER, || {
        let directory = File::open(place.top.join("home")).expect("open the home");
        let options = Options::new(IngestOptions {
            span_bytes: 256 << 10,
            ignore_zeros: false,
        });
        let opened = Home::open(directory.into(), &other.top.join("store"), options);
        assert!(matches!(opened, Err(HomeError::OtherFilesystem { .. })));
    });
    let stolen = as_user(OTHER, || {
        let directory = File::open("/").expect("open a directory");
        let options = Options::new(IngestOptions {
            span_bytes: 256 << 10,
            ignore_zeros: false,
        });
        Home::open(directory.into(), &place.top.join("store"), options).is_err()
    });
    assert!(stolen, "another user has opened the store");
}
