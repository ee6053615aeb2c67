//! Containers, for administrators.
//!
//! Guarantees: what customers may not do with their containers, administrators may not
//! either: they have the same rules and restarts. A container that is given to another
//! customer has nothing any more of what the last one wrote or was told, nor may the
//! last one come in; what it stores is taken from who had it.

use rusqlite::{Connection, OptionalExtension, Transaction};
use serde::Serialize;

use super::super::change::{self, set};
use super::super::{
    ContainerChange, CustomerId, Done, Kind, Refusal, Registry, RegistryError, new_uuid, rules,
};
use super::{id_of, some_of, taken, unknown};

/// What may be written in a view.
const WRITABLE: [&str; 3] = ["paths", "tree", "none"];

/// What is to be different; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSettings {
    /// Whose it is, by name.
    pub customer: Option<String>,
    /// Where it is, by name.
    pub server: Option<String>,
    /// What it calls itself.
    pub hostname: Option<String>,
    /// Its address.
    pub ip: Option<String>,
    /// Its memory, in MiB.
    pub memory: Option<u64>,
    /// Its share of the disk, in MiB.
    pub storage: Option<u64>,
    /// Its platform distro, by name, or that it has none.
    pub distro: Option<Option<String>>,
    /// What it may write in its image: `paths`, `tree` or `none`; or what the service's
    /// settings say.
    pub writable: Option<Option<String>>,
    /// What its customer could change.
    pub own: ContainerChange,
}

/// What is shown of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are those of a container")]
pub struct ContainerInfo {
    pub uid: u32,
    pub name: String,
    pub customer: String,
    pub server: String,
    pub hostname: String,
    pub ip: String,
    pub memory: u64,
    pub storage: u64,
    pub uuid: String,
    pub distro: Option<String>,
    pub custom_distro: Option<i64>,
    pub custom_distro_name: Option<String>,
    pub custom_distros_storage: bool,
    pub writable: Option<String>,
}

impl Registry {
    /// Adds a container; `settings` say whose it is, and where.
    pub fn add_container(
        &mut self,
        uid: u32,
        settings: &ContainerSettings,
    ) -> Result<(), RegistryError> {
        self.write("add a container", |db| {
            insert(db, uid, settings)?;
            forget_restart(db, uid)
        })
    }

    /// Changes a container.
    pub fn set_container(
        &mut self,
        uid: u32,
        settings: &ContainerSettings,
    ) -> Result<(), RegistryError> {
        self.write("change a container", |db| {
            if *settings == ContainerSettings::default() {
                return Err(Refusal::Empty.into());
            }
            update(db, uid, settings)
        })
    }

    /// Removes a container that stores nothing.
    pub fn remove_container(&mut self, uid: u32) -> Result<(), RegistryError> {
        self.write("remove a container", |db| {
            owner(db, uid)?;
            let sql = "SELECT id FROM custom_distros WHERE container = ?1 ORDER BY id";
            let mut stored = db.prepare(sql)?;
            let stored = stored.query_map([uid], |row| row.get(0))?;
            let stored = stored.collect::<rusqlite::Result<Vec<i64>>>()?;
            if !stored.is_empty() {
                let (what, by) = (format!("container {uid}"), some_of(&stored));
                let by = format!("custom distro {by}");
                return Err(Refusal::InUse { what, by }.into());
            }
            db.execute("DELETE FROM containers WHERE uid = ?1", [uid])?;
            Ok(())
        })
    }

    /// All containers, by number.
    pub fn all_containers(&self) -> Result<Vec<ContainerInfo>, RegistryError> {
        self.read("list containers", |db| {
            let sql = "SELECT c.uid, c.name, k.username, s.name, c.hostname, c.ip, c.memory,
                       c.storage, c.uuid, p.name, c.custom_distro, d.name,
                       c.custom_distros_storage, c.writable
                       FROM containers c JOIN customers k ON k.id = c.customer
                       JOIN servers s ON s.id = c.server
                       LEFT JOIN platform_distros p ON p.id = c.platform_distro
                       LEFT JOIN custom_distros d ON d.id = c.custom_distro
                       ORDER BY c.uid";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([], |row| {
                Ok(ContainerInfo {
                    uid: row.get(0)?,
                    name: row.get(1)?,
                    customer: row.get(2)?,
                    server: row.get(3)?,
                    hostname: row.get(4)?,
                    ip: row.get(5)?,
                    memory: super::super::unsigned(row, 6)?,
                    storage: super::super::unsigned(row, 7)?,
                    uuid: row.get(8)?,
                    distro: row.get(9)?,
                    custom_distro: row.get(10)?,
                    custom_distro_name: row.get(11)?,
                    custom_distros_storage: row.get(12)?,
                    writable: row.get(13)?,
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }
}

/// Whose it is.
pub(super) fn owner(db: &Connection, uid: u32) -> Done<CustomerId> {
    let sql = "SELECT customer FROM containers WHERE uid = ?1";
    let found = db.query_row(sql, [uid], |row| row.get(0)).optional()?;
    Ok(found.ok_or_else(|| unknown(Kind::Container, uid))?)
}

pub(super) fn insert(db: &Transaction<'_>, uid: u32, settings: &ContainerSettings) -> Done<()> {
    if uid == 0 || uid == u32::MAX {
        let (what, expected) = ("container", "a number of a user that is not root");
        return Err(Refusal::Number { what, expected }.into());
    }
    let missing = |what| Refusal::Missing { uid, what };
    let customer = settings.customer.as_deref();
    let customer = id_of(
        db,
        Kind::Customer,
        customer.ok_or_else(|| missing("customer"))?,
    )?;
    let server = settings.server.as_deref();
    let server = id_of(db, Kind::Server, server.ok_or_else(|| missing("server"))?)?;
    if owner(db, uid).is_ok() {
        return Err(taken(Kind::Container).into());
    }
    let sql = "INSERT INTO containers (uid, customer, server, name, hostname, ip, memory, storage,
                 uuid, custom_distros_storage, note, tags, ssh_keys)
               VALUES (?1, ?2, ?3, ?1, '', '', 0, 0, ?4, 0, '', '[]', '[]')";
    db.execute(sql, (uid, customer, server, new_uuid()))?;
    update(db, uid, settings)
}

/// A container that was just made does not run yet.
pub(super) fn forget_restart(db: &Connection, uid: u32) -> Done<()> {
    db.execute("DELETE FROM restarts WHERE container = ?1", [uid])?;
    Ok(())
}

pub(super) fn update(db: &Transaction<'_>, uid: u32, settings: &ContainerSettings) -> Done<()> {
    let mut customer = owner(db, uid)?;
    if let Some(name) = &settings.customer {
        let next = CustomerId(id_of(db, Kind::Customer, name)?);
        if next != customer {
            give_to(db, uid, next)?;
            customer = next;
        }
    }
    if let Some(name) = &settings.server {
        set(db, uid, "server", id_of(db, Kind::Server, name)?)?;
    }
    if let Some(hostname) = &settings.hostname {
        rules::short("hostname", hostname)?;
        set(db, uid, "hostname", hostname)?;
    }
    if let Some(ip) = &settings.ip {
        rules::short("ip", ip)?;
        set(db, uid, "ip", ip)?;
    }
    for (what, mib) in [("memory", settings.memory), ("storage", settings.storage)] {
        if let Some(mib) = mib {
            let number = i64::try_from(mib);
            let expected = "a number of MiB";
            let number = number.map_err(|_| Refusal::Number { what, expected })?;
            set(db, uid, what, number)?;
        }
    }
    if let Some(writable) = &settings.writable {
        if writable.as_deref().is_some_and(|w| !WRITABLE.contains(&w)) {
            let (what, expected) = ("writable", "paths, tree or none");
            return Err(Refusal::Text { what, expected }.into());
        }
        set(db, uid, "writable", writable)?;
    }
    if let Some(distro) = &settings.distro {
        let id = distro.as_deref();
        let id = id.map(|name| id_of(db, Kind::PlatformDistro, name));
        set(db, uid, "platform_distro", id.transpose()?)?;
        change::want_restart(db, uid)?;
    }
    match settings.own == ContainerChange::default() {
        true => Ok(()),
        false => change::apply(db, customer, uid, &settings.own),
    }
}

fn give_to(db: &Connection, uid: u32, customer: CustomerId) -> Done<()> {
    for sql in [
        "DELETE FROM alarms WHERE container = ?1",
        "UPDATE containers SET custom_distro = NULL WHERE uid = ?1 OR custom_distro IN
           (SELECT id FROM custom_distros WHERE container = ?1)",
        "UPDATE containers SET alarm_key = NULL, note = '', tags = '[]', ssh_keys = '[]'
         WHERE uid = ?1",
    ] {
        db.execute(sql, [uid])?;
    }
    set(db, uid, "customer", customer)?;
    change::want_restart(db, uid)
}
