//! Containers, as their customers see them.

use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension, Row};

use super::{
    CustomerId, DistroId, Done, Kind, PlatformDistroId, Refusal, Registry, RegistryError, unsigned,
};

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its user.
    pub uid: u32,
    /// What its customer calls it.
    pub name: String,
    /// What it calls itself.
    pub hostname: String,
    /// Its address.
    pub ip: String,
    /// Its memory, in MiB.
    pub memory: u64,
    /// Its share of the disk, in MiB.
    pub storage: u64,
    /// A number that never changes.
    pub uuid: String,
    /// Its platform distro, and what that is called.
    pub distro: Option<(PlatformDistroId, String)>,
    /// Its custom distro, and what that is called.
    pub custom_distro: Option<(DistroId, String)>,
    /// The name of its server.
    pub server: String,
    /// And where that is.
    pub server_address: String,
    /// Whether it stores images.
    pub custom_distros_storage: bool,
    /// What its customer wrote.
    pub note: String,
    /// By which it is found.
    pub tags: Vec<String>,
    /// Who may come in.
    pub ssh_keys: Vec<String>,
}

/// As [`Container::of`] reads them: by their place, since there may be many rows.
const SELECT: &str = "
    SELECT c.uid, c.name, c.hostname, c.ip, c.memory, c.storage, c.uuid,
           c.platform_distro, p.name, c.custom_distro, d.name, s.name, s.address,
           c.custom_distros_storage, c.note, c.tags, c.ssh_keys
    FROM containers c JOIN servers s ON s.id = c.server
    LEFT JOIN platform_distros p ON p.id = c.platform_distro
    LEFT JOIN custom_distros d ON d.id = c.custom_distro";

impl Container {
    fn of(row: &Row<'_>) -> Done<Container> {
        Ok(Container {
            uid: row.get(0)?,
            name: row.get(1)?,
            hostname: row.get(2)?,
            ip: row.get(3)?,
            memory: unsigned(row, 4)?,
            storage: unsigned(row, 5)?,
            uuid: row.get(6)?,
            distro: named(row, 7)?,
            custom_distro: named(row, 9)?,
            server: row.get(11)?,
            server_address: row.get(12)?,
            custom_distros_storage: row.get(13)?,
            note: row.get(14)?,
            tags: list(row, 15)?,
            ssh_keys: list(row, 16)?,
        })
    }
}

/// A number that may be none, and a name behind it.
fn named<T: FromSql>(row: &Row<'_>, column: usize) -> Done<Option<(T, String)>> {
    let id: Option<T> = row.get(column)?;
    Ok(match id {
        Some(id) => Some((id, row.get(column + 1)?)),
        None => None,
    })
}

impl Registry {
    /// The containers of a customer that have any of `tags`, or all of them for none; by
    /// number.
    pub fn containers(
        &self,
        customer: CustomerId,
        tags: &[String],
    ) -> Result<Vec<Container>, RegistryError> {
        self.read("list containers", |db| {
            let sql = format!("{SELECT} WHERE c.customer = ?1 ORDER BY c.uid");
            let mut all = db.prepare(&sql)?;
            let mut all = all.query([customer])?;
            let mut found = Vec::new();
            while let Some(row) = all.next()? {
                let container = Container::of(row)?;
                if tags.is_empty() || tags.iter().any(|tag| container.tags.contains(tag)) {
                    found.push(container);
                }
            }
            Ok(found)
        })
    }

    /// A container of a customer.
    pub fn container(&self, customer: CustomerId, uid: u32) -> Result<Container, RegistryError> {
        self.read("find a container", |db| one(db, customer, uid))
    }
}

/// A container of a customer.
pub(super) fn one(db: &Connection, customer: CustomerId, uid: u32) -> Done<Container> {
    let sql = format!("{SELECT} WHERE c.uid = ?1 AND c.customer = ?2");
    let found = db.query_row(&sql, (uid, customer), |row| Ok(Container::of(row)));
    let found = found.optional()?;
    found.ok_or(Refusal::NotThere(Kind::Container))?
}

/// A column that has a list of texts.
fn list(row: &Row<'_>, column: usize) -> Done<Vec<String>> {
    let text = row
        .get_ref(column)?
        .as_bytes()
        .map_err(rusqlite::Error::from)?;
    let parsed = serde_json::from_slice(text);
    parsed.map_err(|error| RegistryError::Damaged(format!("a list of texts: {error}")))
}

/// The same to be written.
pub(super) fn of_list(texts: &[&str]) -> Done<String> {
    let text = serde_json::to_string(texts);
    text.map_err(|error| RegistryError::Other {
        doing: "write a list",
        cause: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::ContainerChange;
    use super::super::testing::{ANNA, BEN, STORE, World};
    use super::*;

    #[test]
    fn containers_are_listed_by_number_and_found_by_tags() {
        let mut world = World::new();
        let tagged = |tags: &[&str]| ContainerChange {
            tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
            ..ContainerChange::default()
        };
        let registry = &mut world.registry;
        let web = "it's \"web\"\n";
        registry
            .update_container(ANNA, 30_001, &tagged(&[web, "both"]))
            .unwrap();
        registry
            .update_container(ANNA, STORE, &tagged(&["both"]))
            .unwrap();
        let uids = |registry: &Registry, tags: &[&str]| {
            let tags: Vec<_> = tags.iter().map(|tag| (*tag).to_owned()).collect();
            let found = registry.containers(ANNA, &tags).unwrap();
            found.iter().map(|c| c.uid).collect::<Vec<_>>()
        };
        assert_eq!(uids(registry, &[]), [30_000, 30_001, 30_002, 30_003]);
        assert_eq!(uids(registry, &[web]), [30_001]);
        assert_eq!(uids(registry, &["none", "both"]), [30_000, 30_001]);
        assert_eq!(uids(registry, &["web"]), [0; 0]);
    }

    #[test]
    fn what_is_not_yours_is_not_there() {
        let world = World::new();
        let others = world.registry.container(BEN, STORE).unwrap_err();
        let none = world.registry.container(BEN, 1).unwrap_err();
        assert_eq!(others, none);
        assert_eq!(others, Refusal::NotThere(Kind::Container).into());
        let found = world.registry.container(ANNA, STORE).unwrap();
        assert!(found.custom_distros_storage);
        assert_eq!(found.distro.unwrap().1, "precise");
        assert_eq!((&*found.server, found.memory), ("web1", 64));
    }
}
