//! What the registry decides, told to the real service without a registry: who gets
//! which root, what happens instead, and what is left after a restart.

mod common;

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::program::{Ran, distrofs, eventually, run};
use common::service::Service;
use common::view::{dir, file, mounts_below};
use distrofs::types::{Decision, Raised};
use distrofs::wire::client::{AskError, ask, ask_text, tell};
use distrofs::wire::control::{DECISIONS_MAX, Decisions, ImageOf, Reply, Request};

const S: u32 = 30_000;
const CONSUMER: u32 = 30_001;
const OTHER: u32 = 30_002;

const SOON: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(60);

/// A storage container, with an image that can be a root and some that cannot, and two
/// consumers. Not started.
fn prepared() -> Service {
    let mut service = Service::new(&[S]);
    let distro = service.path().join("distros/precise");
    dir(&distro.join(".old_root"), 0o755);
    file(&distro.join("etc/version"), 0o644, b"precise");
    service.set(&format!(
        "distros={}",
        service.path().join("distros").display()
    ));
    let vassal = service.path().join("vassals/{uid}.ini");
    service.set(&format!("vassal={}", vassal.display()));
    for container in [CONSUMER, OTHER] {
        for path in [
            service.home(container),
            service.home(container).join("logs"),
        ] {
            dir(&path, 0o755);
            chown(&path, Some(container), Some(container)).expect("give it away");
        }
    }
    let needed = [(".old_root/x", ""), ("containers/x", "")];
    for (name, without) in [("whole", 2), ("no-old-root", 0), ("no-containers", 1)] {
        let mut files = needed.to_vec();
        if without < files.len() {
            files.remove(without);
        }
        files.push(("etc/version", name));
        service.upload(S, &service.image(name, &files), &format!("{name}.tgz"));
    }
    service
}

fn decision(container: u32) -> Decision {
    Decision {
        container,
        customer: 1,
        is_storage: false,
        image: None,
        default: Some("precise".parse().expect("a name")),
        writable: None,
    }
}

fn storage(container: u32, is_storage: bool) -> Decision {
    Decision {
        is_storage,
        ..decision(container)
    }
}

fn has(container: u32, image: &str) -> Decision {
    Decision {
        image: Some(image.parse().expect("an image")),
        ..decision(container)
    }
}

/// All that is decided.
#[track_caller]
fn decide(service: &Service, decided: &[Decision]) {
    push(service, decided, &[], true).expect("decide");
}

/// What changed.
#[track_caller]
fn change(service: &Service, decided: &[Decision], gone: &[u32]) {
    push(service, decided, gone, false).expect("decide");
}

fn push(
    service: &Service,
    decided: &[Decision],
    gone: &[u32],
    is_all: bool,
) -> Result<(), AskError> {
    let pieces = decided.chunks(DECISIONS_MAX).map(|some| Decisions {
        decided: some.to_vec(),
        ..Decisions::default()
    });
    let last = Decisions {
        gone: gone.to_vec(),
        is_all,
        is_last: true,
        revision: 7,
        ..Decisions::default()
    };
    let packets: Vec<_> = pieces.chain([last]).collect();
    tell(&service.run_dir(), &Request::Decide, &packets, PATIENCE)
}

/// What the root of a container is.
#[track_caller]
fn root_of(service: &Service, container: u32) -> String {
    let ran = service.attached_root(container, "cat \"$1/etc/version\"");
    ran.ok().stdout
}

/// Alarms that wait, after those that were taken.
#[track_caller]
fn raised(service: &Service, taken: u64) -> Vec<Raised> {
    let request = Request::Alarms { taken };
    let text = ask_text(&service.run_dir(), &request, PATIENCE, 1 << 20).expect("ask");
    serde_json::from_str(&text).expect("alarms")
}

fn texts(alarms: &[Raised]) -> Vec<(u32, String)> {
    let text = |alarm: &Raised| (alarm.container, alarm.text.clone());
    alarms.iter().map(text).collect()
}

/// The lines of a container's log, without their times.
fn lines(service: &Service, container: u32) -> Vec<String> {
    let log = service.home(container).join("logs/emperor.log");
    let text = fs::read_to_string(log).unwrap_or_default();
    let line = |line: &str| line.split_at(24).1.to_owned();
    text.lines().map(line).collect()
}

#[track_caller]
fn has_line(service: &Service, container: u32, expected: &str) {
    let is_there = || lines(service, container).iter().any(|l| l == expected);
    assert!(
        eventually(SOON, is_there),
        "{expected}: {:?}",
        lines(service, container)
    );
}

fn danger(service: &Service, path: &str) -> String {
    let at = service.distros(S).join(path);
    format!(
        "[DANGER] {} does not exist as a custom distro",
        at.display()
    )
}

/// Something that has a container's root, until it is dropped.
struct Held(Child);

impl Held {
    #[track_caller]
    fn new(service: &Service, container: u32) -> Held {
        let ready = service.path().join(format!("ready.{container}"));
        common::attempt(fs::remove_file(&ready));
        let at = service.path().join("at").join(container.to_string());
        dir(&at, 0o755);
        let text = format!(
            "mount --make-rprivate /; '{}' attach {container} --at \"$1\" --run '{}'; cd \"$1\"; \
             : >'{}'; while read -r path; do cat \"$path\"; echo; done",
            common::program::binary().display(),
            service.run_dir().display(),
            ready.display(),
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-euc", &text, "sh"]).arg(at);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let held = Held(command.spawn().expect("start a container"));
        assert!(eventually(SOON, || ready.exists()), "{}", service.log());
        held
    }

    /// What a file in it says.
    #[track_caller]
    fn read(&mut self, path: &str) -> String {
        use std::io::{BufRead, BufReader, Write};
        let stdin = self.0.stdin.as_mut().expect("an input");
        writeln!(stdin, "{path}").expect("ask");
        let mut line = String::new();
        let stdout = self.0.stdout.as_mut().expect("an output");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("an answer");
        line.trim_end().to_owned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        common::attempt(self.0.kill());
        common::attempt(self.0.wait());
    }
}

/// The image, or the platform's distro with an alarm of just that text, in both places.
#[test]
fn a_custom_distro_or_the_platforms_and_an_alarm() {
    let mut service = prepared();
    service.start();
    decide(&service, &[storage(S, true), has(CONSUMER, "30000/whole")]);
    let ran = service
        .attached_root(CONSUMER, "cat \"$1/etc/version\"")
        .ok();
    assert_eq!(ran.stdout, "whole");
    assert!(ran.stderr.contains("the image 30000/whole"), "{ran:?}");
    let at = service.path().join("at").join(CONSUMER.to_string());
    let whole = service.distros(S).join("whole").display().to_string();
    let mounted = |what: &str| format!(" - [distrofs] mounted {what} on {}", at.display());
    has_line(&service, CONSUMER, &mounted(&whole));
    let precise = service.path().join("distros/precise").display().to_string();
    for (path, lacks) in [
        ("no-old-root", ".old_root"),
        ("no-containers", "containers"),
        ("nothing", ".old_root"),
    ] {
        change(&service, &[has(CONSUMER, &format!("30000/{path}"))], &[]);
        let ran = service.attached_root(CONSUMER, "cat \"$1/etc/version\"");
        let ran = ran.ok();
        assert_eq!(ran.stdout, "precise", "{path}");
        assert!(ran.stderr.contains(&precise), "{ran:?}");
        let text = danger(&service, &format!("{path}/{lacks}"));
        let alarms = raised(&service, 0);
        assert_eq!(texts(&alarms), [(CONSUMER, text.clone())]);
        has_line(&service, CONSUMER, &format!(" - ALARM: {text}"));
        has_line(&service, CONSUMER, &mounted(&precise));
        // It is raised once, and taken once.
        assert_eq!(root_of(&service, CONSUMER), "precise");
        assert_eq!(raised(&service, alarms[0].number), []);
    }
    // Whoever names an image gets that, or an error.
    let asked = service.attached(CONSUMER, "30000/nothing", "");
    asked.refused(1, &["no image nothing"]);
    let status = service.told().decisions;
    assert_eq!((status.containers, status.revision), (2, Some(7)));
    service.stop();
}

/// Whoever may not have an image gets the platform's distro, and nobody is told.
#[test]
fn what_may_not_be_is_the_platforms_silently() {
    let mut service = prepared();
    service.set("containers={30001 = \"30000/whole\"}");
    service.start();
    // The settings, as long as the registry says nothing.
    assert_eq!(root_of(&service, CONSUMER), "whole");
    let of_other = Decision {
        customer: 2,
        ..has(CONSUMER, "30000/whole")
    };
    let storing = Decision {
        is_storage: true,
        ..has(CONSUMER, "30000/whole")
    };
    for (storage_of, consumer) in [
        (Some(storage(S, true)), of_other),
        (Some(storage(S, true)), storing),
        (Some(storage(S, true)), decision(CONSUMER)),
        (Some(storage(S, false)), has(CONSUMER, "30000/whole")),
        (None, has(CONSUMER, "30000/whole")),
    ] {
        let all: Vec<_> = storage_of.into_iter().chain([consumer]).collect();
        decide(&service, &all);
        assert_eq!(root_of(&service, CONSUMER), "precise", "{all:?}");
        assert_eq!(service.told().decisions.alarms_waiting, 0, "{all:?}");
        // Nor does its own user get it, whatever the settings say.
        let request = Request::Attach {
            container: CONSUMER,
            image: Some("30000/whole".parse().expect("an image")),
            writable: None,
            passwd: false,
            at: None,
        };
        let asked = as_container(&service, |run| ask(run, &request, PATIENCE, |_, _| Ok(())));
        refused(&asked);
    }
    decide(&service, &[]);
    let undecided = service.attached_root(CONSUMER, "");
    // Its storage was decided on and forgotten: that is not served any more.
    undecided.refused(1, &["home 30000 is not served"]);
    service.stop();
}

/// What the user of a container does, who finds the service in a directory.
fn as_container<T: Send>(service: &Service, job: impl FnOnce(&Path) -> T + Send) -> T {
    let run = common::view::open(&service.run_dir());
    let path = format!("/proc/self/fd/{}", run.as_raw_fd());
    common::view::as_user(CONSUMER, || job(Path::new(&path)))
}

#[track_caller]
fn refused(answer: &Result<(), AskError>) {
    let is_refused = matches!(answer, Err(AskError::Refused(why)) if why.contains("root only"));
    assert!(is_refused, "{answer:?}");
}

/// There is no root that nobody decided, and none outside of the platform's distros.
#[test]
fn a_platform_distro_that_is_missing_is_an_error() {
    let mut service = prepared();
    service.start();
    let distros = service.path().join("distros");
    symlink("precise", distros.join("link")).expect("make a link");
    file(&distros.join("file"), 0o644, b"");
    for name in [None, Some("none"), Some("link"), Some("file")] {
        let default = name.map(|name| name.parse().expect("a name"));
        let decided = Decision {
            default,
            ..decision(CONSUMER)
        };
        decide(&service, &[decided]);
        let ran = service.attached_root(CONSUMER, "");
        ran.refused(1, &["no platform distro"]);
    }
    let is_told = || {
        let lines = lines(&service, CONSUMER);
        let of_it = lines.iter().filter(|l| l.contains("no platform distro"));
        of_it.count() == 4
    };
    assert!(eventually(SOON, is_told), "{:?}", lines(&service, CONSUMER));
    service.stop();
}

fn place(service: &Service, command: &str) -> Command {
    let mut asked = distrofs([command, "30001", "--run"]);
    asked.arg(service.run_dir());
    asked
}

/// Without a place that is named, a view is where launchers look for the image; the
/// platform's distro is found by them anyway.
#[test]
fn where_launchers_look_there_is_a_root() {
    let mut service = prepared();
    service.start();
    let ran = |command: &str| -> Ran { run(&mut place(&service, command)) };
    decide(&service, &[storage(S, true), decision(CONSUMER)]);
    let before = service.mounts();
    for command in ["attach", "detach"] {
        let said = ran(command).ok();
        assert_eq!(said.stdout, "");
        assert!(said.stderr.contains("distros/precise"), "{said:?}");
        assert_eq!(service.mounts(), before);
    }
    // What is no root is covered by one.
    change(&service, &[has(CONSUMER, "30000/no-containers")], &[]);
    let version = service.distros(S).join("no-containers/etc/version");
    ran("attach").ok();
    assert_eq!(fs::read_to_string(&version).expect("read"), "precise");
    ran("detach").ok();
    assert_eq!(fs::read_to_string(&version).expect("read"), "no-containers");
    ran("detach").refused(1, &["no view"]);
    // And where nothing is, nothing is mounted, but the owner is told.
    change(&service, &[has(CONSUMER, "30000/nothing")], &[]);
    let said = ran("attach").ok();
    assert!(said.stderr.contains("nothing is mounted"), "{said:?}");
    let alarms = raised(&service, 0);
    let text = danger(&service, "nothing/.old_root");
    assert_eq!(alarms.last().map(|alarm| &*alarm.text), Some(&*text));
    assert_eq!(service.mounts(), before);
    service.stop();
}

/// Decisions and alarms are there after each way to end; a file that cannot be used is
/// put aside.
#[test]
fn what_was_decided_and_raised_outlasts_the_service() {
    let mut service = prepared();
    service.start();
    let decided = [
        storage(S, true),
        has(CONSUMER, "30000/whole"),
        has(OTHER, "30000/nothing"),
    ];
    decide(&service, &decided);
    // At once, though writing gathers for a while.
    service.stop();
    service.start();
    assert_eq!(root_of(&service, CONSUMER), "whole");
    assert_eq!(root_of(&service, OTHER), "precise");
    service.kill();
    service.start();
    let text = danger(&service, "nothing/.old_root");
    let first = raised(&service, 0);
    assert_eq!(texts(&first), [(OTHER, text.clone())]);
    assert_eq!(raised(&service, first[0].number), []);
    service.hand_over();
    service.start();
    assert_eq!(service.told().decisions.alarms_waiting, 0);
    assert_eq!(root_of(&service, OTHER), "precise");
    let next = raised(&service, 0);
    assert_eq!(texts(&next), [(OTHER, text.clone())]);
    assert!(next[0].number > first[0].number);
    service.stop();
    let kept = service.path().join("containers/.distrofs/decisions.json");
    let mut bytes = fs::read(&kept).expect("read what is kept");
    bytes.truncate(bytes.len() / 2);
    fs::write(&kept, bytes).expect("damage it");
    service.start();
    assert_eq!(service.told().decisions.containers, 0);
    let ran = service.attached_root(CONSUMER, "");
    ran.refused(1, &["no image is chosen"]);
    assert!(kept.with_extension("json.damaged").exists());
    decide(&service, &decided);
    assert_eq!(root_of(&service, CONSUMER), "whole");
    service.stop();
}

/// Who is not the registry decides nothing, and what is not whole changes nothing.
#[test]
fn only_the_registry_decides() {
    let mut service = prepared();
    service.start();
    decide(&service, &[storage(S, true), has(CONSUMER, "30000/whole")]);
    let last = Decisions {
        is_last: true,
        is_all: true,
        ..Decisions::default()
    };
    let answers = as_container(&service, |run| {
        let requests = [
            Request::Restart { container: OTHER },
            Request::Alarms { taken: u64::MAX },
            Request::Upload {
                image: "30000/whole".parse().expect("an image"),
                bytes: None,
            },
        ];
        let asked = requests.map(|request| ask(run, &request, PATIENCE, |_, _| Ok(())));
        let decided = tell(run, &Request::Decide, &[last], PATIENCE);
        [decided].into_iter().chain(asked).collect::<Vec<_>>()
    });
    answers.iter().for_each(refused);
    for odd in [decision(0), has(CONSUMER, "0/whole")] {
        push(&service, &[odd], &[], false).unwrap_err();
    }
    let odd = Decision {
        writable: Some("all".to_owned()),
        ..decision(CONSUMER)
    };
    push(&service, &[decision(OTHER), odd], &[], true).unwrap_err();
    assert_eq!(root_of(&service, CONSUMER), "whole");
    assert_eq!(service.told().decisions.containers, 2);
    service.stop();
}

/// What containers use is served until they end, also by another worker and another
/// supervisor; nobody gets it anew.
#[test]
fn a_storage_that_ends_serves_those_who_are_there() {
    let mut service = prepared();
    service.start();
    let all = |is_storage| [storage(S, is_storage), has(CONSUMER, "30000/whole")];
    decide(&service, &all(true));
    let mut held = Held::new(&service, CONSUMER);
    assert_eq!(held.read("etc/version"), "whole");
    let worker = service.worker(S).expect("a worker");
    decide(&service, &all(false));
    assert!(!service.distros(S).join("whole/etc").exists());
    assert!(mounts_below(&service.run_dir()).is_empty());
    let before = lines(&service, OTHER).len();
    change(&service, &[has(OTHER, "30000/whole")], &[]);
    assert_eq!(root_of(&service, OTHER), "precise");
    assert!(eventually(SOON, || lines(&service, OTHER).len() > before));
    // Its worker dies.
    common::attempt(rustix::process::kill_process(
        worker,
        rustix::process::Signal::KILL,
    ));
    assert_eq!(held.read("containers/x"), "");
    assert_eq!(held.read("etc/version"), "whole");
    // And the supervisor is another one.
    let is_there = || service.worker(S).is_some_and(|next| next != worker);
    assert!(eventually(SOON, is_there));
    service.hand_over();
    service.start();
    fs::write("/proc/sys/vm/drop_caches", "3").expect("drop the caches");
    assert_eq!(held.read("etc/version"), "whole");
    // On and off, as fast as it goes.
    for number in 0..10 {
        decide(&service, &all(number % 2 == 0));
    }
    assert_eq!(held.read("etc/version"), "whole");
    decide(&service, &all(true));
    let other = [storage(S, true), has(OTHER, "30000/whole")];
    change(&service, &other, &[]);
    assert_eq!(root_of(&service, OTHER), "whole");
    assert_eq!(held.read("etc/version"), "whole");
    decide(&service, &all(false));
    drop(held);
    let is_over = || service.worker(S).is_none();
    assert!(eventually(SOON, is_over), "{}", service.log());
    // Nothing was removed.
    decide(&service, &all(true));
    assert_eq!(root_of(&service, CONSUMER), "whole");
    // And what is forgotten ends as well.
    change(&service, &[], &[S]);
    assert!(eventually(SOON, is_over), "{}", service.log());
    service.stop();
}

/// What a customer puts in the place of `distros` is left alone.
#[test]
fn a_storage_begins_where_it_may() {
    let mut service = prepared();
    let (distros, elsewhere) = (service.distros(OTHER), service.path().join("elsewhere"));
    dir(&elsewhere, 0o777);
    symlink(&elsewhere, &distros).expect("make a link");
    service.start();
    // One has no home yet: nobody is told.
    let late = 30_009;
    decide(&service, &[storage(OTHER, true), storage(late, true)]);
    let is_served = |uid| service.told().homes.iter().any(|home| home.home == uid);
    assert!(!is_served(OTHER) && !is_served(late));
    let alarms = raised(&service, 0);
    let [alarm] = &alarms[..] else {
        panic!("{alarms:?}");
    };
    assert_eq!(alarm.container, OTHER);
    assert!(
        alarm.text.contains("distros is no directory"),
        "{}",
        alarm.text
    );
    // Not again and again.
    assert_eq!(raised(&service, alarm.number), []);
    assert!(fs::read_dir(&elsewhere).expect("list").next().is_none());
    fs::remove_file(&distros).expect("remove the link");
    dir(&service.home(late), 0o755);
    chown(service.home(late), Some(late), Some(late)).expect("give it away");
    let begins = |uid| eventually(SOON, || is_served(uid));
    assert!(begins(OTHER) && begins(late), "{}", service.log());
    assert!(service.distros(late).is_dir() && distros.is_dir());
    service.stop();
}

fn restart(service: &Service, container: u32) -> Result<(), AskError> {
    let request = Request::Restart { container };
    ask(&service.run_dir(), &request, PATIENCE, |_, _| Ok(()))
}

#[test]
fn a_container_is_restarted_as_the_settings_say() {
    let mut service = prepared();
    let vassal = service.path().join("vassals/30001.ini");
    service.start();
    // It does not run.
    restart(&service, CONSUMER).expect("restart");
    assert!(!vassal.exists());
    file(&vassal, 0o644, b"kept");
    let age = |at: &Path| {
        let made = fs::metadata(at).and_then(|found| found.modified());
        made.expect("a time").elapsed().unwrap_or_default()
    };
    run(Command::new("touch").args(["-d", "@1"]).arg(&vassal)).ok();
    restart(&service, CONSUMER).expect("restart");
    assert!(age(&vassal) < PATIENCE);
    assert_eq!(fs::read(&vassal).expect("read"), b"kept");
    restart(&service, 0).unwrap_err();
    service.stop();
    let said = service.path().join("said");
    let script = format!("echo {{uid}} >{}; test {{uid}} = 30001", said.display());
    service.set(&format!("restart=['sh', '-c', '{script}']"));
    service.start();
    restart(&service, CONSUMER).expect("restart");
    assert_eq!(fs::read_to_string(&said).expect("read"), "30001\n");
    let error = restart(&service, OTHER).unwrap_err().to_string();
    assert!(error.contains("30002 is not restarted"), "{error}");
    service.stop();
}

/// An archive that is too long is refused before anything is sent.
#[test]
fn an_upload_is_offered_a_way_if_it_may_be() {
    let mut service = prepared();
    service.set("image_bytes_max=1M");
    service.start();
    let offered = |image: &str, bytes| {
        let image: ImageOf = image.parse().expect("an image");
        let (mut way, request) = (None, Request::Upload { image, bytes });
        ask(&service.run_dir(), &request, PATIENCE, |reply, fd| {
            if let Reply::Upload = reply {
                way = fd;
            }
            Ok(())
        })?;
        Ok::<_, AskError>(way.is_some())
    };
    assert!(offered("30000/new", Some(1 << 20)).expect("a way"));
    assert!(offered("30000/new", None).expect("a way"));
    let error = offered("30000/new", Some((1 << 20) + 1)).unwrap_err();
    assert!(error.to_string().contains("too long"), "{error}");
    let error = offered("30009/new", None).unwrap_err();
    assert!(error.to_string().contains("not served"), "{error}");
    service.stop();
}

/// As many as a full server has, and more.
#[test]
fn ten_thousand_containers_are_decided_on() {
    const COUNT: u32 = 10_000;
    let mut service = prepared();
    service.start();
    let all: Vec<_> = (40_000..40_000 + COUNT)
        .map(|uid| has(uid, "30000/whole"))
        .chain([storage(S, true), has(CONSUMER, "30000/whole")])
        .collect();
    let began = Instant::now();
    decide(&service, &all);
    println!("{COUNT} decisions were told in {:?}", began.elapsed());
    assert_eq!(service.told().decisions.containers, u64::from(COUNT) + 2);
    assert_eq!(root_of(&service, CONSUMER), "whole");
    let began = Instant::now();
    for _ in 0..100 {
        let request = Request::Place {
            container: 40_000 + COUNT / 2,
            image: None,
        };
        ask(&service.run_dir(), &request, PATIENCE, |_, _| Ok(())).expect("ask");
    }
    println!("one is found in {:?}", began.elapsed() / 100);
    service.stop();
    service.start();
    assert_eq!(service.told().decisions.containers, u64::from(COUNT) + 2);
    assert_eq!(root_of(&service, CONSUMER), "whole");
    service.stop();
}
