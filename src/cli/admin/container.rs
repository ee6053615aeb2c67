//! `distrofs admin container`.

use super::super::Failure;
use super::super::args::{ContainerCommand, ContainerOptions};
use super::{or_none, print};
use crate::registry::{ContainerChange, ContainerInfo, ContainerSettings, DistroId, Registry};
use crate::text::table::Align;

pub(super) fn run(registry: &mut Registry, job: ContainerCommand) -> Result<(), Failure> {
    match job {
        ContainerCommand::Add(job) => {
            let mut settings = settings(job.options);
            settings.customer = Some(job.customer);
            settings.server = Some(job.server);
            registry.add_container(job.uid, &settings)?;
        }
        ContainerCommand::Set(job) => {
            let mut settings = settings(job.options);
            settings.customer = job.customer;
            settings.server = job.server;
            settings.own.custom_distro = job.custom_distro.map(|given| given.0.map(DistroId));
            registry.set_container(job.uid, &settings)?;
        }
        ContainerCommand::Rm { uid } => registry.remove_container(uid)?,
        ContainerCommand::List(how) => {
            let columns = [
                ("uid", Align::Right),
                ("customer", Align::Left),
                ("server", Align::Left),
                ("default distro", Align::Left),
                ("custom distro", Align::Left),
                ("stores", Align::Left),
                ("writable", Align::Left),
                ("name", Align::Left),
            ];
            return print(how, &registry.all_containers()?, columns, row);
        }
    }
    Ok(())
}

fn row(one: &ContainerInfo) -> [String; 8] {
    let custom = one.custom_distro.map(|id| {
        let name = one.custom_distro_name.as_deref().unwrap_or_default();
        format!("{id} {name}")
    });
    let stores = if one.custom_distros_storage {
        "images"
    } else {
        "-"
    };
    [
        one.uid.to_string(),
        one.customer.clone(),
        one.server.clone(),
        or_none(one.distro.as_ref()),
        or_none(custom.as_ref()),
        stores.to_owned(),
        or_none(one.writable.as_ref()),
        one.name.clone(),
    ]
}

fn settings(options: ContainerOptions) -> ContainerSettings {
    let writable = options.writable.map(|may| may.0);
    ContainerSettings {
        customer: None,
        server: None,
        hostname: options.hostname,
        ip: options.ip,
        memory: options.memory,
        storage: options.storage,
        distro: options.distro.map(|given| given.0),
        writable: writable.map(|writable| writable.map(|w| w.name().to_owned())),
        own: ContainerChange {
            name: options.name,
            custom_distros_storage: options.custom_distros_storage,
            ..ContainerChange::default()
        },
    }
}
