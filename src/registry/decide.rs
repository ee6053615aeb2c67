//! What containers are to have, and which are to be restarted: what the service asks.
//!
//! Guarantees: all decisions are of one state, which the revision names. A container
//! has an image in them only if it may use it at this moment, whatever was true when it
//! was set.

use rusqlite::{Connection, OptionalExtension, Row};

use super::{CustomerId, DistroId, Done, Kind, Refusal, Registry, RegistryError};
use crate::types::{Decision, ImageOf, ImagePath};

/// Which image a consumer may use is written here once: `stored` is none if it may not.
const SELECT: &str = "
    SELECT c.uid, c.customer, c.custom_distros_storage, stored.uid, d.path, p.name,
           c.writable
    FROM containers c
    LEFT JOIN platform_distros p ON p.id = c.platform_distro
    LEFT JOIN custom_distros d ON d.id = c.custom_distro
    LEFT JOIN containers stored ON stored.uid = d.container
        AND stored.uid <> c.uid AND stored.customer = c.customer AND stored.server = c.server
        AND stored.custom_distros_storage = 1 AND c.custom_distros_storage = 0
    WHERE ?1 IS NULL OR c.server = ?1
    ORDER BY c.uid";

impl Registry {
    /// What the present state of decisions is called. Another number is another state,
    /// and a later state has a higher one.
    pub fn revision(&self) -> Result<u64, RegistryError> {
        self.read("find its revision", revision)
    }

    /// What the containers of a server are to have, by number; of all servers for an
    /// empty name. And which state this is.
    pub fn decisions(&self, server: &str) -> Result<(u64, Vec<Decision>), RegistryError> {
        self.read("decide", |db| {
            let server = server_named(db, server)?;
            let mut all = db.prepare(SELECT)?;
            let mut all = all.query([server])?;
            let mut decisions = Vec::new();
            while let Some(row) = all.next()? {
                decisions.push(decision(row)?);
            }
            Ok((revision(db)?, decisions))
        })
    }

    /// Containers that are to be restarted still, with tickets; the oldest first.
    pub fn restarts(&self) -> Result<Vec<(i64, u32)>, RegistryError> {
        self.restarts_on("")
    }

    /// The same for the containers of a server.
    pub fn restarts_on(&self, server: &str) -> Result<Vec<(i64, u32)>, RegistryError> {
        self.read("list restarts", |db| {
            let server = server_named(db, server)?;
            let sql = "SELECT r.ticket, r.container
                       FROM restarts r JOIN containers c ON c.uid = r.container
                       WHERE ?1 IS NULL OR c.server = ?1 ORDER BY r.ticket";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([server], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// That what a ticket is for was done. It may be that there is another ticket for
    /// the container by now.
    pub fn restarted(&mut self, ticket: i64) -> Result<(), RegistryError> {
        self.write("note a restart", |db| {
            db.execute("DELETE FROM restarts WHERE ticket = ?1", [ticket])?;
            Ok(())
        })
    }

    /// Where a custom distro of a customer is.
    pub fn image_of(
        &self,
        customer: CustomerId,
        id: DistroId,
    ) -> Result<(u32, ImagePath), RegistryError> {
        self.read("find an image", |db| {
            let distro = super::distros::one(db, customer, id)?;
            Ok((distro.container, distro.path))
        })
    }

    /// The same, if that is a storage container of a server; of any for an empty name.
    pub fn image_place(
        &self,
        customer: CustomerId,
        id: DistroId,
        server: &str,
    ) -> Result<(u32, ImagePath), RegistryError> {
        self.read("find an image", |db| {
            let server = server_named(db, server)?;
            let distro = super::distros::one(db, customer, id)?;
            let sql = "SELECT server, custom_distros_storage FROM containers WHERE uid = ?1";
            let (on, has_flag): (i64, bool) = db.query_row(sql, [distro.container], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
            let (distro, stored, path) = (id.0, distro.container, distro.path);
            if server.is_some_and(|server| server != on) {
                return Err(Refusal::OtherServer { distro, stored }.into());
            }
            if !has_flag {
                return Err(Refusal::StoredNoLonger { distro, stored }.into());
            }
            Ok((stored, path))
        })
    }
}

fn decision(row: &Row<'_>) -> Done<Decision> {
    let home: Option<u32> = row.get(3)?;
    let image = match home {
        Some(home) => Some(ImageOf {
            home,
            path: row.get(4)?,
        }),
        None => None,
    };
    Ok(Decision {
        container: row.get(0)?,
        customer: super::unsigned(row, 1)?,
        is_storage: row.get(2)?,
        image,
        default: row.get(5)?,
        writable: row.get(6)?,
    })
}

pub(super) fn revision(db: &Connection) -> Done<u64> {
    let sql = "SELECT revision FROM state";
    Ok(db.query_row(sql, [], |row| super::unsigned(row, 0))?)
}

/// A name that nothing has is a mistake in the settings, not a server without
/// containers.
fn server_named(db: &Connection, name: &str) -> Done<Option<i64>> {
    if name.is_empty() {
        return Ok(None);
    }
    let sql = "SELECT id FROM servers WHERE name = ?1";
    let found: Option<i64> = db.query_row(sql, [name], |row| row.get(0)).optional()?;
    let unknown = || Refusal::Unknown {
        kind: Kind::Server,
        name: name.to_owned(),
    };
    Ok(Some(found.ok_or_else(unknown)?))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::ContainerChange;
    use super::super::testing::{
        ANNA, BEN, BENS_STORE, CONSUMER, ELSEWHERE, STORE, World, having, named, refused, storing,
    };
    use super::*;

    /// A world in which the consumer has an image.
    fn world() -> (World, DistroId) {
        let mut world = World::new();
        let id = world
            .registry
            .create_distro(ANNA, STORE, &named("a"))
            .unwrap();
        let given = having(Some(id));
        world
            .registry
            .update_container(ANNA, CONSUMER, &given)
            .unwrap();
        (world, id)
    }

    fn decided(world: &World, uid: u32) -> Decision {
        let (_, all) = world.registry.decisions("").unwrap();
        all.into_iter().find(|one| one.container == uid).unwrap()
    }

    #[test]
    fn each_container_is_decided() {
        let (world, _) = world();
        let (revision, all) = world.registry.decisions("").unwrap();
        assert_eq!(revision, world.registry.revision().unwrap());
        let uids: Vec<_> = all.iter().map(|one| one.container).collect();
        assert_eq!(uids, [30_000, 30_001, 30_002, 30_003, 30_010, 30_011]);
        let consumer = Decision {
            container: CONSUMER,
            customer: 1,
            is_storage: false,
            image: Some("30000/a".parse().unwrap()),
            default: Some("precise".parse().unwrap()),
            writable: None,
        };
        assert_eq!(all[1], consumer);
        assert!(all[0].is_storage && all[0].image.is_none());
        let (_, here) = world.registry.decisions("web2").unwrap();
        assert_eq!((here.len(), here[0].container), (1, ELSEWHERE));
        let error = world.registry.decisions("web").unwrap_err().to_string();
        assert!(error.contains("no server web"), "{error}");
    }

    #[test]
    fn an_image_that_may_not_be_used_any_more_is_not_decided() {
        for (undo, redo) in [
            ("custom_distros_storage = 0", "custom_distros_storage = 1"),
            ("server = 2", "server = 1"),
            ("customer = 2", "customer = 1"),
        ] {
            let (world, id) = world();
            let set = |what: &str| {
                let sql = format!("UPDATE containers SET {what} WHERE uid = {STORE}");
                let before = world.registry.revision().unwrap();
                world.registry.db.execute(&sql, []).unwrap();
                assert!(world.registry.revision().unwrap() > before, "{what}");
            };
            assert!(decided(&world, CONSUMER).image.is_some());
            set(undo);
            assert_eq!(decided(&world, CONSUMER).image, None, "{undo}");
            assert!(decided(&world, CONSUMER).default.is_some());
            assert!(world.registry.image_place(ANNA, id, "web1").is_err());
            set(redo);
            assert!(decided(&world, CONSUMER).image.is_some());
            world.registry.image_place(ANNA, id, "web1").unwrap();
        }
    }

    #[test]
    fn an_image_has_a_place_where_its_container_stores() {
        let (mut world, id) = world();
        let registry = &mut world.registry;
        let place = (STORE, "a".parse().unwrap());
        assert_eq!(registry.image_place(ANNA, id, "web1").unwrap(), place);
        assert_eq!(registry.image_place(ANNA, id, "").unwrap(), place);
        refused(registry.image_place(ANNA, id, "web2"));
        let others = registry.image_place(BEN, id, "web1");
        assert_eq!(others, registry.image_place(BEN, DistroId(99), "web1"));
        refused(others);
        registry
            .update_container(ANNA, STORE, &storing(false))
            .unwrap();
        refused(registry.image_place(ANNA, id, "web1"));
        assert_eq!(registry.image_of(ANNA, id).unwrap(), place);
    }

    #[test]
    fn the_revision_changes_with_what_is_decided_and_only_then() {
        let (mut world, id) = world();
        let registry = &mut world.registry;
        let mut last = registry.revision().unwrap();
        let mut is_new = |registry: &Registry| {
            let before = std::mem::replace(&mut last, registry.revision().unwrap());
            assert!(last >= before);
            last > before
        };
        let text = ContainerChange {
            note: Some("n".into()),
            ..ContainerChange::default()
        };
        registry.update_container(ANNA, CONSUMER, &text).unwrap();
        let same = having(Some(id));
        registry.update_container(ANNA, CONSUMER, &same).unwrap();
        registry.alarm_key(ANNA, CONSUMER).unwrap();
        registry.create_distro(ANNA, STORE, &named("b")).unwrap();
        assert!(!is_new(registry));
        let path = crate::registry::DistroChange {
            path: Some("c".into()),
            ..Default::default()
        };
        registry.update_distro(ANNA, id, &path).unwrap();
        assert!(is_new(registry));
        registry
            .update_container(ANNA, CONSUMER, &having(None))
            .unwrap();
        assert!(is_new(registry));
        for sql in [
            "UPDATE platform_distros SET name = 'lucid' WHERE id = 1",
            "UPDATE servers SET name = 'db1' WHERE id = 1",
            "UPDATE containers SET writable = 'paths' WHERE uid = 30001",
            "UPDATE containers SET platform_distro = NULL WHERE uid = 30001",
            "DELETE FROM containers WHERE uid = 30011",
        ] {
            registry.db.execute(sql, []).unwrap();
            assert!(is_new(registry), "{sql}");
        }
    }

    #[test]
    fn restarts_are_of_a_server() {
        let (mut world, _) = world();
        let reboot = ContainerChange {
            reboot: true,
            ..ContainerChange::default()
        };
        world
            .registry
            .update_container(ANNA, ELSEWHERE, &reboot)
            .unwrap();
        let on = |server| world.registry.restarts_on(server).unwrap();
        assert_eq!(on("").len(), 2);
        assert_eq!((on("web1").len(), on("web2")[0].1), (1, ELSEWHERE));
        refused(world.registry.restarts_on("other"));
    }

    /// How long it takes is printed: at this size no list may be read row by row of all
    /// others.
    #[test]
    fn ten_thousand_containers_are_decided_at_once() {
        let mut world = World::new();
        for n in 0..1000 {
            let new = named(&format!("d{n}"));
            world.registry.create_distro(BEN, BENS_STORE, &new).unwrap();
        }
        let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 9999)
                   INSERT INTO containers
                   SELECT 40000 + n, 2, 1, n, '', '', 64, 64, hex(randomblob(18)), 1, n % 1000 + 1,
                          0, NULL, '', '[]', '[]', NULL FROM n";
        world.registry.db.execute(sql, []).unwrap();
        let began = Instant::now();
        let (_, all) = world.registry.decisions("web1").unwrap();
        println!("{} decisions: {:?}", all.len(), began.elapsed());
        assert_eq!(all.iter().filter(|one| one.image.is_some()).count(), 10_000);
        let began = Instant::now();
        let containers = world.registry.containers(BEN, &[]).unwrap();
        println!("{} containers: {:?}", containers.len(), began.elapsed());
        let began = Instant::now();
        let usable = world.registry.usable_distros(BEN, 40_000).unwrap();
        println!("{} usable: {:?}", usable.len(), began.elapsed());
        assert_eq!((containers.len(), usable.len()), (10_002, 1000));
        let plan = format!("EXPLAIN QUERY PLAN {SELECT}");
        let mut plan = world.registry.db.prepare(&plan).unwrap();
        let plan = plan
            .query_map([1], |row| row.get::<_, String>("detail"))
            .unwrap();
        let scans = plan.filter(|line| line.as_ref().unwrap().starts_with("SCAN"));
        assert_eq!(scans.count(), 1, "the containers, once");
    }
}
