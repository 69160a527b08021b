//! What is not in the kernels of all nodes yet that must have it.

use std::collections::{BTreeMap, BTreeSet};

use towpath_control::server::Version;
use towpath_net::state::NodeName;

/// Nodes that have to acknowledge something, each up to a version.
pub type Behind = BTreeMap<NodeName, Version>;

/// Things that some nodes lack. Costs nothing for what no node lacks.
#[derive(Debug)]
pub struct Lacks<K> {
    of: BTreeMap<K, Behind>,
    by_node: BTreeMap<NodeName, BTreeSet<K>>,
}

impl<K> Default for Lacks<K> {
    fn default() -> Self {
        Self { of: BTreeMap::new(), by_node: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Lacks<K> {
    /// These nodes lack a thing, and no others.
    pub fn put(&mut self, key: K, behind: Behind) {
        self.end(&key);
        if behind.is_empty() {
            return;
        }
        for node in behind.keys() {
            self.by_node.entry(node.clone()).or_default().insert(key.clone());
        }
        self.of.insert(key, behind);
    }

    /// Nobody asks for a thing any more.
    pub fn end(&mut self, key: &K) {
        for node in self.of.remove(key).unwrap_or_default().into_keys() {
            self.forget(&node, key);
        }
    }

    /// Whether a node lacks anything.
    pub fn concerns(&self, node: &NodeName) -> bool {
        self.by_node.contains_key(node)
    }

    /// The nodes that lack something.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
    }

    /// The nodes that lack a thing.
    pub fn of(&self, key: &K) -> Option<&Behind> {
        self.of.get(key)
    }

    /// The things that some node lacks.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.of.keys()
    }

    /// A node has all up to this version: gives the things that no node lacks any more.
    pub fn acknowledged(&mut self, node: &NodeName, version: Version) -> Vec<K> {
        self.settle(node, |lacking| lacking <= version)
    }

    /// Nobody knows of a node any more: gives the things that no other node lacks.
    pub fn left(&mut self, node: &NodeName) -> Vec<K> {
        self.settle(node, |_| true)
    }

    fn settle(&mut self, node: &NodeName, has: impl Fn(Version) -> bool) -> Vec<K> {
        let keys: Vec<K> = self.by_node.get(node).into_iter().flatten().cloned().collect();
        let mut settled = Vec::new();
        for key in keys {
            let Some(behind) = self.of.get_mut(&key) else { continue };
            if behind.get(node).is_some_and(|lacking| !has(*lacking)) {
                continue;
            }
            behind.remove(node);
            let is_settled = behind.is_empty();
            self.forget(node, &key);
            if is_settled {
                self.of.remove(&key);
                settled.push(key);
            }
        }
        settled
    }

    fn forget(&mut self, node: &NodeName, key: &K) {
        if let Some(keys) = self.by_node.get_mut(node) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_node.remove(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(nodes: &[(&str, u64)]) -> Behind {
        nodes.iter().map(|(node, version)| (NodeName::from(*node), Version(*version))).collect()
    }

    #[test]
    fn a_thing_is_settled_by_the_last_node_that_lacks_it() {
        let mut lacks = Lacks::default();
        lacks.put("a", behind(&[("n1", 5), ("n2", 5)]));
        lacks.put("b", behind(&[("n1", 7)]));
        assert!(lacks.acknowledged(&"n1".into(), Version(4)).is_empty());
        assert!(lacks.acknowledged(&"n1".into(), Version(6)).is_empty());
        assert_eq!(lacks.of(&"a"), Some(&behind(&[("n2", 5)])));
        assert_eq!(lacks.acknowledged(&"n2".into(), Version(5)), ["a"]);
        assert_eq!(lacks.keys().collect::<Vec<_>>(), [&"b"]);
        assert_eq!(lacks.acknowledged(&"n1".into(), Version(7)), ["b"]);
        assert!(lacks.by_node.is_empty());
    }

    #[test]
    fn a_node_that_left_lacks_nothing() {
        let mut lacks = Lacks::default();
        lacks.put("a", behind(&[("n1", 5), ("n2", 5)]));
        assert!(lacks.left(&"n1".into()).is_empty());
        assert_eq!(lacks.left(&"n2".into()), ["a"]);
        assert!(lacks.of.is_empty() && lacks.by_node.is_empty());
    }

    #[test]
    fn the_last_word_on_a_thing_counts() {
        let mut lacks = Lacks::default();
        lacks.put("a", behind(&[("n1", 5), ("n2", 5)]));
        lacks.put("a", behind(&[("n2", 9)]));
        assert!(lacks.acknowledged(&"n2".into(), Version(5)).is_empty());
        lacks.put("a", Behind::new());
        assert!(lacks.of.is_empty() && lacks.by_node.is_empty());
    }
}
