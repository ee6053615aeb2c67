//! Changes of a container: what its customer may set, and which custom distro it may
//! have.
//!
//! Guarantees: either all of a change is made, or none. A custom distro is given only if
//! it is of the same customer and the same server, stored in another container, and
//! that container stores images; and only to a container that stores none. A container
//! that begins to store images has no custom distro from then on. One that ends loses
//! nothing: what it stored is used again when it begins again.

use rusqlite::{Connection, OptionalExtension, Transaction};

use super::{
    CustomerId, DistroId, Done, Kind, PlatformDistroId, Refusal, Registry, RegistryError,
    containers, rules,
};

/// What is to be different; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerChange {
    /// What it is called.
    pub name: Option<String>,
    /// What is written about it.
    pub note: Option<String>,
    /// By which it is found.
    pub tags: Option<Vec<String>>,
    /// Who may come in.
    pub ssh_keys: Option<Vec<String>>,
    /// Its platform distro.
    pub distro: Option<PlatformDistroId>,
    /// Its custom distro, or that it has none.
    pub custom_distro: Option<Option<DistroId>>,
    /// Whether it stores images.
    pub custom_distros_storage: Option<bool>,
    /// Whether it is to be restarted in any case.
    pub reboot: bool,
}

impl ContainerChange {
    /// Whether its root is to be another one, or it wants a restart.
    fn restarts(&self) -> bool {
        self.reboot
            || self.distro.is_some()
            || self.custom_distro.is_some()
            || self.custom_distros_storage.is_some()
    }
}

/// What decides what it may have.
#[derive(Clone, Copy)]
struct Consumer {
    customer: CustomerId,
    uid: u32,
    server: i64,
    /// After the change.
    is_storage: bool,
}

impl Registry {
    /// Changes a container of a customer. What gives it another root restarts it.
    pub fn update_container(
        &mut self,
        customer: CustomerId,
        uid: u32,
        change: &ContainerChange,
    ) -> Result<(), RegistryError> {
        self.write("change a container", |db| apply(db, customer, uid, change))
    }
}

/// Makes the change.
pub(super) fn apply(
    db: &Transaction<'_>,
    customer: CustomerId,
    uid: u32,
    change: &ContainerChange,
) -> Done<()> {
    let sql = "SELECT server, custom_distros_storage FROM containers
               WHERE uid = ?1 AND customer = ?2";
    let found = db
        .query_row(sql, (uid, customer), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (server, is_storage) = found.ok_or(Refusal::NotThere(Kind::Container))?;
    if *change == ContainerChange::default() {
        return Err(Refusal::Empty.into());
    }
    let consumer = Consumer {
        customer,
        uid,
        server,
        is_storage: change.custom_distros_storage.unwrap_or(is_storage),
    };
    set_texts(db, uid, change)?;
    if let Some(distro) = change.distro {
        let sql = "SELECT 1 FROM platform_distros WHERE id = ?1";
        let found = db.query_row(sql, [distro], |_| Ok(())).optional()?;
        found.ok_or(Refusal::NotThere(Kind::PlatformDistro))?;
        set(db, uid, "platform_distro", distro)?;
    }
    if let Some(Some(distro)) = change.custom_distro {
        check_eligible(db, consumer, distro)?;
    }
    // Both at once: no container may have the flag and a custom distro.
    let custom_distro = match (consumer.is_storage, change.custom_distro) {
        (true, _) => Some(None),
        (false, changed) => changed,
    };
    let sql = "UPDATE containers SET custom_distros_storage = ?2,
               custom_distro = iif(?3, ?4, custom_distro) WHERE uid = ?1";
    let (is_changed, distro) = (custom_distro.is_some(), custom_distro.flatten());
    db.execute(sql, (uid, consumer.is_storage, is_changed, distro))?;
    match change.restarts() {
        true => want_restart(db, uid),
        false => Ok(()),
    }
}

fn set_texts(db: &Connection, uid: u32, change: &ContainerChange) -> Done<()> {
    if let Some(name) = &change.name {
        rules::name("name", name)?;
        set(db, uid, "name", name)?;
    }
    if let Some(note) = &change.note {
        rules::note(note)?;
        set(db, uid, "note", note)?;
    }
    if let Some(tags) = &change.tags {
        set(db, uid, "tags", containers::of_list(&rules::tags(tags)?)?)?;
    }
    if let Some(keys) = &change.ssh_keys {
        let keys = containers::of_list(&rules::ssh_keys(keys)?)?;
        set(db, uid, "ssh_keys", keys)?;
    }
    Ok(())
}

/// `column` is a name in this program.
pub(super) fn set(
    db: &Connection,
    uid: u32,
    column: &'static str,
    value: impl rusqlite::ToSql,
) -> Done<()> {
    let sql = format!("UPDATE containers SET {column} = ?2 WHERE uid = ?1");
    db.execute(&sql, (uid, value))?;
    Ok(())
}

/// Fails if a container may not have a custom distro, and says why.
fn check_eligible(db: &Connection, consumer: Consumer, distro: DistroId) -> Done<()> {
    let sql = "SELECT c.uid, c.server, c.custom_distros_storage
               FROM custom_distros d JOIN containers c ON c.uid = d.container
               WHERE d.id = ?1 AND c.customer = ?2";
    let stored = db
        .query_row(sql, (distro, consumer.customer), |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, bool>(2)?))
        })
        .optional()?;
    let (stored, server, has_flag) = stored.ok_or(Refusal::NotThere(Kind::Distro))?;
    let distro = distro.0;
    let refusal = if consumer.is_storage {
        Refusal::IsStorage(consumer.uid)
    } else if stored == consumer.uid {
        Refusal::InItself { distro, stored }
    } else if server != consumer.server {
        Refusal::OtherServer { distro, stored }
    } else if !has_flag {
        Refusal::StoredNoLonger { distro, stored }
    } else {
        return Ok(());
    };
    Err(refusal.into())
}

/// Leaves a ticket: a later one if there is one, since that may be being done already.
pub(super) fn want_restart(db: &Connection, uid: u32) -> Done<()> {
    db.execute("DELETE FROM restarts WHERE container = ?1", [uid])?;
    db.execute("INSERT INTO restarts (container) VALUES (?1)", [uid])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        ANNA, BEN, BENS, BENS_STORE, CONSUMER, ELSEWHERE, STORE, STORE_2, World, having, named,
        refused, storing,
    };
    use super::*;

    /// One that is stored in `uid`.
    fn stored(world: &mut World, uid: u32) -> DistroId {
        world
            .registry
            .create_distro(ANNA, uid, &named("a"))
            .unwrap()
    }

    fn had(world: &World, uid: u32) -> Option<DistroId> {
        let container = world.registry.container(ANNA, uid).unwrap();
        container.custom_distro.map(|(id, _)| id)
    }

    #[test]
    fn a_container_has_what_it_was_given_until_it_is_reset() {
        let mut world = World::new();
        let id = stored(&mut world, STORE);
        let registry = &mut world.registry;
        registry
            .update_container(ANNA, CONSUMER, &having(Some(id)))
            .unwrap();
        let container = registry.container(ANNA, CONSUMER).unwrap();
        assert_eq!(container.custom_distro, Some((id, "a".to_owned())));
        registry
            .update_container(ANNA, CONSUMER, &having(None))
            .unwrap();
        assert_eq!(had(&world, CONSUMER), None);
    }

    #[test]
    fn what_a_container_may_not_have_is_refused() {
        let mut world = World::new();
        let id = stored(&mut world, STORE);
        let registry = &mut world.registry;
        let bens = registry
            .create_distro(BEN, BENS_STORE, &named("a"))
            .unwrap();
        let (distro, stored) = (id.0, STORE);
        let of = |registry: &mut Registry, uid, id| {
            let done = registry.update_container(ANNA, uid, &having(Some(id)));
            match done.unwrap_err() {
                RegistryError::Refused(refusal) => refusal,
                other => panic!("{other}"),
            }
        };
        let not_there = Refusal::NotThere(Kind::Distro);
        assert_eq!(of(registry, CONSUMER, bens), not_there);
        assert_eq!(of(registry, CONSUMER, DistroId(99)), not_there);
        assert_eq!(of(registry, CONSUMER, DistroId(i64::MIN)), not_there);
        let elsewhere = Refusal::OtherServer { distro, stored };
        assert_eq!(of(registry, ELSEWHERE, id), elsewhere);
        assert_eq!(of(registry, STORE_2, id), Refusal::IsStorage(STORE_2));
        assert_eq!(of(registry, STORE, id), Refusal::IsStorage(STORE));
        registry
            .update_container(ANNA, STORE, &storing(false))
            .unwrap();
        assert_eq!(
            of(registry, STORE, id),
            Refusal::InItself { distro, stored }
        );
        let no_longer = Refusal::StoredNoLonger { distro, stored };
        assert_eq!(of(registry, CONSUMER, id), no_longer);
        assert_eq!(of(registry, BENS, id), Refusal::NotThere(Kind::Container));
        assert_eq!(of(registry, 99, id), Refusal::NotThere(Kind::Container));
        for uid in [STORE, STORE_2, CONSUMER, ELSEWHERE] {
            assert_eq!(had(&world, uid), None);
        }
    }

    #[test]
    fn who_stores_images_has_none() {
        let mut world = World::new();
        let id = stored(&mut world, STORE);
        let registry = &mut world.registry;
        let both = |on| ContainerChange {
            custom_distros_storage: Some(on),
            ..having(Some(id))
        };
        refused(registry.update_container(ANNA, CONSUMER, &both(true)));
        // It ends to store, and has one at once.
        registry
            .update_container(ANNA, STORE_2, &both(false))
            .unwrap();
        assert_eq!(had(&world, STORE_2), Some(id));
        let registry = &mut world.registry;
        registry
            .update_container(ANNA, STORE_2, &storing(true))
            .unwrap();
        assert_eq!(had(&world, STORE_2), None);
        let registry = &mut world.registry;
        let reset = ContainerChange {
            custom_distros_storage: Some(true),
            ..having(None)
        };
        registry.update_container(ANNA, STORE_2, &reset).unwrap();
        // What the code sees to, the table does.
        let sql = "UPDATE containers SET custom_distro = ?1 WHERE uid = ?2";
        registry.db.execute(sql, (id, STORE_2)).unwrap_err();
    }

    #[test]
    fn a_change_is_made_as_a_whole() {
        let mut world = World::new();
        let before = world.registry.container(ANNA, CONSUMER).unwrap();
        let good = ContainerChange {
            name: Some("it's \"mine\"\n".into()),
            note: Some("\u{1F600}".repeat(255)),
            tags: Some(vec!["a".into(), "a".into(), "b".into()]),
            ssh_keys: Some(vec!["ssh-ed25519 AAAA me@home\n".into()]),
            distro: Some(PlatformDistroId(2)),
            ..ContainerChange::default()
        };
        let wrong = [
            ContainerChange::default(),
            ContainerChange {
                name: Some(String::new()),
                ..good.clone()
            },
            ContainerChange {
                note: Some("x".repeat(16_385)),
                ..good.clone()
            },
            ContainerChange {
                tags: Some(vec![String::new()]),
                ..good.clone()
            },
            ContainerChange {
                ssh_keys: Some(vec!["a\nb".into()]),
                ..good.clone()
            },
            ContainerChange {
                distro: Some(PlatformDistroId(9)),
                ..good.clone()
            },
            ContainerChange {
                custom_distro: Some(Some(DistroId(9))),
                ..good.clone()
            },
        ];
        let registry = &mut world.registry;
        for change in &wrong {
            refused(registry.update_container(ANNA, CONSUMER, change));
            assert_eq!(registry.container(ANNA, CONSUMER).unwrap(), before);
        }
        assert_eq!(registry.restarts().unwrap(), []);
        registry.update_container(ANNA, CONSUMER, &good).unwrap();
        let after = registry.container(ANNA, CONSUMER).unwrap();
        assert_eq!(Some(&after.name), good.name.as_ref());
        assert_eq!(Some(&after.note), good.note.as_ref());
        assert_eq!(after.tags, ["a", "b"]);
        assert_eq!(after.ssh_keys, ["ssh-ed25519 AAAA me@home"]);
        assert_eq!(after.distro, Some((PlatformDistroId(2), "trusty".into())));
        refused(registry.update_container(BEN, CONSUMER, &ContainerChange::default()));
    }

    #[test]
    fn what_changes_the_root_leaves_one_ticket() {
        let mut world = World::new();
        let id = stored(&mut world, STORE);
        let registry = &mut world.registry;
        let reboot = ContainerChange {
            reboot: true,
            ..ContainerChange::default()
        };
        let distro = ContainerChange {
            distro: Some(PlatformDistroId(1)),
            ..reboot.clone()
        };
        let text = ContainerChange {
            note: Some("n".into()),
            ..ContainerChange::default()
        };
        registry.update_container(ANNA, CONSUMER, &text).unwrap();
        assert_eq!(registry.restarts().unwrap(), []);
        let mut last = 0;
        for change in [
            having(Some(id)),
            having(None),
            storing(false),
            reboot.clone(),
            distro,
        ] {
            registry.update_container(ANNA, CONSUMER, &change).unwrap();
            let restarts = registry.restarts().unwrap();
            assert_eq!((restarts.len(), restarts[0].1), (1, CONSUMER), "{change:?}");
            assert!(restarts[0].0 > last);
            // A restart for an earlier change was before this one.
            registry.restarted(last).unwrap();
            assert_eq!(registry.restarts().unwrap(), restarts);
            last = restarts[0].0;
        }
        registry.update_container(ANNA, STORE, &reboot).unwrap();
        let uids: Vec<_> = registry.restarts().unwrap().iter().map(|r| r.1).collect();
        assert_eq!(uids, [CONSUMER, STORE]);
        registry.restarted(last).unwrap();
        assert_eq!(registry.restarts().unwrap().len(), 1);
    }
}
