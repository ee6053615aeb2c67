//! `distrofs run`: commands of a real image in containers of their own, by root and
//! by a user who is not.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::archive::{debian_tgz, tar};
use common::program::{Ran, binary, distrofs, eventually, run, wait};
use rustix::process::{Pid, Signal, kill_process};

/// How long a container may take to start or to be gone.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a shell script in a container of the Debian image.
#[track_caller]
fn script<S: AsRef<OsStr>>(options: impl IntoIterator<Item = S>, script: &str) -> Ran {
    common::need_real_mounts();
    let mut command = distrofs(["run"]);
    command.arg(debian_tgz()).args(options);
    run(command.args(["--", "/bin/sh", "-c", script]))
}

#[test]
fn the_status_is_that_of_the_command() {
    for status in [0, 1, 7, 255] {
        let ran = script([""; 0], &format!("exit {status}"));
        assert_eq!(ran.status.code(), Some(status), "{ran:#?}");
    }
    assert_eq!(
        script([""; 0], "kill -TERM $$").status.code(),
        Some(128 + 15)
    );
    let not_there = run(distrofs(["run"])
        .arg(debian_tgz())
        .args(["--", "no-such-program"]));
    not_there.refused(127, &["no-such-program"]);
    let no_program = run(distrofs(["run"])
        .arg(debian_tgz())
        .args(["--", "/etc/passwd"]));
    no_program.refused(126, &["/etc/passwd", "ermission denied"]);
}

/// Its own processes, its own name, nothing of the host's tree, no rights over it.
#[test]
fn a_container_sees_itself_only() {
    let ran = script(
        ["--env", "GREETING=hello"],
        r#"
        echo "host $(hostname)"
        echo "processes $(ls -d /proc/[0-9]* | wc -l)"
        echo "first $(cat /proc/1/comm)"
        echo "env $GREETING $PATH ${SECRET-none}"
        echo "ipc $(cat /proc/sysvipc/shm | wc -l)"
        echo "devices $(ls /dev | sort | tr '\n' ' ')"
        ls /.old_root /target 2>/dev/null
        mount --bind /tmp /mnt 2>/dev/null && echo "mounts"
        mknod /tmp/disk b 8 0 2>/dev/null && cat /tmp/disk >/dev/null 2>&1 && echo "opens devices"
        for fd in $(ls /proc/1/fd /proc/self/fd 2>/dev/null); do :; done
        ls -l /proc/self/fd | grep -v 'pipe:\|socket:\|/proc/\|/dev/null\|deleted\|total' || true
        echo random >/dev/null; head -c 4 /dev/urandom | wc -c
        [ -c /dev/ptmx ] && [ -d /dev/shm ] && touch /dev/shm/x /run/x && echo "writes"
        "#,
    )
    .ok();
    let said = &ran.stdout;
    for line in [
        "host minbase\n",
        "first distrofs\n",
        "env hello /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin none\n",
        "ipc 1\n",
        "devices fd full null ptmx pts random shm stderr stdin stdout tty urandom zero \n",
        "4\nwrites\n",
    ] {
        assert!(said.contains(line), "{line:?} is missing: {ran:#?}");
    }
    assert!(
        !said.contains("mounts") && !said.contains("opens devices"),
        "{ran:#?}"
    );
    let processes = said.split("processes ").nth(1).expect("a number");
    let processes = processes.split('\n').next().expect("a number");
    assert!(processes.parse::<u32>().expect("a number") < 8, "{ran:#?}");
}

/// Root in there is root out here, as far as the kernel is concerned.
#[test]
fn root_in_a_container_changes_nothing_of_the_host() {
    let ran = script(
        [""; 0],
        r#"
        settings=/proc/sys/kernel/core_pattern
        (cat $settings >$settings) 2>&1 | grep -o 'Read-only.*'
        [ -w /proc/sysrq-trigger ] || echo "no requests to the kernel"
        head -c 1 /proc/kcore | wc -c
        chmod 666 /dev/null 2>&1 | grep -o 'Read-only.*'
        echo x >/dev/null && echo "null takes it"
        "#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "Read-only file system\nno requests to the kernel\n0\nRead-only file system\n\
         null takes it\n",
        "{ran:#?}"
    );
}

#[test]
fn rights_of_the_caller_are_not_inherited() {
    common::need_real_mounts();
    let mut command = Command::new("setpriv");
    command
        .args(["--inh-caps=+sys_admin", "--"])
        .arg(binary())
        .arg("run")
        .arg(debian_tgz())
        .args(["--", "/bin/sh", "-c"])
        .arg("grep CapInh /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null || echo no");
    let ran = run(&mut command).ok();
    assert_eq!(ran.stdout, "CapInh:\t0000000000000000\nno\n", "{ran:#?}");
}

/// What is typed into a terminal by a program is taken for the user's.
#[test]
fn nothing_is_typed_into_the_callers_terminal() {
    common::need_real_mounts();
    let perl = r#"my $c = "x"; print ioctl(STDIN, 0x5412, $c) ? "typed" : "refused: $!""#;
    let line = format!(
        "'{}' run '{}' -- perl -e '{perl}'",
        binary().display(),
        debian_tgz().display()
    );
    let ran = run(Command::new("script").args(["-qec", &line, "/dev/null"]));
    assert!(
        ran.stdout.contains("refused: Operation not permitted"),
        "{ran:#?}"
    );
}

/// The directory above is out of sight while the container is made.
#[test]
fn an_archive_may_be_anywhere() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    fs::hard_link(debian_tgz(), dir.path().join("image.tgz")).expect("link the image");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-euc"])
        .arg(r#"mount --bind "$1" /tmp; exec "$2" run /tmp/image.tgz -- /bin/true"#)
        .arg("sh");
    run(command.arg(dir.path()).arg(binary())).ok();
}

/// Some callers have the ends of their children ignored, and programs inherit that.
#[test]
fn the_end_of_the_command_is_heard_whatever_the_caller_ignores() {
    common::need_real_mounts();
    let mut command = Command::new("env");
    command
        .arg("--ignore-signal=CHLD")
        .arg(binary())
        .arg("run")
        .arg(debian_tgz())
        .args(["--", "/bin/sh", "-c", "exit 3"]);
    assert_eq!(run(&mut command).status.code(), Some(3));
}

/// A descriptor that the caller left open leads out of the container.
#[test]
fn descriptors_of_the_caller_do_not_come_along() {
    common::need_real_mounts();
    let mut command = Command::new("sh");
    command
        .args(["-c", r#"exec 7</etc "$@""#, "sh"])
        .arg(binary())
        .arg("run")
        .arg(debian_tgz())
        .args([
            "--",
            "/bin/sh",
            "-c",
            "ls /proc/self/fd; ls /proc/self/fd/7/ 2>&1",
        ]);
    let ran = run(&mut command);
    assert!(!ran.stdout.lines().any(|line| line == "7"), "{ran:#?}");
    assert!(ran.stdout.contains("No such file"), "{ran:#?}");
}

#[test]
fn what_may_be_written_is_what_was_asked_for() {
    let try_all = r#"
        for at in /tmp/x /var/tmp/x /etc/x /x; do
          (echo y >$at) 2>/dev/null && echo "writes $at"
        done
        echo "user $(id -u):$(id -g) $(id -G)"
        (echo y >>/etc/passwd) 2>&1 | grep -o 'Read-only file system'
        true"#;
    let table: [(&[&str], &str); 5] = [
        (
            &["--writable", "paths"],
            "writes /tmp/x\nwrites /var/tmp/x\nuser 0:0 0\nRead-only file system\n",
        ),
        (
            &["--writable", "tree"],
            "writes /tmp/x\nwrites /var/tmp/x\nwrites /etc/x\nwrites /x\nuser 0:0 0\n",
        ),
        (
            &["--writable", "none"],
            "user 0:0 0\nRead-only file system\n",
        ),
        (
            &["--uid", "30001", "--owner", "30000:30000"],
            "writes /tmp/x\nwrites /var/tmp/x\nuser 30001:30001 30001\nRead-only file system\n",
        ),
        (
            &[
                "--uid",
                "30001",
                "--owner",
                "30000:30000",
                "--writable",
                "tree",
            ],
            "writes /tmp/x\nwrites /var/tmp/x\nuser 30001:30001 30001\n",
        ),
    ];
    for (options, said) in table {
        let ran = script(options, try_all).ok();
        assert_eq!(ran.stdout, said, "{ran:#?}");
    }
}

#[test]
fn the_user_has_a_name_if_that_is_asked_for() {
    let who = "id -un; getent group 30002; ls -l /etc/passwd | cut -c1-10";
    let ran = script(["--uid", "30002", "--passwd"], who).ok();
    assert_eq!(
        ran.stdout, "30002\n30002:x:30002:\n-rw-r--r--\n",
        "{ran:#?}"
    );
    let ran = script(["--uid", "30002"], "id -un 2>/dev/null || echo nobody").ok();
    assert!(ran.stdout.contains("nobody"), "{ran:#?}");
}

#[test]
fn what_is_bound_is_there_and_stays_within() {
    let dir = common::temp_dir();
    let at = dir.path();
    fs::write(at.join("file"), "from outside\n").expect("write a file");
    let bind = |to: &str| format!("{}:{to}", at.display());
    let ran = script(
        [
            "--bind",
            &bind("/mnt"),
            "--bind",
            &format!("{}/file:/etc/issue", at.display()),
        ],
        "cat /mnt/file /etc/issue; echo from inside >/mnt/new",
    )
    .ok();
    assert_eq!(ran.stdout, "from outside\nfrom outside\n");
    assert_eq!(
        fs::read_to_string(at.join("new")).expect("read"),
        "from inside\n"
    );
    script(["--bind", &bind("/not/there")], "true").refused(125, &["/not/there", "directory"]);
    script(["--bind", "/not/there:/mnt"], "true").refused(125, &["/not/there"]);
    script(["--bind", "relative"], "true").refused(2, &["SRC:DST"]);
}

/// An image whose directories are links to elsewhere gets nothing mounted there.
#[test]
fn an_image_cannot_choose_where_outside_things_are_mounted() {
    common::need_real_mounts();
    let dir = common::temp_dir();
    let (tree, archive) = (dir.path().join("tree"), dir.path().join("image.tar"));
    fs::create_dir_all(tree.join("bin")).expect("make a directory");
    for name in ["proc", "dev", "run"] {
        std::os::unix::fs::symlink("../../../../tmp", tree.join(name)).expect("link");
    }
    // A program that needs nothing of its image.
    fs::copy(static_program(dir.path()), tree.join("bin/true")).expect("copy a program");
    tar(&tree, &archive, &[]);
    let ran = run(distrofs(["run"]).arg(&archive).args(["--", "/bin/true"])).ok();
    for name in ["/proc", "/dev", "/run"] {
        assert!(ran.stderr.contains(name), "{ran:#?}");
    }
}

/// A program without libraries that ends with success.
fn static_program(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("true.c"), dir.join("true"));
    fs::write(&source, "int main(void) { return 0; }").expect("write a program");
    run(Command::new("gcc")
        .args(["-static", "-o"])
        .arg(&program)
        .arg(&source))
    .ok();
    program
}

/// Containers that run at the same time.
struct Running(Child);

impl Running {
    /// Starts a script, and waits until it says `ready`.
    fn start(script: &str, said: &Path) -> Running {
        common::need_real_mounts();
        let mut command = distrofs(["run"]);
        command
            .arg(debian_tgz())
            .args(["--", "/bin/sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(fs::File::create(said).expect("make a file"));
        let running = Running(command.spawn().expect("start a container"));
        let is_ready = || fs::read_to_string(said).is_ok_and(|said| said.contains("ready"));
        assert!(eventually(LIMIT, is_ready), "not ready");
        running
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// All that it started, and what those started.
    fn descendants(&self) -> Vec<u32> {
        let mut found = vec![self.0.id()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
                at += 1;
                continue;
            };
            for task in tasks.flatten() {
                let children = fs::read_to_string(task.path().join("children"));
                let children = children.unwrap_or_default();
                found.extend(children.split_whitespace().flat_map(str::parse::<u32>));
            }
            at += 1;
        }
        found
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        common::attempt(self.0.kill());
        common::attempt(self.0.wait());
    }
}

fn is_alive(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.starts_with(" Z"))
    })
}

#[test]
fn signals_reach_the_command() {
    let dir = common::temp_dir();
    let said = dir.path().join("said");
    let script = r#"
        trap 'echo got usr1' USR1
        trap 'echo got term; exit 9' TERM
        echo ready
        while :; do sleep 0.05; done"#;
    let mut running = Running::start(script, &said);
    let has = |words: &str| fs::read_to_string(&said).is_ok_and(|said| said.contains(words));
    kill_process(running.pid(), Signal::USR1).expect("send a signal");
    assert!(eventually(LIMIT, || has("got usr1")), "not passed on");
    kill_process(running.pid(), Signal::TERM).expect("send a signal");
    let status = wait(&mut running.0, LIMIT).expect("it ends");
    assert!(has("got term"));
    assert_eq!(status.code(), Some(9));
}

/// Whoever is killed cannot clean up: everything has to end by itself, processes
/// that were put into the background and sessions of their own too.
#[test]
fn a_kill_leaves_no_process_and_no_mount() {
    let dir = common::temp_dir();
    let said = dir.path().join("said");
    let mounts = || fs::read_to_string("/proc/self/mountinfo").expect("read mountinfo");
    let before = mounts();
    let script = "setsid sleep 1000 & sleep 1000 & echo ready; wait";
    let running = Running::start(script, &said);
    let processes = running.descendants();
    assert!(processes.len() >= 5, "{processes:?}");
    assert_eq!(mounts(), before, "a mount is seen outside");
    kill_process(running.pid(), Signal::KILL).expect("kill it");
    let left = || {
        processes[1..]
            .iter()
            .copied()
            .filter(|pid| is_alive(*pid))
            .collect::<Vec<_>>()
    };
    assert!(
        eventually(LIMIT, || left().is_empty()),
        "still running: {:?}",
        left()
    );
    assert_eq!(mounts(), before);
}

/// Processes that nobody waits for are waited for by the first one.
#[test]
fn no_zombies_are_left_inside() {
    let ran = script(
        [""; 0],
        "for n in 1 2 3 4 5; do (sleep 0.05 & ) ; done; sleep 0.5; \
         grep -l '^State:.Z' /proc/[0-9]*/status; echo done",
    )
    .ok();
    assert_eq!(ran.stdout, "done\n", "{ran:#?}");
}

#[test]
fn containers_at_the_same_time_do_not_see_each_other() {
    let dir = common::temp_dir();
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    let script = "echo mine >/tmp/file; echo ready; read line; cat /tmp/file; ls /tmp";
    let mut first = Running::start(script, &one);
    let mut second = Running::start(&script.replace("mine", "other"), &two);
    for (running, said, word) in [(&mut first, &one, "mine"), (&mut second, &two, "other")] {
        let mut input = running.0.stdin.take().expect("its input");
        writeln!(input, "go").expect("write to it");
        assert!(wait(&mut running.0, LIMIT).expect("it ends").success());
        let said = fs::read_to_string(said).expect("read what it said");
        assert_eq!(said, format!("ready\n{word}\nfile\n"));
    }
}

#[test]
fn errors_say_what_to_do() {
    let run_it = |args: &[&str]| run(distrofs(["run"]).args(args));
    run_it(&["/not/there.tgz", "--", "true"]).refused(125, &["/not/there.tgz"]);
    run_it(&["image.tgz"]).refused(2, &["CMD"]);
    run_it(&["image.tgz", "--uid", "x", "--", "true"]).refused(2, &["number of a user"]);
    run_it(&["image.tgz", "--writable", "all", "--", "true"]).refused(2, &["paths, tree or none"]);
    run_it(&["image.tgz", "--env", "=x", "--", "true"]).refused(2, &["NAME=VALUE"]);
}

/// As uid 1000 all of it happens in a user namespace.
#[test]
fn a_user_runs_containers_too() {
    let ran = common::user::run(
        &debian_tgz(),
        r#"
        before=$(cat /proc/self/mountinfo)
        "$DFS" run image.tgz -- /bin/sh -c '
          echo "user $(id -u)"
          echo x >/tmp/x && echo "writes"
          (echo x >/etc/x) 2>&1 | grep -o "Read-only.*"
          exit 5' || echo "status $?"
        "$DFS" run image.tgz --uid 30001 --passwd --writable tree -- /bin/sh -c '
          echo "user $(id -un)"; echo x >/etc/x && stat -c "owner %u" /etc/x
          set -- /proc/[0-9]*; echo $#'
        test "$before" = "$(cat /proc/self/mountinfo)"
        "$DFS" run image.tgz --owner 5:5 -- true || echo "status $?"
        ls -A
        pgrep distrofs || echo "none left"
        "#,
    )
    .ok();
    assert_eq!(
        ran.stdout,
        "user 0\nwrites\nRead-only file system\nstatus 5\n\
         user 30001\nowner 30001\n2\nstatus 125\nimage.tgz\nimage.tgz.dfsx\nnone left\n",
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("--owner takes root"), "{ran:#?}");
}

/// The limit of a user namespace on further ones stands for a system's setting.
#[test]
fn a_user_is_told_which_setting_forbids_it() {
    let ran = common::user::run(
        &debian_tgz(),
        r#"unshare --user --map-root-user sh -euc '
          echo 0 >/proc/sys/user/max_user_namespaces
          exec setpriv --bounding-set=-all --inh-caps=-all "$DFS" run image.tgz -- true'"#,
    );
    ran.refused(125, &["user namespace", "max_user_namespaces is 0"]);
}
