//! Orders on their way to a worker.
//!
//! Guarantees: giving an order never waits. A worker that does not receive is cut
//! off, and with it all orders that it did not get: its successor is told what
//! matters.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::wire::{Link, Order};

/// How long a worker may take to receive an order.
const PATIENCE: Duration = Duration::from_secs(10);

type Given = (Order, Vec<OwnedFd>);

/// Where orders are given.
#[derive(Debug)]
pub(super) struct Orders {
    given: Sender<Given>,
    thread: JoinHandle<()>,
}

impl Orders {
    /// To the worker at the other end of `link`.
    pub(super) fn new(link: Link) -> io::Result<Orders> {
        link.set_sending(PATIENCE)?;
        let (orders, given) = channel::<Given>();
        let thread = std::thread::Builder::new()
            .name("orders".to_owned())
            .spawn(move || {
                for (order, fds) in given {
                    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
                    if let Err(error) = link.send(&order, &fds) {
                        tracing::warn!(%error, "a worker does not listen");
                        break;
                    }
                }
                link.close();
            })?;
        Ok(Orders {
            given: orders,
            thread,
        })
    }

    /// Gives an order, with copies of descriptors. What a worker that is gone is told
    /// does not matter.
    pub(super) fn give(&self, order: Order, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let fds: io::Result<Vec<_>> = fds.iter().map(BorrowedFd::try_clone_to_owned).collect();
        let _gone = self.given.send((order, fds?)).is_err();
        Ok(())
    }

    /// Waits until the worker has them all, or is cut off.
    pub(super) fn finish(self) {
        drop(self.given);
        // It cannot panic.
        let _done = self.thread.join().is_ok();
    }
}
