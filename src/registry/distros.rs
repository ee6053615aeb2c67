//! Custom distros: what their customers make, change and delete. And the platform's.
//!
//! Guarantees: a name and a path are each of one distro of a container. Who deletes one
//! takes it from all containers that have it, and nothing else: these go back to their
//! platform distro, and nothing else is deleted.

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row};

use super::customers::check_container;
use super::{
    CustomerId, DistroId, Done, Kind, PlatformDistroId, Refusal, Registry, RegistryError, new_uuid,
    rules,
};
use crate::types::ImagePath;

/// How many a container may store.
pub(super) const STORED_MAX: usize = 4096;

/// An image that a customer has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distro {
    /// Its number.
    pub id: DistroId,
    /// Where it is stored.
    pub container: u32,
    /// What it is called.
    pub name: String,
    /// Where in `distros/` of the container that stores it.
    pub path: ImagePath,
    /// What its customer wrote.
    pub note: String,
    /// A number that never changes.
    pub uuid: String,
}

/// One to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewDistro {
    /// What it is called.
    pub name: String,
    /// Where it is, in `distros/`.
    pub path: String,
    /// Anything about it.
    pub note: String,
}

/// What is to be different; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistroChange {
    /// What it is called.
    pub name: Option<String>,
    /// Where it is, in `distros/`.
    pub path: Option<String>,
    /// Anything about it.
    pub note: Option<String>,
}

/// A distro of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformDistro {
    /// Its number.
    pub id: PlatformDistroId,
    /// Its name, and that of its directory.
    pub name: String,
}

const COLUMNS: &str = "d.id, d.container, d.name, d.path, d.note, d.uuid";

impl Distro {
    fn of(row: &Row<'_>) -> rusqlite::Result<Distro> {
        Ok(Distro {
            id: row.get(0)?,
            container: row.get(1)?,
            name: row.get(2)?,
            path: row.get(3)?,
            note: row.get(4)?,
            uuid: row.get(5)?,
        })
    }
}

impl FromSql for ImagePath {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let path = value.as_str()?.parse();
        path.map_err(FromSqlError::other)
    }
}

impl Registry {
    /// The platform's distros, by number.
    pub fn platform_distros(&self) -> Result<Vec<PlatformDistro>, RegistryError> {
        self.read("list distros", |db| {
            let mut all = db.prepare("SELECT id, name FROM platform_distros ORDER BY id")?;
            let all = all.query_map([], |row| {
                Ok(PlatformDistro {
                    id: row.get(0)?,
                    name: row.get(1)?,
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// All custom distros of a customer, by number.
    pub fn distros(&self, customer: CustomerId) -> Result<Vec<Distro>, RegistryError> {
        self.read("list custom distros", |db| {
            let sql = format!(
                "SELECT {COLUMNS} FROM containers c JOIN custom_distros d ON d.container = c.uid
                 WHERE c.customer = ?1 ORDER BY d.id"
            );
            let mut all = db.prepare(&sql)?;
            let all = all.query_map([customer], Distro::of)?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Those that a container of theirs may have; by number.
    pub fn usable_distros(
        &self,
        customer: CustomerId,
        uid: u32,
    ) -> Result<Vec<Distro>, RegistryError> {
        self.read("list custom distros", |db| {
            check_container(db, customer, uid)?;
            let sql = format!(
                "SELECT {COLUMNS} FROM containers consumer
                 JOIN containers c ON c.customer = consumer.customer
                 JOIN custom_distros d ON d.container = c.uid
                 WHERE consumer.uid = ?1 AND consumer.custom_distros_storage = 0
                   AND c.server = consumer.server AND c.custom_distros_storage = 1
                   AND c.uid <> consumer.uid
                 ORDER BY d.id"
            );
            let mut all = db.prepare(&sql)?;
            let all = all.query_map([uid], Distro::of)?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// A custom distro of a customer.
    pub fn distro(&self, customer: CustomerId, id: DistroId) -> Result<Distro, RegistryError> {
        self.read("find a custom distro", |db| one(db, customer, id))
    }

    /// Makes a custom distro that is stored in a container of theirs.
    pub fn create_distro(
        &mut self,
        customer: CustomerId,
        uid: u32,
        new: &NewDistro,
    ) -> Result<DistroId, RegistryError> {
        self.write("make a custom distro", |db| {
            check_container(db, customer, uid)?;
            insert(db, uid, new)
        })
    }

    /// Changes a custom distro of theirs; what it is then.
    pub fn update_distro(
        &mut self,
        customer: CustomerId,
        id: DistroId,
        change: &DistroChange,
    ) -> Result<Distro, RegistryError> {
        self.write("change a custom distro", |db| {
            let mut distro = one(db, customer, id)?;
            update(db, &mut distro, change)?;
            Ok(distro)
        })
    }

    /// Deletes a custom distro of theirs: who has it has none from then on.
    pub fn delete_distro(
        &mut self,
        customer: CustomerId,
        id: DistroId,
    ) -> Result<(), RegistryError> {
        self.write("delete a custom distro", |db| {
            let distro = one(db, customer, id)?;
            delete(db, distro.id)
        })
    }
}

/// A custom distro of a customer.
pub(super) fn one(db: &Connection, customer: CustomerId, id: DistroId) -> Done<Distro> {
    let sql = format!(
        "SELECT {COLUMNS} FROM custom_distros d JOIN containers c ON c.uid = d.container
         WHERE d.id = ?1 AND c.customer = ?2"
    );
    let found = db.query_row(&sql, (id, customer), Distro::of).optional()?;
    Ok(found.ok_or(Refusal::NotThere(Kind::Distro))?)
}

/// Makes one in a container that stores images.
pub(super) fn insert(db: &Connection, uid: u32, new: &NewDistro) -> Done<DistroId> {
    let sql = "SELECT custom_distros_storage FROM containers WHERE uid = ?1";
    if !db.query_row(sql, [uid], |row| row.get::<_, bool>(0))? {
        return Err(Refusal::NoStorage(uid).into());
    }
    rules::name("name", &new.name)?;
    rules::note(&new.note)?;
    let path: ImagePath = new.path.parse().map_err(Refusal::Path)?;
    let sql = "SELECT count(*) FROM custom_distros WHERE container = ?1";
    let stored: i64 = db.query_row(sql, [uid], |row| row.get(0))?;
    if usize::try_from(stored).map_or(true, |stored| stored >= STORED_MAX) {
        let (what, max) = ("custom distros in a container", STORED_MAX);
        return Err(Refusal::TooMany { what, max }.into());
    }
    check_free(db, uid, None, &new.name, &path)?;
    let sql = "INSERT INTO custom_distros (container, name, path, note, uuid)
               VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = (uid, &new.name, path.as_str(), &new.note, new_uuid());
    db.execute(sql, row)?;
    Ok(DistroId(db.last_insert_rowid()))
}

/// Changes one, also in what is known of it.
pub(super) fn update(db: &Connection, distro: &mut Distro, change: &DistroChange) -> Done<()> {
    if *change == DistroChange::default() {
        return Err(Refusal::Empty.into());
    }
    if let Some(name) = &change.name {
        rules::name("name", name)?;
        distro.name.clone_from(name);
    }
    if let Some(path) = &change.path {
        distro.path = path.parse().map_err(Refusal::Path)?;
    }
    if let Some(note) = &change.note {
        rules::note(note)?;
        distro.note.clone_from(note);
    }
    let own = Some(distro.id);
    check_free(db, distro.container, own, &distro.name, &distro.path)?;
    let sql = "UPDATE custom_distros SET name = ?2, path = ?3, note = ?4 WHERE id = ?1";
    db.execute(
        sql,
        (distro.id, &distro.name, distro.path.as_str(), &distro.note),
    )?;
    Ok(())
}

/// Deletes one; the table of containers says what becomes of who has it.
pub(super) fn delete(db: &Connection, id: DistroId) -> Done<()> {
    db.execute("DELETE FROM custom_distros WHERE id = ?1", [id])?;
    Ok(())
}

/// Fails if another distro of the container has the name or the path.
fn check_free(
    db: &Connection,
    uid: u32,
    own: Option<DistroId>,
    name: &str,
    path: &ImagePath,
) -> Done<()> {
    for (what, text) in [("name", name), ("path", path.as_str())] {
        let sql = format!(
            "SELECT 1 FROM custom_distros
             WHERE container = ?1 AND {what} = ?2 AND id IS NOT ?3"
        );
        let found = db
            .query_row(&sql, (uid, text, own), |_| Ok(()))
            .optional()?;
        if found.is_some() {
            let kind = Kind::Distro;
            return Err(Refusal::Taken { kind, what }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        ANNA, BEN, BENS_STORE, CONSUMER, ELSEWHERE, STORE, STORE_2, World, having, named, refused,
        storing,
    };
    use super::*;

    fn ids(distros: &[Distro]) -> Vec<DistroId> {
        distros.iter().map(|distro| distro.id).collect()
    }

    #[test]
    fn a_distro_is_what_was_given() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let longest = "\u{1F600}".repeat(255);
        for (path, name) in [("a", "it's \"so\"\n; --"), ("b", &longest)] {
            let new = NewDistro {
                name: name.to_owned(),
                path: path.to_owned(),
                note: format!("{name}\0\n"),
            };
            let id = registry.create_distro(ANNA, STORE, &new).unwrap();
            let distro = registry.distro(ANNA, id).unwrap();
            assert_eq!((&distro.name, &distro.note), (&new.name, &new.note));
            assert_eq!((distro.path.as_str(), distro.container), (path, STORE));
            assert_eq!(distro.uuid.len(), 36);
            assert_eq!(registry.image_of(ANNA, id).unwrap(), (STORE, distro.path));
        }
        assert_eq!(registry.distros(ANNA).unwrap().len(), 2);
        assert_eq!(registry.distros(BEN).unwrap(), []);
    }

    #[test]
    fn names_and_paths_that_may_not_be_are_refused() {
        let mut world = World::new();
        let registry = &mut world.registry;
        registry.create_distro(ANNA, STORE, &named("a")).unwrap();
        let of = |name: &str, path: &str| NewDistro {
            name: name.to_owned(),
            path: path.to_owned(),
            note: String::new(),
        };
        let long = "a".repeat(256);
        let refusals = [
            of("", "b"),
            of("\0", "b"),
            of(&long, "b"),
            of("b", ""),
            of("b", "."),
            of("b", ".."),
            of("b", "a/b"),
            of("b", "/"),
            of("b", "../a"),
            of("b", "b\n"),
            of("b", "\u{e9}"),
            of("b", &long),
            of("a", "b"),
            of("b", "a"),
            NewDistro {
                note: "x".repeat(16_385),
                ..of("b", "b")
            },
        ];
        for new in &refusals {
            refused(registry.create_distro(ANNA, STORE, new));
        }
        // They are of one container only.
        registry.create_distro(ANNA, STORE_2, &named("a")).unwrap();
        registry
            .create_distro(ANNA, STORE, &of("b", "..."))
            .unwrap();
        // What the code refuses, the tables do.
        for wrong in &refusals[..12] {
            let sql = "INSERT INTO custom_distros (container, name, path, note, uuid)
                       VALUES (?1, ?2, ?3, '', hex(randomblob(18)))";
            let row = (STORE, &wrong.name, &wrong.path);
            registry.db.execute(sql, row).unwrap_err();
        }
    }

    #[test]
    fn only_a_storage_container_of_theirs_stores() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let refusal = registry.create_distro(ANNA, CONSUMER, &named("a"));
        assert_eq!(refusal, Err(Refusal::NoStorage(CONSUMER).into()));
        let others = registry.create_distro(ANNA, BENS_STORE, &named("a"));
        assert_eq!(others, registry.create_distro(ANNA, 99, &named("a")));
        refused(others);
    }

    #[test]
    fn a_change_changes_what_it_says() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let id = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
        registry.create_distro(ANNA, STORE, &named("b")).unwrap();
        let name = |name: &str| DistroChange {
            name: Some(name.to_owned()),
            ..DistroChange::default()
        };
        let path = |path: &str| DistroChange {
            path: Some(path.to_owned()),
            ..DistroChange::default()
        };
        let before = registry.distro(ANNA, id).unwrap();
        let changed = registry.update_distro(ANNA, id, &name("a'")).unwrap();
        assert_eq!(registry.distro(ANNA, id).unwrap(), changed);
        assert_eq!(
            changed,
            Distro {
                name: "a'".into(),
                ..before
            }
        );
        // Its own name and path are no others'.
        registry.update_distro(ANNA, id, &name("a'")).unwrap();
        let both = DistroChange {
            name: Some("c".into()),
            ..path("..")
        };
        for wrong in [
            DistroChange::default(),
            name("b"),
            name(""),
            path("b"),
            path(".."),
            both,
        ] {
            refused(registry.update_distro(ANNA, id, &wrong));
        }
        assert_eq!(registry.distro(ANNA, id).unwrap(), changed);
        let none = DistroId(99);
        let others = registry.update_distro(BEN, id, &name("x"));
        assert_eq!(others, registry.update_distro(BEN, none, &name("x")));
        refused(others);
        assert_eq!(registry.distro(BEN, id), registry.distro(BEN, none));
    }

    #[test]
    fn deleting_a_distro_deletes_nothing_else() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let id = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
        let other = registry.create_distro(ANNA, STORE, &named("b")).unwrap();
        registry
            .update_container(ANNA, CONSUMER, &having(Some(id)))
            .unwrap();
        let others = registry.delete_distro(BEN, id);
        assert_eq!(others, registry.delete_distro(BEN, DistroId(99)));
        refused(others);
        let before = registry.revision().unwrap();
        registry.delete_distro(ANNA, id).unwrap();
        assert!(registry.revision().unwrap() > before);
        let consumer = registry.container(ANNA, CONSUMER).unwrap();
        assert_eq!(consumer.custom_distro, None);
        assert_eq!(consumer.distro.unwrap().1, "precise");
        assert!(
            registry
                .container(ANNA, STORE)
                .unwrap()
                .custom_distros_storage
        );
        assert_eq!(ids(&registry.distros(ANNA).unwrap()), [other]);
        // Its number is not used again.
        let next = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
        assert!(next > other);
    }

    #[test]
    fn a_container_may_have_those_that_it_could_be_given() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let a = registry.create_distro(ANNA, STORE, &named("a")).unwrap();
        let b = registry.create_distro(ANNA, STORE_2, &named("b")).unwrap();
        registry
            .create_distro(BEN, BENS_STORE, &named("c"))
            .unwrap();
        let usable = |registry: &Registry, uid| ids(&registry.usable_distros(ANNA, uid).unwrap());
        assert_eq!(usable(registry, CONSUMER), [a, b]);
        assert_eq!(usable(registry, STORE), []);
        assert_eq!(usable(registry, ELSEWHERE), []);
        registry
            .update_container(ANNA, STORE_2, &storing(false))
            .unwrap();
        assert_eq!(usable(registry, CONSUMER), [a]);
        assert_eq!(usable(registry, STORE_2), [a]);
        registry
            .update_container(ANNA, STORE, &storing(false))
            .unwrap();
        assert_eq!(usable(registry, STORE), []);
        let others = registry.usable_distros(BEN, STORE);
        assert_eq!(others, registry.usable_distros(BEN, 99));
        refused(others);
        for uid in [STORE, STORE_2, CONSUMER, ELSEWHERE] {
            for id in [a, b] {
                let mut given = false;
                for found in registry.usable_distros(ANNA, uid).unwrap() {
                    given |= found.id == id;
                }
                let set = registry.update_container(ANNA, uid, &having(Some(id)));
                assert_eq!(set.is_ok(), given, "{uid} {id}");
            }
        }
    }

    #[test]
    fn a_container_stores_no_more_than_it_may() {
        let mut world = World::new();
        let sql = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
                   INSERT INTO custom_distros SELECT NULL, ?1, n, n, '', hex(randomblob(18)) FROM n";
        let most = i64::try_from(STORED_MAX).unwrap();
        world.registry.db.execute(sql, (STORE, most)).unwrap();
        let full = world.registry.create_distro(ANNA, STORE, &named("more"));
        refused(full);
    }
}
