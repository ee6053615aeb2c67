//! What becomes of archives that are sent.

use std::io;
use std::sync::atomic::Ordering;

use super::super::fault::{Crash, Fault, Step, with};
use super::*;

/// Sends an archive and has it taken in when it is there.
fn send(home: &Home, announced: Option<u64>, bytes: &[u8]) -> Outcome {
    let (mut incoming, arrival) = match home.arrive(&path("web"), announced) {
        Ok(halves) => halves,
        Err(outcome) => return outcome,
    };
    let written = bytes
        .chunks(700)
        .try_for_each(|piece| incoming.write(piece));
    if written.is_ok() {
        let _said_by_the_other_half = incoming.finish();
    }
    work(|work| arrival.take(work))
}

fn len(bytes: &[u8]) -> Option<u64> {
    Some(bytes.len() as u64)
}

#[track_caller]
fn nothing_is_left(place: &Place) {
    assert_eq!(place.names("incoming"), [""; 0]);
    assert_eq!(place.names("distros"), [""; 0]);
}

#[test]
fn archives_of_all_kinds_become_versions() {
    let place = Place::new();
    let home = place.home();
    let kinds = [
        (tar(b"one"), "web.tar"),
        (gzip(&tar(b"two")), "web.tgz"),
        (tar(&[7; 200_000]), "web.tar"),
        (gzip(&tar(&[8; 200_000])), "web.tgz"),
    ];
    for (number, (archive, name)) in kinds.iter().enumerate() {
        let announced = len(archive).filter(|_| number > 0);
        let outcome = send(&home, announced, archive);
        let Outcome::Ready { version, notes, .. } = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!((version.name.as_str(), version.entries), (*name, 1));
        assert_eq!((version.bytes, notes), (archive.len() as u64, vec![]));
        assert_eq!(current(&home, "web"), Some(version.sha256));
        assert_eq!(
            fs::read(home.archive_path(&version.sha256)).unwrap(),
            *archive
        );
        nothing_is_left(&place);
    }
    // The third version again, which is the current one then.
    let Outcome::Ready { version, .. } = send(&home, len(&kinds[2].0), &kinds[2].0) else {
        panic!("it is not taken")
    };
    assert_eq!(home.versions(&path("web")).unwrap().len(), 3);
    assert_eq!(current(&home, "web"), Some(version.sha256));
    assert_eq!(home.gc(&|_| false).unwrap().archives.len(), 1);
}

#[test]
fn it_is_indexed_while_it_comes() {
    let place = Place::new();
    let home = place.home_with(|options| options.stalled_after = Duration::from_secs(3600));
    for archive in [tar(&[7; 3_000_000]), gzip(&tar(&[8; 3_000_000]))] {
        let (mut incoming, arrival) = home.arrive(&path("web"), len(&archive)).unwrap();
        let indexed = std::sync::atomic::AtomicU64::new(0);
        let progress = |_: &ImagePath, bytes: u64, of: u64| {
            assert_eq!(of, archive.len() as u64);
            indexed.store(bytes, Ordering::Relaxed);
        };
        let outcome = std::thread::scope(|scope| {
            let taking = scope.spawn(|| {
                arrival.take(Work {
                    metrics: &Arc::default(),
                    progress: &progress,
                    stop: &AtomicBool::new(false),
                })
            });
            let (first, rest) = archive.split_at(1_000_000);
            incoming.write(first).unwrap();
            // It reads what is there, and waits.
            while indexed.load(Ordering::Relaxed) == 0 {
                std::thread::yield_now();
            }
            assert!(!taking.is_finished());
            assert!(home.scan().unwrap().unfinished.is_empty());
            incoming.write(rest).unwrap();
            incoming.finish().unwrap();
            taking.join().unwrap()
        });
        assert!(matches!(outcome, Outcome::Ready { .. }), "{outcome:?}");
        drop(arrival);
        nothing_is_left(&place);
    }
}

/// The turn is free for others, and the archive is indexed when it is there.
#[test]
fn one_that_stalls_keeps_nobody_waiting() {
    let place = Place::new();
    let home = place.home_with(|options| options.stalled_after = Duration::ZERO);
    let archive = tar(b"one");
    let (mut incoming, arrival) = home.arrive(&path("web"), len(&archive)).unwrap();
    incoming.write(&archive[..600]).unwrap();
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| work(|work| arrival.take(work)));
        place.upload("other.tar", &tar(b"other"));
        let taken = take_all(&home);
        assert!(matches!(taken[0].1, Outcome::Ready { .. }), "{taken:?}");
        assert!(!taking.is_finished());
        // Looking at what is there does not remove it.
        home.scan().unwrap();
        incoming.write(&archive[600..]).unwrap();
        incoming.finish().unwrap();
        let outcome = taking.join().unwrap();
        assert!(matches!(outcome, Outcome::Ready { .. }), "{outcome:?}");
    });
    assert!(current(&home, "web").is_some());
}

#[test]
fn what_can_never_be_an_image_leaves_nothing() {
    let place = Place::new();
    let home = place.home();
    let packed = gzip(&tar(b"one"));
    let mut damaged = packed.clone();
    damaged[700] ^= 1;
    for (bytes, why) in [
        (vec![], ""),
        (vec![b'x'; 100], ""),
        (vec![b'x'; 5000], "tar"),
        (packed[..packed.len() - 9].to_vec(), "ends"),
        (packed[..5].to_vec(), ""),
        (damaged, "CRC"),
        (entry(b"one"), "its end is missing"),
        (vec![0; 10_240], "nothing in it"),
        (b"PK\x03\x04zip".repeat(200), ""),
    ] {
        for announced in [None, len(&bytes)] {
            let outcome = send(&home, announced, &bytes);
            let Outcome::Rejected(reason) = &outcome else {
                panic!("{why}: {outcome:?}")
            };
            assert!(reason.contains(why), "{reason}");
            assert!(!reason.contains("go on uploading"), "{reason}");
            nothing_is_left(&place);
        }
    }
    assert_eq!(home.images().unwrap().records, []);
    assert_eq!(home.rejections().unwrap(), []);
}

/// Garbage is refused before all of it is there.
#[test]
fn it_is_rejected_as_soon_as_that_is_known() {
    let place = Place::new();
    let home = place.home();
    let (mut incoming, arrival) = home.arrive(&path("web"), Some(1 << 40)).unwrap();
    incoming.write(&[b'x'; 600_000]).unwrap();
    let outcome = work(|work| arrival.take(work));
    assert!(matches!(outcome, Outcome::Rejected(_)), "{outcome:?}");
}

#[test]
fn what_is_not_sent_as_it_was_announced_fails() {
    let place = Place::new();
    let home = place.home();
    let archive = tar(b"one");
    let long = archive.len() as u64;
    for (announced, why) in [
        (long - 1, "longer"),
        (long + 1, "ended after"),
        (0, "longer"),
    ] {
        let outcome = send(&home, Some(announced), &archive);
        let Outcome::Later(reason) = &outcome else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains(why), "{reason}");
        nothing_is_left(&place);
    }
    // Somebody who hangs up, whose archive would have been whole.
    for announced in [None, Some(long)] {
        let (mut incoming, arrival) = home.arrive(&path("web"), announced).unwrap();
        incoming.write(&archive).unwrap();
        drop(incoming);
        let outcome = work(|work| arrival.take(work));
        assert!(matches!(outcome, Outcome::Later(_)), "{outcome:?}");
        drop(arrival);
        nothing_is_left(&place);
    }
    // Work is to stop.
    let (_incoming, arrival) = home.arrive(&path("web"), None).unwrap();
    let outcome = arrival.take(Work {
        metrics: &Arc::default(),
        progress: &|_, _, _| {},
        stop: &AtomicBool::new(true),
    });
    assert_eq!(outcome, Outcome::Stopped);
    assert_eq!(home.images().unwrap().records, []);
}

#[test]
fn few_arrive_at_a_time() {
    let place = Place::new();
    let home = place.home_with(|options| options.images_max = 1);
    let one = home.arrive(&path("one"), None).unwrap();
    let two = home.arrive(&path("two"), None).unwrap();
    assert!(matches!(
        home.arrive(&path("x"), None),
        Err(Outcome::Later(_))
    ));
    drop((one, two));
    nothing_is_left(&place);
    let archive = tar(b"one");
    assert!(matches!(send(&home, None, &archive), Outcome::Ready { .. }));
    let refused = home.arrive(&path("other"), None);
    assert!(matches!(refused, Err(Outcome::Refused(_))));
}

const STEPS: [Step; 10] = [
    Step::Arrive,
    Step::SyncArchive,
    Step::Index,
    Step::Journal,
    Step::Stage,
    Step::PlaceArchive,
    Step::PlaceIndex,
    Step::Record,
    Step::Clean,
    Step::Forget,
];

/// After each step all is there, or nothing is; what failed leaves nothing.
#[test]
fn a_fault_at_any_step_leaves_all_or_nothing() {
    let faults = [
        Fault::Crash,
        Fault::Fails(io::ErrorKind::StorageFull),
        Fault::Fails(io::ErrorKind::Other),
    ];
    for (step, fault) in STEPS.iter().flat_map(|s| faults.map(|f| (*s, f))) {
        for (before, announced) in [(false, true), (true, false)] {
            let place = Place::new();
            let home = place.home();
            if before {
                assert!(matches!(
                    send(&home, None, &tar(b"old")),
                    Outcome::Ready { .. }
                ));
            }
            let old = current(&home, "web");
            let archive = tar(b"one");
            let announced = len(&archive).filter(|_| announced);
            let outcome = with(step, fault, || send(&home, announced, &archive));
            let is_new = |home: &Home| current(home, "web") != old;
            match (fault, outcome) {
                (Fault::Crash, outcome) => assert_eq!(outcome, Err(Crash)),
                (_, Ok(Outcome::Later(why))) => {
                    assert!(!is_new(&home), "{step:?}");
                    assert!(why.contains("send it again"), "{step:?}: {why}");
                    nothing_is_left(&place);
                }
                (_, outcome) => {
                    assert!(matches!(outcome, Ok(Outcome::Ready { .. })), "{step:?}");
                    assert!(matches!(step, Step::Clean | Step::Forget), "{step:?}");
                    assert!(is_new(&home));
                }
            }
            drop(home);
            let home = place.home();
            home.scan().unwrap();
            nothing_is_left(&place);
            if fault == Fault::Crash {
                let is_done = !matches!(
                    step,
                    Step::Arrive | Step::SyncArchive | Step::Index | Step::Journal
                );
                assert_eq!(is_new(&home), is_done, "{step:?}");
            }
            assert!(matches!(
                send(&home, announced, &archive),
                Outcome::Ready { .. }
            ));
            assert!(is_new(&home));
            let versions = home.versions(&path("web")).unwrap().len();
            assert_eq!(versions, 1 + usize::from(before));
            assert_eq!(home.gc(&|_| false).unwrap().archives, []);
        }
    }
}

/// One whose bytes end the process again and again is not indexed any more; others
/// of that image are.
#[test]
fn one_that_ends_the_process_is_refused_at_last() {
    let place = Place::new();
    let archive = tar(b"deadly");
    for death in 0..3 {
        let home = place.home();
        if death > 0 {
            home.blame_upload().unwrap();
        }
        let outcome = with(Step::Index, Fault::Crash, || {
            send(&home, len(&archive), &archive)
        });
        assert_eq!(outcome, Err(Crash));
    }
    let home = place.home();
    home.blame_upload().unwrap();
    // Of other images nothing is suspected.
    assert!(!home.is_suspected(&path("other")));
    let outcome = send(&home, len(&archive), &archive);
    let Outcome::Rejected(reason) = &outcome else {
        panic!("{outcome:?}")
    };
    assert!(reason.contains("again and again"), "{reason}");
    let other = tar(b"other");
    let outcome = send(&home, len(&other), &other);
    assert!(matches!(outcome, Outcome::Ready { .. }), "{outcome:?}");
    assert!(!home.is_suspected(&path("web")));
    nothing_is_left(&place);
}
