//! What administrators may do, and what happens to what depends on it.

use super::super::password::{Secret, hash, verify};
use super::super::testing::{
    ANNA, BEN, BENS, BENS_STORE, CONSUMER, ELSEWHERE, STORE, World, having, named, refused,
};
use super::super::{
    AlarmFilter, ContainerChange, DistroChange, DistroId, Raiser, RegistryError, Window,
};
use super::*;

const ALL: Window = Window { skip: 0, take: 999 };

fn said<T: std::fmt::Debug>(done: Done<T>) -> String {
    match done {
        Err(RegistryError::Refused(why)) => why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn customer(username: &str) -> NewCustomer {
    NewCustomer {
        username: username.to_owned(),
        password: Secret(hash("password").unwrap()),
        other: CustomerChange::default(),
    }
}

#[test]
fn customers_come_change_and_go() {
    let mut world = World::new();
    let registry = &mut world.registry;
    registry.add_customer(&customer("it's")).unwrap();
    assert!(said(registry.add_customer(&customer("it's"))).contains("username"));
    for wrong in ["", "a:b", "a\nb", &"x".repeat(256)] {
        refused(registry.add_customer(&customer(wrong)));
    }
    let mut plain = customer("plain");
    plain.password = Secret("password".to_owned());
    assert!(said(registry.add_customer(&plain)).contains("argon2id"));
    let change = CustomerChange {
        password: Some(Secret(hash("another one").unwrap())),
        company: Some("\"".into()),
        ..CustomerChange::default()
    };
    registry.set_customer("it's", &change).unwrap();
    let account = registry.account("it's").unwrap().unwrap();
    assert!(verify("another one", &account.password));
    assert_eq!(registry.me(account.customer).unwrap().company, "\"");
    refused(registry.set_customer("it's", &CustomerChange::default()));
    assert!(said(registry.set_customer("none", &change)).contains("no customer none"));
    let all = registry.customers().unwrap();
    let names: Vec<_> = all.iter().map(|c| (&*c.username, c.containers)).collect();
    assert_eq!(names, [("anna", 4), ("ben", 2), ("it's", 0)]);
    registry.remove_customer("it's").unwrap();
    refused(registry.remove_customer("it's"));
    let why = said(registry.remove_customer("ben"));
    assert!(why.contains("30010, 30011"), "{why}");
}

#[test]
fn servers_and_distros_stay_while_they_are_used() {
    let mut world = World::new();
    let registry = &mut world.registry;
    registry.add_server("web3", "192.0.2.3").unwrap();
    refused(registry.add_server("web3", ""));
    let change = ServerChange {
        name: Some("db1".into()),
        address: Some("x".into()),
    };
    registry.set_server("web3", &change).unwrap();
    registry.set_server("db1", &change).unwrap();
    let taken = ServerChange {
        name: Some("web1".into()),
        ..change
    };
    refused(registry.set_server("db1", &taken));
    refused(registry.set_server("db1", &ServerChange::default()));
    registry.remove_server("db1").unwrap();
    assert!(said(registry.remove_server("web2")).contains("30003"));
    assert_eq!(registry.servers().unwrap().len(), 2);

    registry.add_platform_distro("lucid").unwrap();
    for wrong in ["lucid", "", "..", "a/b"] {
        refused(registry.add_platform_distro(wrong));
    }
    registry.rename_platform_distro("lucid", "hardy").unwrap();
    refused(registry.rename_platform_distro("hardy", "precise"));
    refused(registry.rename_platform_distro("hardy", "."));
    registry.remove_platform_distro("hardy").unwrap();
    let why = said(registry.remove_platform_distro("precise"));
    assert!(why.contains("30000, 30001"), "{why}");
    let all = registry.all_platform_distros().unwrap();
    assert_eq!((all[0].containers, all[1].containers), (6, 0));
}

fn settings(customer: &str) -> ContainerSettings {
    ContainerSettings {
        customer: Some(customer.to_owned()),
        server: Some("web1".to_owned()),
        ..ContainerSettings::default()
    }
}

#[test]
fn a_container_is_added_as_it_is_said() {
    let mut world = World::new();
    let registry = &mut world.registry;
    let id = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
    let full = ContainerSettings {
        hostname: Some("h".into()),
        ip: Some("10.0.0.1".into()),
        memory: Some(64),
        storage: Some(1000),
        distro: Some(Some("trusty".into())),
        writable: Some(Some("paths".into())),
        own: ContainerChange {
            name: Some("n".into()),
            ..having(Some(id))
        },
        ..settings("anna")
    };
    registry.add_container(40_000, &full).unwrap();
    let all = registry.all_containers().unwrap();
    let added = all.iter().find(|one| one.uid == 40_000).unwrap();
    assert_eq!((&*added.customer, &*added.name), ("anna", "n"));
    assert_eq!(added.distro.as_deref(), Some("trusty"));
    assert_eq!(added.custom_distro_name.as_deref(), Some("a"));
    assert_eq!((added.memory, added.storage), (64, 1000));
    let (_, decided) = registry.decisions("").unwrap();
    let decided = decided.iter().find(|one| one.container == 40_000).unwrap();
    assert_eq!(decided.writable.as_deref(), Some("paths"));
    assert!(decided.image.is_some());
    // It was not running.
    assert_eq!(registry.restarts().unwrap(), []);

    let wrong = [
        (40_000, settings("anna")),
        (0, settings("anna")),
        (u32::MAX, settings("anna")),
        (40_001, settings("none")),
        (40_001, ContainerSettings::default()),
        (
            40_001,
            ContainerSettings {
                server: Some("none".into()),
                ..settings("anna")
            },
        ),
        (
            40_001,
            ContainerSettings {
                distro: Some(Some("none".into())),
                ..settings("anna")
            },
        ),
        (
            40_001,
            ContainerSettings {
                writable: Some(Some("all".into())),
                ..settings("anna")
            },
        ),
        (
            40_001,
            ContainerSettings {
                memory: Some(u64::MAX),
                ..settings("anna")
            },
        ),
        (
            40_001,
            ContainerSettings {
                own: having(Some(id)),
                ..settings("ben")
            },
        ),
    ];
    for (uid, settings) in &wrong {
        refused(registry.add_container(*uid, settings));
    }
    assert_eq!(registry.all_containers().unwrap().len(), 7);
}

#[test]
fn administrators_have_the_rules_and_restarts_of_customers() {
    let mut world = World::new();
    let registry = &mut world.registry;
    let id = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
    let image = ContainerSettings {
        own: having(Some(id)),
        ..ContainerSettings::default()
    };
    assert!(said(registry.set_container(ELSEWHERE, &image)).contains("another server"));
    assert!(said(registry.set_container(STORE, &image)).contains("stores images"));
    refused(registry.set_container(BENS, &image));
    refused(registry.set_container(99, &image));
    refused(registry.set_container(CONSUMER, &ContainerSettings::default()));
    registry.set_container(CONSUMER, &image).unwrap();
    let none = ContainerSettings {
        distro: Some(None),
        ..ContainerSettings::default()
    };
    registry.set_container(STORE, &none).unwrap();
    let restarts: Vec<_> = registry.restarts().unwrap().iter().map(|r| r.1).collect();
    assert_eq!(restarts, [CONSUMER, STORE]);
    assert_eq!(registry.container(ANNA, STORE).unwrap().distro, None);
}

#[test]
fn a_container_goes_with_its_alarms_but_not_with_what_it_stores() {
    let mut world = World::new();
    let id = world
        .registry
        .create_distro(ANNA, STORE, &named("a"))
        .unwrap();
    world.raise(CONSUMER, "a").unwrap();
    let registry = &mut world.registry;
    let given = having(Some(id));
    registry.update_container(ANNA, CONSUMER, &given).unwrap();
    let why = said(registry.remove_container(STORE));
    assert!(why.contains(&format!("custom distro {id} ")), "{why}");
    refused(registry.remove_container(99));
    registry.remove_container(CONSUMER).unwrap();
    assert_eq!(registry.restarts().unwrap(), []);
    let left = registry.alarms(ANNA, &AlarmFilter::default(), ALL).unwrap();
    assert_eq!(left, (0, Vec::new()));
    assert!(registry.remove_distro(id).unwrap().is_empty());
    registry.remove_container(STORE).unwrap();
}

#[test]
fn nothing_of_the_last_customer_is_left() {
    let mut world = World::new();
    let id = world
        .registry
        .create_distro(ANNA, STORE, &named("a"))
        .unwrap();
    world.raise(STORE, "secret").unwrap();
    let registry = &mut world.registry;
    let wrote = ContainerChange {
        note: Some("secret".into()),
        tags: Some(vec!["secret".into()]),
        ssh_keys: Some(vec!["ssh-rsa secret".into()]),
        ..ContainerChange::default()
    };
    registry.update_container(ANNA, STORE, &wrote).unwrap();
    let key = Raiser::Key(registry.alarm_key(ANNA, STORE).unwrap());
    let given = having(Some(id));
    registry.update_container(ANNA, CONSUMER, &given).unwrap();
    let to_ben = ContainerSettings {
        customer: Some("ben".into()),
        ..ContainerSettings::default()
    };
    registry.set_container(STORE, &to_ben).unwrap();
    let container = registry.container(BEN, STORE).unwrap();
    assert!(container.note.is_empty() && container.tags.is_empty());
    assert!(container.ssh_keys.is_empty());
    assert_eq!(
        registry
            .alarms(BEN, &AlarmFilter::default(), ALL)
            .unwrap()
            .0,
        0
    );
    let alarm = super::super::NewAlarm {
        level: 1,
        ..Default::default()
    };
    refused(registry.raise(&key, STORE, &alarm));
    refused(registry.container(ANNA, STORE));
    assert_eq!(
        registry.container(ANNA, CONSUMER).unwrap().custom_distro,
        None
    );
    // The same customer again is no change.
    registry
        .raise(&Raiser::Customer(BEN), STORE, &alarm)
        .unwrap();
    registry.set_container(STORE, &to_ben).unwrap();
    assert_eq!(
        registry
            .alarms(BEN, &AlarmFilter::default(), ALL)
            .unwrap()
            .0,
        1
    );
}

#[test]
fn distros_of_all_customers() {
    let mut world = World::new();
    let registry = &mut world.registry;
    let id = registry.add_distro(STORE, &named("a")).unwrap();
    registry.add_distro(BENS_STORE, &named("a")).unwrap();
    refused(registry.add_distro(CONSUMER, &named("a")));
    refused(registry.add_distro(99, &named("a")));
    let given = having(Some(id));
    registry.update_container(ANNA, CONSUMER, &given).unwrap();
    let change = DistroChange {
        path: Some("b".into()),
        ..DistroChange::default()
    };
    registry.set_distro(id, &change).unwrap();
    refused(registry.set_distro(DistroId(99), &change));
    let all = registry.all_distros().unwrap();
    assert_eq!((all[0].path.as_str(), &*all[1].customer), ("b", "ben"));
    assert_eq!(all[0].used_by, [CONSUMER]);
    assert_eq!(registry.remove_distro(id).unwrap(), [CONSUMER]);
    refused(registry.remove_distro(id));
}

const FILE: &str = r#"{
  "customers": [
    {"username": "carl", "password": "carls password", "email": "c@example.org"},
    {"username": "anna", "company": "A"}
  ],
  "servers": [{"name": "web1"}, {"name": "web9", "address": "192.0.2.9"}],
  "default_distros": ["precise", "bookworm"],
  "containers": [
    {"uid": 50001, "customer": "carl", "server": "web9", "distro": "bookworm",
     "custom_distro": "50000/debian", "writable": "tree", "tags": ["x"], "memory": 128},
    {"uid": 50000, "customer": "carl", "server": "web9", "custom_distros_storage": true},
    {"uid": 30001, "distro": "trusty", "custom_distro": null, "note": "n"}
  ],
  "distros": [{"container": 50000, "path": "debian", "name": "Debian"}]
}"#;

#[test]
fn a_file_is_imported_once_however_often() {
    let mut world = World::new();
    let registry = &mut world.registry;
    let file = Import::parse(FILE.as_bytes()).unwrap();
    let done = registry.import(&file).unwrap();
    assert_eq!((done.customers, done.containers, done.distros), (2, 3, 1));
    let account = registry.account("carl").unwrap().unwrap();
    assert!(verify("carls password", &account.password));
    let (_, decided) = registry.decisions("web9").unwrap();
    assert_eq!(decided[1].image, Some("50000/debian".parse().unwrap()));
    let changed = registry.container(ANNA, CONSUMER).unwrap();
    assert_eq!(
        (&*changed.note, changed.distro.unwrap().1),
        ("n", "trusty".into())
    );
    // Only what ran before is restarted.
    let restarts = registry.restarts().unwrap();
    assert_eq!((restarts.len(), restarts[0].1), (1, CONSUMER));
    let state = |registry: &super::super::Registry| {
        (
            registry.revision().unwrap(),
            registry.restarts().unwrap(),
            registry.account("carl").unwrap(),
            registry.all_containers().unwrap(),
            registry.all_distros().unwrap(),
            registry.customers().unwrap(),
        )
    };
    let before = state(registry);
    registry.import(&file).unwrap();
    assert_eq!(state(registry), before);
    assert_eq!(
        registry.container(ANNA, STORE).unwrap().distro.unwrap().1,
        "precise"
    );
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_the_entry_is_named() {
    let mut world = World::new();
    let registry = &mut world.registry;
    for (list, why) in [
        (r#""servers": [{"name": ""}]"#, "servers[0]: name"),
        (
            r#""default_distros": ["a", ".."]"#,
            "default_distros[1]: path",
        ),
        (
            r#""customers": [{"username": "new"}]"#,
            "customers[0]: password",
        ),
        (
            r#""customers": [{"username": "n", "password": "short"}]"#,
            "customers[0]: a password has",
        ),
        (
            r#""customers": [{"username": "n", "password_hash": "$1$a$b"}]"#,
            "customers[0]: password_hash",
        ),
        (
            r#""customers": [{"username": "n", "password_hash": "x", "password": "x"}]"#,
            "not both",
        ),
        (r#""containers": [{"uid": 60000}]"#, "name its customer"),
        (
            r#""containers": [{"uid": 60000, "customer": "x", "server": "web1"}]"#,
            "containers[0]: there is no customer x",
        ),
        (
            r#""containers": [{"uid": 30001, "custom_distro": "30000/none"}]"#,
            "no custom distro 30000/none",
        ),
        (
            r#""containers": [{"uid": 30011, "custom_distro": "30000/a"}],
               "distros": [{"container": 30000, "path": "a"}]"#,
            "containers[0]",
        ),
        (
            r#""distros": [{"container": 30001, "path": "a"}]"#,
            "distros[0]",
        ),
        (
            r#""distros": [{"container": 30000, "path": "a/b"}]"#,
            "distros[0]: path",
        ),
    ] {
        let before = (registry.revision().unwrap(), registry.servers().unwrap());
        let text = format!(
            r#"{{{list}{}}}"#,
            if list.contains("servers\":") {
                ""
            } else {
                r#", "servers": [{"name": "web77"}]"#
            }
        );
        let file = Import::parse(text.as_bytes()).unwrap();
        let said = said(registry.import(&file));
        assert!(said.contains(why), "{list}: {said}");
        let after = (registry.revision().unwrap(), registry.servers().unwrap());
        assert_eq!(after, before, "{list}");
    }
    for odd in [
        "",
        "[]",
        r#"{"custmers": []}"#,
        r#"{"servers": [{"nme": "x"}]}"#,
    ] {
        Import::parse(odd.as_bytes()).unwrap_err();
    }
    let file = Import::parse(FILE.as_bytes()).unwrap();
    assert!(!format!("{file:?}").contains("carls password"));
}
