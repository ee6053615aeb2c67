//! Servers, for administrators.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use super::super::{Done, Kind, Refusal, Registry, RegistryError, rules};
use super::{check_unused, has, id_of, taken};

/// What is to be different; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerChange {
    /// What it is called: as the setting `server` says on it.
    pub name: Option<String>,
    /// Where customers reach it.
    pub address: Option<String>,
}

/// What is shown of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are those of a server")]
pub struct ServerInfo {
    pub name: String,
    pub address: String,
    /// How many containers are on it.
    pub containers: u64,
}

impl Registry {
    /// Adds a server.
    pub fn add_server(&mut self, name: &str, address: &str) -> Result<(), RegistryError> {
        self.write("add a server", |db| insert(db, name, address))
    }

    /// Changes a server.
    pub fn set_server(&mut self, name: &str, change: &ServerChange) -> Result<(), RegistryError> {
        self.write("change a server", |db| {
            if *change == ServerChange::default() {
                return Err(Refusal::Empty.into());
            }
            let id = id_of(db, Kind::Server, name)?;
            update(db, id, change)
        })
    }

    /// Removes a server that has no container.
    pub fn remove_server(&mut self, name: &str) -> Result<(), RegistryError> {
        self.write("remove a server", |db| {
            let id = id_of(db, Kind::Server, name)?;
            let sql = "SELECT uid FROM containers WHERE server = ?1 ORDER BY uid";
            check_unused(db, sql, id, format!("server {name}"))?;
            db.execute("DELETE FROM servers WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// All servers, by name.
    pub fn servers(&self) -> Result<Vec<ServerInfo>, RegistryError> {
        self.read("list servers", |db| {
            let sql = "SELECT name, address,
                       (SELECT count(*) FROM containers WHERE server = servers.id)
                       FROM servers ORDER BY name";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([], |row| {
                Ok(ServerInfo {
                    name: row.get(0)?,
                    address: row.get(1)?,
                    containers: super::super::unsigned(row, 2)?,
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }
}

pub(super) fn insert(db: &Connection, name: &str, address: &str) -> Done<()> {
    rules::name("name", name)?;
    rules::short("address", address)?;
    if has(db, Kind::Server, name)? {
        return Err(taken(Kind::Server).into());
    }
    let sql = "INSERT INTO servers (name, address) VALUES (?1, ?2)";
    db.execute(sql, (name, address))?;
    Ok(())
}

pub(super) fn update(db: &Connection, id: i64, change: &ServerChange) -> Done<()> {
    if let Some(name) = &change.name {
        rules::name("name", name)?;
        let sql = "SELECT 1 FROM servers WHERE name = ?1 AND id <> ?2";
        if db
            .query_row(sql, (name, id), |_| Ok(()))
            .optional()?
            .is_some()
        {
            return Err(taken(Kind::Server).into());
        }
        db.execute("UPDATE servers SET name = ?2 WHERE id = ?1", (id, name))?;
    }
    if let Some(address) = &change.address {
        rules::short("address", address)?;
        let sql = "UPDATE servers SET address = ?2 WHERE id = ?1";
        db.execute(sql, (id, address))?;
    }
    Ok(())
}
