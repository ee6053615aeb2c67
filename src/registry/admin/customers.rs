//! Customers, for administrators.

use rusqlite::Connection;
use serde::Serialize;

use super::super::password::{self, Secret};
use super::super::{CustomerId, Done, Kind, Refusal, Registry, RegistryError, new_uuid, rules};
use super::{check_unused, has, id_of, taken};

/// A customer to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCustomer {
    /// Who it is, when asked.
    pub username: String,
    /// The hash of the password.
    pub password: Secret,
    /// All else.
    pub other: CustomerChange,
}

/// What is to be different; `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CustomerChange {
    /// The hash of the password.
    pub password: Option<Secret>,
    /// Where letters go.
    pub email: Option<String>,
    /// The number for taxes.
    pub vat: Option<String>,
    /// The company.
    pub company: Option<String>,
}

/// What is shown of a customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "they are those of a customer")]
pub struct CustomerInfo {
    pub username: String,
    pub email: String,
    pub vat: String,
    pub company: String,
    pub uuid: String,
    /// How many containers there are.
    pub containers: u64,
}

impl Registry {
    /// Adds a customer.
    pub fn add_customer(&mut self, new: &NewCustomer) -> Result<(), RegistryError> {
        self.write("add a customer", |db| insert(db, new))
    }

    /// Changes a customer.
    pub fn set_customer(
        &mut self,
        username: &str,
        change: &CustomerChange,
    ) -> Result<(), RegistryError> {
        self.write("change a customer", |db| {
            if *change == CustomerChange::default() {
                return Err(Refusal::Empty.into());
            }
            let id = id_of(db, Kind::Customer, username)?;
            update(db, CustomerId(id), change)
        })
    }

    /// Removes a customer who has no container.
    pub fn remove_customer(&mut self, username: &str) -> Result<(), RegistryError> {
        self.write("remove a customer", |db| {
            let id = id_of(db, Kind::Customer, username)?;
            let sql = "SELECT uid FROM containers WHERE customer = ?1 ORDER BY uid";
            check_unused(db, sql, id, format!("customer {username}"))?;
            db.execute("DELETE FROM customers WHERE id = ?1", [id])?;
            Ok(())
        })
    }

    /// All customers, by name.
    pub fn customers(&self) -> Result<Vec<CustomerInfo>, RegistryError> {
        self.read("list customers", |db| {
            let sql = "SELECT username, email, vat, company, uuid,
                       (SELECT count(*) FROM containers WHERE customer = customers.id)
                       FROM customers ORDER BY username";
            let mut all = db.prepare(sql)?;
            let all = all.query_map([], |row| {
                Ok(CustomerInfo {
                    username: row.get(0)?,
                    email: row.get(1)?,
                    vat: row.get(2)?,
                    company: row.get(3)?,
                    uuid: row.get(4)?,
                    containers: super::super::unsigned(row, 5)?,
                })
            })?;
            Ok(all.collect::<rusqlite::Result<_>>()?)
        })
    }
}

pub(super) fn insert(db: &Connection, new: &NewCustomer) -> Done<()> {
    rules::name("username", &new.username)?;
    // Basic authentication ends a name there (RFC 7617).
    if new.username.contains(':') || new.username.contains(char::is_control) {
        let what = "username";
        let expected = "no colon and no control character";
        return Err(Refusal::Text { what, expected }.into());
    }
    if has(db, Kind::Customer, &new.username)? {
        return Err(taken(Kind::Customer).into());
    }
    check_hash(&new.password)?;
    let sql = "INSERT INTO customers (username, password, email, vat, company, uuid)
               VALUES (?1, ?2, '', '', '', ?3)";
    db.execute(sql, (&new.username, &new.password.0, new_uuid()))?;
    update(db, CustomerId(db.last_insert_rowid()), &new.other)
}

pub(super) fn update(db: &Connection, id: CustomerId, change: &CustomerChange) -> Done<()> {
    if let Some(password) = &change.password {
        check_hash(password)?;
        let sql = "UPDATE customers SET password = ?2 WHERE id = ?1";
        db.execute(sql, (id, &password.0))?;
    }
    for (column, text) in [
        ("email", &change.email),
        ("vat", &change.vat),
        ("company", &change.company),
    ] {
        if let Some(text) = text {
            rules::short(column, text)?;
            let sql = format!("UPDATE customers SET {column} = ?2 WHERE id = ?1");
            db.execute(&sql, (id, text))?;
        }
    }
    Ok(())
}

fn check_hash(hash: &Secret) -> Done<()> {
    Ok(password::check(&hash.0).map_err(Refusal::Password)?)
}
