//! One shard of the memory store: a table and the eviction order S3-FIFO (Yang et al., SOSP 2023).
//!
//! New entries wait in a small queue; an entry used there moves to the main queue, any other is evicted and remembered
//! for a while as a ghost, so that a scan passes through a tenth of the memory and a second request soon after puts the
//! entry into the main queue. Queues are lists through the nodes, so removal leaves nothing behind.

use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::{evictable::Evictable, ghosts::Ghosts};

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum QueueKind {
    Small,
    Main,
}

#[derive(Debug)]
struct Node<E> {
    entry: Option<Arc<E>>,
    /// Half of the hash: enough to place the node in a larger table.
    hash: u32,
    /// The next newer node; of a free node: the next free one.
    newer: u32,
    older: u32,
    queue: QueueKind,
}

/// A list of nodes in the order of their arrival.
#[derive(Debug, Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
    bytes: u64,
}

impl Default for List {
    fn default() -> Self {
        Self {
            oldest: NONE,
            newest: NONE,
            bytes: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct Shard<E> {
    table: HashTable<u32>,
    nodes: Vec<Node<E>>,
    free: u32,
    small: List,
    main: List,
    ghosts: Ghosts,
}

impl<E> Default for Shard<E> {
    fn default() -> Self {
        Self {
            table: HashTable::new(),
            nodes: Vec::new(),
            free: NONE,
            small: List::default(),
            main: List::default(),
            ghosts: Ghosts::default(),
        }
    }
}

/// Removed entries, to be dropped after the shard's lock is released.
pub(super) type Gone<E> = SmallVec<[Arc<E>; 8]>;

/// The hash that the table gets: it takes slots from the low bits and tags from the highest.
fn spread(half: u32) -> u64 {
    u64::from(half) << 32 | u64::from(half)
}

impl<E: Evictable> Shard<E> {
    /// `hash` is the lower half of the key's.
    pub(super) fn get(&self, hash: u32, key: &[u8]) -> Option<&Arc<E>> {
        let index = self.find(hash, key)?;
        self.nodes.get(index as usize)?.entry.as_ref()
    }

    /// Inserts `entry`, and returns one with the same key that it replaces.
    pub(super) fn insert(&mut self, hash: u32, entry: Arc<E>) -> Option<Arc<E>> {
        let size = entry.size();
        if let Some(index) = self.find(hash, entry.key()) {
            let node = self.nodes.get_mut(index as usize)?;
            if let Some(old) = &node.entry {
                entry.set_uses(old.uses());
            }
            let old = node.entry.replace(entry);
            let queue = node.queue;
            let list = self.list(queue);
            list.bytes += size;
            if let Some(old) = &old {
                list.bytes = list.bytes.saturating_sub(old.size());
            }
            return old;
        }
        let queue = if self.ghosts.take(hash) {
            QueueKind::Main
        } else {
            QueueKind::Small
        };
        let index = self.place(entry, hash, queue);
        self.append(index, queue, size);
        let nodes = &self.nodes;
        self.table.insert_unique(spread(hash), index, |&i| {
            nodes.get(i as usize).map_or(0, |node| spread(node.hash))
        });
        None
    }

    pub(super) fn remove(&mut self, hash: u32, key: &[u8]) -> Option<Arc<E>> {
        let index = self.find(hash, key)?;
        self.unlink(index);
        self.release(index)
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// At most `most` slots from `from` on: each with its number, and the entry if there is one. `None` past the last
    /// slot.
    pub(super) fn places(
        &self,
        from: usize,
        most: usize,
    ) -> Option<impl Iterator<Item = (usize, Option<&Arc<E>>)>> {
        let places = self.nodes.get(from..).filter(|rest| !rest.is_empty())?;
        Some(
            places
                .iter()
                .take(most)
                .enumerate()
                .map(move |(at, node)| (from + at, node.entry.as_ref())),
        )
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<E>> {
        self.nodes.iter().filter_map(|node| node.entry.as_ref())
    }

    /// Copies the entries in `most` slots from `from` on; false when there are no more slots after them.
    pub(super) fn slots(&self, from: usize, most: usize, found: &mut Vec<Arc<E>>) -> bool {
        let slots = self.nodes.get(from..).unwrap_or_default();
        found.extend(
            slots
                .iter()
                .take(most)
                .filter_map(|node| node.entry.clone()),
        );
        slots.len() > most
    }

    /// Moves the hand until one entry is evicted; false when there is none.
    pub(super) fn evict(&mut self, gone: &mut Gone<E>) -> bool {
        loop {
            let from_small = self.main.oldest == NONE
                || (self.small.oldest != NONE
                    && self.small.bytes > (self.small.bytes + self.main.bytes) / 10);
            let queue = if from_small {
                QueueKind::Small
            } else {
                QueueKind::Main
            };
            let index = self.list(queue).oldest;
            let Some(entry) = self
                .nodes
                .get(index as usize)
                .and_then(|n| n.entry.as_ref())
            else {
                return false;
            };
            let uses = entry.uses();
            let size = entry.size();
            if uses > 0 {
                entry.set_uses(if from_small { 0 } else { uses - 1 });
                self.unlink(index);
                self.append(index, QueueKind::Main, size);
                continue;
            }
            self.unlink(index);
            if from_small && let Some(node) = self.nodes.get(index as usize) {
                self.ghosts.add(node.hash, self.table.len());
            }
            gone.extend(self.release(index));
            return true;
        }
    }

    fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        self.table
            .find(spread(hash), |&i| {
                self.nodes.get(i as usize).is_some_and(|node| {
                    node.hash == hash && node.entry.as_ref().is_some_and(|e| e.key() == key)
                })
            })
            .copied()
    }

    fn list(&mut self, queue: QueueKind) -> &mut List {
        match queue {
            QueueKind::Small => &mut self.small,
            QueueKind::Main => &mut self.main,
        }
    }

    /// A node outside the lists.
    fn place(&mut self, entry: Arc<E>, hash: u32, queue: QueueKind) -> u32 {
        let index = self.free;
        let node = Node {
            entry: Some(entry),
            hash,
            newer: NONE,
            older: NONE,
            queue,
        };
        if let Some(old) = self.nodes.get_mut(index as usize) {
            self.free = old.newer;
            *old = node;
            return index;
        }
        if self.nodes.len() == self.nodes.capacity() {
            // A quarter at a time: doubling would leave half of it empty.
            self.nodes.reserve_exact(self.nodes.len() / 4 + 16);
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as u32
    }

    /// Removes a node that is in no list from the table.
    fn release(&mut self, index: u32) -> Option<Arc<E>> {
        let node = self.nodes.get_mut(index as usize)?;
        let entry = node.entry.take();
        node.newer = self.free;
        self.free = index;
        if let Ok(found) = self.table.find_entry(spread(node.hash), |&i| i == index) {
            found.remove();
        }
        entry
    }

    fn append(&mut self, index: u32, queue: QueueKind, size: u64) {
        let list = self.list(queue);
        let before = std::mem::replace(&mut list.newest, index);
        list.bytes += size;
        if before == NONE {
            list.oldest = index;
        } else if let Some(node) = self.nodes.get_mut(before as usize) {
            node.newer = index;
        }
        if let Some(node) = self.nodes.get_mut(index as usize) {
            node.queue = queue;
            node.older = before;
            node.newer = NONE;
        }
    }

    fn unlink(&mut self, index: u32) {
        let Some(node) = self.nodes.get(index as usize) else {
            return;
        };
        let (newer, older, queue) = (node.newer, node.older, node.queue);
        let size = node.entry.as_ref().map_or(0, |entry| entry.size());
        if let Some(node) = self.nodes.get_mut(newer as usize) {
            node.older = older;
        }
        if let Some(node) = self.nodes.get_mut(older as usize) {
            node.newer = newer;
        }
        let list = self.list(queue);
        list.bytes = list.bytes.saturating_sub(size);
        if list.oldest == index {
            list.oldest = newer;
        }
        if list.newest == index {
            list.newest = older;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Content, Entry, entry::INDEX};

    #[test]
    fn what_an_entry_is_charged_for_its_places_is_what_they_take() {
        let mut shard = Shard::<Entry>::default();
        let mut gone = Gone::<Entry>::new();
        let (mut sum, mut looks) = (0, 0);
        for i in 1..=100_000u32 {
            let hash = i.wrapping_mul(0x9e37_79b9);
            let key = i.to_le_bytes();
            let marker = Content::Unshared { until: 0 };
            shard.insert(hash, Arc::new(Entry::marker(&key, marker)));
            if i % 5 == 0 {
                shard.evict(&mut gone);
                gone.clear();
            }
            if i >= 10_000 && i % 100 == 0 {
                let taken = shard.nodes.capacity() * size_of::<Node<Entry>>()
                    + shard.table.allocation_size()
                    + shard.ghosts.allocated();
                let each = taken / shard.len();
                assert!(
                    each.abs_diff(INDEX) <= INDEX / 4,
                    "{each} of {}",
                    shard.len()
                );
                sum += each;
                looks += 1;
            }
        }
        assert!(
            (sum / looks).abs_diff(INDEX) <= 3,
            "{} on average",
            sum / looks
        );
    }
}
