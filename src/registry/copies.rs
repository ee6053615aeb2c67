//! Backups, made and restored while other processes use the registry.
//!
//! Guarantees: a backup is of one state, and a single file. Only a whole registry of a
//! version that is known is restored, with the very tables that this program makes: it
//! is checked before anything is touched. Other processes see the state before or the
//! one after, and a revision that is later than both.
//!
//! What is not a matter of customers is not restored: how far alarms of the service
//! were taken stays as it is, and no container is restarted for what was changed long
//! ago.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};

use super::{Done, PATIENCE, Refusal, Registry, RegistryError, new_uuid, schema};

/// How long others may write while this waits to.
const WRITERS: Duration = Duration::from_secs(30);
/// Beside the registry, as SQLite works on files with names.
const COPY: &str = "copy-";
/// A copy that is older was left by a process that was killed.
const LEFT_BEHIND: Duration = Duration::from_secs(24 * 3600);
/// The largest file that is restored: a registry of 10,000 containers has 700 MB if all
/// their alarms are as long as they may be.
const BYTES_MAX: u64 = 8 << 30;
/// What registries have.
const PAGE_BYTES: i64 = 4096;

impl Registry {
    /// Writes a copy of it into an empty file; its bytes are on the disk then.
    pub fn backup(&self, to: &mut File) -> Result<(), RegistryError> {
        let mut copied = || {
            let copy = Copy::new(&self.directory()?)?;
            let mut target = Connection::open_with_flags(&copy.0, flags())?;
            let backup = Backup::new(&self.db, &mut target)?;
            finish(&backup)?;
            drop(backup);
            // A single file: nothing beside it belongs to it.
            target.pragma_update(None, "journal_mode", "delete")?;
            drop(target);
            let copied = File::open(&copy.0).and_then(|mut from| io::copy(&mut from, to));
            copied.and_then(|_| to.sync_all()).map_err(of_file)
        };
        copied().map_err(|error: RegistryError| error.during("back up"))
    }

    /// Puts what is in a backup in place of all that there is. A backup that is not
    /// whole is [`Refusal::Backup`], and then nothing was changed.
    pub fn restore(&mut self, from: &mut File) -> Result<(), RegistryError> {
        let mut restored = || {
            let copy = Copy::new(&self.directory()?)?;
            let target = OpenOptions::new().write(true).open(&copy.0);
            let copied = target.and_then(|mut to| io::copy(&mut from.take(BYTES_MAX), &mut to));
            if copied.map_err(of_file)? == BYTES_MAX {
                return Err(Refusal::Backup("it is larger than any registry".to_owned()).into());
            }
            let source = checked(&copy).map_err(of_backup)?;
            let other = Connection::open_with_flags(self.directory()?.join(super::FILE), flags())?;
            other.busy_timeout(PATIENCE)?;
            let backup = Backup::new(&source, &mut self.db)?;
            // From here on nobody else writes: the state that is replaced is the last.
            retry(&backup, 0)?;
            let state = "SELECT revision, alarms_taken FROM state";
            let (revision, taken): (i64, i64) =
                other.query_row(state, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let sql = "UPDATE state SET revision = max(revision, ?1) + 1, alarms_taken = ?2";
            source.execute(sql, [revision, taken])?;
            finish(&backup)
        };
        restored().map_err(|error: RegistryError| error.during("restore"))
    }

    fn directory(&self) -> Done<PathBuf> {
        let file = self.db.path().map(Path::new);
        let dir = file.and_then(Path::parent).map(Path::to_owned);
        dir.ok_or_else(|| of_file(io::ErrorKind::NotFound.into()))
    }
}

fn flags() -> OpenFlags {
    OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Copies all that is left.
fn finish(backup: &Backup<'_, '_>) -> Done<()> {
    while retry(backup, -1)? != StepResult::Done {}
    Ok(())
}

/// Waits while others write.
fn retry(backup: &Backup<'_, '_>, pages: i32) -> Done<StepResult> {
    let until = Instant::now() + WRITERS;
    loop {
        match backup.step(pages)? {
            StepResult::Busy | StepResult::Locked if Instant::now() > until => {
                return Err(RegistryError::Busy);
            }
            StepResult::Busy | StepResult::Locked => thread::sleep(Duration::from_millis(20)),
            done => return Ok(done),
        }
    }
}

/// Opens it, if it is a whole registry; leads it to the last version.
fn checked(copy: &Copy) -> Done<Connection> {
    let mut db = Connection::open_with_flags(&copy.0, flags())?;
    check(&mut db)?;
    Ok(db)
}

/// What is wrong with a backup is not wrong with the registry.
fn of_backup(error: RegistryError) -> RegistryError {
    match error {
        RegistryError::Damaged(why) => Refusal::Backup(why).into(),
        RegistryError::Later { .. } => Refusal::Backup(error.to_string()).into(),
        other => other,
    }
}

fn check(db: &mut Connection) -> Done<()> {
    // Whatever it says to run is not run.
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "cell_size_check", true)?;
    let pages: i64 = db.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let version = schema::version(db, schema::STEPS.len())?;
    if version == 0 {
        return Err(damaged("it is empty"));
    }
    if pages != PAGE_BYTES {
        return Err(damaged("it is not as this program makes them"));
    }
    let mut made = Connection::open_in_memory()?;
    schema::migrate(&mut made, &schema::STEPS[..version])?;
    if tables(db)? != tables(&made)? {
        return Err(damaged("its tables are not those of its version"));
    }
    let verdict: String = db.pragma_query_value(None, "integrity_check", |row| row.get(0))?;
    if verdict != "ok" {
        return Err(damaged(&verdict));
    }
    let mut missing = db.prepare("PRAGMA foreign_key_check")?;
    if missing.query([])?.next()?.is_some() {
        return Err(damaged("some rows belong to others that are not there"));
    }
    drop(missing);
    let sql = "SELECT count(*) FROM state";
    if db.query_row(sql, [], |row| row.get::<_, i64>(0))? != 1 {
        return Err(damaged("it has no state"));
    }
    // No other file belongs to it from now on.
    db.pragma_update(None, "journal_mode", "delete")?;
    schema::migrate(db, schema::STEPS)?;
    db.execute("DELETE FROM restarts", [])?;
    Ok(())
}

/// All that a database says of itself.
fn tables(db: &Connection) -> Done<Vec<(String, String, Option<String>)>> {
    let sql = "SELECT type, name, sql FROM sqlite_schema ORDER BY type, name";
    let mut all = db.prepare(sql)?;
    let all = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    Ok(all.collect::<rusqlite::Result<_>>()?)
}

fn damaged(why: &str) -> RegistryError {
    RegistryError::Damaged(why.to_owned())
}

fn of_file(error: io::Error) -> RegistryError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RegistryError::Full,
        _ => RegistryError::Other {
            doing: "copy",
            cause: error.to_string(),
        },
    }
}

/// A file for one copy, removed when dropped.
struct Copy(PathBuf);

impl Copy {
    fn new(dir: &Path) -> Done<Copy> {
        remove_old(dir).map_err(of_file)?;
        let path = dir.join(format!("{COPY}{}", new_uuid()));
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path);
        made.map_err(of_file)?;
        Ok(Copy(path))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        for suffix in ["", "-journal", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            // What cannot be removed now is removed when it is old.
            let _later = fs::remove_file(path);
        }
    }
}

fn remove_old(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let is_copy = entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(COPY.as_bytes());
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_copy && age().is_some_and(|age| age > LEFT_BEHIND) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::super::testing::{ANNA, CONSUMER, STORE, World, having, named, refused};
    use super::super::{AlarmFilter, Window};
    use super::*;
    use crate::types::Raised;

    fn backup(world: &World) -> File {
        let mut file = tempfile::tempfile().unwrap();
        world.registry.backup(&mut file).unwrap();
        file.rewind().unwrap();
        file
    }

    fn left_behind(world: &World) -> usize {
        let all = fs::read_dir(world.dir()).unwrap();
        let is_copy = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(COPY.as_bytes());
        all.filter(|entry| is_copy(&entry.as_ref().unwrap().file_name()))
            .count()
    }

    #[test]
    fn what_was_backed_up_comes_back_and_others_see_it() {
        let mut world = World::new();
        let id = world
            .registry
            .create_distro(ANNA, STORE, &named("a"))
            .unwrap();
        let given = having(Some(id));
        world
            .registry
            .update_container(ANNA, CONSUMER, &given)
            .unwrap();
        world.raise(CONSUMER, "kept").unwrap();
        let mut file = backup(&world);
        let saved = world.registry.all_containers().unwrap();

        world.registry.delete_distro(ANNA, id).unwrap();
        world.registry.remove_container(CONSUMER).unwrap();
        let raised = Raised {
            number: 7,
            container: STORE,
            unix: 1,
            text: "x".into(),
        };
        world.registry.take_alarms(&[raised]).unwrap();
        let before = world.registry.revision().unwrap();
        let other = Registry::open(world.dir()).unwrap();
        other.revision().unwrap();

        world.registry.restore(&mut file).unwrap();
        assert_eq!(other.all_containers().unwrap(), saved);
        assert!(other.revision().unwrap() > before);
        assert_eq!(other.alarms_taken().unwrap(), 7);
        assert_eq!(other.restarts().unwrap(), []);
        let window = Window { skip: 0, take: 9 };
        let (_, alarms) = other.alarms(ANNA, &AlarmFilter::default(), window).unwrap();
        assert_eq!((alarms.len(), &*alarms[0].msg), (1, "kept"));
        // Both go on.
        world.registry.delete_distro(ANNA, id).unwrap();
        assert_eq!(other.distros(ANNA).unwrap(), []);
        assert_eq!(left_behind(&world), 0);
    }

    #[test]
    fn a_later_revision_than_that_of_a_later_backup() {
        let world = World::new();
        let sql = "UPDATE state SET revision = revision + 1000000";
        world.registry.db.execute(sql, []).unwrap();
        let mut file = backup(&world);
        let mut next = World::new();
        next.registry.restore(&mut file).unwrap();
        assert!(next.registry.revision().unwrap() > world.registry.revision().unwrap());
    }

    #[test]
    fn what_is_no_whole_registry_is_not_restored() {
        let mut world = World::new();
        let long = "x".repeat(60_000);
        for _ in 0..20 {
            world.raise(STORE, &long).unwrap();
        }
        let mut whole = Vec::new();
        backup(&world).read_to_end(&mut whole).unwrap();
        let changed = |sql: &str| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("changed");
            fs::write(&path, &whole).unwrap();
            let db = Connection::open(&path).unwrap();
            db.execute_batch(sql).unwrap();
            drop(db);
            fs::read(&path).unwrap()
        };
        let mut flipped = whole.clone();
        flipped[4096 * 3..4096 * 3 + 512].fill(0xff);
        let before = world.registry.all_containers().unwrap();
        let revision = world.registry.revision().unwrap();
        for (what, bytes) in [
            ("nothing", Vec::new()),
            (
                "text",
                b"not a database, but long enough to be one".repeat(200),
            ),
            ("an end that is missing", whole[..whole.len() / 2].to_vec()),
            ("a page that is not", flipped),
            ("a later version", changed("PRAGMA user_version = 999")),
            ("another program", changed("PRAGMA application_id = 1")),
            ("a table more", changed("CREATE TABLE more (a)")),
            (
                "a trigger more",
                changed("CREATE TRIGGER t AFTER INSERT ON alarms BEGIN DELETE FROM alarms; END"),
            ),
            (
                "a check less",
                changed(
                    "PRAGMA writable_schema = ON; UPDATE sqlite_schema
                     SET sql = replace(sql, 'CHECK (level >= 0)', '') WHERE name = 'alarms'",
                ),
            ),
            (
                "a row that may not be",
                changed("PRAGMA ignore_check_constraints = ON; UPDATE containers SET name = ''"),
            ),
            (
                "a row that belongs to none",
                changed("PRAGMA foreign_keys = OFF; DELETE FROM servers"),
            ),
            ("no state", changed("DELETE FROM state")),
            ("other pages", changed("PRAGMA page_size = 8192; VACUUM")),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&bytes).unwrap();
            file.rewind().unwrap();
            let done = world.registry.restore(&mut file);
            let said = done.clone().map_err(|error| error.to_string());
            assert!(
                said.is_err_and(|why| why.contains("no backup")),
                "{what}: {done:?}"
            );
            refused(done);
            assert_eq!(world.registry.all_containers().unwrap(), before, "{what}");
            assert_eq!(world.registry.revision().unwrap(), revision, "{what}");
            assert_eq!(left_behind(&world), 0);
        }
    }

    #[test]
    fn a_restored_registry_is_as_this_program_makes_them() {
        let mut world = World::new();
        let mut file = backup(&world);
        world.registry.restore(&mut file).unwrap();
        let version = schema::version(&world.registry.db, schema::STEPS.len()).unwrap();
        assert_eq!(version, schema::STEPS.len());
        let journal: String = world
            .registry
            .db
            .pragma_query_value(None, "journal_mode", |row| row.get(0))
            .unwrap();
        assert_eq!(journal, "wal");
    }
}
