//! Custom distros of all customers, and the platform's, for administrators.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::super::distros::{self, DistroChange, NewDistro};
use super::super::{
    CustomerId, Distro, DistroId, Done, Kind, Refusal, Registry, RegistryError, unsigned,
};
use super::{check_unused, containers, has, id_of, taken, unknown};
use crate::types::ImagePath;

/// What is shown of a custom distro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are those of a distro")]
pub struct DistroInfo {
    pub id: i64,
    pub container: u32,
    pub customer: String,
    pub name: String,
    pub path: ImagePath,
    pub note: String,
    pub uuid: String,
    /// Which containers have it.
    pub used_by: Vec<u32>,
}

/// What is shown of a platform's distro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are those of a distro")]
pub struct PlatformDistroInfo {
    pub id: i64,
    pub name: String,
    /// How many containers have it.
    pub containers: u64,
}

impl Registry {
    /// Adds a custom distro that is stored in a container.
    pub fn add_distro(&mut self, uid: u32, new: &NewDistro) -> Result<DistroId, RegistryError> {
        self.write("add a custom distro", |db| {
            containers::owner(db, uid)?;
            distros::insert(db, uid, new)
        })
    }

    /// Changes a custom distro.
    pub fn set_distro(
        &mut self,
        id: DistroId,
        change: &DistroChange,
    ) -> Result<Distro, RegistryError> {
        self.write("change a custom distro", |db| {
            let mut distro = any(db, id)?;
            distros::update(db, &mut distro, change)?;
            Ok(distro)
        })
    }

    /// Removes a custom distro, from all containers that have it too: which these were.
    pub fn remove_distro(&mut self, id: DistroId) -> Result<Vec<u32>, RegistryError> {
        self.write("remove a custom distro", |db| {
            any(db, id)?;
            let sql = "SELECT uid FROM containers WHERE custom_distro = ?1 ORDER BY uid";
            let mut users = db.prepare(sql)?;
            let users = users.query_map([id], |row| row.get(0))?;
            let users = users.collect::<rusqlite::Result<_>>()?;
            distros::delete(db, id)?;
            Ok(users)
        })
    }

    /// All custom distros, by number.
    pub fn all_distros(&self) -> Result<Vec<DistroInfo>, RegistryError> {
        self.read("list custom distros", |db| {
            let sql = "SELECT custom_distro, uid FROM containers
                       WHERE custom_distro IS NOT NULL ORDER BY uid";
            let mut users: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
            let mut pairs = db.prepare(sql)?;
            let mut pairs = pairs.query([])?;
            while let Some(row) = pairs.next()? {
                users.entry(row.get(0)?).or_default().push(row.get(1)?);
            }
            let sql = "SELECT d.id, d.container, k.username, d.name, d.path, d.note, d.uuid
                       FROM custom_distros d JOIN containers c ON c.uid = d.container
                       JOIN customers k ON k.id = c.customer ORDER BY d.id";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([], |row| {
                let id = row.get(0)?;
                Ok(DistroInfo {
                    id,
                    container: row.get(1)?,
                    customer: row.get(2)?,
                    name: row.get(3)?,
                    path: row.get(4)?,
                    note: row.get(5)?,
                    uuid: row.get(6)?,
                    used_by: users.remove(&id).unwrap_or_default(),
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Adds a distro of the platform.
    pub fn add_platform_distro(&mut self, name: &str) -> Result<(), RegistryError> {
        self.write("add a distro", |db| insert_platform(db, name))
    }

    /// Gives a distro of the platform another name, as its directory has.
    pub fn rename_platform_distro(&mut self, name: &str, to: &str) -> Result<(), RegistryError> {
        self.write("change a distro", |db| {
            let id = id_of(db, Kind::PlatformDistro, name)?;
            to.parse::<ImagePath>().map_err(Refusal::Path)?;
            if to != name && has(db, Kind::PlatformDistro, to)? {
                return Err(taken(Kind::PlatformDistro).into());
            }
            let sql = "UPDATE platform_distros SET name = ?2 WHERE id = ?1";
            db.execute(sql, (id, to))?;
            Ok(())
        })
    }

    /// Removes a distro of the platform that no container has.
    pub fn remove_platform_distro(&mut self, name: &str) -> Result<(), RegistryError> {
        self.write("remove a distro", |db| {
            let id = id_of(db, Kind::PlatformDistro, name)?;
            let sql = "SELECT uid FROM containers WHERE platform_distro = ?1 ORDER BY uid";
            check_unused(db, sql, id, format!("default distro {name}"))?;
            db.execute("DELETE FROM platform_distros WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// All distros of the platform, by number.
    pub fn all_platform_distros(&self) -> Result<Vec<PlatformDistroInfo>, RegistryError> {
        self.read("list distros", |db| {
            let sql = "SELECT id, name,
                       (SELECT count(*) FROM containers WHERE platform_distro = p.id)
                       FROM platform_distros p ORDER BY id";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([], |row| {
                Ok(PlatformDistroInfo {
                    id: row.get(0)?,
                    name: row.get(1)?,
                    containers: unsigned(row, 2)?,
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// A custom distro, whosever it is.
fn any(db: &Connection, id: DistroId) -> Done<Distro> {
    let sql = "SELECT c.customer FROM custom_distros d JOIN containers c ON c.uid = d.container
               WHERE d.id = ?1";
    let owner = db.query_row(sql, [id], |row| row.get(0)).optional()?;
    let owner: CustomerId = owner.ok_or_else(|| unknown(Kind::Distro, id))?;
    distros::one(db, owner, id)
}

/// The number of what is stored in a container at a path.
pub(super) fn at(db: &Connection, uid: u32, path: &ImagePath) -> Done<Option<DistroId>> {
    let sql = "SELECT id FROM custom_distros WHERE container = ?1 AND path = ?2";
    let found = db.query_row(sql, (uid, path.as_str()), |row| row.get(0));
    Ok(found.optional()?)
}

pub(super) fn insert_platform(db: &Connection, name: &str) -> Done<()> {
    name.parse::<ImagePath>().map_err(Refusal::Path)?;
    if has(db, Kind::PlatformDistro, name)? {
        return Err(taken(Kind::PlatformDistro).into());
    }
    let sql = "INSERT INTO platform_distros (name) VALUES (?1)";
    db.execute(sql, [name])?;
    Ok(())
}
