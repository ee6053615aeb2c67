//! One supervisor after another, as when the program is replaced.
//!
//! A supervisor that is told to hand over leaves its workers and all mounts, which go
//! on, and ends. The next one connects to each worker and gets from it all that is
//! served. Workers of its own build stay; one of another build is told to leave once
//! everything of it is held here, and a worker of this build goes on with it. Who
//! reads meanwhile waits for a moment.
//!
//! Guarantees: no connection is ever held by nobody; a worker that cannot be
//! understood is neither killed nor served beside: it goes on with what it has until
//! nobody uses that any more.

use std::os::fd::OwnedFd;
use std::sync::PoisonError;
use std::time::Duration;

use serde::de::IgnoredAny;

use super::home::Home;
use super::orders::Orders;
use super::process::Process;
use crate::sys::packets::Packets;
use crate::sys::process::build;
use crate::wire::{Greeting, Link, News, Order, PROTOCOL};

/// How long a worker of another version may say nothing while it tells what it has.
const STRANGER_WITHIN: Duration = Duration::from_secs(30);

/// A worker that says nothing for so long has said all.
const HEARD_OUT_AFTER: Duration = Duration::from_secs(1);

/// How long workers may be on their way when this is to end.
const LEAVE_WITHIN: Duration = Duration::from_secs(30);

impl Home {
    /// A worker that serves still, after another supervisor ended.
    pub(super) fn take_over(&self) -> Option<Link> {
        let packets = Packets::connect(&self.paths.socket).ok()?;
        let link = Link::from(packets);
        let mut known = self.known();
        known.orders = Some(Orders::new(link.try_clone().ok()?).ok()?);
        if known.is_retired {
            self.drain(&known);
        }
        drop(known);
        tracing::info!(home = self.uid, "a worker is there already");
        Some(link)
    }

    /// Meets whoever is at the other end; whether it is a worker that can be told what
    /// to do.
    pub(super) fn greet(&self, link: &Link, process: &mut Process) -> bool {
        let Greeting::Hello {
            protocol,
            pid,
            is_draining,
            build: theirs,
        } = match link.receive() {
            Ok(Some((greeting, _))) => greeting,
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(home = self.uid, %error, "a worker does not say what it is");
                return false;
            }
        };
        if protocol != PROTOCOL && !self.relieve_stranger(link, protocol, pid) {
            return false;
        }
        if process.is_unknown() {
            process.adopt(pid, self.uid);
        }
        let is_other = build().ok().is_none_or(|ours| ours != theirs);
        if is_other {
            tracing::info!(home = self.uid, pid, %theirs, "a worker of another build is relieved");
        }
        let mut known = self.known();
        known.worker = Some(pid);
        known.is_relieved = is_draining || is_other;
        true
    }

    /// Takes all that a worker of another version serves, and has it leave. If it
    /// cannot be understood, has it take nothing in any more and end when nobody needs
    /// it.
    fn relieve_stranger(&self, link: &Link, protocol: u32, pid: u32) -> bool {
        match receive_all(link) {
            Ok(holdings) => {
                let mut known = self.known();
                for (news, fds) in holdings {
                    if let News::Holding {
                        mount,
                        path,
                        version,
                        offer,
                        ..
                    } = news
                    {
                        known.hold(mount, path, version, offer, fds);
                    }
                }
                drop(known);
                link.send(&Order::Leave, &[]).is_ok()
            }
            Err(error) => {
                let told = link.send(&Order::Drain, &[]).is_ok();
                // It ends by the worker's silence, or its end.
                let _silent = hear_out(link).is_err();
                tracing::error!(
                    home = self.uid,
                    pid,
                    protocol,
                    ours = PROTOCOL,
                    %error,
                    told,
                    "a worker of another version cannot be understood: what containers use of it \
                     goes on by it until they end, and new starts get this version. It ends by \
                     itself; if it is in the way, stop those containers and kill it"
                );
                false
            }
        }
    }

    /// Waits until the worker has all that is served, so that this process may end;
    /// whether it has.
    pub(super) fn may_be_left(&self) -> bool {
        let known = self.known();
        let waited = self
            .settled
            .wait_timeout_while(known, LEAVE_WITHIN, |known| {
                let has_all =
                    known.orders.is_some() && known.handed.is_empty() && !known.is_relieved;
                !known.mounts.is_empty() && !has_all
            });
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// What a worker says until it has said all.
fn receive_all(link: &Link) -> std::io::Result<Vec<(News, Vec<OwnedFd>)>> {
    link.set_receiving(STRANGER_WITHIN)?;
    let mut all = Vec::new();
    loop {
        match link.receive()? {
            None => return Err(std::io::Error::other("it ended")),
            Some((News::Settled, _)) => break,
            Some(said @ (News::Holding { .. }, _)) => all.push(said),
            Some(_) => {}
        }
    }
    Ok(all)
}

/// Hears a worker out: of a connection that is closed with something unheard, the
/// other end does not get what was said last.
fn hear_out(link: &Link) -> std::io::Result<()> {
    link.set_receiving(HEARD_OUT_AFTER)?;
    while link.receive::<IgnoredAny>()?.is_some() {}
    Ok(())
}
