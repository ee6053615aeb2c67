//! What a request may know of its connection.

use super::Client;
use super::patience::Patience;
use super::places::Seat;

/// A connection, as its request sees it.
#[derive(Clone, Debug)]
pub(in crate::api) struct Visit {
    /// Who is at the other end.
    pub(in crate::api) client: Client,
    /// How long it may last.
    pub(in crate::api) patience: Patience,
    /// Its place among others.
    pub(in crate::api) seat: Seat,
}
