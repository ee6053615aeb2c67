//! How often passwords were tried.
//!
//! Guarantees: memory is bounded, and a flood of new names does not make those be
//! forgotten that were tried too often. What is being tried counts already.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::super::listen::Client;

/// In so long.
const WINDOW: Duration = Duration::from_secs(60);

/// By an address, and of an account: by all addresses together.
const OF_ADDRESS_MAX: u32 = 30;
const OF_ACCOUNT_MAX: u32 = 100;

/// How many addresses and accounts are counted at a time.
const COUNTED_MAX: usize = 20_000;

/// What is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    User(u32),
    Account(String),
}

/// Who tries what.
#[derive(Clone, Debug)]
pub(super) struct Tried {
    by: Key,
    account: Key,
}

impl Tried {
    /// By a client; by `forwarded`, if a proxy asks.
    pub(super) fn new(client: &Client, forwarded: Option<IpAddr>, account: &str) -> Tried {
        let by = match (forwarded, *client) {
            (Some(address), _) | (None, Client::Address(address)) => Key::Address(network(address)),
            (None, Client::User(uid)) => Key::User(uid),
        };
        let account = Key::Account(account.to_owned());
        Tried { by, account }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.by {
            Key::Address(address) => address.fmt(f),
            Key::User(uid) => write!(f, "user {uid}"),
            Key::Account(_) => Ok(()),
        }
    }
}

/// All addresses of a customer's line are one.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => match address.to_ipv4_mapped() {
            Some(mapped) => mapped.into(),
            None => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

/// There were too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany;

/// Counts.
#[derive(Debug, Default)]
pub(super) struct Tries(Mutex<HashMap<Key, (Instant, u32)>>);

impl Tries {
    fn counted(&self) -> MutexGuard<'_, HashMap<Key, (Instant, u32)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a try, unless there were too many.
    pub(super) fn begin(&self, tried: &Tried) -> Result<(), TooMany> {
        let mut counted = self.counted();
        if counted.len() + 2 > COUNTED_MAX {
            counted.retain(|_, (since, _)| since.elapsed() < WINDOW);
        }
        if counted.len() + 2 > COUNTED_MAX {
            return Err(TooMany);
        }
        let both = [
            (&tried.by, OF_ADDRESS_MAX),
            (&tried.account, OF_ACCOUNT_MAX),
        ];
        let is_full = |(key, max): &(&Key, u32)| {
            let found = counted.get(*key);
            found.is_some_and(|(since, count)| since.elapsed() < WINDOW && count >= max)
        };
        if both.iter().any(is_full) {
            return Err(TooMany);
        }
        for (key, _) in both {
            let (since, count) = counted.entry(key.clone()).or_insert((Instant::now(), 0));
            if since.elapsed() >= WINDOW {
                (*since, *count) = (Instant::now(), 0);
            }
            *count += 1;
        }
        Ok(())
    }

    /// A try was right: it does not count.
    pub(super) fn forgive(&self, tried: &Tried) {
        let mut counted = self.counted();
        for key in [&tried.by, &tried.account] {
            if let Some((_, count)) = counted.get_mut(key) {
                *count = count.saturating_sub(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn by(address: &str, account: &str) -> Tried {
        Tried::new(&Client::Address(address.parse().unwrap()), None, account)
    }

    #[test]
    fn who_guesses_is_stopped_and_others_are_not() {
        let tries = Tries::default();
        let guess = by("192.0.2.1", "kratos");
        for _ in 0..OF_ADDRESS_MAX {
            tries.begin(&guess).unwrap();
        }
        assert_eq!(tries.begin(&guess), Err(TooMany));
        // Another name is the same address.
        assert_eq!(tries.begin(&by("192.0.2.1", "other")), Err(TooMany));
        tries.begin(&by("192.0.2.2", "kratos")).unwrap();
        tries.forgive(&guess);
        tries.begin(&guess).unwrap();
    }

    #[test]
    fn an_account_is_not_guessed_from_many_addresses() {
        let tries = Tries::default();
        let allowed = (0..=u8::MAX).filter(|n| {
            let tried = by(&format!("192.0.2.{n}"), "kratos");
            tries.begin(&tried).is_ok()
        });
        assert_eq!(allowed.count(), OF_ACCOUNT_MAX as usize);
    }

    #[test]
    fn a_line_with_many_addresses_is_one() {
        assert_eq!(by("2001:db8::1", "a").by, by("2001:db8::ffff:2", "a").by);
        assert_ne!(by("2001:db8::1", "a").by, by("2001:db8:0:1::1", "a").by);
        assert_eq!(by("::ffff:192.0.2.1", "a").by, by("192.0.2.1", "a").by);
    }

    #[test]
    fn memory_is_bounded() {
        let tries = Tries::default();
        for n in 0..COUNTED_MAX {
            let address = Ipv4Addr::from_bits(u32::try_from(n).unwrap()).into();
            let tried = Tried::new(&Client::Address(address), None, &n.to_string());
            let _full = tries.begin(&tried).is_err();
        }
        assert!(tries.counted().len() <= COUNTED_MAX);
    }
}
