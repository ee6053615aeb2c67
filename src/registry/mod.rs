//! Who has which containers and images, and who may use what: a SQLite database that
//! several processes have open at once.
//!
//! Guarantees: a change is made as a whole or not at all, and is on the disk when its
//! function returns. A customer sees and changes what is theirs; what is another's is
//! refused by the same [`Refusal`] as what is not there. Everything that changes what is
//! decided for containers changes [`Registry::revision`] with it; everything that is to
//! restart a container leaves a ticket with it. All lists and texts are bounded.
//!
//! It names no archive, no mount and no message: the service does what is decided here.
//!
//! Who has a password is checked by others; [`password`] is how.
//!
//! Changes begin with the right to write (`BEGIN IMMEDIATE`): none fails because of
//! another that began later. Nothing is locked here but by SQLite.

mod admin;
mod alarms;
mod change;
mod containers;
mod copies;
mod customers;
mod decide;
mod distros;
mod error;
mod ids;
pub mod password;
mod rules;
mod schema;
mod taken;
#[cfg(test)]
mod testing;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

pub use admin::{
    ContainerInfo, ContainerSettings, CustomerChange, CustomerInfo, DistroInfo, Import, Imported,
    NewCustomer, PlatformDistroInfo, ServerChange, ServerInfo,
};
pub use alarms::{Alarm, AlarmFilter, NewAlarm, Raiser, Window};
pub use change::ContainerChange;
pub use containers::Container;
pub use customers::{Account, Me};
pub use distros::{Distro, DistroChange, NewDistro, PlatformDistro};
pub use error::{Kind, Refusal, RegistryError};
pub use ids::{AlarmId, CustomerId, DistroId, PlatformDistroId, ServerId};

/// The database in the registry's directory; SQLite has files beside it.
pub const FILE: &str = "registry.db";

/// How long another process may keep this one from writing.
const PATIENCE: Duration = Duration::from_secs(2);

/// What SQLite may keep of the database in memory, in KiB.
const CACHE_KIB: i64 = 2048;

/// What is kept of the journal when it is not needed, in bytes.
const JOURNAL_BYTES: i64 = 4 << 20;

type Done<T> = Result<T, RegistryError>;

/// An open registry, for one thread at a time.
#[derive(Debug)]
pub struct Registry {
    db: Connection,
}

impl Registry {
    /// Opens the registry in `dir`, which is there; makes it if there is none. It is for
    /// this user only.
    pub fn open(dir: &Path) -> Result<Registry, RegistryError> {
        let file = dir.join(FILE);
        make(dir, &file).map_err(|error| error.during("be made"))?;
        // SQLite does not wait for others in all that it does to open one.
        let until = Instant::now() + PATIENCE;
        loop {
            match open_made(&file) {
                Err(RegistryError::Busy) if Instant::now() < until => {
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(db) => return Ok(Registry { db }),
                Err(error) => return Err(error.during("be opened")),
            }
        }
    }

    /// Reads one state of it, whatever is written meanwhile.
    fn read<T>(&self, doing: &'static str, work: impl FnOnce(&Connection) -> Done<T>) -> Done<T> {
        let read = || {
            let state = self.db.unchecked_transaction()?;
            let found = work(&state)?;
            state.commit()?;
            Ok(found)
        };
        read().map_err(|error: RegistryError| error.during(doing))
    }

    /// Changes it, as a whole or not at all.
    fn write<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Done<T>,
    ) -> Done<T> {
        let write = || {
            let change = self
                .db
                .transaction_with_behavior(TransactionBehavior::Immediate)?;
            let done = work(&change)?;
            change.commit()?;
            Ok(done)
        };
        write().map_err(|error: RegistryError| error.during(doing))
    }
}

/// Makes an empty registry if there is none. It is made under another name: nobody ever
/// opens one that is half made. It is opened by nothing but SQLite once others know of
/// it: whoever closes a file gives up all locks that its process has on it, those of
/// other connections, too.
fn make(dir: &Path, file: &Path) -> Done<()> {
    match file.try_exists() {
        Ok(true) => return Ok(()),
        Ok(false) => {}
        Err(error) => return Err(not_made(file, &error)),
    }
    let new = Unfinished(dir.join(format!("{FILE}.new-{}", new_uuid())));
    // SQLite would let others read it.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new.0)
        .map_err(|error| not_made(file, &error))?;
    open_made(&new.0)?;
    match std::fs::hard_link(&new.0, file) {
        Ok(()) => {}
        // Somebody else was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(not_made(file, &error)),
    }
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| not_made(file, &error))
}

/// A file that is gone when this is.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // It is empty for whoever finds it.
        _ = std::fs::remove_file(&self.0);
    }
}

fn not_made(file: &Path, error: &io::Error) -> RegistryError {
    match error.kind() {
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem
        | io::ErrorKind::NotFound => RegistryError::ReadOnly,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RegistryError::Full,
        _ => RegistryError::Other {
            doing: "be made",
            cause: format!("{}: {error}", file.display()),
        },
    }
}

/// Opens a file that is there, empty or not.
fn open_made(file: &Path) -> Done<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(file, flags)?;
    // What one connection of a process finds read-only, is so for all of them as long
    // as it is open.
    if db.is_readonly(rusqlite::MAIN_DB)? {
        return Err(RegistryError::ReadOnly);
    }
    prepare(&mut db)?;
    schema::migrate(&mut db, schema::STEPS)?;
    Ok(db)
}

fn prepare(db: &mut Connection) -> Done<()> {
    db.busy_timeout(PATIENCE)?;
    // What the file itself says to run is not trusted.
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    let journal: String = db.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
    if journal != "wal" {
        // A file of another program is left as it is.
        schema::found(db, schema::STEPS.len())?;
        db.pragma_update(None, "journal_mode", "wal")?;
    }
    db.pragma_update(None, "synchronous", "full")?;
    db.pragma_update(None, "foreign_keys", true)?;
    db.pragma_update(None, "temp_store", "memory")?;
    db.pragma_update(None, "cache_size", -CACHE_KIB)?;
    db.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    Ok(())
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

/// A number that nothing else has.
fn new_uuid() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A column that is not negative.
fn unsigned(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(column)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(column, value))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::testing::{ANNA, STORE, World};
    use super::*;

    #[test]
    fn a_new_registry_is_for_its_user_only() {
        let world = World::new();
        for name in [FILE, "registry.db-wal", "registry.db-shm"] {
            let file = world.dir().join(name);
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn making_one_leaves_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        drop(Registry::open(dir.path()).unwrap());
        let names = std::fs::read_dir(dir.path()).unwrap();
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [FILE]);
    }

    #[test]
    fn a_change_that_fails_is_not_made() {
        let mut world = World::new();
        let failed: Done<()> = world.registry.write("fail", |change| {
            change.execute("UPDATE containers SET name = 'other'", [])?;
            Err(Refusal::Empty.into())
        });
        assert_eq!(failed, Err(Refusal::Empty.into()));
        assert_eq!(world.registry.container(ANNA, STORE).unwrap().name, "30000");
    }

    #[test]
    fn who_waits_too_long_is_told_that_it_is_busy() {
        let mut world = World::new();
        let other = Connection::open(world.dir().join(FILE)).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        world.registry.db.busy_timeout(Duration::ZERO).unwrap();
        let error = world.registry.alarm_key(ANNA, STORE).unwrap_err();
        assert_eq!(error, RegistryError::Busy);
        // Who reads waits for nobody.
        world.registry.containers(ANNA, &[]).unwrap();
        other.execute_batch("COMMIT").unwrap();
        world.registry.alarm_key(ANNA, STORE).unwrap();
    }

    #[test]
    fn many_may_write_at_once_and_nothing_is_lost() {
        let world = World::new();
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let dir = world.dir();
                scope.spawn(move || {
                    let mut registry = Registry::open(dir).unwrap();
                    for n in 0..10 {
                        let new = super::testing::named(&format!("{writer}-{n}"));
                        registry.create_distro(ANNA, STORE, &new).unwrap();
                    }
                });
            }
        });
        assert_eq!(world.registry.distros(ANNA).unwrap().len(), 40);
    }

    #[test]
    fn without_a_directory_there_is_no_registry() {
        let error = Registry::open(Path::new("/none/at/all")).unwrap_err();
        assert_eq!(error, RegistryError::ReadOnly);
    }

    #[test]
    fn a_full_disk_and_a_damaged_file_are_told() {
        let mut world = World::new();
        let pages: i64 = world
            .registry
            .db
            .pragma_query_value(None, "page_count", |row| row.get(0))
            .unwrap();
        let limit = |db: &Connection, pages: i64| {
            let set = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0);
            db.pragma_update_and_check(None, "max_page_count", pages, set)
                .unwrap();
        };
        limit(&world.registry.db, pages);
        let long = "x".repeat(60_000);
        let failed = (0..10).find_map(|_| world.raise(STORE, &long).err());
        assert_eq!(failed, Some(RegistryError::Full));
        limit(&world.registry.db, 1 << 20);

        for n in 0..20 {
            world.raise(STORE, &format!("{n}{long}")).unwrap();
        }
        let db = &world.registry.db;
        db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        let file = world.dir().join(FILE);
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4096..].fill(0xa5);
        std::fs::write(&file, &bytes).unwrap();
        let registry = Registry::open(world.dir());
        let error = registry.and_then(|registry| registry.containers(ANNA, &[]));
        let error = error.unwrap_err();
        assert!(matches!(error, RegistryError::Damaged(_)), "{error}");
    }
}
