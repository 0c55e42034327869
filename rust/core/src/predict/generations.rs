//! A map of bounded size that forgets, roughly, the entries unused for longest.

use hashbrown::HashMap;

/// Two halves: a used entry moves to the young one, and when that is full, the old one is dropped whole. Every step
/// except the dropping has a constant cost.
#[derive(Debug)]
pub struct Generations<V> {
    young: HashMap<u64, V>,
    old: HashMap<u64, V>,
    half: usize,
}

impl<V> Generations<V> {
    /// For at most `most` entries, at least two.
    pub fn new(most: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (most / 2).max(1),
        }
    }

    /// Looks up an entry without marking it as used.
    pub fn get(&self, key: u64) -> Option<&V> {
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    /// Looks up an entry and marks it as used.
    pub fn touch(&mut self, key: u64) -> Option<&mut V> {
        if !self.young.contains_key(&key) {
            let value = self.old.remove(&key)?;
            self.put(key, value);
        }
        self.young.get_mut(&key)
    }

    /// Adds or replaces an entry; may drop the older half.
    pub fn put(&mut self, key: u64, value: V) {
        if self.young.len() >= self.half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Removes an entry.
    pub fn remove(&mut self, key: u64) {
        self.young.remove(&key);
        self.old.remove(&key);
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True if there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_size_is_bounded() {
        let mut map = Generations::new(100);
        for key in 0..10_000_u64 {
            map.put(key, key);
            assert_eq!(map.touch(0), Some(&mut 0), "after {key}");
            assert!(map.len() <= 100);
        }
        assert!(map.get(9_999).is_some());
        assert!(map.get(5_000).is_none());
        map.remove(9_999);
        assert!(map.get(9_999).is_none());
    }

    #[test]
    fn a_key_is_never_there_twice() {
        let mut map = Generations::new(4);
        for key in [1, 2, 3, 1, 2, 3, 1] {
            map.put(key, key);
        }
        map.remove(1);
        assert!(map.get(1).is_none());
    }
}
