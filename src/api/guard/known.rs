//! Who was right a moment ago, without what they said.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hmac::{Hmac, Mac};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;

use super::credentials::Credentials;

/// How long who was right is remembered.
const REMEMBERED: Duration = Duration::from_secs(60);

/// More than there are customers who ask within a minute.
const KNOWN_MAX: usize = 10_000;

/// Under which credentials are remembered.
pub(super) type Mark = [u8; 32];

/// Those who were right.
#[derive(Debug)]
pub(super) struct Known {
    /// Of this process.
    key: Hmac<Sha256>,
    marks: Mutex<HashMap<Mark, Instant>>,
}

impl Known {
    pub(super) fn new() -> std::io::Result<Known> {
        let mut key = [0; 32];
        let filled = getrandom(&mut key, GetRandomFlags::empty())?;
        if filled < key.len() {
            return Err(std::io::Error::other("too few random bytes"));
        }
        Ok(Known {
            key: Hmac::new_from_slice(&key).map_err(std::io::Error::other)?,
            marks: Mutex::default(),
        })
    }

    /// What stands for these credentials, as long as the account stores `stored`.
    pub(super) fn mark(&self, given: &Credentials, stored: &str) -> Mark {
        let mut mac = self.key.clone();
        for part in [&*given.username, &given.password, stored] {
            mac.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }

    fn marks(&self) -> MutexGuard<'_, HashMap<Mark, Instant>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_known(&self, mark: &Mark) -> bool {
        let marks = self.marks();
        marks
            .get(mark)
            .is_some_and(|since| since.elapsed() < REMEMBERED)
    }

    pub(super) fn remember(&self, mark: Mark) {
        let mut marks = self.marks();
        if marks.len() >= KNOWN_MAX {
            marks.retain(|_, since| since.elapsed() < REMEMBERED);
        }
        if marks.len() < KNOWN_MAX {
            marks.insert(mark, Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_same_is_known() {
        let known = Known::new().unwrap();
        let given = |username: &str, password: &str| Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        };
        let mark = known.mark(&given("ab", "c"), "hash");
        assert!(!known.is_known(&mark));
        known.remember(mark);
        assert!(known.is_known(&known.mark(&given("ab", "c"), "hash")));
        for (given, stored) in [
            (given("a", "bc"), "hash"),
            (given("ab", "d"), "hash"),
            (given("ab", "c"), "changed"),
        ] {
            assert!(!known.is_known(&known.mark(&given, stored)));
        }
        // Another process has another key.
        let other = Known::new().unwrap();
        assert_ne!(other.mark(&given("ab", "c"), "hash"), mark);
    }
}
