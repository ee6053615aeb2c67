//! Archives that are sent to this worker, through sockets.
//!
//! Guarantees: whoever sends one is answered, and not waited for in vain; what is in
//! memory of an archive is one buffer, whatever its sender does.

mod frames;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::WorkerError;
use super::images::Images;
use super::library::{Library, Sending};
use crate::store::home::Incoming;
use crate::types::ImagePath;
use crate::wire::upload::{RECEIVED_BYTES_MAX, Received};
use frames::Frames;

const STACK_BYTES: usize = 1 << 20;

/// What is received at once, at most.
const READ_BYTES: usize = 128 << 10;

/// How often who waits for bytes looks whether they are still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a sender may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How long a sender may take to hear what became of its archive.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// What is said by a worker that leaves.
const LEAVING: &str = "the service is being stopped or replaced: send it again in a moment";

/// Takes in archives that are sent.
pub(super) struct Receiving {
    library: Arc<Library>,
    images: Arc<Images>,
}

impl Receiving {
    pub(super) fn new(library: &Arc<Library>, images: &Arc<Images>) -> Self {
        Receiving {
            library: Arc::clone(library),
            images: Arc::clone(images),
        }
    }

    /// Sees to it that the archive is taken in that comes through a socket, for the
    /// image at `path` and of so many bytes if that is known.
    pub(super) fn begin(
        &self,
        path: ImagePath,
        announced: Option<u64>,
        fds: Vec<OwnedFd>,
    ) -> Result<(), WorkerError> {
        let [socket] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| WorkerError::Order)?;
        let socket = Arc::new(UnixStream::from(socket));
        let theirs = Arc::clone(&socket);
        let (library, images) = (Arc::clone(&self.library), Arc::clone(&self.images));
        let started = std::thread::Builder::new()
            .name("receive".to_owned())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                let received = match images.is_draining() {
                    true => failed(LEAVING),
                    false => library.receive(&images, &path, announced, |incoming, sending| {
                        feed(&theirs, incoming, sending, &images);
                    }),
                };
                answer(&theirs, received);
            });
        if let Err(error) = started {
            let reason = format!("no thread could be started ({error}): send it again");
            answer(&socket, failed(&reason));
        }
        Ok(())
    }
}

fn failed(reason: &str) -> Received {
    let reason = reason.to_owned();
    Received::Failed { reason }
}

/// Gives what comes to who takes it in, until it is whole, or not wanted any more.
fn feed(mut socket: &UnixStream, mut incoming: Incoming, sending: &Sending<'_>, images: &Images) {
    if let Err(error) = socket.set_read_timeout(Some(LOOK_EVERY)) {
        return incoming.give_up(format!("the connection cannot be used: {error}"));
    }
    let (mut frames, mut buffer) = (Frames::default(), vec![0; READ_BYTES]);
    let mut heard = Instant::now();
    while !sending.is_over() {
        if images.is_draining() {
            return incoming.give_up(LEAVING);
        }
        let n = match socket.read(&mut buffer) {
            // Which is said by who takes it in.
            Ok(0) => return,
            Ok(n) => n,
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => continue,
                ErrorKind::WouldBlock | ErrorKind::TimedOut if heard.elapsed() < SILENCE_MAX => {
                    sending.tell();
                    continue;
                }
                ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    let seconds = SILENCE_MAX.as_secs();
                    let why = format!("nothing was sent for {seconds} seconds: send it again");
                    return incoming.give_up(why);
                }
                _ => return incoming.give_up(format!("the connection failed: {error}")),
            },
        };
        heard = Instant::now();
        match frames.strip(&mut buffer[..n]) {
            Ok(kept) => {
                // It keeps the reason itself.
                if incoming.write(&buffer[..kept]).is_err() {
                    return;
                }
            }
            Err(error) => return incoming.give_up(error.to_string()),
        }
        sending.tell();
        if frames.has_ended() {
            let _kept_by_it = incoming.finish();
            return;
        }
    }
}

/// Tells a sender what became of its archive, if it still listens.
fn answer(mut socket: &UnixStream, mut received: Received) {
    let told = loop {
        match serde_json::to_vec(&received) {
            Ok(text) if text.len() <= RECEIVED_BYTES_MAX => break text,
            Ok(_) => shorten(&mut received),
            Err(error) => return tracing::error!(%error, "what became of an archive"),
        }
    };
    let told = socket
        .set_write_timeout(Some(ANSWER_PATIENCE))
        .and_then(|()| socket.write_all(&told));
    if let Err(error) = told {
        tracing::info!(%error, "who sent an archive does not hear what became of it");
    }
    let _closed_already = socket.shutdown(Shutdown::Both);
}

/// Has less be said.
fn shorten(received: &mut Received) {
    match received {
        Received::Taken { notes, .. } => {
            notes.truncate(notes.len() / 2);
        }
        Received::Rejected { reason } | Received::Failed { reason } => {
            *reason = reason.chars().take(reason.chars().count() / 2).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Digest;

    #[test]
    fn an_answer_fits_whatever_it_is_about() {
        let many = Received::Taken {
            version: Digest::new([1; 32]),
            bytes: 1,
            entries: 1,
            notes: vec!["\u{1}".repeat(4096); 100],
        };
        let long = Received::Rejected {
            reason: "é\u{1}".repeat(100_000),
        };
        for received in [many, long, failed("short")] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let heard = std::thread::spawn(move || {
                let mut heard = Vec::new();
                theirs.read_to_end(&mut heard).unwrap();
                heard
            });
            answer(&ours, received.clone());
            let heard = heard.join().unwrap();
            assert!(heard.len() <= RECEIVED_BYTES_MAX);
            let heard: Received = serde_json::from_slice(&heard).unwrap();
            match (heard, received) {
                (Received::Taken { notes, .. }, Received::Taken { .. }) => {
                    assert!(!notes.is_empty());
                }
                (Received::Rejected { reason }, Received::Rejected { .. }) => {
                    assert!(!reason.is_empty());
                }
                (heard, received) => assert_eq!(heard, received),
            }
        }
    }
}
