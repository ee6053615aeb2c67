//! `distrofs admin customer`.

use std::io::{self, Read};

use super::super::Failure;
use super::super::args::{CustomerCommand, CustomerSet};
use super::print;
use crate::registry::password::{self, Secret};
use crate::registry::{CustomerChange, NewCustomer, Registry};
use crate::text::table::Align;

/// More than a password may have, and the end of its line.
const LINE_BYTES_MAX: u64 = 4096;

pub(super) fn run(registry: &mut Registry, job: CustomerCommand) -> Result<(), Failure> {
    match job {
        CustomerCommand::Add(job) => {
            let made = (!job.password_stdin).then(new_password);
            let password = match &made {
                Some(made) => made.clone(),
                None => given_password()?,
            };
            registry.add_customer(&NewCustomer {
                username: job.username.clone(),
                password: Secret(password::hash(&password)?),
                other: change(job, None),
            })?;
            say(made);
        }
        CustomerCommand::Set {
            change: job,
            new_password: is_new,
        } => {
            let made = is_new.then(new_password);
            let password = match (&made, job.password_stdin) {
                (Some(made), _) => Some(made.clone()),
                (None, true) => Some(given_password()?),
                (None, false) => None,
            };
            let hash = password
                .map(|password| password::hash(&password))
                .transpose()?;
            let username = job.username.clone();
            registry.set_customer(&username, &change(job, hash.map(Secret)))?;
            say(made);
        }
        CustomerCommand::Rm { username } => registry.remove_customer(&username)?,
        CustomerCommand::List(how) => {
            let columns = [
                ("customer", Align::Left),
                ("containers", Align::Right),
                ("email", Align::Left),
                ("vat", Align::Left),
                ("company", Align::Left),
            ];
            return print(how, &registry.customers()?, columns, |one| {
                [
                    one.username.clone(),
                    one.containers.to_string(),
                    one.email.clone(),
                    one.vat.clone(),
                    one.company.clone(),
                ]
            });
        }
    }
    Ok(())
}

fn change(job: CustomerSet, password: Option<Secret>) -> CustomerChange {
    CustomerChange {
        password,
        email: job.email,
        vat: job.vat,
        company: job.company,
    }
}

/// 122 random bits.
fn new_password() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// Once, and nowhere else.
fn say(made: Option<String>) {
    if let Some(made) = made {
        println!("password: {made}");
    }
}

/// One line of standard input.
fn given_password() -> Result<String, Failure> {
    let mut text = String::new();
    io::stdin().take(LINE_BYTES_MAX).read_to_string(&mut text)?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let line = line.strip_suffix('\r').unwrap_or(line);
    match line.contains(['\n', '\r', '\0']) {
        true => Err("standard input has more than one line: give the password alone".into()),
        false => Ok(line.to_owned()),
    }
}
