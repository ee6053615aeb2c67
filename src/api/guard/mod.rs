//! Who asks: credentials, and how often they may be tried.
//!
//! Guarantees: a password is compared in the same time whether its account exists or
//! not; at most two are compared at once, for that takes 19 MiB each; wrong ones are
//! counted by account and by address, and after too many none is compared for a
//! while. What was right is remembered for a minute under a keyed digest, so that
//! who is known is not kept out by others who guess, and nothing that can be used
//! later is in memory. A changed password is another one at once.
//!
//! | module | what it is |
//! |---|---|
//! | `credentials` | what a request carries |
//! | `known` | who was right a moment ago |
//! | `tries` | how often something was tried |
//! | `guests` | how many requests of a customer are answered at a time |

mod credentials;
mod guests;
mod known;
mod tries;

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use tokio::sync::Semaphore;

use super::answer::{Answer, Refused};
use super::database::Database;
use super::listen::Visit;
use crate::registry::{CustomerId, password};
use credentials::Credentials;
pub(super) use guests::Guest;
use guests::Guests;
use known::Known;
use tries::{Tried, Tries};

/// How many passwords are compared at a time.
const COMPARED_MAX: usize = 2;

/// How long one may wait for that.
const WITHIN: Duration = Duration::from_secs(15);

/// Finds out who asks.
#[derive(Debug)]
pub(super) struct Guard {
    database: Arc<Database>,
    known: Known,
    tries: Tries,
    guests: Arc<Guests>,
    turns: Arc<Semaphore>,
    /// Whether a proxy says who asks.
    is_forwarded: bool,
}

impl Guard {
    /// By the accounts in `database`.
    pub(super) fn new(database: Arc<Database>, is_forwarded: bool) -> std::io::Result<Guard> {
        Ok(Guard {
            database,
            known: Known::new()?,
            tries: Tries::default(),
            guests: Arc::default(),
            turns: Arc::new(Semaphore::new(COMPARED_MAX)),
            is_forwarded,
        })
    }

    /// The customer who asks, for as long as that is answered.
    pub(super) async fn admit(&self, visit: &Visit, headers: &HeaderMap) -> Answer<Guest> {
        let customer = self.customer(visit, headers).await?;
        visit.seat.keep();
        self.guests.admit(customer).ok_or(Refused::TooMany)
    }

    async fn customer(&self, visit: &Visit, headers: &HeaderMap) -> Answer<CustomerId> {
        let given = Credentials::of(headers).ok_or(Refused::Unauthorized)?;
        let name = given.username.clone();
        let account = self.database.read(move |all| all.account(&name)).await?;
        let stored = account.as_ref().map(|account| &*account.password);
        let mark = self.known.mark(&given, stored.unwrap_or_default());
        if let Some(account) = &account
            && self.known.is_known(&mark)
        {
            return Ok(account.customer);
        }
        let address = match self.is_forwarded {
            true => credentials::forwarded(headers),
            false => None,
        };
        let tried = Tried::new(&visit.client, address, &given.username);
        self.tries.begin(&tried).map_err(|_| Refused::TooMany)?;
        let turn = tokio::time::timeout(WITHIN, Arc::clone(&self.turns).acquire_owned());
        let busy = || Refused::Unavailable("Too many wait to be known: try again".to_owned());
        let turn = turn.await.map_err(|_| busy())?.map_err(|_| busy())?;
        // Somebody else with the same may have been first.
        if let Some(account) = &account
            && self.known.is_known(&mark)
        {
            self.tries.forgive(&tried);
            return Ok(account.customer);
        }
        let phc = account.as_ref().map(|account| account.password.clone());
        let compared = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            match &phc {
                Some(phc) => password::verify(&given.password, phc),
                None => {
                    password::verify_nobody(&given.password);
                    false
                }
            }
        });
        match (account, compared.await) {
            (Some(account), Ok(true)) => {
                self.tries.forgive(&tried);
                self.known.remember(mark);
                Ok(account.customer)
            }
            _ => {
                tracing::info!(by = %tried, "a wrong name or password");
                Err(Refused::Unauthorized)
            }
        }
    }
}
