//! The examples in `examples/uwsgi-emperor`, with the real Emperor: two containers
//! on one image, in both styles of launchers; and one that follows the API. What they
//! show they also assert, and their status tells.

mod common;

use std::path::Path;
use std::process::Command;

use common::program::{binary, run};

#[track_caller]
fn example(style: &str) {
    common::need_real_mounts();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/uwsgi-emperor/run");
    let mut command = Command::new(example);
    command.args(["--style", style]).env("DISTROFS", binary());
    let ran = run(&mut command).ok();
    // Each of the two has tried the three paths, the image's uwsgi last.
    let tried = "/usr/local/bin/uwsgi, /opt/unbit/uwsgi/uwsgi";
    assert_eq!(ran.stdout.matches(tried).count(), 2, "{ran:#?}");
}

/// One mount, bound without what is mounted below, and `/` remounted later.
#[test]
fn containers_of_a_launcher_that_binds_and_remounts() {
    example("bind");
}

/// A tree of mounts, of which only what everybody may write can be written.
#[test]
fn containers_of_a_launcher_that_takes_submounts() {
    example("submounts");
}

/// A customer's calls of the API, and what its container becomes of them.
#[test]
fn a_container_follows_what_the_api_says() {
    common::need_real_mounts();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/uwsgi-emperor/api");
    let ran = run(Command::new(example).env("DISTROFS", binary())).ok();
    let alarm = "distros/debian/.old_root does not exist as a custom distro";
    assert!(ran.stdout.contains(alarm), "{ran:#?}");
}
