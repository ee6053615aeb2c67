//! Uploads of all kinds, one at a time and many.

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::Ordering;

use super::*;

fn ready(outcome: &Outcome) -> &Version {
    match outcome {
        Outcome::Ready { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

fn state_of(home: &Home, name: &str) -> State {
    let scan = home.scan().unwrap();
    let sighting = scan.sightings.iter().find(|s| s.name == name.as_bytes());
    sighting.unwrap().state.clone()
}

#[test]
fn a_finished_upload_becomes_an_image() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tgz", &gzip(&tar(b"one")));
    let taken = take_all(&home);
    let version = ready(&taken[0].1).clone();
    assert_eq!((version.entries, version.content_bytes), (1, 3));
    assert_eq!(version.name, "web.tgz");
    assert_eq!(place.names("distros"), [""; 0]);
    assert_eq!(place.names("incoming"), [""; 0]);
    let digest = version.sha256.to_string();
    assert_eq!(
        place.names("archives"),
        [digest.clone(), format!("{digest}.dfsx")]
    );
    assert_eq!(home.versions(&path("web")).unwrap(), [version]);
    assert_eq!(take_all(&home), []);
}

#[test]
fn a_new_upload_is_a_new_version_and_the_same_is_not() {
    let place = Place::new();
    let home = place.home();
    for content in ["one", "two", "one", "one"] {
        place.upload("web.tar", &tar(content.as_bytes()));
        ready(&take_all(&home)[0].1);
    }
    let versions = home.versions(&path("web")).unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!(current(&home, "web"), Some(versions[1].sha256));
    // Another image may be of the same archive.
    place.upload("copy.tar", &tar(b"one"));
    let copied = ready(&take_all(&home)[0].1).sha256;
    assert_eq!(Some(copied), current(&home, "web"));
    assert_eq!(place.names("archives").len(), 4);
    assert_eq!(place.names("distros"), [""; 0]);
}

/// An archive of the store that a failing disk damaged is mended by uploading it
/// again.
#[test]
fn a_damaged_archive_in_the_store_is_replaced() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(b"one"));
    let digest = ready(&take_all(&home)[0].1).sha256;
    for damage in ["cut", "no index"] {
        match damage {
            "cut" => fs::write(home.archive_path(&digest), "x").unwrap(),
            _ => fs::remove_file(home.index_path(&digest)).unwrap(),
        }
        assert!(home.open_image(&digest).is_err());
        place.upload("web.tar", &tar(b"one"));
        ready(&take_all(&home)[0].1);
        assert_eq!(current(&home, "web"), Some(digest));
    }
}

#[test]
fn the_newest_of_two_uploads_of_an_image_becomes_current() {
    let place = Place::new();
    let home = place.home();
    for (name, content, age) in [("web.tar", "new", 10), ("web.tgz", "old", 20)] {
        place.upload(name, &tar(content.as_bytes()));
        let when = std::time::SystemTime::now() - Duration::from_secs(age);
        File::open(place.at(name))
            .unwrap()
            .set_modified(when)
            .unwrap();
    }
    let taken = take_all(&home);
    assert_eq!(taken[1].0, "web.tar");
    assert_eq!(current(&home, "web"), Some(ready(&taken[1].1).sha256));
}

#[test]
fn what_is_being_written_is_growing() {
    let place = Place::new();
    let home = place.home();
    let mut writing = File::create(place.at("web.tar")).unwrap();
    writing.write_all(&tar(b"one")).unwrap();
    let scan = home.scan().unwrap();
    assert_eq!(scan.sightings[0].state, State::Growing);
    assert_eq!(scan.sightings[0].bytes, 2048);
    assert_eq!(take(&home, &scan.sightings[0]), Outcome::Busy);
    drop(writing);
    unwritten(&place.at("web.tar"));
    assert_eq!(take_all(&home).len(), 1);
}

/// Somebody who goes on uploading waits for the lease, and then has the file where
/// it was.
#[test]
fn a_writer_who_comes_while_it_is_indexed_gets_it_back() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(&vec![7; 8 << 20]));
    let scan = home.scan().unwrap();
    let upload = place.at("web.tar");
    let (begun, beginning) = std::sync::mpsc::sync_channel(1);
    let (opened, opening) = std::sync::mpsc::sync_channel::<()>(0);
    let outcome = std::thread::scope(|scope| {
        scope.spawn(move || {
            beginning.recv().unwrap();
            use std::os::unix::fs::OpenOptionsExt;
            let mut options = File::options();
            options.append(true).custom_flags(libc::O_NONBLOCK);
            // It asks, and does not wait for the answer here.
            options.open(&upload).unwrap_err();
            drop(opening);
        });
        let progress = |_: &ImagePath, _: u64, _: u64| {
            if begun.try_send(()).is_ok() {
                // Ends when the writer has asked.
                let _asked = opened.send(());
            }
        };
        home.take(
            &scan.sightings[0],
            Work {
                metrics: &Arc::new(Metrics::default()),
                progress: &progress,
                stop: &AtomicBool::new(false),
            },
        )
    });
    assert_eq!(outcome, Outcome::Busy);
    assert_eq!(place.names("distros"), ["web.tar"]);
    assert_eq!(place.names("incoming"), [""; 0]);
    ready(&take_all(&home)[0].1);
}

#[test]
fn work_stops_when_it_is_told_to() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(&vec![7; 8 << 20]));
    let scan = home.scan().unwrap();
    let stop = AtomicBool::new(false);
    let work = Work {
        metrics: &Arc::new(Metrics::default()),
        progress: &|_, _, _| stop.store(true, Ordering::Relaxed),
        stop: &stop,
    };
    assert_eq!(home.take(&scan.sightings[0], work), Outcome::Stopped);
    assert_eq!(place.names("incoming"), [""; 0]);
    ready(&take_all(&home)[0].1);
}

#[test]
fn progress_is_told_of_and_not_too_often() {
    let place = Place::new();
    let home = place.home_with(|options| options.progress_every = Duration::from_secs(3600));
    place.upload("web.tar", &tar(&vec![7; 8 << 20]));
    let told = Mutex::new(Vec::new());
    let progress = |path: &ImagePath, bytes, of| told.lock().push((path.clone(), bytes, of));
    let scan = home.scan().unwrap();
    home.take(
        &scan.sightings[0],
        Work {
            metrics: &Arc::new(Metrics::default()),
            progress: &progress,
            stop: &AtomicBool::new(false),
        },
    );
    let told = told.into_inner();
    assert!(told.len() == 1 && told[0].1 < told[0].2, "{told:?}");
    assert_eq!(told[0].2, (8 << 20) + 1536);
}

#[test]
fn a_truncated_upload_stays_and_is_tried_again_when_it_is_another() {
    let place = Place::new();
    let home = place.home();
    let whole = gzip(&tar(&[5; 2000]));
    let plain = tar(&[6; 2000]);
    // A file that was made large first; what is appended makes it another one.
    let zeros = gzip(&[0; 4096]);
    let appended = [&zeros[..], &zeros[..]].concat();
    let cuts: [(&str, &[u8], &[u8]); 6] = [
        ("gz.tgz", &whole[..100], &whole),
        ("head.tgz", &whole[..2], &whole),
        ("empty.tar", b"", &plain),
        ("zeros.tgz", &zeros, &appended),
        ("part.tar", &plain[..300], &plain),
        ("entry.tar", &plain[..1000], &plain),
    ];
    for (name, part, _) in cuts {
        place.upload(name, part);
    }
    let taken = take_all(&home);
    assert_eq!(taken.len(), 6);
    for (name, outcome) in taken {
        assert!(
            matches!(outcome, Outcome::Truncated(_)),
            "{name}: {outcome:?}"
        );
        assert!(matches!(state_of(&home, &name), State::Incomplete(_)));
    }
    assert_eq!(take_all(&home), []);
    for (name, part, whole) in cuts {
        let mut file = File::options().append(true).open(place.at(name)).unwrap();
        file.write_all(&whole[part.len()..]).unwrap();
        drop(file);
        unwritten(&place.at(name));
    }
    let taken = take_all(&home);
    assert_eq!(taken.len(), 6);
    for (name, outcome) in taken {
        let is_ready = matches!(outcome, Outcome::Ready { .. });
        assert_eq!(is_ready, name != "zeros.tgz", "{name}: {outcome:?}");
    }
    assert_eq!(place.names("distros"), ["zeros.tgz"]);
}

/// A plain archive that is cut between two entries looks whole but for its end.
#[test]
fn a_plain_archive_without_end_is_not_taken_for_whole() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &entry(b"one"));
    let taken = take_all(&home);
    assert!(matches!(&taken[0].1, Outcome::Truncated(why) if why.contains("dev/zero")));
    // Its checksum says that this one is whole.
    place.upload("web.tar", &gzip(&entry(b"one")));
    ready(&take_all(&home)[0].1);
}

#[test]
fn what_can_never_be_an_image_is_moved_away_with_the_reason() {
    let place = Place::new();
    let home = place.home();
    let mut flipped = gzip(&tar(&[5; 2000]));
    flipped[700] ^= 1;
    let mut damaged = [entry(b"a"), entry(b"b"), vec![0; 1024]].concat();
    damaged[1024 + 3] ^= 1;
    for (name, bytes, why) in [
        ("text.tgz", &vec![b'x'; 4000], "not a tar archive"),
        ("flip.tgz", &flipped, "does not match"),
        ("bad.tar", &damaged, "no valid tar header"),
        ("web.tar.xz", &b"\xfd7zXZ\0\0\0".repeat(200), "xz -dc"),
        (
            "web.tar.zst",
            &b"\x28\xb5\x2f\xfd\0\0".repeat(200),
            "zstd -dc",
        ),
    ] {
        place.upload(name, bytes);
        let (_, outcome) = take_all(&home).remove(0);
        assert!(
            matches!(&outcome, Outcome::Rejected(reason) if reason.contains(why)),
            "{name}: {outcome:?}"
        );
        assert_eq!(fs::read(place.at(".rejected").join(name)).unwrap(), *bytes);
        let reason = place.at(".rejected").join(format!("{name}.reason"));
        assert!(fs::read_to_string(reason).unwrap().contains(why));
    }
    let rejections = home.rejections().unwrap();
    assert_eq!(rejections.len(), 5);
    let xz = rejections.iter().find(|r| r.name == "web.tar.xz").unwrap();
    assert!(xz.path == path("web") && xz.reason.contains("gzip > image.tar.gz"));
    // Its owner removed one.
    fs::remove_file(place.at(".rejected/web.tar.xz")).unwrap();
    assert_eq!(home.rejections().unwrap().len(), 4);
    assert_eq!(place.names("distros"), [".rejected"]);
}

/// Only what `.rejected` leads to is at stake.
#[test]
fn a_link_in_place_of_the_directory_for_rejects_is_not_followed() {
    let place = Place::new();
    let home = place.home();
    fs::create_dir(place.dir.path().join("outside")).unwrap();
    symlink("../../outside", place.at(".rejected")).unwrap();
    place.upload("web.tgz", &[b'x'; 4000]);
    assert!(matches!(take_all(&home)[0].1, Outcome::Refused(_)));
    assert_eq!(names(&place.dir.path().join("outside")), [""; 0]);
    assert!(place.at("web.tgz").exists());
    // It is not read again and again.
    assert!(matches!(state_of(&home, "web.tgz"), State::Refused(_)));
    assert_eq!(take_all(&home), []);
}

#[test]
fn names_of_every_kind_are_served_or_refused_with_the_reason() {
    let place = Place::new();
    let home = place.home();
    let archive = tar(b"one");
    let long = format!("{}.tar", "x".repeat(251));
    for name in ["a.tgz.part", "a.tmp", ".a.tgz", "readme", "a b.tar", &*long] {
        place.upload(name, &archive);
    }
    let linked = place.at("linked.tar");
    place.upload("linked.tar", &archive);
    fs::hard_link(&linked, place.at("other-name")).unwrap();
    symlink("/etc/shadow", place.at("shadow.tgz")).unwrap();
    fs::create_dir(place.at("x.tgz")).unwrap();
    use std::os::unix::ffi::OsStrExt;
    let not_text = std::ffi::OsStr::from_bytes(b"\xff.tar");
    fs::write(place.at("").join(not_text), &archive).unwrap();
    let scan = home.scan().unwrap();
    let refused = scan.sightings.iter().filter_map(|s| match &s.state {
        State::Refused(why) => Some((String::from_utf8_lossy(&s.name), why.as_str())),
        _ => None,
    });
    let mut refused: Vec<_> = refused.collect();
    refused.sort_unstable();
    for ((name, why), (expected, reason)) in refused.iter().zip([
        ("a b.tar", "letters, digits"),
        ("linked.tar", "2 names"),
        ("shadow.tgz", "symbolic link"),
        ("x.tgz", "directory"),
        ("\u{fffd}.tar", "letters, digits"),
    ]) {
        assert!(name == expected && why.contains(reason), "{name}: {why}");
    }
    assert_eq!((refused.len(), scan.sightings.len()), (5, 6));
    let taken = take_all(&home);
    assert!(taken.len() == 1 && taken[0].0 == long);
    assert_eq!(
        current(&home, &"x".repeat(251)).unwrap(),
        ready(&taken[0].1).sha256
    );
    // Refused for as long as there is a reason.
    fs::remove_file(place.at("other-name")).unwrap();
    assert_eq!(take_all(&home)[0].0, "linked.tar");
}

/// Whoever swaps files gets back what was moved by mistake.
#[test]
fn an_upload_that_is_replaced_while_it_is_indexed_is_not_mixed_up() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(&vec![7; 4 << 20]));
    let scan = home.scan().unwrap();
    let swapped = AtomicBool::new(false);
    let progress = |_: &ImagePath, _: u64, _: u64| {
        if !swapped.swap(true, Ordering::Relaxed) {
            place.upload("other", &tar(b"other"));
            fs::rename(place.at("other"), place.at("web.tar")).unwrap();
        }
    };
    let work = Work {
        metrics: &Arc::new(Metrics::default()),
        progress: &progress,
        stop: &AtomicBool::new(false),
    };
    let outcome = home.take(&scan.sightings[0], work);
    assert!(
        matches!(outcome, Outcome::Gone | Outcome::Busy),
        "{outcome:?}"
    );
    assert_eq!(fs::read(place.at("web.tar")).unwrap(), tar(b"other"));
    assert_eq!(place.names("incoming"), [""; 0]);
    assert_eq!(ready(&take_all(&home)[0].1).content_bytes, 5);
}

#[test]
fn fifty_uploads_at_once_are_each_served_or_refused() {
    let place = Place::new();
    let home = place.home();
    let mut expected = Vec::new();
    for number in 0..50 {
        let name = format!("image-{number:02}.tgz");
        let (bytes, what) = match number % 5 {
            0 => (vec![b'x'; 5000], "rejected"),
            1 => (gzip(&tar(b"x"))[..40].to_vec(), "truncated"),
            _ => (gzip(&tar(format!("{number}").as_bytes())), "ready"),
        };
        place.upload(&name, &bytes);
        expected.push((name, what));
    }
    let mut taken: Vec<_> = take_all(&home)
        .into_iter()
        .map(|(name, outcome)| match outcome {
            Outcome::Ready { .. } => (name, "ready"),
            Outcome::Rejected(_) => (name, "rejected"),
            Outcome::Truncated(_) => (name, "truncated"),
            other => panic!("{name}: {other:?}"),
        })
        .collect();
    taken.sort();
    assert_eq!(taken, expected);
    assert_eq!(home.images().unwrap().records.len(), 30);
}

#[test]
fn more_names_than_are_looked_at_are_told_of() {
    let place = Place::new();
    for number in 0..20 {
        place.upload(&format!("{number}.tar"), &tar(b"x"));
    }
    let home = place.home_with(|options| options.names_max = 10);
    let scan = home.scan().unwrap();
    assert!(scan.more && scan.sightings.len() == 10);
    // Taking some in makes room for others.
    for _ in 0..2 {
        take_all(&home);
    }
    assert_eq!(place.names("distros"), [""; 0]);
    assert!(!home.scan().unwrap().more);
}

#[test]
fn there_are_only_so_many_images() {
    let place = Place::new();
    let home = place.home_with(|options| options.images_max = 2);
    for name in ["a", "b", "c"] {
        place.upload(&format!("{name}.tar"), &tar(name.as_bytes()));
    }
    let taken = take_all(&home);
    let refused = taken.iter().filter(|t| matches!(t.1, Outcome::Refused(_)));
    assert_eq!((taken.len(), refused.count()), (3, 1));
    // A new version of one that is there has room.
    let record = home.images().unwrap().records.remove(0);
    place.upload(&record.versions[0].name, &tar(b"new"));
    let taken = take_all(&home);
    assert!(matches!(&taken[1].1, Outcome::Ready { path, .. } if *path == record.path));
    home.remove(&record.path).unwrap();
    ready(&take_all(&home)[0].1);
}

#[test]
fn a_store_that_others_can_look_into_is_refused() {
    let place = Place::new();
    let open = || {
        let options = *place_options();
        let directory = File::open(place.dir.path().join("home")).unwrap();
        Home::open(directory.into(), &place.store(), options)
    };
    fs::create_dir(place.store()).unwrap();
    fs::set_permissions(place.store(), PermissionsExt::from_mode(0o755)).unwrap();
    assert!(matches!(open(), Err(HomeError::NotPrivate { .. })));
    fs::set_permissions(place.store(), PermissionsExt::from_mode(0o700)).unwrap();
    let home = open().unwrap();
    assert!(matches!(open(), Err(HomeError::InUse { .. })));
    drop(home);
    open().unwrap();
}

fn place_options() -> Box<Options> {
    Box::new(Options::new(IngestOptions {
        span_bytes: 256 << 10,
        ignore_zeros: false,
    }))
}

#[test]
fn a_link_in_place_of_distros_is_not_followed() {
    let place = Place::new();
    let home = place.home();
    place.upload("web.tar", &tar(b"one"));
    let (distros, moved) = (place.at(""), place.dir.path().join("home/moved"));
    fs::rename(&distros, &moved).unwrap();
    symlink("moved", place.dir.path().join("home/distros")).unwrap();
    assert!(matches!(home.scan(), Err(HomeError::Distros { .. })));
    assert!(home.images().unwrap().records.is_empty());
}

#[test]
fn what_the_system_failed_is_put_off() {
    let place = Place::new();
    let home = place.home_with(|options| options.retry_after = Duration::from_secs(3600));
    place.upload("web.tar", &tar(b"one"));
    let scan = home.scan().unwrap();
    // As a full disk would.
    fs::remove_dir(place.store().join("incoming")).unwrap();
    let outcome = take(&home, &scan.sightings[0]);
    assert!(matches!(outcome, Outcome::Later(_)), "{outcome:?}");
    assert!(matches!(state_of(&home, "web.tar"), State::Waiting(_)));
    // Another upload is tried at once.
    place.upload("web.tar", &tar(b"two"));
    assert_eq!(state_of(&home, "web.tar"), State::Finished);
}
