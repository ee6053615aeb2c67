//! `distrofs admin server`.

use super::super::Failure;
use super::super::args::ServerCommand;
use super::print;
use crate::registry::{Registry, ServerChange};
use crate::text::table::Align;

pub(super) fn run(registry: &mut Registry, job: ServerCommand) -> Result<(), Failure> {
    match job {
        ServerCommand::Add { name, address } => registry.add_server(&name, &address)?,
        ServerCommand::Set {
            name,
            address,
            rename,
        } => {
            let change = ServerChange {
                name: rename,
                address,
            };
            registry.set_server(&name, &change)?;
        }
        ServerCommand::Rm { name } => registry.remove_server(&name)?,
        ServerCommand::List(how) => {
            let columns = [
                ("server", Align::Left),
                ("containers", Align::Right),
                ("address", Align::Left),
            ];
            return print(how, &registry.servers()?, columns, |one| {
                let (name, address) = (one.name.clone(), one.address.clone());
                [name, one.containers.to_string(), address]
            });
        }
    }
    Ok(())
}
