//! Rules by which a cache chooses what to keep.
//!
//! A [`Policy`] keeps units that all weigh the same, within a bound of bytes. It is
//! told what is looked up and what was produced. A miss decodes a whole run of units,
//! so more is produced than was asked for: a policy sees each of them as an insertion,
//! in the order in which they are decoded. Producing again what is kept is a use for
//! LRU (the cache that serves does so) and changes nothing for the others.
//!
//! Guarantees: what is kept never weighs more than the bound; a call takes constant
//! time (amortized where a hand moves). State is indexed by the number of a unit.
//!
//! [`opt`] is no policy but a bound of all of them.

mod arc;
mod fifo;
mod list;
mod lru;
pub mod opt;
mod s3fifo;
mod sieve;

use std::fmt;
use std::str::FromStr;

pub use self::lru::Lru;
pub use arc::Arc;
pub use fifo::Fifo;
pub use s3fifo::S3Fifo;
pub use sieve::Sieve;

/// A unit of cache, numbered densely over all images of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Unit(pub u32);

impl Unit {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// What may be kept altogether.
    pub cache_bytes: u64,
    /// What a unit weighs.
    pub unit_bytes: u64,
    /// Units have numbers below this.
    pub units: usize,
}

impl Room {
    /// How many units can be kept.
    pub fn kept_max(&self) -> usize {
        let kept = self.cache_bytes / self.unit_bytes.max(1);
        usize::try_from(kept).map_or(self.units, |kept| kept.min(self.units))
    }
}

/// What chooses.
pub trait Policy {
    /// An empty cache.
    fn new(room: Room) -> Self
    where
        Self: Sized;

    /// Whether `unit` is kept; if it is, this was a use of it.
    fn get(&mut self, unit: Unit) -> bool;

    /// Whether `unit` is kept, without a use.
    fn contains(&self, unit: Unit) -> bool;

    /// Offers `unit`, which was produced. What is not kept any more is appended to
    /// `gone`; that is `unit` itself where it finds no room.
    fn insert(&mut self, unit: Unit, gone: &mut Vec<Unit>);

    /// How many units are kept.
    fn kept(&self) -> usize;
}

/// The rules that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Least recently used; what serves.
    Lru,
    /// First in, first out.
    Fifo,
    /// SIEVE.
    Sieve,
    /// S3-FIFO.
    S3Fifo,
    /// Adaptive replacement cache.
    Arc,
    /// A bound of all of them; see [`opt`].
    Opt,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 6] = [
        Rule::Lru,
        Rule::Fifo,
        Rule::Sieve,
        Rule::S3Fifo,
        Rule::Arc,
        Rule::Opt,
    ];

    /// What it is called on a command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Rule::Lru => "lru",
            Rule::Fifo => "fifo",
            Rule::Sieve => "sieve",
            Rule::S3Fifo => "s3fifo",
            Rule::Arc => "arc",
            Rule::Opt => "opt",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No rule is called so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no policy is called {0:?}: give lru, fifo, sieve, s3fifo, arc or opt")]
pub struct NoRule(String);

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(name: &str) -> Result<Rule, NoRule> {
        let found = Rule::ALL.into_iter().find(|rule| rule.name() == name);
        found.ok_or_else(|| NoRule(name.to_owned()))
    }
}

#[cfg(test)]
mod tests;
