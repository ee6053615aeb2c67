//! rpm's database, where that is sqlite: one row for each package, which holds
//! its header (`rpmdb/sqlite.c` of rpm).
//!
//! The database is a customer's: it is copied out of the image, so that sqlite
//! works on a file of ours, and only two things are asked of it: the numbers of
//! the rows of a table (no view, no virtual table: those would run code of the
//! database's own) and single bytes of a column. Both cost the same for any
//! content. Of packages there may be [`PACKAGES_MAX`].

mod header;
mod scratch;

use std::path::PathBuf;

use rusqlite::{Connection, MAIN_DB, OpenFlags};

use super::{PackageSink, PackagesError};
use crate::index::{Escaped, Inode};
use crate::inspect::subject::Subject;
use scratch::Scratch;

/// Rows that are read: ten times what a full distribution has.
const PACKAGES_MAX: u32 = 1_000_000;

/// The largest database that is copied out; a full Fedora has 100 MB.
const DATABASE_BYTES_MAX: u64 = 1 << 30;

/// What sqlite may keep of the database in memory, in KiB.
const CACHE_KIB: i64 = 2048;

/// Of the database's journal, which has the rows that were written last.
const JOURNAL: &str = "-wal";

/// The packages of the database in file `inode` at `path`.
pub(super) fn sqlite(
    subject: &Subject,
    inode: &Inode,
    path: &str,
    scratch: &[PathBuf],
    sink: &mut PackageSink<'_>,
) -> Result<(), PackagesError> {
    let copy = copy_out(subject, inode, path, scratch)?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(copy.path(), flags).map_err(damaged)?;
    query(&database, sink).map_err(damaged)
}

/// Copies the database and its journal.
fn copy_out(
    subject: &Subject,
    inode: &Inode,
    path: &str,
    scratch: &[PathBuf],
) -> Result<Scratch, PackagesError> {
    let journal = subject.find(format!("{path}{JOURNAL}").as_bytes())?;
    let size = inode.size + journal.map_or(0, |journal| journal.size);
    if size > DATABASE_BYTES_MAX {
        let what = format!("it has {size} bytes, which no rpm database has");
        return Err(PackagesError::Damaged(what));
    }
    let mut copy = Scratch::new(scratch).map_err(PackagesError::Copy)?;
    copy.add("", &mut subject.read(inode))
        .map_err(PackagesError::Copy)?;
    if let Some(journal) = journal.filter(|journal| journal.size > 0) {
        copy.add(JOURNAL, &mut subject.read(&journal))
            .map_err(PackagesError::Copy)?;
    }
    Ok(copy)
}

fn query(database: &Connection, sink: &mut PackageSink<'_>) -> rusqlite::Result<()> {
    database.pragma_update(None, "trusted_schema", false)?;
    database.pragma_update(None, "cell_size_check", true)?;
    database.pragma_update(None, "cache_size", -CACHE_KIB)?;
    let table = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'Packages' \
                 AND rootpage > 0";
    database.query_row(table, [], |_| Ok(()))?;
    let mut rows = database.prepare("SELECT _rowid_ FROM Packages LIMIT ?1")?;
    let mut rows = rows.query([PACKAGES_MAX])?;
    while let Some(row) = rows.next()? {
        let number: i64 = row.get(0)?;
        let mut blob = database.blob_open(MAIN_DB, "Packages", "blob", number, true)?;
        let package = header::package(&mut blob).map_err(|cause| {
            rusqlite::Error::FromSqlConversionFailure(
                0,
                rusqlite::types::Type::Blob,
                Box::new(cause),
            )
        })?;
        if sink(package).is_break() {
            break;
        }
    }
    Ok(())
}

fn damaged(cause: rusqlite::Error) -> PackagesError {
    // It may quote the database.
    PackagesError::Damaged(Escaped(cause.to_string().as_bytes()).to_string())
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::super::{Format, Package, databases, list};
    use super::*;
    use crate::inspect::testing::{self, Node};

    /// The bytes of a database made with these statements and headers.
    fn database(schema: &str, headers: &[Vec<u8>]) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let database = Connection::open(&path).unwrap();
        database.execute_batch(schema).unwrap();
        for header in headers {
            let insert = "INSERT INTO Packages (blob) VALUES (?1)";
            database.execute(insert, [header]).unwrap();
        }
        drop(database);
        std::fs::read(path).unwrap()
    }

    const SCHEMA: &str =
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)";

    fn listed(file: &[u8]) -> Result<Vec<Package>, PackagesError> {
        let subject = testing::subject(&[
            Node::dir("usr/lib/sysimage/rpm", 0o755),
            Node::link("var/lib/rpm", "../../usr/lib/sysimage/rpm"),
            Node::file("usr/lib/sysimage/rpm/rpmdb.sqlite", 0o644, file),
        ]);
        let found = databases(&subject).unwrap();
        assert_eq!(found.len(), 1, "two paths to one database: {found:?}");
        assert_eq!(found[0].format, Format::RpmSqlite);
        let scratch = tempfile::tempdir().unwrap();
        let mut all = Vec::new();
        let done = list(
            &subject,
            &found[0],
            &[scratch.path().into()],
            &mut |package| {
                all.push(package);
                ControlFlow::Continue(())
            },
        );
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        done.map(|()| all)
    }

    #[test]
    fn packages_are_read_from_their_headers() {
        let file = database(
            SCHEMA,
            &[
                header::testing::header("bash", None, "5.1.8", "6.el9", Some("x86_64"), 0),
                header::testing::header("bind", Some(32), "9.16", "1", Some("noarch"), 3_000_000),
            ],
        );
        let all = listed(&file).unwrap();
        let named = |p: &Package| format!("{} {} {}", p.name, p.version, p.architecture);
        assert_eq!(
            all.iter().map(named).collect::<Vec<_>>(),
            ["bash 5.1.8-6.el9 x86_64", "bind 32:9.16-1 noarch"]
        );
    }

    #[test]
    fn other_databases_are_errors_that_say_so() {
        let no_table = database("CREATE TABLE Other (x)", &[]);
        let view = database(
            "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) \
             SELECT x AS hnum, '' AS blob FROM n",
            &[],
        );
        let column = database(
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY); INSERT INTO Packages VALUES (1)",
            &[],
        );
        let header = database(SCHEMA, &[vec![1, 2, 3]]);
        for file in [
            no_table,
            view,
            column,
            header,
            b"no database".to_vec(),
            vec![],
        ] {
            let error = listed(&file).unwrap_err();
            assert!(matches!(error, PackagesError::Damaged(_)), "{error}");
        }
    }

    /// Whatever is changed in a database: packages or an error, and an end.
    #[test]
    fn every_flipped_byte_of_the_first_pages_is_harmless() {
        let header = header::testing::header("bash", None, "5", "6", None, 100);
        let file = database(SCHEMA, &vec![header; 20]);
        for at in (0..file.len()).step_by(37) {
            let mut changed = file.clone();
            changed[at] ^= 0xff;
            if let Ok(packages) = listed(&changed) {
                assert!(packages.len() <= 1000, "byte {at}");
            }
        }
    }
}
