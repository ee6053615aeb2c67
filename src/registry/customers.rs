//! Customers: who they are, and what is theirs.

use rusqlite::OptionalExtension;

use super::{CustomerId, Done, Kind, Refusal, Registry, RegistryError};

/// What somebody who says a name is checked by.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// Who it is.
    pub customer: CustomerId,
    /// The hash of the password, as a PHC string.
    pub password: String,
}

/// A hash belongs into no log.
impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Account");
        shown.field("customer", &self.customer);
        shown.finish_non_exhaustive()
    }
}

/// A customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Where letters go.
    pub email: String,
    /// The number for taxes.
    pub vat: String,
    /// The company.
    pub company: String,
    /// A number that never changes.
    pub uuid: String,
    /// All containers.
    pub containers: Vec<u32>,
    /// The addresses of the servers that these are on.
    pub servers: Vec<String>,
}

impl Registry {
    /// The account of `username`, if there is one.
    pub fn account(&self, username: &str) -> Result<Option<Account>, RegistryError> {
        let sql = "SELECT id, password FROM customers WHERE username = ?1";
        self.read("find an account", |db| {
            let account = |row: &rusqlite::Row<'_>| {
                Ok(Account {
                    customer: row.get(0)?,
                    password: row.get(1)?,
                })
            };
            Ok(db.query_row(sql, [username], account).optional()?)
        })
    }

    /// The customer.
    pub fn me(&self, customer: CustomerId) -> Result<Me, RegistryError> {
        self.read("find a customer", |db| {
            let sql = "SELECT email, vat, company, uuid FROM customers WHERE id = ?1";
            let me = |row: &rusqlite::Row<'_>| {
                Ok(Me {
                    email: row.get(0)?,
                    vat: row.get(1)?,
                    company: row.get(2)?,
                    uuid: row.get(3)?,
                    containers: Vec::new(),
                    servers: Vec::new(),
                })
            };
            let found = db.query_row(sql, [customer], me).optional()?;
            let mut me = found.ok_or(Refusal::NotThere(Kind::Customer))?;
            let sql = "SELECT uid FROM containers WHERE customer = ?1 ORDER BY uid";
            let mut containers = db.prepare(sql)?;
            let containers = containers.query_map([customer], |row| row.get(0))?;
            me.containers = containers.collect::<rusqlite::Result<_>>()?;
            let sql = "SELECT address FROM servers
                       WHERE id IN (SELECT server FROM containers WHERE customer = ?1)
                       ORDER BY id";
            let mut servers = db.prepare(sql)?;
            let servers = servers.query_map([customer], |row| row.get(0))?;
            me.servers = servers.collect::<rusqlite::Result<_>>()?;
            Ok(me)
        })
    }
}

/// Fails like for a container of somebody else, if it is none of theirs.
pub(super) fn check_container(
    db: &rusqlite::Connection,
    customer: CustomerId,
    uid: u32,
) -> Done<()> {
    let sql = "SELECT 1 FROM containers WHERE uid = ?1 AND customer = ?2";
    let found = db.query_row(sql, (uid, customer), |_| Ok(())).optional()?;
    Ok(found.ok_or(Refusal::NotThere(Kind::Container))?)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ANNA, BEN, World};
    use super::*;

    #[test]
    fn an_account_is_found_by_its_exact_name() {
        let world = World::new();
        let account = world.registry.account("anna").unwrap().unwrap();
        assert_eq!(account.customer, ANNA);
        assert!(!format!("{account:?}").contains("hash"), "{account:?}");
        for other in ["Anna", "anna ", "", "anna\0", "' OR 1 --"] {
            assert_eq!(world.registry.account(other).unwrap(), None, "{other}");
        }
    }

    #[test]
    fn a_customer_has_containers_and_servers_of_theirs() {
        let world = World::new();
        let me = world.registry.me(ANNA).unwrap();
        assert_eq!(me.containers, [30_000, 30_001, 30_002, 30_003]);
        assert_eq!(me.servers, ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(world.registry.me(BEN).unwrap().servers, ["192.0.2.1"]);
        let error = world.registry.me(CustomerId(99)).unwrap_err();
        assert!(matches!(error, RegistryError::Refused(_)), "{error}");
    }
}
