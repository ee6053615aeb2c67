//! What commands on this machine ask.
//!
//! Guarantees: who asks is known from the kernel; root may ask everything, others
//! about their own home only, but that one user is told how all are doing: that which
//! answers HTTP. A client that does not go on is left.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::emperor_log::Tone;
use super::{Supervisor, SupervisorError};
use crate::sys::packets::{Listener, Packets};
use crate::view::{Detached, Writable};
use crate::wire::control::{ImageOf, Reply, Request};
use crate::wire::report::Status;
use crate::wire::{Link, pieces};

/// How many may be asked for something at a time.
const CLIENTS_MAX: usize = 64;

/// How long a client may take to ask, and to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until this process ends.
pub(super) fn answer(supervisor: &Arc<Supervisor>, listener: &Listener) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let client = match listener.accept() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "cannot be asked");
                std::thread::sleep(PATIENCE);
                continue;
            }
        };
        if clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
            clients.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let (supervisor, counted) = (Arc::clone(supervisor), Arc::clone(&clients));
        let started = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                if let Err(error) = attend(&supervisor, client) {
                    tracing::info!(%error, "a client was not answered");
                }
                counted.fetch_sub(1, Ordering::Relaxed);
            });
        if let Err(error) = started {
            tracing::error!(%error, "a client cannot be answered");
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn attend(supervisor: &Supervisor, client: Packets) -> std::io::Result<()> {
    client.set_receiving(PATIENCE)?;
    client.set_sending(PATIENCE)?;
    let uid = client.peer()?.uid;
    let link = Link::from(client);
    let Some((request, _)) = link.receive::<Request>()? else {
        return Ok(());
    };
    let last = match reply(supervisor, uid, request, &link) {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed(error.to_string()),
    };
    link.send(&last, &[])
}

fn reply(
    supervisor: &Supervisor,
    uid: u32,
    request: Request,
    link: &Link,
) -> Result<(), SupervisorError> {
    let lost = |cause| SupervisorError::System {
        doing: "answer",
        cause,
    };
    let is_root = uid == 0;
    // Of how everything is doing.
    let sees_all = is_root || uid == supervisor.config.api_user;
    match request {
        Request::Attach {
            container,
            image,
            writable,
            passwd,
            at,
        } => {
            if !is_root {
                return Err(SupervisorError::Forbidden);
            }
            let ImageOf { home, path } = image;
            let writable = writable.unwrap_or_else(|| supervisor.config.writable.clone());
            let writable = match &*writable {
                "paths" => Writable::Paths,
                "none" => Writable::None,
                _ => Writable::Tree,
            };
            let wanted = Detached {
                container,
                writable,
                passwd,
            };
            let home = supervisor.home(home).inspect_err(|error| {
                let text = error.to_string();
                supervisor.log.write(container, Tone::Alarm, &text);
            })?;
            let view = home.view(&path, &wanted).inspect_err(|error| {
                home.consumers.refused(container, &path, &error.to_string());
            })?;
            for note in &view.notes {
                link.send(&Reply::Note(note.to_string()), &[])
                    .map_err(lost)?;
            }
            let given = link.send(&Reply::View, &[view.tree.as_fd()]);
            given.map_err(lost)?;
            home.consumers.attached(container, &path, at.as_deref());
            Ok(())
        }
        Request::Status => {
            let all = supervisor.homes.iter();
            let theirs = all.filter(|home| sees_all || home.uid == uid);
            let status = Status {
                homes: theirs.map(|home| home.status()).collect(),
                lines: supervisor.log.counted(),
            };
            let text = serde_json::to_string(&status).map_err(|error| lost(error.into()))?;
            for piece in pieces(&text) {
                let piece = Reply::Text(piece.to_owned());
                link.send(&piece, &[]).map_err(lost)?;
            }
            Ok(())
        }
        Request::Report { home } if !sees_all && uid != home => Err(SupervisorError::Forbidden),
        Request::Report { home } => supervisor
            .home(home)?
            .report(|piece| link.send(&Reply::Text(piece), &[])),
        Request::Ask { home, .. }
        | Request::Abort {
            image: ImageOf { home, .. },
        } if !is_root && uid != home => Err(SupervisorError::Forbidden),
        Request::Ask { home, question } => supervisor
            .home(home)?
            .ask(question, |piece| link.send(&Reply::Text(piece), &[])),
        Request::Abort { image } => supervisor.home(image.home)?.abort(&image.path),
    }
}
