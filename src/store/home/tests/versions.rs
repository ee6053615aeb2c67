//! Versions: going back, removing, sweeping.

use super::*;

/// Images of one file each; their digests.
fn uploaded(place: &Place, home: &Home, name: &str, contents: &[&str]) -> Vec<Digest> {
    let digests = contents.iter().map(|content| {
        place.upload(&format!("{name}.tar"), &tar(content.as_bytes()));
        take_all(home);
        current(home, name).unwrap()
    });
    digests.collect()
}

#[test]
fn going_back_and_forth() {
    let place = Place::new();
    let home = place.home();
    let digests = uploaded(&place, &home, "web", &["1", "2", "3"]);
    let web = path("web");
    home.rollback(&web, &Which::Previous).unwrap();
    assert_eq!(current(&home, "web"), Some(digests[1]));
    home.rollback(&web, &Which::Previous).unwrap();
    let none = home.rollback(&web, &Which::Previous);
    assert!(matches!(none, Err(HomeError::NoVersion { .. })));
    home.rollback(&web, &Which::parse(&digests[2].short().to_uppercase()))
        .unwrap();
    assert_eq!(current(&home, "web"), Some(digests[2]));
    for unknown in ["", "zz", "previously"] {
        let none = home.rollback(&web, &Which::parse(unknown));
        assert!(
            matches!(none, Err(HomeError::NoVersion { .. })),
            "{unknown}"
        );
    }
    // As a restored backup has it: another file of the same content.
    let archive = home.archive_path(&digests[0]);
    let bytes = fs::read(&archive).unwrap();
    fs::remove_file(&archive).unwrap();
    fs::write(&archive, bytes).unwrap();
    home.rollback(&web, &Which::parse(&digests[0].to_string()))
        .unwrap();
    assert_eq!(current(&home, "web"), Some(digests[0]));
    home.rollback(&web, &Which::parse(&digests[2].to_string()))
        .unwrap();
    fs::remove_file(archive).unwrap();
    let lost = home.rollback(&web, &Which::parse(&digests[0].to_string()));
    assert!(matches!(lost, Err(HomeError::Lost { .. })));
    assert_eq!(current(&home, "web"), Some(digests[2]));
    let other = home.rollback(&path("other"), &Which::Previous);
    assert!(matches!(other, Err(HomeError::NoImage { .. })));
}

#[test]
fn old_versions_go_and_the_current_one_never() {
    let place = Place::new();
    let home = place.home();
    let web = path("web");
    let mut digests = uploaded(&place, &home, "web", &["1", "2", "3"]);
    home.rollback(&web, &Which::parse(&digests[0].to_string()))
        .unwrap();
    place.upload("web.tar", &tar(b"4"));
    take_all(&home);
    digests.push(current(&home, "web").unwrap());
    // The oldest went; its archive does if nobody uses it.
    let swept = home.gc(&|digest| *digest == digests[0]).unwrap();
    assert_eq!(
        (swept.archives.len(), &swept.in_use[..]),
        (0, &digests[..1])
    );
    let swept = home.gc(&|_| false).unwrap();
    assert_eq!(swept.archives, digests[..1]);
    assert!(swept.bytes > 2048);
    home.rollback(&web, &Which::Previous).unwrap();
    home.keep(&web, Some(1)).unwrap();
    let swept = home.gc(&|_| false).unwrap();
    assert_eq!(swept.versions, 2);
    assert_eq!(current(&home, "web"), Some(digests[2]));
    assert_eq!(place.names("archives").len(), 2);
}

#[test]
fn removing_leaves_what_others_use() {
    let place = Place::new();
    let home = place.home();
    let digests = uploaded(&place, &home, "web", &["1", "2"]);
    uploaded(&place, &home, "copy", &["2"]);
    let web = path("web");
    let current_one = home.remove_version(&web, &Which::parse(&digests[1].to_string()));
    assert!(matches!(current_one, Err(HomeError::Current { .. })));
    home.remove_version(&web, &Which::Previous).unwrap();
    assert_eq!(home.gc(&|_| false).unwrap().archives, digests[..1]);
    assert_eq!(home.remove(&web).unwrap().current, digests[1]);
    assert!(home.image(&web).is_err());
    assert_eq!(home.gc(&|_| false).unwrap().archives, []);
    assert_eq!(current(&home, "copy"), Some(digests[1]));
}

#[test]
fn changes_outlast_a_new_version() {
    let place = Place::new();
    let home = place.home();
    uploaded(&place, &home, "web", &["1"]);
    for mode in [0o755, 0o777] {
        let change = ModeChange {
            path: "/var/cache".into(),
            mode,
        };
        home.change_mode(&path("web"), change).unwrap();
    }
    uploaded(&place, &home, "web", &["2"]);
    drop(home);
    let home = place.home();
    let record = home.image(&path("web")).unwrap();
    assert_eq!(record.changes.len(), 1);
    assert_eq!(record.changes[0].mode, 0o777);
    let endless = ModeChange {
        path: "x".repeat(1 << 20),
        mode: 0,
    };
    let error = home.change_mode(&path("web"), endless).unwrap_err();
    assert!(matches!(error, HomeError::RecordTooLong { .. }), "{error}");
    assert!(home.forget_mode(&path("web"), "/var/cache").unwrap());
    assert!(!home.forget_mode(&path("web"), "/var/cache").unwrap());
    assert_eq!(home.image(&path("web")).unwrap().changes, []);
}

/// What it names is not known, and would be gone.
#[test]
fn nothing_is_swept_while_a_record_is_damaged() {
    let place = Place::new();
    let home = place.home();
    uploaded(&place, &home, "web", &["1"]);
    uploaded(&place, &home, "other", &["2", "3"]);
    let record = place.store().join("images/web.json");
    let whole = fs::read(&record).unwrap();
    fs::write(&record, &whole[..20]).unwrap();
    let error = home.gc(&|_| false).unwrap_err().to_string();
    assert!(error.contains("images/web.json"), "{error}");
    assert_eq!(place.names("archives").len(), 6);
    // Others go on.
    let images = home.images().unwrap();
    assert_eq!((images.records.len(), images.unusable.len()), (1, 1));
    assert!(current(&home, "other").is_some());
    // Nor is it written over: its upload is kept until somebody looked.
    place.upload("web.tar", &tar(b"new"));
    let outcome = take_all(&home).remove(0).1;
    assert!(matches!(&outcome, Outcome::Later(why) if why.contains("web.json")));
    assert_eq!(home.scan().unwrap().unfinished.len(), 1);
    fs::write(&record, whole).unwrap();
    assert_eq!(home.scan().unwrap().unfinished, []);
    assert_eq!(home.versions(&path("web")).unwrap().len(), 2);
}

#[test]
fn foreign_files_among_the_archives_stay() {
    let place = Place::new();
    let home = place.home();
    uploaded(&place, &home, "web", &["1"]);
    fs::write(place.store().join("archives/notes\n"), "x").unwrap();
    let orphan = place
        .store()
        .join("archives")
        .join(format!("{}.dfsx", Digest::new([1; 32])));
    fs::write(&orphan, "x").unwrap();
    let swept = home.gc(&|_| false).unwrap();
    assert_eq!(swept.foreign, ["notes\\x0a"]);
    assert_eq!(swept.archives, [Digest::new([1; 32])]);
    assert!(!orphan.exists());
}
