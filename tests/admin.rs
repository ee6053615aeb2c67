//! `distrofs admin`: what administrators say is in the registry, which stays its
//! user's; and the service has it.

mod common;

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::program::{Ran, binary, distrofs, run};
use distrofs::registry::{Registry, password};
use distrofs::sys::packets::Listener;
use distrofs::types::ImagePath;
use distrofs::wire::Link;
use distrofs::wire::control::{CONTROL, Reply, Request};
use distrofs::wire::report::Status;

/// Whom the registry belongs to.
const API: u32 = 65_534;

/// A registry that is not there yet, where its user can get.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        assert!(
            rustix::process::geteuid().is_root(),
            "administrators are root: run this as root (scripts/test does, through sudo)"
        );
        let dir = tempfile::Builder::new()
            .prefix("distrofs-admin-")
            .tempdir_in("/tmp");
        let dir = dir.expect("make a directory");
        open_to_all(dir.path());
        fs::create_dir(dir.path().join("run")).expect("make a directory");
        open_to_all(&dir.path().join("run"));
        Place { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn registry(&self) -> PathBuf {
        self.path("registry")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = distrofs(["admin"]);
        command.args(words);
        for (key, name) in [("registry", "registry"), ("run", "run")] {
            let path = self.path(name);
            command.args(["--set", &format!("{key}={}", path.display())]);
        }
        command
    }

    /// A command, and its arguments by words.
    fn admin(&self, line: &str) -> Ran {
        run(&mut self.command(&line.split_whitespace().collect::<Vec<_>>()))
    }

    /// The same with a file.
    fn with(&self, what: &str, file: &Path) -> Ran {
        run(&mut self.command(&[what, file.to_str().expect("a name in UTF-8")]))
    }

    fn list(&self, what: &str) -> serde_json::Value {
        self.admin(&format!("{what} list --json")).ok().json()
    }

    /// A platform with one storage container, and one that has its image.
    fn filled() -> Place {
        let place = Place::new();
        for line in [
            "server add web1 --address 192.0.2.1",
            "default-distro add precise",
            "customer add anna --email a@example.org",
            "container add 30000 --customer anna --server web1 --custom-distros-storage on",
            "container add 30001 --customer anna --server web1 --distro precise --memory 64",
            "distro add 30000 --path debian",
            "container set 30001 --custom-distro 1 --writable paths",
        ] {
            place.admin(line).ok();
        }
        place
    }
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("chmod a directory");
}

fn owner_and_mode(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (found.uid(), found.mode() & 0o777)
}

/// Runs a command with something on its standard input.
fn given(command: &mut Command, input: &str) -> Ran {
    let line = format!("{command:?}");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start the program");
    let mut pipe = child.stdin.take().expect("a pipe");
    pipe.write_all(input.as_bytes()).expect("write to it");
    drop(pipe);
    let done = child.wait_with_output().expect("wait for it");
    Ran {
        line,
        status: done.status,
        stdout: String::from_utf8_lossy(&done.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&done.stderr).into_owned(),
    }
}

#[test]
fn the_registry_is_its_users_whoever_writes_it() {
    let place = Place::filled();
    assert_eq!(owner_and_mode(&place.registry()), (API, 0o700));
    let check = || {
        let mut files = 0;
        for entry in fs::read_dir(place.registry()).expect("list the registry") {
            let path = entry.expect("list the registry").path();
            assert_eq!(owner_and_mode(&path), (API, 0o600), "{}", path.display());
            files += 1;
        }
        files
    };
    assert!(check() > 0);
    // While another has it open, there are more files.
    let held = Registry::open(&place.registry()).expect("open the registry");
    held.revision().expect("read the registry");
    place.admin("server add web2").ok();
    place.with("backup", &place.path("copy")).ok();
    place.with("restore", &place.path("copy")).ok();
    assert!(check() > 1);
    drop(held);

    // Its user may do the same, and nobody else.
    let as_user = |user: u32| {
        let mut command = Command::new("setpriv");
        let ids = [format!("--reuid={user}"), format!("--regid={user}")];
        command
            .args(ids)
            .arg("--clear-groups")
            .arg(place.path("distrofs"));
        command.args(place.command(&["server", "list"]).get_args());
        run(command.current_dir("/"))
    };
    fs::copy(binary(), place.path("distrofs")).expect("copy the program");
    open_to_all(&place.path("distrofs"));
    assert!(as_user(API).ok().stdout.contains("web2"));
    as_user(30_001).refused(1, &["run this as root", "65534"]);
}

#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.registry()).expect("make a directory");
    fs::write(place.registry().join("of-root"), "").expect("write a file");
    place
        .admin("server list")
        .refused(1, &["belongs to user 0", "chown"]);
    assert_eq!(owner_and_mode(&place.registry()).0, 0);
    fs::remove_file(place.registry().join("of-root")).expect("remove a file");
    fs::remove_dir(place.registry()).expect("remove a directory");
    symlink("/tmp", place.registry()).expect("make a link");
    let link = place.admin("server list");
    assert_eq!(link.status.code(), Some(1), "{link:#?}");
    fs::remove_file(place.registry()).expect("remove the link");
    // An empty one of root's is one that was being made.
    fs::create_dir(place.registry()).expect("make a directory");
    place.admin("server list").ok();
    assert_eq!(owner_and_mode(&place.registry()), (API, 0o700));
}

#[test]
fn a_password_is_said_once_and_kept_as_a_hash() {
    let place = Place::new();
    let made = place.admin("customer add anna").ok().stdout;
    let made = made
        .trim()
        .strip_prefix("password: ")
        .expect("a password")
        .to_owned();
    let of = |name: &str| {
        let registry = Registry::open(&place.registry()).expect("open the registry");
        let account = registry.account(name).expect("read the registry");
        account.expect("an account").password
    };
    assert!(password::verify(&made, &of("anna")));
    let mut command = place.command(&["customer", "add", "ben", "--password-stdin"]);
    let silent = given(&mut command, "bens password \n").ok();
    assert_eq!(silent.stdout, "");
    assert!(password::verify("bens password ", &of("ben")));
    let mut command = place.command(&["customer", "set", "ben", "--password-stdin"]);
    given(&mut command, "seven77\n").refused(1, &["8 to 1024"]);
    given(&mut command, "two lines\nof it\n").refused(1, &["one line"]);
    given(&mut command, "").refused(1, &["8 to 1024"]);
    assert!(password::verify("bens password ", &of("ben")));
    given(&mut command, "another one").ok();
    assert!(password::verify("another one", &of("ben")));
    let next = place.admin("customer set anna --new-password").ok().stdout;
    assert!(next.starts_with("password: ") && !next.contains(&made));
    assert!(!password::verify(&made, &of("anna")));
    place
        .admin("customer add carl --password x")
        .refused(2, &["--password"]);

    let hash = of("anna");
    for how in ["customer list", "customer list --json"] {
        let shown = place.admin(how).ok();
        for secret in [&*hash, "argon2", "another one", &made] {
            assert!(!shown.stdout.contains(secret), "{shown:#?}");
        }
    }
}

#[test]
fn everything_can_be_added_changed_removed_and_listed() {
    let place = Place::filled();
    let containers = place.list("container");
    assert_eq!(containers[0]["custom_distros_storage"], true);
    assert_eq!(containers[1]["custom_distro_name"], "debian");
    assert_eq!(containers[1]["writable"], "paths");
    assert_eq!(place.list("distro")[0]["used_by"][0], 30_001);
    assert_eq!(place.list("server")[0]["containers"], 2);
    assert_eq!(place.list("default-distro")[0]["name"], "precise");
    let shown = place.admin("container list").ok().stdout;
    assert!(shown.contains("30001  anna"), "{shown}");

    for (line, why) in [
        ("customer rm anna", "30000, 30001"),
        ("server rm web1", "30000, 30001"),
        ("default-distro rm precise", "30001"),
        ("container rm 30000", "custom distro 1"),
        (
            "container add 30001 --customer anna --server web1",
            "already",
        ),
        (
            "container add 30002 --customer none --server web1",
            "no customer none",
        ),
        ("container set 30000 --custom-distro 1", "stores images"),
        (
            "container set 30001 --custom-distro 9",
            "no such custom distro",
        ),
        ("container set 30001", "nothing to change"),
        ("container set 99 --name x", "no container 99"),
        ("distro add 30001 --path a", "stores no images"),
        ("distro add 30000 --path ..", "`..`"),
        ("distro add 30000 --path debian", "already"),
        ("distro set 9 --name x", "no custom distro 9"),
        ("default-distro add a/b", "letters"),
        ("customer add an:na", "colon"),
    ] {
        place.admin(line).refused(1, &[why]);
    }
    place
        .admin("container set 30001 --writable all")
        .refused(2, &["paths"]);
    place
        .admin("container set 30001 --custom-distro x")
        .refused(2, &["none"]);

    let removed = place.admin("distro rm 1").ok().stdout;
    assert!(removed.contains("container 30001"), "{removed}");
    place
        .admin("container set 30001 --distro none --writable default --name new")
        .ok();
    let container = &place.list("container")[1];
    assert_eq!(container["name"], "new");
    assert!(container["writable"].is_null() && container["distro"].is_null());
    for line in [
        "container rm 30000",
        "container rm 30001",
        "customer rm anna",
        "default-distro set precise --rename trusty",
        "default-distro rm trusty",
        "server set web1 --rename web2",
        "server rm web2",
    ] {
        place.admin(line).ok();
    }
    assert_eq!(place.admin("container list").ok().stdout, "None.\n");
}

#[test]
fn a_file_is_imported_whole_and_twice_is_once() {
    let place = Place::filled();
    let file = place.path("import.json");
    let text = r#"{"customers": [{"username": "ben", "password": "bens password"}],
        "servers": [{"name": "web2"}],
        "containers": [{"uid": 30010, "customer": "ben", "server": "web2"}]}"#;
    fs::write(&file, text).expect("write a file");
    // What only root can read, its user does not have to.
    fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod a file");
    let done = place.with("import", &file).ok();
    assert!(done.stdout.contains("1 customers, 1 servers"), "{done:#?}");
    let lists = || ["customer", "server", "container", "distro"].map(|what| place.list(what));
    let before = lists();
    assert_eq!(before[2][2]["customer"], "ben");
    let again = place.with("import", &file).ok();
    // Nothing changed: no service has to have it.
    assert_eq!(again.stderr, "", "{again:#?}");
    assert_eq!(lists(), before);

    let wrong = text
        .replace("\"web2\"}]}", "\"web3\"}]}")
        .replace("ben\"", "carl\"");
    fs::write(&file, wrong).expect("write a file");
    place
        .with("import", &file)
        .refused(1, &["containers[0]", "web3", "nothing was changed"]);
    assert_eq!(lists(), before);
    fs::write(&file, "{\"customers\": [{\"user\": 1}]}").expect("write a file");
    place
        .with("import", &file)
        .refused(1, &["unknown field", "user"]);
    place
        .with("import", &place.path("none"))
        .refused(1, &["cannot read"]);
    place
        .with("import", &place.registry())
        .refused(1, &["no regular file"]);
}

/// What the reference shows is taken as it is.
#[test]
fn the_example_in_the_reference_can_be_imported() {
    let place = Place::new();
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/admin.md");
    let text = fs::read_to_string(reference).expect("read the reference");
    let example = text.split("```json\n").nth(1).expect("an example");
    let example = example.split("```").next().expect("its end");
    let file = place.path("import.json");
    fs::write(&file, example).expect("write a file");
    place.with("import", &file).ok();
    let containers = place.list("container");
    assert_eq!(containers[1]["custom_distro_name"], "Debian 12");
    let before = ["customer", "container", "distro"].map(|what| place.list(what));
    place.with("import", &file).ok();
    assert_eq!(
        before,
        ["customer", "container", "distro"].map(|what| place.list(what))
    );
}

#[test]
fn a_backup_brings_everything_back_while_others_use_it() {
    let place = Place::filled();
    let copy = place.path("copy");
    place.with("backup", &copy).ok();
    assert_eq!(owner_and_mode(&copy), (0, 0o600));
    place.with("backup", &copy).refused(1, &["there already"]);
    let dangling = place.path("dangling");
    symlink(place.path("elsewhere"), &dangling).expect("make a link");
    place
        .with("backup", &dangling)
        .refused(1, &["there already"]);

    let containers = place.list("container");
    let other = Registry::open(&place.registry()).expect("open the registry");
    place.admin("distro rm 1").ok();
    place.admin("container rm 30001").ok();
    let before = other.revision().expect("read the registry");
    place.with("restore", &copy).ok();
    assert!(other.revision().expect("read the registry") > before);
    let (_, decisions) = other.decisions("").expect("read the registry");
    let debian: ImagePath = "debian".parse().expect("a path");
    let image = decisions[1].image.as_ref().expect("an image");
    assert_eq!((image.home, &image.path), (30_000, &debian));
    assert_eq!(place.list("container"), containers);

    // A whole registry can be made of nothing but a backup.
    drop(other);
    fs::remove_dir_all(place.registry()).expect("remove the registry");
    place.with("restore", &copy).ok();
    assert_eq!(place.list("container"), containers);
}

#[test]
fn a_damaged_backup_is_refused_and_changes_nothing() {
    let place = Place::filled();
    let copy = place.path("copy");
    place.with("backup", &copy).ok();
    let whole = fs::read(&copy).expect("read the backup");
    let before = place.list("container");
    let mut flipped = whole.clone();
    let middle = whole.len() / 2;
    flipped[middle..middle + 64].fill(0xff);
    for bytes in [&flipped[..], &whole[..middle], b"", b"{}"] {
        fs::write(&copy, bytes).expect("write a file");
        place
            .with("restore", &copy)
            .refused(1, &["no backup", "nothing was changed"]);
        assert_eq!(place.list("container"), before);
    }
    let files = fs::read_dir(place.registry()).expect("list the registry");
    let names: Vec<_> = files
        .map(|file| file.expect("list it").file_name())
        .collect();
    assert_eq!(names, ["registry.db"]);
}

/// A command ends when the service has what was changed: here one that takes a while.
#[test]
fn a_running_service_has_a_change_when_the_command_ends() {
    let place = Place::new();
    let added = place.admin("server add web1").ok();
    // Nothing is decided for a server without containers.
    assert_eq!(added.stderr, "");
    place.admin("customer add anna").ok();
    let line = "container add 30001 --customer anna --server web1";
    let added = place.admin(line).ok();
    assert!(
        added.stderr.contains("service is not running"),
        "{added:#?}"
    );

    let listener = Listener::bind(&place.path("run").join(CONTROL), 0o666).expect("listen");
    let registry = Registry::open(&place.registry()).expect("open the registry");
    let old = registry.revision().expect("read the registry");
    let asked = std::thread::spawn(move || {
        let mut asked = 0;
        loop {
            let link = Link::from(listener.accept().expect("accept"));
            link.receive::<Request>().expect("hear").expect("a request");
            asked += 1;
            let mut status = Status::default();
            let has = if asked < 3 {
                old
            } else {
                registry.revision().expect("read")
            };
            status.decisions.revision = Some(has);
            let text = serde_json::to_string(&status).expect("JSON");
            link.send(&Reply::Text(text), &[]).expect("reply");
            link.send(&Reply::Done, &[]).expect("reply");
            if asked == 3 {
                return asked;
            }
        }
    });
    let set = place.admin("container set 30001 --writable none").ok();
    assert_eq!(set.stderr, "", "{set:#?}");
    assert_eq!(asked.join().expect("the service"), 3);
}
