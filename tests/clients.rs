//! Real clients of the platform's API: its own, and one that tries out everything that
//! the description in OpenAPI allows, and more.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use common::platform::{CONSUMER, KRATOS, Platform, STORAGE};
use common::program::run_within;

/// How long a client may take.
const LIMIT: Duration = Duration::from_secs(240);

/// Where `scripts/test` puts them.
fn tool(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("../tools/python/bin")
        .join(name);
    assert!(
        path.exists(),
        "{}: run scripts/test, which installs it",
        path.display()
    );
    path
}

#[test]
fn the_platforms_own_client_finds_what_it_knows() {
    let mut platform = Platform::new();
    platform.start();
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/clients/uwsgiit_calls.py"
    );
    let mut command = Command::new(tool("python"));
    command
        .arg(script)
        .arg(format!("http://{}/api", platform.at()));
    command.args([KRATOS.name, KRATOS.password]);
    command.args([STORAGE.to_string(), CONSUMER.to_string()]);
    let ran = run_within(&mut command, LIMIT).ok();
    assert_eq!(ran.stdout.lines().count(), 4, "{ran:#?}");
}

/// All checks, on everything that is described.
#[test]
fn what_is_described_is_what_is_answered() {
    let mut platform = Platform::new();
    platform.start();
    let id = platform.distro(&KRATOS, STORAGE, "mine");
    let image = platform.service.image("one", &[("etc/version", "one")]);
    let bytes = fs::read(&image).expect("read the archive");
    let path = format!("/api/custom_distro/{id}/image");
    let basic = "Authorization: Basic a3JhdG9zOmRlaW1vcyBvZiBzcGFydGE=\r\n";
    platform.send("PUT", &path, basic, &bytes).with(201);
    let alarm = format!("/api/alarms/raise/{CONSUMER}");
    platform.ask(&KRATOS, "POST", &alarm, "one").with(201);
    let clients = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");
    let unknown = fs::read_to_string(format!("{clients}/schemathesis.toml")).expect("read");
    try_out(&platform, &unknown, &[]);
    let storing = r#"{"custom_distros_storage": true}"#;
    platform
        .ask(
            &KRATOS,
            "POST",
            &format!("/api/containers/{STORAGE}"),
            storing,
        )
        .ok();
    let again = platform.distro(&KRATOS, STORAGE, "again");
    let path = format!("/api/custom_distro/{again}/image");
    platform.send("PUT", &path, basic, &bytes).with(201);
    let known = fs::read_to_string(format!("{clients}/schemathesis-known.toml")).expect("read");
    let known = known.replace("ID", &again.to_string());
    // What is deleted, stored elsewhere or not at all would be missed.
    let without = [
        ["--exclude-method", "DELETE"],
        ["--exclude-name", "POST /api/containers/{uid}"],
        ["--exclude-name", "POST /api/custom_distro/{id}"],
    ];
    let without = without.concat();
    try_out(&platform, &known, &without);
}

/// Tries everything out, with all checks.
#[track_caller]
fn try_out(platform: &Platform, config: &str, options: &[&str]) {
    let file = platform.service.path().join("schemathesis.toml");
    fs::write(&file, config).expect("write the configuration");
    let mut command = Command::new(tool("schemathesis"));
    command.arg("--config-file").arg(file).arg("run");
    command.arg(format!("http://{}/api/openapi.json", platform.at()));
    command.args(["--auth", &format!("{}:{}", KRATOS.name, KRATOS.password)]);
    command.args(["--checks", "all", "--max-examples", "20", "--seed", "7"]);
    command.args(options).current_dir(platform.service.path());
    let ran = run_within(&mut command, LIMIT);
    let log = platform.service.log();
    assert!(
        ran.status.success(),
        "{}\n{}\n{log}",
        ran.stdout,
        ran.stderr
    );
}
