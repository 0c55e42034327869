//! A radix tree over the literal prefixes of patterns: one walk over the path visits every pattern that could match.

use super::Ranked;

/// The tree's nodes, the root first.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

#[derive(Debug, Default)]
struct Node {
    /// Bytes from the parent to here.
    edge: Box<[u8]>,
    /// First bytes of the children's edges, ascending, and the children's positions.
    keys: Vec<u8>,
    children: Vec<u32>,
    /// Patterns whose literal prefix ends here, best first.
    entries: Vec<Ranked>,
    /// The nearest node above that has entries.
    above: Option<u32>,
    /// The best rank here and above.
    best: u32,
}

impl Trie {
    pub(super) fn insert(&mut self, prefix: &[u8], entry: Ranked) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::default());
        }
        let mut at = 0usize;
        let mut rest = prefix;
        while let Some(&first) = rest.first() {
            let Some(node) = self.nodes.get(at) else {
                return;
            };
            match node.keys.binary_search(&first) {
                Err(place) => {
                    let child = self.push(Node {
                        edge: rest.into(),
                        ..Node::default()
                    });
                    if let Some(node) = self.nodes.get_mut(at) {
                        node.keys.insert(place, first);
                        node.children.insert(place, child);
                    }
                    at = child as usize;
                    break;
                }
                Ok(place) => {
                    let Some(child) = node.children.get(place).copied() else {
                        return;
                    };
                    let shared = self.shared(child, rest);
                    self.split(child, shared);
                    at = child as usize;
                    rest = rest.get(shared..).unwrap_or_default();
                }
            }
        }
        if let Some(node) = self.nodes.get_mut(at) {
            node.entries.push(entry);
        }
    }

    fn push(&mut self, node: Node) -> u32 {
        let index = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.nodes.push(node);
        index
    }

    /// Number of bytes of the node's edge that begin `rest`.
    fn shared(&self, node: u32, rest: &[u8]) -> usize {
        self.nodes.get(node as usize).map_or(0, |node| {
            node.edge
                .iter()
                .zip(rest)
                .take_while(|(a, b)| a == b)
                .count()
        })
    }

    /// Makes the node end after `keep` bytes of its edge; the rest moves to a new child.
    fn split(&mut self, node: u32, keep: usize) {
        let lower = match self.nodes.get_mut(node as usize) {
            Some(node) if keep < node.edge.len() => {
                let (upper, lower) = node.edge.split_at(keep);
                let (upper, lower): (Box<[u8]>, Box<[u8]>) = (upper.into(), lower.into());
                let whole = std::mem::replace(
                    node,
                    Node {
                        edge: upper,
                        ..Node::default()
                    },
                );
                Node {
                    edge: lower,
                    ..whole
                }
            }
            _ => return,
        };
        let key = lower.edge.first().copied();
        let child = self.push(lower);
        if let Some(node) = self.nodes.get_mut(node as usize) {
            node.keys = key.into_iter().collect();
            node.children = vec![child];
        }
    }

    /// Sorts the entries and links each node with its ancestors. Parents are linked before children.
    pub(super) fn finish(&mut self) {
        let mut open = vec![(0u32, None, u32::MAX)];
        while let Some((index, above, best)) = open.pop() {
            let Some(node) = self.nodes.get_mut(index as usize) else {
                continue;
            };
            node.entries.sort_by_key(|entry| entry.rank);
            node.above = above;
            node.best = node
                .entries
                .first()
                .map_or(best, |entry| entry.rank.min(best));
            let above = if node.entries.is_empty() {
                above
            } else {
                Some(index)
            };
            open.extend(node.children.iter().map(|child| (*child, above, node.best)));
        }
    }

    /// The entries whose literal prefix begins `path`, from the longest prefix to the shortest; `visit` gets a node's
    /// entries with the best rank from there on and decides whether to continue.
    pub(super) fn visit(&self, path: &[u8], mut visit: impl FnMut(&[Ranked], u32) -> bool) {
        let Some(mut node) = self.nodes.first() else {
            return;
        };
        let mut deepest = if node.entries.is_empty() {
            None
        } else {
            Some(node)
        };
        let mut rest = path;
        while let Some(first) = rest.first() {
            let Ok(place) = node.keys.binary_search(first) else {
                break;
            };
            let Some(child) = node
                .children
                .get(place)
                .and_then(|child| self.nodes.get(*child as usize))
            else {
                break;
            };
            let Some(after) = rest.strip_prefix(&*child.edge) else {
                break;
            };
            rest = after;
            node = child;
            if !node.entries.is_empty() {
                deepest = Some(node);
            }
        }
        while let Some(node) = deepest {
            if !visit(&node.entries, node.best) {
                return;
            }
            deepest = node.above.and_then(|above| self.nodes.get(above as usize));
        }
    }
}
