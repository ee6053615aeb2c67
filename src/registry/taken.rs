//! Alarms of the service itself, taken from where it keeps them.
//!
//! Guarantees: each is stored once, whatever ends between storing it and telling the
//! service so: the highest number is written in the same transaction. One that says
//! what the container was told less than a minute ago is not stored again.

use rusqlite::{Connection, OptionalExtension};

use super::alarms::{MESSAGE_BYTES_MAX, insert};
use super::{CustomerId, Done, NewAlarm, Registry, RegistryError};
use crate::types::Raised;

/// As the platform shows its own.
const COLOR: &str = "#ffffff";
/// Seconds in which the same is not said again.
const QUIET: u64 = 60;

impl Registry {
    /// The highest number of an alarm of the service that is stored; 0 for none.
    pub fn alarms_taken(&self) -> Result<u64, RegistryError> {
        self.read("count alarms", |db| Ok(highest(db)?))
    }

    /// Stores alarms of the service that have higher numbers.
    pub fn take_alarms(&mut self, raised: &[Raised]) -> Result<(), RegistryError> {
        self.write("take alarms", |db| {
            let before = highest(db)?;
            let mut new: Vec<_> = raised.iter().filter(|one| one.number > before).collect();
            new.sort_unstable_by_key(|one| one.number);
            new.dedup_by_key(|one| one.number);
            for one in &new {
                store(db, one)?;
            }
            if let Some(last) = new.last() {
                let sql = "UPDATE state SET alarms_taken = ?1";
                db.execute(sql, [i64::try_from(last.number).unwrap_or(i64::MAX)])?;
            }
            Ok(())
        })
    }
}

fn highest(db: &Connection) -> rusqlite::Result<u64> {
    db.query_row("SELECT alarms_taken FROM state", [], |row| {
        super::unsigned(row, 0)
    })
}

/// Of a container that is not there any more, nobody would read it.
fn store(db: &Connection, raised: &Raised) -> Done<()> {
    let uid = raised.container;
    let sql = "SELECT customer FROM containers WHERE uid = ?1";
    let owner: Option<CustomerId> = db.query_row(sql, [uid], |row| row.get(0)).optional()?;
    let Some(owner) = owner else {
        return Ok(());
    };
    let msg = shortened(&raised.text);
    let sql = "SELECT unix FROM alarms
               WHERE container = ?1 AND level = 0 AND msg = ?2 ORDER BY id DESC LIMIT 1";
    let last = db.query_row(sql, (uid, msg), |row| super::unsigned(row, 0));
    let is_said = |last: u64| last.abs_diff(raised.unix) < QUIET;
    if last.optional()?.is_some_and(is_said) {
        return Ok(());
    }
    let alarm = NewAlarm {
        color: COLOR.to_owned(),
        unix: Some(i64::try_from(raised.unix).unwrap_or(i64::MAX)),
        msg: msg.to_owned(),
        ..NewAlarm::default()
    };
    insert(db, uid, owner, &alarm)?;
    Ok(())
}

/// As much of it as an alarm may say.
fn shortened(text: &str) -> &str {
    let mut end = text.len().min(MESSAGE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ANNA, CONSUMER, STORE, World};
    use super::super::{Alarm, AlarmFilter, Window};
    use super::*;

    fn raised(number: u64, container: u32, unix: u64, text: &str) -> Raised {
        Raised {
            number,
            container,
            unix,
            text: text.to_owned(),
        }
    }

    fn all(world: &World) -> Vec<Alarm> {
        let window = Window {
            skip: 0,
            take: 1000,
        };
        let filter = AlarmFilter::default();
        world.registry.alarms(ANNA, &filter, window).unwrap().1
    }

    #[test]
    fn each_number_is_taken_once() {
        let mut world = World::new();
        let registry = &mut world.registry;
        assert_eq!(registry.alarms_taken().unwrap(), 0);
        let some = [
            raised(7, CONSUMER, 1000, "b"),
            raised(5, CONSUMER, 1000, "a"),
            raised(7, CONSUMER, 2000, "b"),
        ];
        registry.take_alarms(&some).unwrap();
        registry.take_alarms(&some).unwrap();
        registry
            .take_alarms(&[raised(6, STORE, 9000, "c")])
            .unwrap();
        registry.take_alarms(&[]).unwrap();
        assert_eq!(registry.alarms_taken().unwrap(), 7);
        let stored = all(&world);
        let said: Vec<_> = stored.iter().map(|alarm| &*alarm.msg).collect();
        assert_eq!(said, ["b", "a"]);
        let alarm = &stored[0];
        assert_eq!(
            (alarm.level, &*alarm.color, alarm.unix),
            (0, "#ffffff", 1000)
        );
        assert_eq!((alarm.line, &*alarm.class, &*alarm.func), (None, "", ""));
    }

    #[test]
    fn the_same_is_stored_once_a_minute() {
        let mut world = World::new();
        let times = [1000, 1059, 1060, 1061, 1119, 1120, 500];
        let some: Vec<_> = (1..)
            .zip(times)
            .map(|(n, t)| raised(n, CONSUMER, t, "a"))
            .collect();
        world.registry.take_alarms(&some).unwrap();
        world
            .registry
            .take_alarms(&[raised(8, STORE, 1120, "a")])
            .unwrap();
        let times: Vec<_> = all(&world).iter().map(|alarm| alarm.unix).collect();
        assert_eq!(times, [1120, 500, 1120, 1060, 1000]);
        assert_eq!(world.registry.alarms_taken().unwrap(), 8);
    }

    #[test]
    fn what_nobody_can_read_is_taken_and_dropped() {
        let mut world = World::new();
        let long = "\u{1F600}".repeat(20_000) + "x";
        let some = [
            raised(1, 99, 1, "of a container that is gone"),
            raised(u64::MAX, CONSUMER, u64::MAX, &long),
        ];
        world.registry.take_alarms(&some).unwrap();
        let stored = all(&world);
        assert_eq!((stored.len(), stored[0].unix), (1, i64::MAX));
        assert_eq!(stored[0].msg.len(), MESSAGE_BYTES_MAX);
        assert_eq!(world.registry.alarms_taken().unwrap(), i64::MAX as u64);
    }
}
