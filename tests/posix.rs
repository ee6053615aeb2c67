//! What POSIX asks of a filesystem, in a directory of a view that everybody may
//! write: nothing fails that passes on a plain overlay over the same disk. (On that
//! all cases with character devices fail: the suite makes them with number 0:0,
//! which is how overlayfs spells a file that was removed.)

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::archive::debian_tgz;
use common::mount::Mount;
use common::program::{distrofs, run};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// The suite's default of a second would take an hour; and at its shortest, tests
/// of timestamps fail on any disk.
const CONFIG: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
expected_failures = []
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// Where `scripts/test` installs it.
fn suite() -> PathBuf {
    let suite = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../tools/bin/pjdfstest");
    suite
        .canonicalize()
        .unwrap_or_else(|e| panic!("{}: {e}; scripts/test installs it", suite.display()))
}

/// The names of the tests that fail in a new directory within `dir`. The suite's
/// users have to get there, so that it is bound to where nothing is closed to them.
#[track_caller]
fn failures(dir: &Path, config: &Path) -> BTreeSet<String> {
    const SCRIPT: &str = r#"
        mount --bind "$1" /mnt
        mkdir -m 777 /mnt/suite
        "$2" --configuration-file "$3" --path /mnt/suite || true
        rm -r /mnt/suite"#;
    let mut command = Command::new("unshare");
    command.args([
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-euc",
        SCRIPT,
        "sh",
    ]);
    let ran = run(command.arg(dir).arg(suite()).arg(config)).ok();
    let lines = || ran.stdout.lines();
    let ended = |line: &&str, how: &str| line.trim_end().ends_with(how);
    let passed = lines().filter(|line| ended(line, " ok")).count();
    assert!(passed > 300, "only {passed} tests passed: {ran:#?}");
    lines()
        .filter(|line| ended(line, " FAILED"))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
        .collect()
}

/// What has to be unmounted in the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        common::attempt(unmount(&self.0, UnmountFlags::DETACH));
    }
}

/// An overlay over directories of the same disk, as anybody would mount it.
fn plain(dir: &Path) -> Mounted {
    let made = |name: &str| {
        let path = dir.join(name);
        fs::create_dir(&path).expect("make a directory");
        path
    };
    let (lower, upper, work) = (made("lower"), made("upper"), made("work"));
    let options = format!(
        "lowerdir={},upperdir={},workdir={},xino=on,redirect_dir=on,index=off,metacopy=off",
        lower.display(),
        upper.display(),
        work.display()
    );
    let options = std::ffi::CString::new(options).expect("plain names");
    let merged = made("merged");
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("none", &merged, "overlay", flags, options.as_c_str()).expect("mount an overlay");
    fs::set_permissions(&merged, PermissionsExt::from_mode(0o1777)).expect("set the mode");
    Mounted(merged)
}

#[test]
fn views_do_what_a_plain_overlay_does() {
    let image = Mount::new(&debian_tgz(), [""; 0]);
    let dir = common::temp_dir();
    let at = dir.path().canonicalize().expect("resolve the directory");
    let config = at.join("config.toml");
    fs::write(&config, CONFIG).expect("write the configuration");
    let plain = plain(&at);
    let expected = failures(&plain.0, &config);
    for mode in ["paths", "tree"] {
        let view = at.join(mode);
        fs::create_dir(&view).expect("make a directory");
        let mut command = distrofs(["view", "up", "--container", "30001", "--writable", mode]);
        command
            .arg("--image")
            .arg(image.path())
            .arg("--at")
            .arg(&view);
        run(command.arg("--state").arg(at.join(format!("state-{mode}")))).ok();
        let view = Mounted(view);
        let failed = failures(&view.0.join("tmp"), &config);
        let more: Vec<_> = failed.difference(&expected).collect();
        println!(
            "{mode}: {} fail, on a plain overlay {}",
            failed.len(),
            expected.len()
        );
        assert!(more.is_empty(), "{mode}: {more:?}");
    }
}
