//! What a view costs beyond the image that it is of: requests, memory of those who
//! read through it, memory of the daemon. Figures are printed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use common::archive::{debian_tgz, tar};
use common::limited::{Group, MIB};
use common::load::{Order, walk};
use common::mount::Mount;
use common::program::{distrofs, run};
use distrofs::view::{Image, NewView, State, Writable};
use rustix::mount::{UnmountFlags, unmount};

const CONTAINERS: u32 = 30_000;
const MODES: [&str; 3] = ["paths", "tree", "none"];

/// A mounted image, and views of it.
struct Views {
    image: Mount,
    dir: tempfile::TempDir,
}

impl Views {
    fn of(archive: &Path) -> Self {
        Self {
            image: Mount::new(archive, [""; 0]),
            dir: common::temp_dir(),
        }
    }

    /// Makes the view of a container.
    #[track_caller]
    fn up(&self, number: u32, writable: &str) -> PathBuf {
        let at = self.at(number);
        fs::create_dir_all(&at).expect("make a directory");
        let mut command = distrofs(["view", "up", "--writable", writable, "--image"]);
        command.arg(self.image.path()).arg("--at").arg(&at);
        command.args(["--container", &(CONTAINERS + number).to_string()]);
        run(command.arg("--state").arg(self.dir.path().join("state"))).ok();
        at
    }

    #[track_caller]
    fn down(&self, number: u32) {
        let state = self.dir.path().join("state");
        let mut command = distrofs(["view", "down"]);
        run(command.arg(self.at(number)).arg("--state").arg(state)).ok();
    }

    fn at(&self, number: u32) -> PathBuf {
        let dir = self
            .dir
            .path()
            .canonicalize()
            .expect("resolve the directory");
        dir.join(format!("view-{number}"))
    }
}

impl Drop for Views {
    fn drop(&mut self) {
        for number in 0..=200 {
            common::attempt(unmount(self.at(number), UnmountFlags::DETACH));
        }
    }
}

/// The kernel knows the names and attributes of an image once, for all views of it.
#[test]
fn the_first_walk_of_a_second_view_asks_nothing() {
    let views = Views::of(&debian_tgz());
    let asked = |name: &str| {
        let requests = views.image.stats().requests;
        requests.get(name).map_or(0, |request| request.count)
    };
    for (number, mode) in (0..).zip(MODES) {
        let first = walk(&views.up(2 * number, mode), Order::DirectoryFirst);
        let (lookups, attributes) = (asked("lookup"), asked("getxattr"));
        let second = walk(&views.up(2 * number + 1, mode), Order::DirectoryFirst);
        assert_eq!(first.entries, second.entries);
        assert!(second.entries > 5000);
        let (lookups, attributes) = (asked("lookup") - lookups, asked("getxattr") - attributes);
        println!(
            "{mode}: {} entries, {lookups} LOOKUP, {attributes} GETXATTR",
            second.entries
        );
        assert_eq!(lookups, 0, "{mode}");
        assert!(attributes <= 1, "{mode}: {attributes}");
    }
}

/// Pages of an image are there once, and charged to whoever read them first.
#[test]
fn reading_through_a_second_view_takes_no_memory() {
    const FILES: u64 = 4;
    const FILE_BYTES: u64 = 50 * MIB;
    let dir = common::temp_dir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("image.tar"));
    fs::create_dir_all(tree.join("tmp")).expect("make a directory");
    let content = common::synthetic::Random(7).bytes(usize::try_from(FILE_BYTES).expect("a size"));
    for number in 0..FILES {
        fs::write(tree.join(format!("file-{number}")), &content).expect("write a file");
    }
    tar(&tree, &archive, &[]);
    for mode in MODES {
        let views = Views::of(&archive);
        let charged = [0, 1].map(|number| {
            let view = views.up(number, mode);
            let group = Group::new(1024 * MIB);
            let read = format!(
                "{}\ncat '{}'/file-* >/dev/null",
                group.joining(),
                view.display()
            );
            run(Command::new("sh").args(["-euc", &read])).ok();
            group.charged_bytes()
        });
        let share = charged[1] as f64 / charged[0] as f64;
        println!("{mode}: {charged:?} bytes charged, {:.1} %", share * 100.0);
        assert!(charged[0] >= FILES * FILE_BYTES, "{mode}: {charged:?}");
        assert!(share < 0.05, "{mode}: {charged:?}");
    }
}

/// The daemon has nothing to do with a view, so that any number costs it nothing.
#[test]
fn a_hundred_views_take_no_memory_of_the_daemon() {
    const VIEWS: u32 = 100;
    /// For all of them.
    const MEMORY_BYTES_MAX: u64 = 100 * 1024;
    let views = Views::of(&debian_tgz());
    for mode in [Writable::Paths, Writable::Tree] {
        // The first one has the daemon look through the image.
        for number in 0..3 {
            views.up(number, mode.name());
            views.down(number);
        }
        let own = || {
            let memory = fs::read_to_string(format!("/proc/{}/smaps_rollup", views.image.daemon()));
            let memory = memory.expect("read its memory");
            let line = memory
                .lines()
                .find_map(|line| line.strip_prefix("Anonymous:"));
            let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
            kib.expect("an amount") * 1024
        };
        let before = own();
        let places: Vec<PathBuf> = (0..VIEWS).map(|number| views.at(number)).collect();
        for place in &places {
            fs::create_dir_all(place).expect("make a directory");
        }
        let state = views.dir.path().join("state");
        let began = Instant::now();
        for (number, at) in (0..).zip(&places) {
            // As `view up` does it, without the start of a program.
            let state = State::open(&state).expect("open the state");
            let image = Image::mounted(views.image.path()).expect("find the image");
            let made = state.up(&NewView {
                image: &image,
                container: CONTAINERS + number,
                at,
                writable: mode,
                passwd: false,
                is_for_views: false,
            });
            made.expect("make a view");
        }
        let took = began.elapsed();
        let more = own().saturating_sub(before);
        println!(
            "{mode:?}: {VIEWS} views, {:?} each, {more} bytes of the daemon",
            took / VIEWS
        );
        assert!(more <= MEMORY_BYTES_MAX, "{mode:?}: {more} bytes");
        for number in 0..VIEWS {
            views.down(number);
        }
    }
}
