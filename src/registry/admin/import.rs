//! One file with everything: made at once, or not at all.
//!
//! Guarantees: the same file twice changes nothing the second time. What is there is
//! found by what people call it (a customer's name, a server's name, a distro's name, a
//! container's number, a container with a path) and is changed where the file says
//! something else; what the file does not name stays. An entry that is wrong is named.

use std::collections::BTreeSet;

use rusqlite::{OptionalExtension, Transaction};
use serde::{Deserialize, Deserializer};

use super::super::distros::{self, DistroChange, NewDistro};
use super::super::password::{self, Secret};
use super::super::{
    Container, ContainerChange, CustomerId, DistroId, Done, Kind, Refusal, Registry, RegistryError,
    change,
};
use super::containers::ContainerSettings;
use super::customers::{CustomerChange, NewCustomer};
use super::servers::ServerChange;
use super::{has, id_of, unknown};
use crate::types::ImageOf;

/// What is in the file. Everything that is left out stays as it is, or is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Import {
    customers: Vec<Customer>,
    servers: Vec<Server>,
    default_distros: Vec<String>,
    containers: Vec<OneContainer>,
    distros: Vec<OneDistro>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Customer {
    username: String,
    password: Option<Secret>,
    password_hash: Option<Secret>,
    email: Option<String>,
    vat: Option<String>,
    company: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Server {
    name: String,
    address: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneContainer {
    uid: u32,
    customer: Option<String>,
    server: Option<String>,
    name: Option<String>,
    hostname: Option<String>,
    ip: Option<String>,
    memory: Option<u64>,
    storage: Option<u64>,
    #[serde(default, deserialize_with = "given")]
    distro: Option<Option<String>>,
    #[serde(default, deserialize_with = "given")]
    custom_distro: Option<Option<ImageOf>>,
    custom_distros_storage: Option<bool>,
    #[serde(default, deserialize_with = "given")]
    writable: Option<Option<String>>,
    note: Option<String>,
    tags: Option<Vec<String>>,
    ssh_keys: Option<Vec<String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneDistro {
    container: u32,
    path: String,
    name: Option<String>,
    note: Option<String>,
}

/// `null` is something else than nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// How many entries a file had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are named as in the file")]
pub struct Imported {
    pub customers: usize,
    pub servers: usize,
    pub default_distros: usize,
    pub containers: usize,
    pub distros: usize,
}

impl Import {
    /// Reads the text of a file.
    pub fn parse(text: &[u8]) -> Result<Import, String> {
        // A list would be read as all fields in their order.
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err("give an object, with lists in it".to_owned());
        }
        serde_json::from_slice(text).map_err(|error| error.to_string())
    }
}

/// Names the entry that a refusal is of.
fn entry<T>(list: &'static str, at: usize, done: Done<T>) -> Done<T> {
    done.map_err(|error| match error {
        RegistryError::Refused(why) => {
            let why = Box::new(why);
            Refusal::Entry { list, at, why }.into()
        }
        other => other,
    })
}

impl Registry {
    /// Makes all that is in a file.
    pub fn import(&mut self, file: &Import) -> Result<Imported, RegistryError> {
        // It takes long, and others may write meanwhile.
        let mut hashes = Vec::with_capacity(file.customers.len());
        for (at, customer) in file.customers.iter().enumerate() {
            hashes.push(entry("customers", at, self.hash_of(customer))?);
        }
        self.write("import", |db| {
            for (at, server) in file.servers.iter().enumerate() {
                entry("servers", at, put_server(db, server))?;
            }
            for (at, name) in file.default_distros.iter().enumerate() {
                entry("default_distros", at, put_platform(db, name))?;
            }
            for (at, (customer, hash)) in file.customers.iter().zip(hashes).enumerate() {
                entry("customers", at, put_customer(db, customer, hash))?;
            }
            let mut made = BTreeSet::new();
            for (at, one) in file.containers.iter().enumerate() {
                if entry("containers", at, put_container(db, one))? {
                    made.insert(one.uid);
                }
            }
            for (at, one) in file.distros.iter().enumerate() {
                entry("distros", at, put_distro(db, one))?;
            }
            for (at, one) in file.containers.iter().enumerate() {
                entry("containers", at, put_image(db, one))?;
            }
            for uid in made {
                super::containers::forget_restart(db, uid)?;
            }
            Ok(Imported {
                customers: file.customers.len(),
                servers: file.servers.len(),
                default_distros: file.default_distros.len(),
                containers: file.containers.len(),
                distros: file.distros.len(),
            })
        })
    }

    /// The hash that is to be stored: none if the password is the one that is stored.
    fn hash_of(&self, customer: &Customer) -> Done<Option<Secret>> {
        match (&customer.password, &customer.password_hash) {
            (Some(_), Some(_)) => {
                let (what, expected) = ("password", "this or password_hash, not both");
                Err(Refusal::Text { what, expected }.into())
            }
            (None, hash) => Ok(hash.clone()),
            (Some(password), None) => {
                let known = self.account(&customer.username)?;
                if known.is_some_and(|known| password::verify(&password.0, &known.password)) {
                    return Ok(None);
                }
                let hash = password::hash(&password.0).map_err(Refusal::Password)?;
                Ok(Some(Secret(hash)))
            }
        }
    }
}

fn put_server(db: &Transaction<'_>, server: &Server) -> Done<()> {
    if !has(db, Kind::Server, &server.name)? {
        let address = server.address.as_deref().unwrap_or_default();
        return super::servers::insert(db, &server.name, address);
    }
    let change = ServerChange {
        name: None,
        address: server.address.clone(),
    };
    super::servers::update(db, id_of(db, Kind::Server, &server.name)?, &change)
}

fn put_platform(db: &Transaction<'_>, name: &str) -> Done<()> {
    match has(db, Kind::PlatformDistro, name)? {
        true => Ok(()),
        false => super::distros::insert_platform(db, name),
    }
}

fn put_customer(db: &Transaction<'_>, customer: &Customer, hash: Option<Secret>) -> Done<()> {
    let other = CustomerChange {
        password: hash,
        email: customer.email.clone(),
        vat: customer.vat.clone(),
        company: customer.company.clone(),
    };
    if has(db, Kind::Customer, &customer.username)? {
        let id = id_of(db, Kind::Customer, &customer.username)?;
        return super::customers::update(db, CustomerId(id), &other);
    }
    let (what, expected) = ("password", "this or password_hash for a new customer");
    let password = other.password.clone();
    let password = password.ok_or(Refusal::Text { what, expected })?;
    let username = customer.username.clone();
    let new = NewCustomer {
        username,
        password,
        other,
    };
    super::customers::insert(db, &new)
}

/// Whether it was made now.
fn put_container(db: &Transaction<'_>, one: &OneContainer) -> Done<bool> {
    let mut settings = ContainerSettings {
        customer: one.customer.clone(),
        server: one.server.clone(),
        hostname: one.hostname.clone(),
        ip: one.ip.clone(),
        memory: one.memory,
        storage: one.storage,
        distro: one.distro.clone(),
        writable: one.writable.clone(),
        own: ContainerChange {
            name: one.name.clone(),
            note: one.note.clone(),
            tags: one.tags.clone(),
            ssh_keys: one.ssh_keys.clone(),
            custom_distros_storage: one.custom_distros_storage,
            ..ContainerChange::default()
        },
    };
    let Some(known) = known(db, one.uid)? else {
        super::containers::insert(db, one.uid, &settings)?;
        return Ok(true);
    };
    // What is so already restarts nothing.
    let distro = known.distro.map(|(_, name)| name);
    if settings.distro.as_ref() == Some(&distro) {
        settings.distro = None;
    }
    let own = &mut settings.own;
    own.custom_distros_storage
        .take_if(|on| *on == known.custom_distros_storage);
    super::containers::update(db, one.uid, &settings)?;
    Ok(false)
}

fn known(db: &Transaction<'_>, uid: u32) -> Done<Option<Container>> {
    let sql = "SELECT customer FROM containers WHERE uid = ?1";
    let owner: Option<CustomerId> = db.query_row(sql, [uid], |row| row.get(0)).optional()?;
    let found = owner.map(|owner| super::super::containers::one(db, owner, uid));
    found.transpose()
}

fn put_distro(db: &Transaction<'_>, one: &OneDistro) -> Done<()> {
    let path = one.path.parse().map_err(Refusal::Path)?;
    let owner = super::containers::owner(db, one.container)?;
    let Some(id) = super::distros::at(db, one.container, &path)? else {
        let new = NewDistro {
            name: one.name.clone().unwrap_or_else(|| one.path.clone()),
            path: one.path.clone(),
            note: one.note.clone().unwrap_or_default(),
        };
        distros::insert(db, one.container, &new)?;
        return Ok(());
    };
    let mut distro = distros::one(db, owner, id)?;
    let change = DistroChange {
        name: one.name.clone(),
        path: None,
        note: one.note.clone(),
    };
    match change == DistroChange::default() {
        true => Ok(()),
        false => distros::update(db, &mut distro, &change),
    }
}

/// Distros are there by now.
fn put_image(db: &Transaction<'_>, one: &OneContainer) -> Done<()> {
    let Some(wanted) = &one.custom_distro else {
        return Ok(());
    };
    let mut id: Option<DistroId> = None;
    if let Some(image) = wanted {
        let found = super::distros::at(db, image.home, &image.path)?;
        id = Some(found.ok_or_else(|| unknown(Kind::Distro, image))?);
    }
    let sql = "SELECT customer, custom_distro FROM containers WHERE uid = ?1";
    let (owner, has) = db.query_row(sql, [one.uid], |row| Ok((row.get(0)?, row.get(1)?)))?;
    if id == has {
        return Ok(());
    }
    let change = ContainerChange {
        custom_distro: Some(id),
        ..ContainerChange::default()
    };
    change::apply(db, owner, one.uid, &change)
}
