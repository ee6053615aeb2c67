//! A registry for tests: two customers and two servers.

use std::path::Path;

use tempfile::TempDir;

use super::{
    AlarmId, ContainerChange, CustomerId, DistroId, Done, NewAlarm, NewDistro, Raiser, Registry,
    RegistryError,
};

/// Has the containers 30000 to 30003.
pub(super) const ANNA: CustomerId = CustomerId(1);
/// Has the containers 30010 and 30011.
pub(super) const BEN: CustomerId = CustomerId(2);
/// Stores images of Anna.
pub(super) const STORE: u32 = 30_000;
/// Of Anna.
pub(super) const CONSUMER: u32 = 30_001;
/// Stores images of Anna, too.
pub(super) const STORE_2: u32 = 30_002;
/// Of Anna, on another server than all others.
pub(super) const ELSEWHERE: u32 = 30_003;
/// Stores images of Ben.
pub(super) const BENS_STORE: u32 = 30_010;
/// Of Ben.
pub(super) const BENS: u32 = 30_011;

pub(super) struct World {
    pub(super) registry: Registry,
    dir: TempDir,
}

impl World {
    pub(super) fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let registry = Registry::open(dir.path()).unwrap();
        let hex = "hex(randomblob(18))";
        let sql = format!(
            "INSERT INTO customers VALUES
               (1, 'anna', '$hash', 'a@example.org', 'IT1', 'Anna & Co', {hex}),
               (2, 'ben', '$hash', 'b@example.org', '', '', {hex});
             INSERT INTO servers VALUES (1, 'web1', '192.0.2.1'), (2, 'web2', '192.0.2.2');
             INSERT INTO platform_distros VALUES (1, 'precise'), (2, 'trusty');
             INSERT INTO containers
             SELECT column1, column2, column3, column1, '', '', 64, 1024, {hex}, 1, NULL, column4,
                    NULL, '', '[]', '[]', NULL
             FROM (VALUES ({STORE}, 1, 1, 1), ({CONSUMER}, 1, 1, 0), ({STORE_2}, 1, 1, 1),
                   ({ELSEWHERE}, 1, 2, 0), ({BENS_STORE}, 2, 1, 1), ({BENS}, 2, 1, 0));"
        );
        registry.db.execute_batch(&sql).unwrap();
        World { registry, dir }
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// As Anna, of a container of hers.
    pub(super) fn raise(&mut self, uid: u32, msg: &str) -> Done<AlarmId> {
        let alarm = NewAlarm {
            level: 1,
            msg: msg.to_owned(),
            ..NewAlarm::default()
        };
        self.registry.raise(&Raiser::Customer(ANNA), uid, &alarm)
    }
}

/// Asserts that a customer is told no.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(done: Done<T>) {
    assert!(matches!(done, Err(RegistryError::Refused(_))), "{done:?}");
}

/// A custom distro by its name, at a path of the same name.
pub(super) fn named(name: &str) -> NewDistro {
    NewDistro {
        name: name.to_owned(),
        path: name.to_owned(),
        note: String::new(),
    }
}

/// A change of a container's custom distro.
pub(super) fn having(distro: Option<DistroId>) -> ContainerChange {
    ContainerChange {
        custom_distro: Some(distro),
        ..ContainerChange::default()
    }
}

/// A change of whether a container stores images.
pub(super) fn storing(on: bool) -> ContainerChange {
    ContainerChange {
        custom_distros_storage: Some(on),
        ..ContainerChange::default()
    }
}
