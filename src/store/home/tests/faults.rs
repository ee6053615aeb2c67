//! Each step of taking in as the last one that was done, and as one that fails:
//! afterwards all is finished or undone, and nothing is lost.

use std::io;

use super::super::fault::{Crash, Fault, Step, with};
use super::*;

const NEW: [Step; 9] = [
    Step::Index,
    Step::SyncArchive,
    Step::Journal,
    Step::Stage,
    Step::PlaceArchive,
    Step::PlaceIndex,
    Step::Record,
    Step::Clean,
    Step::Forget,
];
/// Of an archive that is in the store already.
const KNOWN: [Step; 7] = [
    Step::Index,
    Step::SyncArchive,
    Step::Journal,
    Step::Stage,
    Step::Record,
    Step::Clean,
    Step::Forget,
];
const FAULTS: [Fault; 3] = [
    Fault::Crash,
    Fault::Fails(io::ErrorKind::StorageFull),
    Fault::Fails(io::ErrorKind::Other),
];

/// Takes `web.tar` in with a fault, and then whatever is to be done after that;
/// after a restart if `again`.
fn taken_after(place: &Place, step: Step, fault: Fault, again: bool) -> Home {
    let home = place.home();
    let scan = home.scan().unwrap();
    let outcome = with(step, fault, || take(&home, &scan.sightings[0]));
    match fault {
        Fault::Crash => assert_eq!(outcome, Err(Crash)),
        Fault::Fails(io::ErrorKind::StorageFull) => {
            let Ok(Outcome::Later(why)) = &outcome else {
                panic!("{step:?}: {outcome:?}")
            };
            assert!(why.contains("more room"), "{step:?}: {why}");
        }
        Fault::Fails(_) => assert!(
            matches!(outcome, Ok(Outcome::Later(_))),
            "{step:?}: {outcome:?}"
        ),
    }
    let home = match again || fault == Fault::Crash {
        false => home,
        true => {
            drop(home);
            place.home()
        }
    };
    assert_eq!(home.scan().unwrap().unfinished, []);
    home
}

fn check(place: &Place, home: &Home, content: &[u8], before: Option<Digest>) {
    let is_there = place.at("web.tar").exists();
    match current(home, "web") {
        // Undone.
        now if is_there => {
            assert_eq!(now, before);
            assert_eq!(fs::read(place.at("web.tar")).unwrap(), tar(content));
        }
        // Finished.
        now => assert!(now.is_some() && now != before),
    }
    assert_eq!(place.names("incoming"), [""; 0]);
    // And it can be finished at last.
    for (_, outcome) in take_all(home) {
        assert!(matches!(outcome, Outcome::Ready { .. }), "{outcome:?}");
    }
    let now = current(home, "web").unwrap();
    assert_eq!(fs::read(home.archive_path(&now)).unwrap(), tar(content));
    assert_eq!(place.names("distros"), [""; 0]);
    let versions = home.versions(&path("web")).unwrap().len();
    assert_eq!(versions, 1 + usize::from(before.is_some()));
    assert_eq!(home.gc(&|_| false).unwrap().archives, []);
}

#[test]
fn of_a_new_image() {
    for (step, fault) in NEW.iter().flat_map(|s| FAULTS.map(|f| (*s, f))) {
        for again in [false, true] {
            let place = Place::new();
            place.upload("web.tar", &tar(b"one"));
            let home = taken_after(&place, step, fault, again);
            check(&place, &home, b"one", None);
        }
    }
}

#[test]
fn of_a_new_version() {
    for (step, fault) in NEW.iter().flat_map(|s| FAULTS.map(|f| (*s, f))) {
        let place = Place::new();
        place.upload("web.tar", &tar(b"one"));
        let home = place.home();
        take_all(&home);
        let before = current(&home, "web");
        drop(home);
        place.upload("web.tar", &tar(b"two"));
        let home = taken_after(&place, step, fault, false);
        check(&place, &home, b"two", before);
    }
}

#[test]
fn of_an_archive_that_is_in_the_store() {
    for (step, fault) in KNOWN.iter().flat_map(|s| FAULTS.map(|f| (*s, f))) {
        let place = Place::new();
        place.upload("other.tar", &tar(b"one"));
        let home = place.home();
        take_all(&home);
        drop(home);
        place.upload("web.tar", &tar(b"one"));
        let home = taken_after(&place, step, fault, false);
        check(&place, &home, b"one", None);
    }
}

#[test]
fn of_what_is_rejected() {
    for (step, fault) in [Step::Reason, Step::Reject]
        .iter()
        .flat_map(|s| FAULTS.map(|f| (*s, f)))
    {
        let place = Place::new();
        let bytes = [b'x'; 3000];
        place.upload("web.tar", &bytes);
        let home = place.home();
        let scan = home.scan().unwrap();
        let _any = with(step, fault, || take(&home, &scan.sightings[0]));
        drop(home);
        let home = place.home();
        let rejected = place.at(".rejected/web.tar");
        assert!(place.at("web.tar").exists() != rejected.exists());
        take_all(&home);
        assert_eq!(fs::read(rejected).unwrap(), bytes);
        assert_eq!(home.rejections().unwrap().len(), 1);
        assert_eq!(place.names("distros"), [".rejected"]);
        assert_eq!(place.names("incoming"), [""; 0]);
    }
}

/// The process was killed while somebody waited for the lease: they have the file
/// open for writing now, wherever it is.
#[test]
fn a_writer_who_was_let_in_by_a_crash_gets_the_upload_back() {
    let place = Place::new();
    place.upload("web.tar", &tar(b"one"));
    let home = place.home();
    let scan = home.scan().unwrap();
    with(Step::Stage, Fault::Crash, || {
        take(&home, &scan.sightings[0])
    })
    .unwrap_err();
    drop(home);
    let staged = place.names("incoming");
    let staged = staged.iter().find(|name| name.ends_with(".archive"));
    let staged = place.store().join("incoming").join(staged.unwrap());
    let writing = File::options().append(true).open(staged).unwrap();
    let home = place.home();
    assert_eq!(home.scan().unwrap().sightings[0].state, State::Growing);
    drop(writing);
    unwritten(&place.at("web.tar"));
    check(&place, &home, b"one", None);
}

#[test]
fn without_what_was_written_down_an_archive_comes_back_under_a_name() {
    for damage in ["gone", "damaged", "index gone"] {
        let place = Place::new();
        place.upload("web.tar", &tar(b"one"));
        let home = place.home();
        let scan = home.scan().unwrap();
        with(Step::Stage, Fault::Crash, || {
            take(&home, &scan.sightings[0])
        })
        .unwrap_err();
        drop(home);
        let ending = if damage == "index gone" {
            ".dfsx"
        } else {
            ".json"
        };
        let names = place.names("incoming");
        let file = names.iter().find(|name| name.ends_with(ending)).unwrap();
        let file = place.store().join("incoming").join(file);
        match damage {
            "damaged" => fs::write(file, "{").unwrap(),
            _ => fs::remove_file(file).unwrap(),
        }
        let home = place.home();
        let taken = take_all(&home);
        let name = &taken[0].0;
        assert!(
            name.starts_with("recovered-") || damage == "index gone",
            "{name}"
        );
        assert!(matches!(taken[0].1, Outcome::Ready { .. }));
    }
}

/// Where it came from cannot be reached: it waits.
#[test]
fn what_cannot_be_given_back_is_kept_and_told_of() {
    let place = Place::new();
    place.upload("web.tar", &tar(b"one"));
    let home = place.home();
    let scan = home.scan().unwrap();
    with(Step::Stage, Fault::Crash, || {
        take(&home, &scan.sightings[0])
    })
    .unwrap_err();
    let names = place.names("incoming");
    let index = names.iter().find(|name| name.ends_with(".dfsx")).unwrap();
    fs::remove_file(place.store().join("incoming").join(index)).unwrap();
    fs::remove_dir(place.at("")).unwrap();
    let unfinished = home.recover().unwrap();
    assert_eq!(unfinished[0].path, Some(path("web")));
    assert!(unfinished[0].reason.contains("distros"));
    fs::create_dir(place.at("")).unwrap();
    assert_eq!(home.recover().unwrap(), []);
    assert_eq!(fs::read(place.at("web.tar")).unwrap(), tar(b"one"));
}

#[test]
fn of_a_patch() {
    let steps = [
        Step::Copy,
        Step::Index,
        Step::PlaceArchive,
        Step::PlaceIndex,
        Step::Record,
        Step::Forget,
    ];
    for (step, fault) in steps.iter().flat_map(|s| FAULTS.map(|f| (*s, f))) {
        let place = Place::new();
        place.upload("web.tar", &tar(b"one"));
        let home = place.home();
        take_all(&home);
        place.upload("web.d/fix.tar", &tar(b"fix"));
        let _any = with(step, fault, || {
            work(|work| home.take_patches(&path("web"), work))
        });
        drop(home);
        let home = place.home();
        let patches = work(|work| home.take_patches(&path("web"), work)).unwrap();
        assert_eq!(patches.layers.len(), 1, "{step:?}");
        assert!(home.open_image(&patches.layers[0].sha256).is_ok());
        assert_eq!(home.gc(&|_| false).unwrap().archives, []);
        assert_eq!(place.names("archives").len(), 4);
        assert_eq!(place.names("incoming"), [""; 0]);
        assert!(place.at("web.d/fix.tar").exists());
    }
}
