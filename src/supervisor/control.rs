//! What commands on this machine ask.
//!
//! Guarantees: who asks is known from the kernel; root may ask everything, others
//! about their own home only, but that one user is told how all are doing: that which
//! answers HTTP. A client that does not go on is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::de::IgnoredAny;

use super::Supervisor;
use super::reply::Asked;
use crate::sys::packets::{Listener, Packets};
use crate::wire::Link;
use crate::wire::control::{Reply, Request};

/// How many may ask for something at a time, of each user and in all: nobody keeps
/// others from being answered.
const OF_ROOT_MAX: usize = 64;
const OF_USER_MAX: usize = 8;
const CLIENTS_MAX: usize = 512;

/// Who is being answered.
#[derive(Debug, Default)]
struct Clients(Mutex<BTreeMap<u32, usize>>);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Client {
    uid: u32,
    clients: Arc<Clients>,
}

impl Clients {
    fn users(&self) -> MutexGuard<'_, BTreeMap<u32, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more, unless there are too many.
    fn admit(self: &Arc<Self>, uid: u32) -> Option<Client> {
        let mut users = self.users();
        let all: usize = users.values().sum();
        let theirs = users.get(&uid).copied().unwrap_or(0);
        let is_room = match uid {
            0 => theirs < OF_ROOT_MAX,
            _ => theirs < OF_USER_MAX && all < CLIENTS_MAX,
        };
        if !is_room {
            return None;
        }
        users.insert(uid, theirs + 1);
        let clients = Arc::clone(self);
        Some(Client { uid, clients })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let mut users = self.clients.users();
        match users.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(users.remove(&self.uid)),
        }
    }
}

/// How long a client may take to ask, and to listen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client that says nothing for so long has said all.
const HEARD_OUT_AFTER: Duration = Duration::from_secs(1);

/// Answers until this process ends.
pub(super) fn answer(supervisor: &Arc<Supervisor>, listener: &Listener) {
    let clients = Arc::new(Clients::default());
    loop {
        let client = match listener.accept() {
            Ok(client) => client,
            Err(error) => {
                tracing::error!(%error, "cannot be asked");
                std::thread::sleep(PATIENCE);
                continue;
            }
        };
        let peer = client.peer().ok();
        let Some((uid, admitted)) =
            peer.and_then(|peer| Some((peer.uid, clients.admit(peer.uid)?)))
        else {
            continue;
        };
        let supervisor = Arc::clone(supervisor);
        let started = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                if let Err(error) = attend(&supervisor, client, uid) {
                    tracing::info!(uid, %error, "a client was not answered");
                }
                drop(admitted);
            });
        if let Err(error) = started {
            tracing::error!(%error, "a client cannot be answered");
        }
    }
}

fn attend(supervisor: &Arc<Supervisor>, client: Packets, uid: u32) -> std::io::Result<()> {
    client.set_receiving(PATIENCE)?;
    client.set_sending(PATIENCE)?;
    let link = Link::from(client);
    let Some((request, _)) = link.receive::<Request>()? else {
        return Ok(());
    };
    let is_more_to_come = matches!(request, Request::Decide);
    let asked = Asked {
        supervisor,
        uid,
        link: &link,
    };
    let last = match asked.reply(request) {
        Ok(()) => Reply::Done,
        Err(error) => Reply::Failed(error.to_string()),
    };
    link.send(&last, &[])?;
    if is_more_to_come && matches!(last, Reply::Failed(_)) {
        hear_out(&link)?;
    }
    Ok(())
}

/// Hears a client out, for a while: of a connection that is closed with something
/// unheard, the other end does not get what was said last.
fn hear_out(link: &Link) -> std::io::Result<()> {
    link.set_receiving(HEARD_OUT_AFTER)?;
    let began = Instant::now();
    while began.elapsed() < PATIENCE && link.receive::<IgnoredAny>()?.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_who_asks_all_the_time_keeps_nobody_else_from_asking() {
        let clients = Arc::new(Clients::default());
        let mut held = Vec::new();
        for uid in 30_000..30_100 {
            held.extend((0..100).map_while(|_| clients.admit(uid)));
        }
        assert_eq!(held.len(), CLIENTS_MAX);
        assert!(clients.admit(30_099).is_none());
        held.extend((0..100).map_while(|_| clients.admit(0)));
        assert_eq!(held.len(), CLIENTS_MAX + OF_ROOT_MAX);
        drop(held);
        assert!(clients.users().is_empty());
        let held: Vec<_> = (0..100).map_while(|_| clients.admit(30_000)).collect();
        assert_eq!(held.len(), OF_USER_MAX);
        assert!(clients.admit(30_001).is_some());
    }
}
