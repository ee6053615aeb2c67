//! What is replied to a request, and to whom.
//!
//! Guarantees: who asks is looked at first; a user is told of its own home and its own
//! container only, and the user that answers HTTP can change nothing but what the
//! registry decides.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use super::decisions::Chosen;
use super::emperor_log::Tone;
use super::restart::restart;
use super::roots::Shape;
use super::{Supervisor, SupervisorError};
use crate::wire::control::{ImageOf, Reply, Request};
use crate::wire::report::{Decided, Status};
use crate::wire::{Link, pieces};

/// How long whoever takes alarms waits for one.
const ALARMS_WITHIN: Duration = Duration::from_secs(5);

/// Who asks, whom, and where that is replied.
pub(super) struct Asked<'a> {
    pub(super) supervisor: &'a Arc<Supervisor>,
    pub(super) uid: u32,
    pub(super) link: &'a Link,
}

fn lost(cause: io::Error) -> SupervisorError {
    let doing = "answer";
    SupervisorError::System { doing, cause }
}

impl Asked<'_> {
    /// Does what is asked for, and replies all but whether it was done.
    pub(super) fn reply(&self, request: Request) -> Result<(), SupervisorError> {
        let supervisor = self.supervisor;
        if !self.may(&request) {
            return Err(SupervisorError::Forbidden);
        }
        match request {
            Request::Attach {
                container,
                image,
                writable,
                passwd,
                at,
            } => {
                let shape = Shape {
                    container,
                    writable,
                    passwd,
                    at,
                };
                match self.decided(container, image.as_ref()) {
                    Some(chosen) => self.attach_decided(&chosen, &shape),
                    None => self.attach_named(image, &shape),
                }
            }
            Request::Place { container, image } => self.place(container, image),
            Request::Status => self.status(),
            Request::Report { home } => supervisor.any_home(home)?.report(|piece| self.text(piece)),
            Request::Ask { home, question } => supervisor
                .home(home)?
                .ask(question, |piece| self.text(piece)),
            Request::Upload { image, bytes } => self.upload(&image, bytes),
            Request::Decide => {
                supervisor.decisions.take(self.link)?;
                supervisor.follow();
                Ok(())
            }
            Request::Restart { container } => restart(&supervisor.config, container)
                .map_err(|cause| SupervisorError::Restart { container, cause }),
            Request::Alarms { taken } => {
                let alarms = supervisor.alarms.take(taken, ALARMS_WITHIN);
                self.json(&alarms)
            }
            Request::Abort { image } => supervisor.any_home(image.home)?.abort(&image.path),
        }
    }

    /// Whether who asks may.
    fn may(&self, request: &Request) -> bool {
        let is_root = self.uid == 0;
        let sees_all = self.sees_all();
        match request {
            Request::Attach {
                container, image, ..
            }
            | Request::Place { container, image } => {
                let supervisor = self.supervisor;
                supervisor.allow(self.uid, *container, image.as_ref())
            }
            Request::Status => true,
            Request::Report { home } | Request::Ask { home, .. } => sees_all || self.uid == *home,
            Request::Upload { image, .. } => sees_all || self.uid == image.home,
            Request::Abort { image } => is_root || self.uid == image.home,
            Request::Restart { container: 0 } => false,
            Request::Decide | Request::Restart { .. } | Request::Alarms { .. } => sees_all,
        }
    }

    /// Whether it is root, or the user that answers HTTP.
    fn sees_all(&self) -> bool {
        self.uid == 0 || self.uid == self.supervisor.config.api_user
    }

    /// What the registry decided, if nothing else is asked for.
    fn decided(&self, container: u32, image: Option<&ImageOf>) -> Option<Chosen> {
        match image {
            None => self.supervisor.decisions.chosen(container),
            Some(_) => None,
        }
    }

    fn attach_decided(&self, chosen: &Chosen, shape: &Shape) -> Result<(), SupervisorError> {
        let root = self.supervisor.root(chosen, shape)?;
        for note in root.notes {
            self.say(&Reply::Note(note))?;
        }
        if let Some(at) = root.platform {
            self.say(&Reply::Platform { at })?;
        }
        let view = self.link.send(&Reply::View, &[root.tree.as_fd()]);
        view.map_err(lost)
    }

    fn attach_named(&self, image: Option<ImageOf>, shape: &Shape) -> Result<(), SupervisorError> {
        let (supervisor, container) = (self.supervisor, shape.container);
        let ImageOf { home, path } = supervisor.named(container, image)?;
        let wanted = supervisor.wanted(shape, None);
        let home = supervisor.home(home).inspect_err(|error| {
            let text = error.to_string();
            supervisor.log.write(container, Tone::Alarm, &text);
        })?;
        let view = home.view(&path, &wanted).inspect_err(|error| {
            home.consumers.refused(container, &path, &error.to_string());
        })?;
        for note in &view.notes {
            self.say(&Reply::Note(note.to_string()))?;
        }
        let given = self.link.send(&Reply::View, &[view.tree.as_fd()]);
        given.map_err(lost)?;
        home.consumers
            .attached(container, &path, shape.at.as_deref());
        Ok(())
    }

    fn place(&self, container: u32, image: Option<ImageOf>) -> Result<(), SupervisorError> {
        let supervisor = self.supervisor;
        let Some(chosen) = self.decided(container, image.as_ref()) else {
            let ImageOf { home, path } = supervisor.named(container, image)?;
            let home = supervisor.home(home)?.path().to_owned();
            return self.say(&Reply::Place { home, path });
        };
        if let Some(name) = &chosen.default {
            let at = supervisor.platform_path(name.as_str());
            self.say(&Reply::Platform { at })?;
        }
        match chosen.image {
            Some(ImageOf { home, path }) => {
                let home = supervisor.home_path(home);
                self.say(&Reply::Place { home, path })
            }
            None if chosen.default.is_some() => Ok(()),
            None => Err(supervisor.no_platform(container)),
        }
    }

    fn status(&self) -> Result<(), SupervisorError> {
        let (supervisor, sees_all) = (self.supervisor, self.sees_all());
        let all = supervisor.homes().into_iter();
        let theirs = all.filter(|home| sees_all || home.uid == self.uid);
        let theirs = theirs.filter(|home| home.is_there());
        self.json(&Status {
            homes: theirs.map(|home| home.status()).collect(),
            lines: supervisor.log.counted(),
            decisions: match sees_all {
                true => supervisor.decided(),
                false => Decided::default(),
            },
        })
    }

    fn upload(&self, image: &ImageOf, bytes: Option<u64>) -> Result<(), SupervisorError> {
        let bytes_max = self.supervisor.config.image_bytes_max.0;
        if let Some(bytes) = bytes.filter(|bytes| *bytes > bytes_max) {
            return Err(SupervisorError::TooLong { bytes, bytes_max });
        }
        let home = self.supervisor.home(image.home)?;
        let worker = home.upload(&image.path, bytes)?;
        let given = self.link.send(&Reply::Upload, &[worker.as_fd()]);
        given.map_err(lost)
    }

    fn say(&self, reply: &Reply) -> Result<(), SupervisorError> {
        self.link.send(reply, &[]).map_err(lost)
    }

    fn text(&self, piece: String) -> io::Result<()> {
        self.link.send(&Reply::Text(piece), &[])
    }

    fn json(&self, what: &impl serde::Serialize) -> Result<(), SupervisorError> {
        let text = serde_json::to_string(what).map_err(|error| lost(error.into()))?;
        let mut pieces = pieces(&text);
        pieces
            .try_for_each(|piece| self.text(piece.to_owned()))
            .map_err(lost)
    }
}
