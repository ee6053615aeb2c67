//! What the registry decides, on its way to the supervisor; and what it raised, on
//! its way here.
//!
//! Guarantees: the supervisor has what is in the registry, whoever changed that, soon
//! after; a request that changed something waits for that ([`Pushed::wait`]).
//! Containers are restarted after the supervisor has what they are to get, also if
//! this process ended between. Each alarm is stored once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::RunDirectory;
use crate::registry::{Registry, RegistryError};
use crate::types::{Decision, Raised};
use crate::wire::client::{self, AskError, ask_text};
use crate::wire::control::{DECISIONS_MAX, Decisions, Request};

/// How often the registry is looked at for what others changed.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// How long the supervisor may take; restarting a container takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
const RESTART_WITHIN: Duration = Duration::from_secs(90);

/// How long a request waits for the supervisor to know.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// The most that waiting alarms may take.
const ALARMS_BYTES_MAX: usize = 8 << 20;

/// How far the supervisor is.
#[derive(Debug)]
pub(super) struct Pushed {
    wake: SyncSender<()>,
    /// How often it was waited for.
    asked: AtomicU64,
    /// For how many of those the supervisor has what there was.
    done: watch::Sender<u64>,
}

/// Why something did not get there.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Supervisor(#[from] AskError),
    #[error("what the service says is odd: {0}: restart it")]
    Odd(#[from] serde_json::Error),
}

/// Where things are.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The service's sockets.
    pub(super) run: Arc<RunDirectory>,
    /// The registry.
    pub(super) registry: PathBuf,
    /// This server's name there.
    pub(super) server: String,
}

impl Pushed {
    /// Begins to push, and to take alarms.
    pub(super) fn start(ends: &Ends) -> std::io::Result<Arc<Pushed>> {
        let (wake, woken) = sync_channel(1);
        let pushed = Arc::new(Pushed {
            wake,
            asked: AtomicU64::new(0),
            done: watch::Sender::new(0),
        });
        let (theirs, known) = (ends.clone(), Arc::clone(&pushed));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("push").spawn(move || Pusher::new(theirs, known).run(&woken))?;
        let theirs = ends.clone();
        thread("alarms").spawn(move || take_alarms(&theirs))?;
        Ok(pushed)
    }

    /// Waits until the supervisor has what is in the registry now; not for ever, for
    /// it will have it as soon as it can.
    pub(super) async fn wait(&self) {
        let wanted = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        // It is full if the thread will look anyway.
        let _full = self.wake.try_send(()).is_err();
        let mut done = self.done.subscribe();
        let known = done.wait_for(|done| *done >= wanted);
        if tokio::time::timeout(KNOWN_WITHIN, known).await.is_err() {
            tracing::warn!("the service does not know of a change yet");
        }
    }
}

/// The thread that pushes.
struct Pusher {
    ends: Ends,
    known: Arc<Pushed>,
    registry: Option<Registry>,
    /// What the supervisor has; nothing before it was told all.
    last: Option<(u64, BTreeMap<u32, Decision>)>,
    failed: Option<String>,
}

impl Pusher {
    fn new(ends: Ends, known: Arc<Pushed>) -> Pusher {
        Pusher {
            ends,
            known,
            registry: None,
            last: None,
            failed: None,
        }
    }

    fn run(mut self, woken: &Receiver<()>) {
        loop {
            let asked = self.known.asked.load(Ordering::SeqCst);
            match self.once() {
                Ok(()) => {
                    if self.failed.take().is_some() {
                        tracing::info!("the service has what the registry decides again");
                    }
                    self.known.done.send_replace(asked);
                    // Who is to be restarted gets the new.
                    if let Err(error) = self.restart() {
                        self.lost(&error);
                    }
                }
                Err(error) => self.lost(&error),
            }
            let pause = if self.failed.is_some() {
                RETRY
            } else {
                LOOK_EVERY
            };
            let _woken = woken.recv_timeout(pause).is_ok();
        }
    }

    /// Says why it does not go on, once.
    fn lost(&mut self, error: &PushError) {
        let text = error.to_string();
        if self.failed.as_ref() != Some(&text) {
            tracing::error!(
                error = text,
                "the service does not know of changes: it goes on with what it knows"
            );
        }
        self.failed = Some(text);
        match error {
            PushError::Registry(_) => self.registry = None,
            // What it has of it is not known.
            _ => self.last = None,
        }
    }

    fn registry(&mut self) -> Result<&mut Registry, RegistryError> {
        let registry = match self.registry.take() {
            Some(registry) => registry,
            None => Registry::open(&self.ends.registry)?,
        };
        Ok(self.registry.insert(registry))
    }

    /// Tells the supervisor what it does not have.
    fn once(&mut self) -> Result<(), PushError> {
        let server = self.ends.server.clone();
        let now = self.registry()?.revision()?;
        if self.last.as_ref().is_some_and(|(before, _)| *before == now) {
            return Ok(());
        }
        let (revision, decided) = self.registry()?.decisions(&server)?;
        let all: BTreeMap<_, _> = decided
            .into_iter()
            .map(|decision| (decision.container, decision))
            .collect();
        let packets = match &self.last {
            Some((_, before)) => differences(before, &all, revision),
            None => everything(&all, revision),
        };
        client::tell(&self.ends.run.path, &Request::Decide, &packets, PATIENCE)?;
        self.last = Some((revision, all));
        Ok(())
    }

    /// Restarts those that are to be. One that cannot be is not tried for ever.
    fn restart(&mut self) -> Result<(), PushError> {
        let server = self.ends.server.clone();
        for (ticket, container) in self.registry()?.restarts_on(&server)? {
            let request = Request::Restart { container };
            let asked = client::ask(&self.ends.run.path, &request, RESTART_WITHIN, |_, _| Ok(()));
            match asked {
                Ok(()) => tracing::info!(container, "a container is restarted"),
                Err(AskError::Refused(why)) => {
                    tracing::error!(container, why, "a container is not restarted");
                }
                Err(error) => return Err(error.into()),
            }
            self.registry()?.restarted(ticket)?;
        }
        Ok(())
    }
}

fn packets(decided: Vec<Decision>, gone: Vec<u32>, is_all: bool, revision: u64) -> Vec<Decisions> {
    let (mut decided, mut gone) = (decided.into_iter(), gone.into_iter());
    let mut packets = Vec::new();
    loop {
        let packet = Decisions {
            decided: decided.by_ref().take(DECISIONS_MAX).collect(),
            gone: gone.by_ref().take(DECISIONS_MAX).collect(),
            ..Decisions::default()
        };
        let is_last = decided.len() == 0 && gone.len() == 0;
        packets.push(packet);
        if is_last {
            break;
        }
    }
    if let Some(last) = packets.last_mut() {
        (last.is_last, last.is_all, last.revision) = (true, is_all, revision);
    }
    packets
}

fn everything(all: &BTreeMap<u32, Decision>, revision: u64) -> Vec<Decisions> {
    packets(all.values().cloned().collect(), Vec::new(), true, revision)
}

fn differences(
    before: &BTreeMap<u32, Decision>,
    now: &BTreeMap<u32, Decision>,
    revision: u64,
) -> Vec<Decisions> {
    let changed = now.iter().filter(|(uid, new)| before.get(uid) != Some(new));
    let changed = changed.map(|(_, new)| new.clone()).collect();
    let gone = before.keys().filter(|uid| !now.contains_key(uid));
    packets(changed, gone.copied().collect(), false, revision)
}

/// Stores what was raised, for ever.
fn take_alarms(ends: &Ends) {
    let mut registry = None;
    let mut failed = None;
    loop {
        let began = Instant::now();
        match take_some(&ends.run.path, &ends.registry, &mut registry) {
            Ok(()) => failed = None,
            Err(error) => {
                let text = error.to_string();
                if failed.as_ref() != Some(&text) {
                    tracing::error!(
                        error = text,
                        "alarms are not stored: the service keeps them"
                    );
                }
                failed = Some(text);
                registry = None;
                std::thread::sleep(RETRY);
            }
        }
        // A supervisor that does not wait for any is not asked all the time.
        if began.elapsed() < Duration::from_millis(20) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn take_some(
    run: &Path,
    directory: &Path,
    registry: &mut Option<Registry>,
) -> Result<(), PushError> {
    let open = match registry.take() {
        Some(open) => open,
        None => Registry::open(directory)?,
    };
    let registry = registry.insert(open);
    let taken = registry.alarms_taken()?;
    let text = ask_text(run, &Request::Alarms { taken }, PATIENCE, ALARMS_BYTES_MAX)?;
    let raised: Vec<Raised> = serde_json::from_str(&text)?;
    if !raised.is_empty() {
        registry.take_alarms(&raised)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(container: u32, is_storage: bool) -> (u32, Decision) {
        let decision = Decision {
            container,
            customer: 1,
            is_storage,
            image: None,
            default: None,
            writable: None,
        };
        (container, decision)
    }

    #[test]
    fn everything_fits_messages_and_ends_once() {
        for count in [0, 1, 64, 65, 1000] {
            let all = (1..=count).map(|uid| decision(uid, false)).collect();
            let packets = everything(&all, 7);
            let (last, before) = packets.split_last().unwrap();
            assert!(last.is_last && last.is_all && last.revision == 7);
            assert!(before.iter().all(|packet| !packet.is_last));
            let sizes = packets.iter().map(|packet| packet.decided.len());
            assert!(sizes.clone().all(|size| size <= DECISIONS_MAX));
            assert_eq!(sizes.sum::<usize>(), count as usize);
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = [decision(1, false), decision(2, false), decision(3, false)].into();
        let now = [decision(1, false), decision(2, true), decision(4, false)].into();
        let packets = differences(&before, &now, 8);
        let [packet] = &packets[..] else {
            panic!("{packets:?}");
        };
        let told: Vec<_> = packet.decided.iter().map(|d| d.container).collect();
        assert_eq!((told, &packet.gone[..]), (vec![2, 4], &[3][..]));
        assert!(packet.is_last && !packet.is_all);
    }
}
