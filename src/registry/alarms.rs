//! Alarms: what somebody should know about a container.
//!
//! Guarantees: a container has the newest 100 and no more. Who raises one says who they
//! are, or has the key of that very container; only the hash of a key is kept.

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};
use sha2::{Digest, Sha256};

use super::customers::check_container;
use super::{
    AlarmId, CustomerId, Done, Kind, Refusal, Registry, RegistryError, new_uuid, now, rules,
};

/// How many a container has.
const KEPT: u32 = 100;
/// Bytes of what one says.
pub(super) const MESSAGE_BYTES_MAX: usize = 65_536;

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// Its number: later ones have higher ones.
    pub id: AlarmId,
    /// Of which container.
    pub container: u32,
    /// How bad it is; 0 is the service's own.
    pub level: i64,
    /// How it is shown.
    pub color: String,
    /// What kind it is.
    pub class: String,
    /// Of which of the container's programs.
    pub vassal: String,
    /// Where in a file, if that is known.
    pub line: Option<i64>,
    /// In which file.
    pub filename: String,
    /// In which function.
    pub func: String,
    /// When, in seconds since 1970.
    pub unix: i64,
    /// What.
    pub msg: String,
}

/// One to be raised: an [`Alarm`] in the same words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the fields of an alarm")]
pub struct NewAlarm {
    pub level: i64,
    pub color: String,
    pub class: String,
    pub vassal: String,
    pub filename: String,
    pub func: String,
    pub line: Option<i64>,
    /// None: now.
    pub unix: Option<i64>,
    pub msg: String,
}

/// Who raises it.
#[derive(Clone)]
pub enum Raiser {
    /// The customer.
    Customer(CustomerId),
    /// Whoever has this key.
    Key(String),
}

/// A key belongs into no log.
impl std::fmt::Debug for Raiser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Raiser::Customer(customer) => write!(f, "Customer({customer})"),
            Raiser::Key(_) => f.write_str("Key(..)"),
        }
    }
}

/// Which alarms: those that have all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the fields of an alarm")]
pub struct AlarmFilter {
    pub container: Option<u32>,
    pub vassal: Option<String>,
    pub class: Option<String>,
    pub color: Option<String>,
    pub filename: Option<String>,
    pub func: Option<String>,
    pub level: Option<i64>,
    pub line: Option<i64>,
}

/// Some of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// How many are left out at its beginning.
    pub skip: u64,
    /// How many there are, at most.
    pub take: u64,
}

impl AlarmFilter {
    /// A condition, and what is bound in it.
    fn condition<'a>(&'a self, customer: &'a CustomerId) -> (String, Vec<&'a dyn ToSql>) {
        let mut sql = "customer = ?".to_owned();
        let mut bound: Vec<&dyn ToSql> = vec![customer];
        let mut add = |column: &str, value: Option<&'a dyn ToSql>| {
            if let Some(value) = value {
                sql += &format!(" AND {column} = ?");
                bound.push(value);
            }
        };
        fn any<T: ToSql>(value: &Option<T>) -> Option<&dyn ToSql> {
            value.as_ref().map(|value| value as &dyn ToSql)
        }
        add("container", any(&self.container));
        add("vassal", any(&self.vassal));
        add("class", any(&self.class));
        add("color", any(&self.color));
        add("filename", any(&self.filename));
        add("func", any(&self.func));
        add("level", any(&self.level));
        add("line", any(&self.line));
        (sql, bound)
    }
}

impl Alarm {
    fn of(row: &Row<'_>) -> rusqlite::Result<Alarm> {
        Ok(Alarm {
            id: row.get("id")?,
            container: row.get("container")?,
            level: row.get("level")?,
            color: row.get("color")?,
            class: row.get("class")?,
            vassal: row.get("vassal")?,
            line: row.get("line")?,
            filename: row.get("filename")?,
            func: row.get("func")?,
            unix: row.get("unix")?,
            msg: row.get("msg")?,
        })
    }
}

impl Registry {
    /// Some of a customer's alarms that have all that `filter` says, the newest first;
    /// and how many there are of these.
    pub fn alarms(
        &self,
        customer: CustomerId,
        filter: &AlarmFilter,
        window: Window,
    ) -> Result<(u64, Vec<Alarm>), RegistryError> {
        self.read("list alarms", |db| {
            let (condition, mut bound) = filter.condition(&customer);
            let sql = format!("SELECT count(*) FROM alarms WHERE {condition}");
            let total: i64 = db.query_row(&sql, &*bound, |row| row.get(0))?;
            let [take, skip] =
                [window.take, window.skip].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
            let sql =
                format!("SELECT * FROM alarms WHERE {condition} ORDER BY id DESC LIMIT ? OFFSET ?");
            bound.extend([&take as &dyn ToSql, &skip]);
            let mut found = db.prepare(&sql)?;
            let found = found.query_map(&*bound, Alarm::of)?;
            let found = found.collect::<rusqlite::Result<_>>()?;
            Ok((u64::try_from(total).unwrap_or(0), found))
        })
    }

    /// An alarm of a customer.
    pub fn alarm(&self, customer: CustomerId, id: AlarmId) -> Result<Alarm, RegistryError> {
        self.read("find an alarm", |db| {
            let sql = "SELECT * FROM alarms WHERE id = ?1 AND customer = ?2";
            let found = db.query_row(sql, (id, customer), Alarm::of).optional()?;
            Ok(found.ok_or(Refusal::NotThere(Kind::Alarm))?)
        })
    }

    /// Deletes an alarm of a customer.
    pub fn delete_alarm(&mut self, customer: CustomerId, id: AlarmId) -> Result<(), RegistryError> {
        self.write("delete an alarm", |db| {
            let sql = "DELETE FROM alarms WHERE id = ?1 AND customer = ?2";
            match db.execute(sql, (id, customer))? {
                0 => Err(Refusal::NotThere(Kind::Alarm).into()),
                _ => Ok(()),
            }
        })
    }

    /// A new key by which alarms of a container are raised; an earlier one is none any
    /// more.
    pub fn alarm_key(&mut self, customer: CustomerId, uid: u32) -> Result<String, RegistryError> {
        let key = new_uuid();
        self.write("make a key", |db| {
            check_container(db, customer, uid)?;
            let sql = "UPDATE containers SET alarm_key = ?2 WHERE uid = ?1";
            db.execute(sql, (uid, hash(&key)))?;
            Ok(())
        })?;
        Ok(key)
    }

    /// Raises an alarm of a container.
    pub fn raise(
        &mut self,
        by: &Raiser,
        uid: u32,
        alarm: &NewAlarm,
    ) -> Result<AlarmId, RegistryError> {
        self.write("raise an alarm", |db| {
            let customer = raised_for(db, by, uid)?;
            check(alarm)?;
            insert(db, uid, customer, alarm)
        })
    }
}

/// Whose container it is, if alarms may be raised for it.
fn raised_for(db: &Connection, by: &Raiser, uid: u32) -> Done<CustomerId> {
    let owner = match by {
        Raiser::Customer(customer) => {
            check_container(db, *customer, uid)?;
            Some(*customer)
        }
        Raiser::Key(key) => {
            let sql = "SELECT customer FROM containers WHERE uid = ?1 AND alarm_key = ?2";
            let found = db.query_row(sql, (uid, hash(key)), |row| row.get(0));
            found.optional()?
        }
    };
    Ok(owner.ok_or(Refusal::NotThere(Kind::Container))?)
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

fn check(alarm: &NewAlarm) -> Done<()> {
    let number = |what, expected| Err(Refusal::Number { what, expected }.into());
    if alarm.level < 1 {
        return number("level", "1 or more: 0 is for alarms of the service");
    }
    if alarm.unix.is_some_and(|unix| unix < 0) {
        return number("unix", "seconds since 1970");
    }
    rules::short("color", &alarm.color)?;
    rules::short("class", &alarm.class)?;
    rules::short("vassal", &alarm.vassal)?;
    rules::short("filename", &alarm.filename)?;
    rules::short("func", &alarm.func)?;
    if alarm.msg.len() > MESSAGE_BYTES_MAX {
        let (what, expected) = ("msg", "at most 65536 bytes");
        return Err(Refusal::Text { what, expected }.into());
    }
    Ok(())
}

/// Stores one, and removes what are too many then.
pub(super) fn insert(
    db: &Connection,
    uid: u32,
    customer: CustomerId,
    new: &NewAlarm,
) -> Done<AlarmId> {
    let sql = "INSERT INTO alarms (container, customer, level, color, class, vassal, line,
               filename, func, unix, msg) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    db.execute(
        sql,
        params![
            uid,
            customer,
            new.level,
            new.color,
            new.class,
            new.vassal,
            new.line,
            new.filename,
            new.func,
            new.unix.unwrap_or_else(now),
            new.msg,
        ],
    )?;
    let id = AlarmId(db.last_insert_rowid());
    let sql = "DELETE FROM alarms WHERE container = ?1 AND id <= (
                 SELECT id FROM alarms WHERE container = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)";
    db.execute(sql, (uid, KEPT))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ANNA, BEN, BENS, CONSUMER, STORE, World, refused};
    use super::*;

    const ALL: Window = Window {
        skip: 0,
        take: u64::MAX,
    };

    fn new(msg: &str) -> NewAlarm {
        NewAlarm {
            level: 1,
            msg: msg.to_owned(),
            ..NewAlarm::default()
        }
    }

    fn messages(world: &World, filter: &AlarmFilter, window: Window) -> (u64, Vec<String>) {
        let (total, found) = world.registry.alarms(ANNA, filter, window).unwrap();
        (total, found.into_iter().map(|alarm| alarm.msg).collect())
    }

    #[test]
    fn the_newest_hundred_of_a_container_are_kept() {
        let mut world = World::new();
        world.raise(STORE, "of another").unwrap();
        for n in 0..250 {
            world.raise(CONSUMER, &n.to_string()).unwrap();
        }
        let (total, found) = messages(&world, &AlarmFilter::default(), ALL);
        assert_eq!((total, found.len()), (101, 101));
        assert_eq!((&*found[0], &*found[99]), ("249", "150"));
        assert_eq!(found[100], "of another");
        let some = Window { skip: 98, take: 2 };
        let (total, found) = messages(&world, &AlarmFilter::default(), some);
        assert_eq!((total, found), (101, vec!["151".into(), "150".into()]));
        let of_store = AlarmFilter {
            container: Some(STORE),
            ..AlarmFilter::default()
        };
        assert_eq!(messages(&world, &of_store, ALL).0, 1);
    }

    #[test]
    fn filters_are_exact_and_all_must_hold() {
        let mut world = World::new();
        let by = Raiser::Customer(ANNA);
        let full = NewAlarm {
            level: 3,
            color: "#ff0000".into(),
            class: "it's".into(),
            vassal: "v".into(),
            filename: "f\n".into(),
            func: "f()".into(),
            line: Some(7),
            unix: Some(12),
            msg: "full \0 \u{1F600}".into(),
        };
        let id = world.registry.raise(&by, CONSUMER, &full).unwrap();
        world.raise(CONSUMER, "other").unwrap();
        let alarm = world.registry.alarm(ANNA, id).unwrap();
        assert_eq!(
            (alarm.unix, alarm.line, &alarm.msg),
            (12, Some(7), &full.msg)
        );
        let filter = AlarmFilter {
            container: Some(CONSUMER),
            vassal: Some("v".into()),
            class: Some("it's".into()),
            color: Some("#ff0000".into()),
            filename: Some("f\n".into()),
            func: Some("f()".into()),
            level: Some(3),
            line: Some(7),
        };
        assert_eq!(messages(&world, &filter, ALL).0, 1);
        let mut other = filter;
        other.class = Some("its".into());
        assert_eq!(messages(&world, &other, ALL).0, 0);
        let (total, _) = world
            .registry
            .alarms(BEN, &AlarmFilter::default(), ALL)
            .unwrap();
        assert_eq!(total, 0);
    }

    #[test]
    fn a_key_raises_for_its_container_only_and_until_there_is_another() {
        let mut world = World::new();
        let registry = &mut world.registry;
        let key = registry.alarm_key(ANNA, CONSUMER).unwrap();
        assert_eq!(key.len(), 36);
        let by = Raiser::Key(key.clone());
        assert!(!format!("{by:?}").contains(&key));
        registry.raise(&by, CONSUMER, &new("a")).unwrap();
        let nobody = registry.raise(&Raiser::Customer(BEN), CONSUMER, &new("a"));
        for (uid, by) in [
            (STORE, &by),
            (BENS, &by),
            (99, &by),
            (CONSUMER, &Raiser::Key(String::new())),
        ] {
            assert_eq!(registry.raise(by, uid, &new("a")), nobody, "{uid}");
        }
        refused(nobody);
        let next = registry.alarm_key(ANNA, CONSUMER).unwrap();
        assert_ne!(next, key);
        refused(registry.raise(&by, CONSUMER, &new("a")));
        registry
            .raise(&Raiser::Key(next.clone()), CONSUMER, &new("a"))
            .unwrap();
        refused(registry.alarm_key(BEN, CONSUMER));
        let stored = "SELECT alarm_key FROM containers WHERE uid = ?1";
        let stored: Vec<u8> = registry
            .db
            .query_row(stored, [CONSUMER], |row| row.get(0))
            .unwrap();
        assert_eq!(stored, hash(&next));
    }

    #[test]
    fn what_an_alarm_may_not_have_is_refused() {
        let mut world = World::new();
        let by = Raiser::Customer(ANNA);
        let long = "x".repeat(MESSAGE_BYTES_MAX + 1);
        let mut wrong = [new(""), new(""), new(""), new(&long)];
        wrong[0].level = 0;
        wrong[1].unix = Some(-1);
        wrong[2].vassal = "\u{1F600}".repeat(256);
        for alarm in &wrong {
            refused(world.registry.raise(&by, CONSUMER, alarm));
        }
        wrong[3].msg.pop();
        wrong[3].vassal = "\u{1F600}".repeat(255);
        world.registry.raise(&by, CONSUMER, &wrong[3]).unwrap();
    }

    #[test]
    fn an_alarm_of_another_is_not_there() {
        let mut world = World::new();
        let id = world.raise(CONSUMER, "a").unwrap();
        let none = AlarmId(id.0 + 1);
        let registry = &mut world.registry;
        assert_eq!(registry.alarm(BEN, id), registry.alarm(BEN, none));
        assert_eq!(
            registry.delete_alarm(BEN, id),
            registry.delete_alarm(BEN, none)
        );
        refused(registry.delete_alarm(BEN, id));
        registry.delete_alarm(ANNA, id).unwrap();
        refused(registry.alarm(ANNA, id));
    }
}
