//! The tables, and how databases of earlier versions get them.
//!
//! Guarantees: a database has all steps up to the last one or is as it was, also when
//! several processes open it at once. One of another program, or of a later version, is
//! refused and not changed.

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::RegistryError;

/// Each leads from one version to the next; a step that was released is never changed.
pub(super) const STEPS: &[&str] = &[include_str!("1.sql")];

/// `dfsR`, by which file(1) and we know it.
pub(super) const APPLICATION: i64 = 0x6466_7352;

/// Leads a database to the last version.
pub(super) fn migrate(db: &mut Connection, steps: &[&str]) -> Result<(), RegistryError> {
    if found(db, steps.len())? == steps.len() {
        return Ok(());
    }
    let change = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Somebody else may have done it meanwhile.
    let version = version(&change, steps.len())?;
    for (at, step) in steps.iter().enumerate().skip(version) {
        change
            .execute_batch(step)
            .and_then(|()| set_version(&change, at + 1))?;
    }
    Ok(change.commit()?)
}

fn set_version(change: &Transaction<'_>, version: usize) -> rusqlite::Result<()> {
    let version = i64::try_from(version).unwrap_or(i64::MAX);
    change.pragma_update(None, "application_id", APPLICATION)?;
    change.pragma_update(None, "user_version", version)
}

/// How many steps a database has; 0 for an empty one. All that is read of it is of one
/// state: somebody else may be leading it to another.
pub(super) fn found(db: &mut Connection, known: usize) -> Result<usize, RegistryError> {
    let now = db.transaction()?;
    let found = version(&now, known)?;
    now.finish()?;
    Ok(found)
}

/// The same in a transaction.
pub(super) fn version(db: &Connection, known: usize) -> Result<usize, RegistryError> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, found) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION {
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        return match (application, found, tables) {
            (0, 0, 0) => Ok(0),
            _ => Err(RegistryError::Damaged(
                "it is a database of another program".to_owned(),
            )),
        };
    }
    let known_number = i64::try_from(known).unwrap_or(i64::MAX);
    match usize::try_from(found) {
        Ok(found) if (1..=known).contains(&found) => Ok(found),
        _ if found > known_number => Err(RegistryError::Later {
            found,
            known: known_number,
        }),
        _ => Err(RegistryError::Damaged(format!("its version is {found}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::super::Registry;
    use super::super::testing::World;
    use super::*;

    const NEXT: &str = "ALTER TABLE servers ADD COLUMN rack TEXT; UPDATE servers SET rack = 'r';";

    fn with_next() -> Vec<&'static str> {
        STEPS.iter().copied().chain([NEXT]).collect()
    }

    #[test]
    fn an_earlier_version_is_led_to_the_next_with_all_that_it_has() {
        let mut world = World::new();
        let known = STEPS.len();
        let before = world.registry.revision().unwrap();
        migrate(&mut world.registry.db, &with_next()).unwrap();
        assert_eq!(
            version(&world.registry.db, known + 1).unwrap(),
            STEPS.len() + 1
        );
        let racks = "SELECT count(*) FROM servers WHERE rack = 'r'";
        let racks: i64 = world
            .registry
            .db
            .query_row(racks, [], |row| row.get(0))
            .unwrap();
        assert_eq!(racks, 2);
        assert_eq!(world.registry.revision().unwrap(), before);
        // The program of before refuses what it does not know, and changes nothing.
        let error = Registry::open(world.dir()).unwrap_err();
        let later = RegistryError::Later {
            found: i64::try_from(known).unwrap() + 1,
            known: i64::try_from(known).unwrap(),
        };
        assert_eq!(error, later);
        assert!(error.to_string().contains("later version"), "{error}");
    }

    #[test]
    fn a_step_that_fails_changes_nothing() {
        let mut world = World::new();
        let steps: Vec<_> = with_next().into_iter().chain(["NONSENSE;"]).collect();
        migrate(&mut world.registry.db, &steps).unwrap_err();
        assert_eq!(
            version(&world.registry.db, STEPS.len()).unwrap(),
            STEPS.len()
        );
        assert!(
            world
                .registry
                .db
                .prepare("SELECT rack FROM servers")
                .is_err()
        );
    }

    #[test]
    fn databases_of_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let other = Connection::open(dir.path().join("registry.db")).unwrap();
        other.execute_batch("CREATE TABLE other (a);").unwrap();
        drop(other);
        let error = Registry::open(dir.path()).unwrap_err();
        assert!(error.to_string().contains("another program"), "{error}");
        std::fs::write(dir.path().join("registry.db"), [7; 8192]).unwrap();
        let error = Registry::open(dir.path()).unwrap_err();
        assert!(matches!(error, RegistryError::Damaged(_)), "{error}");
    }

    /// One that was half made was taken for another program's: its version was read
    /// before somebody else made it, and its tables behind that. And who found no file
    /// made one and closed it, which gave up the locks of the others in the process.
    #[test]
    fn many_may_open_a_new_one_at_once() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let start = Barrier::new(8);
            std::thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        start.wait();
                        let registry = Registry::open(dir.path()).unwrap();
                        assert!(registry.revision().unwrap() > 0);
                    });
                }
            });
        }
    }
}
