//! What the integration tests share: running the program, mounts that cannot
//! outlive their test, archives made by the real tools, and trees to compare.
//!
//! Guarantees: a test that fails, panics or hangs leaves no mount, no process
//! and no file behind (`scripts/test` checks that). A capability that the
//! machine lacks is a failure that says what is missing, never a skip. All
//! temporary files are under `target/tmp`.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod archive;
pub(crate) mod dialect;
pub(crate) mod http;
pub(crate) mod limited;
pub(crate) mod load;
pub(crate) mod mapping;
pub(crate) mod mount;
pub(crate) mod platform;
pub(crate) mod program;
pub(crate) mod service;
pub(crate) mod strace;
pub(crate) mod synthetic;
pub(crate) mod tree;
pub(crate) mod user;
pub(crate) mod view;

use std::path::Path;

/// A directory for one test, removed when dropped.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::Builder::new()
        .prefix("test-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("make a temporary directory under target/tmp")
}

/// Does what can be done to undo something: the rest is undone whatever failed.
pub(crate) fn attempt<T, E>(_result: Result<T, E>) {}

/// Fails the test where real mounts cannot be made.
pub(crate) fn need_real_mounts() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test mounts as root: run it as root (scripts/test does, through sudo)"
    );
    assert!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse does not exist: the kernel has no FUSE, or this container was not given it"
    );
}
