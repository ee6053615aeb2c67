//! A least-recently-used map bounded by bytes.
//!
//! Guarantees: after every call the weights of all values add up to at most
//! the limit; a value heavier than the limit is not kept at all. Not shared
//! between threads by itself. The laboratory simulates with this very type.

use std::hash::Hash;

use lru::LruCache;

/// A byte-bounded LRU map.
#[derive(Debug)]
pub struct ByteLru<K: Hash + Eq, V> {
    entries: LruCache<K, (V, u64)>,
    used_bytes: u64,
    limit_bytes: u64,
}

impl<K: Hash + Eq, V> ByteLru<K, V> {
    /// An empty map that will hold at most `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Self {
        Self {
            entries: LruCache::unbounded(),
            used_bytes: 0,
            limit_bytes,
        }
    }

    /// The value of `key`, which becomes the most recently used.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// The same, to be changed; its weight stays.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(value, _)| value)
    }

    /// Whether `key` is there; its place in the order stays.
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains(key)
    }

    /// Adds or replaces `key`; answers how many others had to go.
    pub fn insert(&mut self, key: K, value: V, weight_bytes: u64) -> u64 {
        let mut evicted = 0;
        self.insert_with(key, value, weight_bytes, |_| evicted += 1);
        evicted
    }

    /// The same, naming each of the others to `gone`.
    pub fn insert_with(&mut self, key: K, value: V, weight_bytes: u64, mut gone: impl FnMut(K)) {
        if weight_bytes > self.limit_bytes {
            if let Some((_, old)) = self.entries.pop(&key) {
                self.used_bytes -= old;
            }
            return;
        }
        if let Some((_, old)) = self.entries.put(key, (value, weight_bytes)) {
            self.used_bytes -= old;
        }
        self.used_bytes += weight_bytes;
        while self.used_bytes > self.limit_bytes
            && let Some((key, (_, weight))) = self.entries.pop_lru()
        {
            self.used_bytes -= weight;
            gone(key);
        }
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.entries = LruCache::unbounded();
        self.used_bytes = 0;
    }

    /// What they may weigh.
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// What all values weigh together.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut lru = ByteLru::new(30);
        for key in 1..=3 {
            assert_eq!(lru.insert(key, key, 10), 0);
        }
        assert_eq!(lru.get(&1), Some(&1));
        assert_eq!(lru.insert(4, 4, 10), 1);
        assert!(!lru.contains(&2) && lru.contains(&1) && lru.contains(&3));
    }

    #[test]
    fn the_limit_holds_for_any_weights() {
        let mut lru = ByteLru::new(100);
        for i in 0..1000_u64 {
            lru.insert(i % 37, i, i * 7 % 60);
            assert!(lru.used_bytes() <= 100);
        }
        assert_eq!(lru.insert(1, 1, 101), 0);
        assert!(!lru.contains(&1), "heavier than the limit");
        let before = lru.used_bytes();
        lru.insert(2, 2, 5);
        lru.insert(2, 2, 7);
        assert!(lru.used_bytes() <= before + 7, "replacing counts once");
    }
}
