//! One shard of the memory store: a table and the eviction order S3-FIFO (Yang et al., SOSP 2023).
//!
//! New entries wait in a small queue; what is used while there moves to the main queue, what is not leaves and is
//! remembered for a while as a ghost, so that a scan passes through a tenth of the memory and a second visit soon
//! after goes straight to main. Queues hold slots with a generation: removal leaves a dead slot behind that is
//! dropped when the hand reaches it, so nothing is ever searched.

use std::{collections::VecDeque, sync::Arc};

use hashbrown::HashTable;

use super::entry::Entry;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

#[derive(Debug)]
struct Node {
    entry: Option<Arc<Entry>>,
    hash: u64,
    generation: u32,
    queue: Queue,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    index: u32,
    generation: u32,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    table: HashTable<u32>,
    nodes: Vec<Node>,
    free: Vec<u32>,
    small: VecDeque<Slot>,
    main: VecDeque<Slot>,
    ghosts: Ghosts,
    small_bytes: u64,
    main_bytes: u64,
}

/// What one change did to the counts of the whole store.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub added: u64,
    pub removed: u64,
    pub evicted_entries: u64,
    pub entries_added: i64,
}

impl Shard {
    pub(super) fn get(&self, hash: u64, key: &[u8]) -> Option<&Arc<Entry>> {
        let index = self.table.find(hash, |&i| self.is(i, hash, key))?;
        self.nodes.get(*index as usize)?.entry.as_ref()
    }

    /// Stores `entry`, in place of one with the same key, and evicts down to `capacity` bytes. An entry over the
    /// capacity is refused (and what it would have replaced is gone, as it is out of date).
    pub(super) fn insert(&mut self, hash: u64, entry: Arc<Entry>, capacity: u64) -> Change {
        let mut change = Change::default();
        if entry.size > capacity {
            return self.remove(hash, &entry.key);
        }
        change.added = entry.size;
        if let Some(&index) = self.table.find(hash, |&i| self.is(i, hash, &entry.key)) {
            if let Some(node) = self.nodes.get_mut(index as usize) {
                let queue = node.queue;
                let size = entry.size;
                if let Some(old) = node.entry.replace(entry) {
                    if let Some(new) = &node.entry {
                        new.set_uses(old.uses());
                    }
                    change.removed = old.size;
                    self.charge(queue, size, old.size);
                }
            }
        } else {
            let queue = if self.ghosts.take(hash) {
                Queue::Main
            } else {
                Queue::Small
            };
            self.charge(queue, entry.size, 0);
            let slot = self.place(Node {
                entry: Some(entry),
                hash,
                generation: 0,
                queue,
            });
            self.table.insert_unique(hash, slot.index, |&i| {
                self.nodes.get(i as usize).map_or(0, |node| node.hash)
            });
            self.queue_mut(queue).push_back(slot);
            self.tidy(queue);
            change.entries_added = 1;
        }
        self.evict(capacity, &mut change);
        change
    }

    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) -> Change {
        let mut change = Change::default();
        let Some(&index) = self.table.find(hash, |&i| self.is(i, hash, key)) else {
            return change;
        };
        if let Some(entry) = self.unlink(index) {
            change.removed = entry.size;
            change.entries_added = -1;
        }
        change
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.nodes.iter().filter_map(|node| node.entry.as_ref())
    }

    /// Copies what is in `most` slots from `from` on; false when there are no more behind.
    pub(super) fn slots(&self, from: usize, most: usize, found: &mut Vec<Arc<Entry>>) -> bool {
        let slots = self.nodes.get(from..).unwrap_or_default();
        found.extend(
            slots
                .iter()
                .take(most)
                .filter_map(|node| node.entry.clone()),
        );
        slots.len() > most
    }

    fn is(&self, index: u32, hash: u64, key: &[u8]) -> bool {
        self.nodes.get(index as usize).is_some_and(|node| {
            node.hash == hash && node.entry.as_ref().is_some_and(|entry| *entry.key == *key)
        })
    }

    fn bytes(&self) -> u64 {
        self.small_bytes + self.main_bytes
    }

    fn queue_mut(&mut self, queue: Queue) -> &mut VecDeque<Slot> {
        match queue {
            Queue::Small => &mut self.small,
            Queue::Main => &mut self.main,
        }
    }

    fn charge(&mut self, queue: Queue, added: u64, removed: u64) {
        let bytes = match queue {
            Queue::Small => &mut self.small_bytes,
            Queue::Main => &mut self.main_bytes,
        };
        *bytes = (*bytes + added).saturating_sub(removed);
    }

    fn place(&mut self, mut node: Node) -> Slot {
        if let Some(index) = self.free.pop()
            && let Some(old) = self.nodes.get_mut(index as usize)
        {
            node.generation = old.generation.wrapping_add(1);
            let generation = node.generation;
            *old = node;
            return Slot { index, generation };
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(node);
        Slot {
            index,
            generation: 0,
        }
    }

    /// Takes a node out of table and account; its queue slot dies by generation or emptiness.
    fn unlink(&mut self, index: u32) -> Option<Arc<Entry>> {
        let node = self.nodes.get_mut(index as usize)?;
        let entry = node.entry.take()?;
        let (hash, queue) = (node.hash, node.queue);
        if let Ok(found) = self.table.find_entry(hash, |&i| i == index) {
            found.remove();
        }
        self.free.push(index);
        self.charge(queue, 0, entry.size);
        Some(entry)
    }

    fn live(&self, slot: Slot) -> Option<&Arc<Entry>> {
        let node = self.nodes.get(slot.index as usize)?;
        if node.generation == slot.generation {
            node.entry.as_ref()
        } else {
            None
        }
    }

    fn evict(&mut self, capacity: u64, change: &mut Change) {
        while self.bytes() > capacity {
            let from_small = self.small_bytes > capacity / 10 || self.main.is_empty();
            let Some(slot) = self
                .queue_mut(if from_small {
                    Queue::Small
                } else {
                    Queue::Main
                })
                .pop_front()
            else {
                if self.small.is_empty() && self.main.is_empty() {
                    break;
                }
                // The chosen queue held dead slots only: take from the other one.
                let Some(slot) = self.small.pop_front().or_else(|| self.main.pop_front()) else {
                    break;
                };
                self.pass(slot, change);
                continue;
            };
            self.pass(slot, change);
        }
    }

    /// Drops dead slots once they are the majority, so that removals cannot make a queue grow without end.
    fn tidy(&mut self, queue: Queue) {
        let most = 2 * self.table.len() + 64;
        if self.queue_mut(queue).len() <= most {
            return;
        }
        let mut slots = std::mem::take(self.queue_mut(queue));
        slots.retain(|&slot| self.live(slot).is_some());
        *self.queue_mut(queue) = slots;
    }

    /// The hand passes one slot: it stays (in main) or leaves.
    fn pass(&mut self, slot: Slot, change: &mut Change) {
        let Some(entry) = self.live(slot) else { return };
        let (uses, size) = (entry.uses(), entry.size);
        let Some(queue) = self.nodes.get(slot.index as usize).map(|node| node.queue) else {
            return;
        };
        match (queue, uses) {
            (Queue::Small, 0) | (Queue::Main, 0) => {
                let hash = self
                    .nodes
                    .get(slot.index as usize)
                    .map_or(0, |node| node.hash);
                self.unlink(slot.index);
                if queue == Queue::Small {
                    let most = self.table.len().max(64);
                    self.ghosts.add(hash, most);
                }
                change.removed += size;
                change.evicted_entries += 1;
                change.entries_added -= 1;
            }
            (Queue::Small, _) => {
                entry.set_uses(0);
                self.charge(Queue::Small, 0, size);
                self.charge(Queue::Main, size, 0);
                if let Some(node) = self.nodes.get_mut(slot.index as usize) {
                    node.queue = Queue::Main;
                }
                self.main.push_back(slot);
            }
            (Queue::Main, uses) => {
                entry.set_uses(uses - 1);
                self.main.push_back(slot);
            }
        }
    }
}

/// Hashes of entries that left the small queue unused, newest last, as many as the shard has entries.
#[derive(Debug, Default)]
struct Ghosts {
    order: VecDeque<u64>,
    present: HashTable<u64>,
}

impl Ghosts {
    fn add(&mut self, hash: u64, most: usize) {
        if self.present.find(hash, |&h| h == hash).is_none() {
            self.present.insert_unique(hash, hash, |&h| h);
        }
        self.order.push_back(hash);
        while self.order.len() > most {
            if let Some(old) = self.order.pop_front() {
                self.take(old);
            }
        }
    }

    fn take(&mut self, hash: u64) -> bool {
        match self.present.find_entry(hash, |&h| h == hash) {
            Ok(found) => {
                found.remove();
                true
            }
            Err(_) => false,
        }
    }
}
