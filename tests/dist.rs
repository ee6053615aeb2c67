//! What is in `dist/`: it fits the program.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use common::archive::debian_tgz;
use common::program::{distrofs, run};
use common::service::Service;
use distrofs::config::ServeConfig;

const S: u32 = 30_000;

fn dist(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("dist")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}

/// Of a setting of the unit.
fn unit(key: &str) -> String {
    let text = dist("distrofs.service");
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("no {key} in the unit"))
        .to_owned()
}

/// Without the marks of what is left at its default.
#[test]
fn the_settings_are_all_there_with_their_defaults() {
    let text = dist("distrofs.toml");
    let is_setting = |line: &&str| line.contains(" = ");
    let lines = text.lines().filter_map(|line| line.strip_prefix("#:"));
    let lines: Vec<_> = lines.filter(is_setting).collect();
    let shown: ServeConfig = toml::from_str(&lines.join("\n")).expect("settings");
    assert_eq!(shown, ServeConfig::default());
    let keys: BTreeSet<_> = lines
        .iter()
        .filter_map(|line| Some(line.split_once(" = ")?.0.trim().to_owned()))
        .collect();
    let known = toml::Table::try_from(ServeConfig::default()).expect("settings");
    // What has no default is not among them.
    let known: BTreeSet<_> = known.keys().cloned().chain(["state".to_owned()]).collect();
    let named: BTreeSet<_> = keys.into_iter().chain(["state".to_owned()]).collect();
    assert_eq!(named, known);
    assert!(text.contains("# state = "), "state is not explained");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/distrofs.toml");
    let mut check = distrofs(["serve", "--check", "--config"]);
    run(check.arg(file)).ok();
}

#[test]
fn the_unit_starts_what_there_is() {
    let command = unit("ExecStart");
    let words: Vec<_> = command.split_whitespace().collect();
    assert_eq!(words[1..], ["serve", "--config", "/etc/distrofs.toml"]);
    run(&mut distrofs(["serve", "--help"])).ok();
    assert_eq!(unit("RestartKillSignal"), "SIGHUP");
    assert_eq!(unit("KillMode"), "process");
}

/// With no other capabilities than the unit leaves it, everything works: also what
/// overlays do with the rights of whoever mounted them.
#[test]
fn the_capabilities_of_the_unit_are_enough() {
    let kept = unit("CapabilityBoundingSet")
        .replace("CAP_", "+")
        .to_lowercase();
    let kept = format!("--bounding-set=-all,{}", kept.replace(' ', ","));
    let mut service = Service::new(&[S]);
    service.trace(&["setpriv", &kept].map(OsStr::new));
    service.upload(S, &debian_tgz(), "debian.tgz");
    service.start();
    let script = "mount --bind \"$1\" /mnt; cd /mnt
        setpriv --reuid 30001 --regid 30001 --clear-groups sh -euc '
            mkdir tmp/d; echo a > tmp/d/f; chmod 2770 tmp/d; mv tmp/d tmp/e; rm -r tmp/e'
        chown 30001:30001 etc/passwd; rm etc/hostname; mkdir etc/hostname; rm -r usr/share/doc
        [ ! -e usr/share/doc ]; stat -c %u etc/passwd";
    let done = service.attached(30_001, "30000/debian", script).ok();
    assert_eq!(done.stdout.trim(), "30001");
    let worker = service.worker(S).expect("a worker");
    rustix::process::kill_process(worker, rustix::process::Signal::KILL).expect("kill it");
    assert!(service.distros(S).join("debian/bin/sh").exists());
    let again = service.attached(30_001, "30000/debian", "stat -c %u \"$1/etc/passwd\"");
    assert_eq!(again.ok().stdout.trim(), "30001");
    service.stop();
}
