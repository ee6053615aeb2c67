//! What the processes of `distrofs serve` tell each other.
//!
//! The supervisor runs as root and parses nothing but these messages; a worker is
//! not trusted, for it parses what customers upload. So every message is short, of
//! fixed fields, and checked here: a path of an image is a plain name, a version a
//! digest, a text is bounded. Messages are JSON, one a packet, with descriptors
//! beside them.
//!
//! Guarantees: what [`Link::receive`] returns was checked; whoever sends something
//! else is not heard any more.
//!
//! A supervisor meets workers of other builds when the program was replaced. So of
//! every version: the first news of a worker is `{"Hello":{"protocol":N,"pid":N,…}}`
//! ([`Greeting`]), and the orders `"Drain"` and `"Leave"` mean what they mean here.

pub mod client;
pub mod control;
pub mod http;
pub mod report;
pub mod served;
pub mod upload;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::sys::packets::{Packets, Peer};
use crate::types::KernelOffer;

pub use crate::types::{Digest as Version, ImagePath};

/// Changes when messages do, so that processes of different builds know.
pub const PROTOCOL: u32 = 4;

/// The number of a mount, of a supervisor and all its successors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MountNo(pub u32);

/// What a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Order {
    /// The first: what to do. With descriptors of the home, of the home without what
    /// is mounted in it, of the store, of where to listen for the next supervisor, and
    /// of the memory where to mark what is being done
    /// ([`breadcrumbs`](crate::sys::breadcrumbs)), by numbers of mounts.
    Begin(Begin),
    /// Serve an image that was offered, with the descriptor of the connection.
    Serve {
        /// As which mount.
        mount: MountNo,
        /// Where in `distros/`.
        path: ImagePath,
        /// Which version.
        version: Version,
    },
    /// Go on with what another worker served, with the connection, and the files
    /// that were offered.
    Adopt {
        /// As which mount.
        mount: MountNo,
        /// Where in `distros/`.
        path: ImagePath,
        /// Which version.
        version: Version,
        /// What the kernel offered at first.
        offer: KernelOffer,
        /// Whether only to answer with errors, and not to read the image.
        is_tombstone: bool,
    },
    /// A container gets a view: prefetch what starts of the image read, if that is
    /// known.
    Prefetch {
        /// Of which mount.
        mount: MountNo,
    },
    /// A question of an owner, whose answer is not for the supervisor.
    Ask {
        /// To be in the answer.
        id: u64,
        /// JSON that the supervisor does not read.
        question: String,
    },
    /// An archive is coming, with the descriptor of a stream socket: see [`upload`].
    Upload {
        /// To become a version of which image.
        path: ImagePath,
        /// How long it will be, if that is known.
        bytes: Option<u64>,
    },
    /// Take nothing in any more, and end once nothing is served.
    Drain,
    /// End now: another worker goes on.
    Leave,
}

/// What a worker needs to know to begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begin {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Who owns all files of images.
    pub uid: u32,
    /// Their group.
    pub gid: u32,
    /// For everything, in bytes.
    pub memory_bytes: u64,
    /// Versions of each image that are kept.
    pub versions_kept: u32,
    /// Settings of sessions, as `key=value`.
    pub tune: Vec<String>,
    /// Whether the worker before ended by a fault of its own that no image can be the
    /// reason for: by what it took in, perhaps.
    pub after_fault: bool,
}

/// What a worker tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum News {
    /// The first.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Its process.
        pid: u32,
        /// Whether it takes nothing in any more: it served a supervisor that was
        /// stopped.
        is_draining: bool,
        /// What program it runs: a worker of another build is relieved.
        build: String,
    },
    /// An image that can be served, with descriptors of all its files.
    Offer {
        /// Where in `distros/`.
        path: ImagePath,
        /// Which version.
        version: Version,
    },
    /// An image is not to be had any more.
    Gone {
        /// Where in `distros/` it was.
        path: ImagePath,
    },
    /// All that was there when the worker began is offered.
    Settled,
    /// A mount answers.
    Serving {
        /// Which.
        mount: MountNo,
        /// What the kernel offered.
        offer: KernelOffer,
    },
    /// It cannot be served.
    Failed {
        /// Which.
        mount: MountNo,
        /// For the log.
        why: String,
    },
    /// Nobody uses a mount any more.
    Ended {
        /// Which.
        mount: MountNo,
    },
    /// What is served, to a supervisor that did not begin it: with the connection
    /// and the files.
    Holding {
        /// Which.
        mount: MountNo,
        /// Where in `distros/`.
        path: ImagePath,
        /// Which version.
        version: Version,
        /// What the kernel offered.
        offer: KernelOffer,
        /// Whether it is answered with errors only.
        #[serde(default)]
        is_tombstone: bool,
    },
    /// A piece of the answer to a question.
    Answer {
        /// Of the question.
        id: u64,
        /// Of JSON, which the supervisor does not read; nothing after the last piece.
        piece: String,
    },
    /// Something for the log of an image, and of those who use it.
    Said {
        /// Where in `distros/`.
        path: ImagePath,
        /// One line.
        text: String,
    },
}

/// What is known of a worker of any version: of its first news, these fields are
/// there, and others may be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub enum Greeting {
    /// As in [`News::Hello`].
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Its process.
        pid: u32,
        /// Whether it takes nothing in any more.
        #[serde(default)]
        is_draining: bool,
        /// What program it runs.
        #[serde(default)]
        build: String,
    },
}

/// The longest piece of a text that is sent at once: written in JSON, each of its
/// characters may take six bytes.
pub const PIECE_BYTES_MAX: usize = 8 * 1024;

/// The pieces of a text, cut between characters.
pub fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut left = text;
    std::iter::from_fn(move || {
        let mut at = PIECE_BYTES_MAX.min(left.len());
        while !left.is_char_boundary(at) {
            at -= 1;
        }
        let (piece, rest) = left.split_at(at);
        left = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A connection that carries messages.
#[derive(Debug)]
pub struct Link(Packets);

impl Link {
    /// Two ends of one.
    pub fn pair() -> io::Result<(Link, Link)> {
        let (a, b) = Packets::pair()?;
        Ok((Link(a), Link(b)))
    }

    /// Another handle to this end.
    pub fn try_clone(&self) -> io::Result<Link> {
        self.0.try_clone().map(Link)
    }

    /// Who is at the other end.
    pub fn peer(&self) -> io::Result<Peer> {
        self.0.peer()
    }

    /// How long sending may wait for the other end to receive.
    pub fn set_sending(&self, patience: Duration) -> io::Result<()> {
        self.0.set_sending(patience)
    }

    /// How long receiving may wait.
    pub fn set_receiving(&self, patience: Duration) -> io::Result<()> {
        self.0.set_receiving(patience)
    }

    /// Ends the connection for all who have a handle to either end.
    pub fn close(&self) {
        self.0.close();
    }

    /// Sends a message.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.0.send(&serde_json::to_vec(message)?, fds)
    }

    /// The next message; nothing once the other end is closed.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let Some(packet) = self.0.receive()? else {
            return Ok(None);
        };
        let message = serde_json::from_slice(&packet.bytes)?;
        Ok(Some((message, packet.fds)))
    }
}

impl From<Packets> for Link {
    fn from(packets: Packets) -> Self {
        Link(packets)
    }
}

impl std::os::fd::AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_text_of_any_length_comes_in_pieces_that_fit() {
        for text in ["", &"é".repeat(20_001), &"\u{1}".repeat(30_000)] {
            let (ours, theirs) = Link::pair().unwrap();
            let mut joined = String::new();
            for piece in pieces(text) {
                let piece = piece.to_owned();
                ours.send(&News::Answer { id: 1, piece }, &[]).unwrap();
                let (news, _) = theirs.receive().unwrap().unwrap();
                if let News::Answer { piece, .. } = news {
                    joined += &piece;
                }
            }
            assert_eq!(joined, text);
        }
    }

    #[test]
    fn workers_of_other_versions_are_known() {
        let (ours, theirs) = Link::pair().unwrap();
        let hello = News::Hello {
            protocol: PROTOCOL,
            pid: 7,
            is_draining: true,
            build: "1".to_owned(),
        };
        ours.send(&hello, &[]).unwrap();
        let of_first = r#"{"Hello":{"protocol":1,"pid":7,"is_draining":false}}"#;
        let of_later = r#"{"Hello":{"more":[],"pid":7,"protocol":9}}"#;
        for text in [of_first, of_later] {
            ours.0.send(text.as_bytes(), &[]).unwrap();
        }
        for expected in [PROTOCOL, 1, 9] {
            let (greeting, _) = theirs.receive().unwrap().unwrap();
            let Greeting::Hello { protocol, pid, .. } = greeting;
            assert_eq!((protocol, pid), (expected, 7));
        }
        for (order, text) in [(Order::Drain, r#""Drain""#), (Order::Leave, r#""Leave""#)] {
            assert_eq!(serde_json::to_string(&order).unwrap(), text);
        }
    }

    #[test]
    fn messages_are_checked_when_they_come() {
        let (ours, theirs) = Link::pair().unwrap();
        let file = std::fs::File::open("/dev/null").unwrap();
        let offer = News::Offer {
            path: "debian".parse().unwrap(),
            version: Version::new([7; 32]),
        };
        ours.send(&offer, &[file.as_fd()]).unwrap();
        let (news, fds) = theirs.receive::<News>().unwrap().unwrap();
        assert_eq!(fds.len(), 1);
        assert!(matches!(news, News::Offer { path, .. } if path.as_str() == "debian"));
        for wrong in [
            r#"{"Gone":{"path":"../etc"}}"#,
            r#"{"Gone":{"path":"a","more":1}}"#,
            r#"{"Offer":{"path":"a","version":"00"}}"#,
            "7",
            "{",
        ] {
            ours.0.send(wrong.as_bytes(), &[]).unwrap();
            assert!(theirs.receive::<News>().is_err(), "{wrong}");
        }
    }
}
