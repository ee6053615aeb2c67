//! What administrators add, change, remove and see: of all customers.
//!
//! Guarantees: everything is named by what people call it. Nothing is removed that
//! something else needs: that is refused with what it is.

mod containers;
mod customers;
mod distros;
mod import;
mod servers;
#[cfg(test)]
mod tests;

use rusqlite::{Connection, OptionalExtension};

use super::{Done, Kind, Refusal};

pub use containers::{ContainerInfo, ContainerSettings};
pub use customers::{CustomerChange, CustomerInfo, NewCustomer};
pub use distros::{DistroInfo, PlatformDistroInfo};
pub use import::{Import, Imported};
pub use servers::{ServerChange, ServerInfo};

/// The number of what has a name; `table` and `column` are names in this program.
fn id_of(db: &Connection, kind: Kind, name: &str) -> Done<i64> {
    let (table, column) = match kind {
        Kind::Customer => ("customers", "username"),
        Kind::Server => ("servers", "name"),
        Kind::PlatformDistro => ("platform_distros", "name"),
        Kind::Container | Kind::Distro | Kind::Alarm => return Err(unknown(kind, name).into()),
    };
    let sql = format!("SELECT rowid FROM {table} WHERE {column} = ?1");
    let found = db.query_row(&sql, [name], |row| row.get(0)).optional()?;
    Ok(found.ok_or_else(|| unknown(kind, name))?)
}

/// Whether there is one.
fn has(db: &Connection, kind: Kind, name: &str) -> Done<bool> {
    match id_of(db, kind, name) {
        Ok(_) => Ok(true),
        Err(super::RegistryError::Refused(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

fn unknown(kind: Kind, name: impl ToString) -> Refusal {
    let name = name.to_string();
    Refusal::Unknown { kind, name }
}

fn taken(kind: Kind) -> Refusal {
    let what = match kind {
        Kind::Customer => "username",
        Kind::Container => "number",
        _ => "name",
    };
    Refusal::Taken { kind, what }
}

/// Fails if `sql` finds numbers of containers for `id`.
fn check_unused(db: &Connection, sql: &str, id: i64, what: String) -> Done<()> {
    let mut found = db.prepare(sql)?;
    let found = found.query_map([id], |row| row.get::<_, i64>(0))?;
    let found = found.collect::<rusqlite::Result<Vec<_>>>()?;
    match found.is_empty() {
        true => Ok(()),
        false => Err(Refusal::InUse {
            what,
            by: format!("container {}", some_of(&found)),
        }
        .into()),
    }
}

/// As many as fit a line.
fn some_of(numbers: &[i64]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<_> = numbers.iter().take(SHOWN).map(i64::to_string).collect();
    match numbers.len().checked_sub(SHOWN) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}
