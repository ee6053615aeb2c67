//! `distrofs admin distro` and `default-distro`.

use super::super::Failure;
use super::super::args::{DefaultDistroCommand, DistroCommand};
use super::print;
use crate::registry::{DistroChange, DistroId, NewDistro, Registry};
use crate::text::table::Align;

pub(super) fn run(registry: &mut Registry, job: DistroCommand) -> Result<(), Failure> {
    match job {
        DistroCommand::Add(job) => {
            let new = NewDistro {
                name: job.name.unwrap_or_else(|| job.path.clone()),
                path: job.path,
                note: job.note,
            };
            println!("{}", registry.add_distro(job.container, &new)?);
        }
        DistroCommand::Set(job) => {
            let change = DistroChange {
                name: job.name,
                path: job.path,
                note: job.note,
            };
            registry.set_distro(DistroId(job.id), &change)?;
        }
        DistroCommand::Rm { id } => {
            for uid in registry.remove_distro(DistroId(id))? {
                println!("container {uid} has its default distro from its next start on");
            }
        }
        DistroCommand::List(how) => {
            let columns = [
                ("id", Align::Right),
                ("container", Align::Right),
                ("customer", Align::Left),
                ("used by", Align::Right),
                ("path", Align::Left),
                ("name", Align::Left),
            ];
            return print(how, &registry.all_distros()?, columns, |one| {
                [
                    one.id.to_string(),
                    one.container.to_string(),
                    one.customer.clone(),
                    one.used_by.len().to_string(),
                    one.path.to_string(),
                    one.name.clone(),
                ]
            });
        }
    }
    Ok(())
}

pub(super) fn run_default(
    registry: &mut Registry,
    job: DefaultDistroCommand,
) -> Result<(), Failure> {
    match job {
        DefaultDistroCommand::Add { name } => registry.add_platform_distro(&name)?,
        DefaultDistroCommand::Set { name, rename } => {
            registry.rename_platform_distro(&name, &rename)?;
        }
        DefaultDistroCommand::Rm { name } => registry.remove_platform_distro(&name)?,
        DefaultDistroCommand::List(how) => {
            let columns = [
                ("id", Align::Right),
                ("containers", Align::Right),
                ("default distro", Align::Left),
            ];
            return print(how, &registry.all_platform_distros()?, columns, |one| {
                let (id, used) = (one.id.to_string(), one.containers.to_string());
                [id, used, one.name.clone()]
            });
        }
    }
    Ok(())
}
