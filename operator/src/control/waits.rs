//! Pods whose start waits until every node that must know their addresses does.

use std::collections::{BTreeMap, BTreeSet};

use towpath_control::server::Version;
use towpath_net::policy::input::Key;
use towpath_net::state::NodeName;

/// A pod that waits.
#[derive(Debug)]
struct Wait {
    node: NodeName,
    /// The nodes that have to acknowledge, each up to this version.
    lacks: BTreeMap<NodeName, Version>,
}

/// All pods that wait, by `metadata.uid`.
#[derive(Debug, Default)]
pub struct Waits {
    /// Those that cannot be judged yet: nobody knows such a pod so far.
    unbound: BTreeMap<String, (NodeName, Key)>,
    bound: BTreeMap<String, Wait>,
    by_holder: BTreeMap<NodeName, BTreeSet<String>>,
}

impl Waits {
    /// A pod waits.
    pub fn begin(&mut self, uid: String, node: NodeName, pod: Key) {
        self.unbound.insert(uid, (node, pod));
    }

    /// Nobody waits for the pod any more.
    pub fn end(&mut self, uid: &str) {
        self.unbound.remove(uid);
        if let Some(wait) = self.bound.remove(uid) {
            wait.lacks.keys().for_each(|holder| self.forget(holder, uid));
        }
    }

    /// Ends all waits of pods of a node.
    pub fn end_of(&mut self, node: &NodeName) {
        let unbound = self.unbound.iter().filter(|(_, (of, _))| of == node).map(|(uid, _)| uid.clone());
        let bound = self.bound.iter().filter(|(_, wait)| wait.node == *node).map(|(uid, _)| uid.clone());
        let all: Vec<String> = unbound.chain(bound).collect();
        all.iter().for_each(|uid| self.end(uid));
    }

    /// The pods that are to be judged as soon as they are known.
    pub fn unbound(&self) -> impl Iterator<Item = (&String, &NodeName, &Key)> {
        self.unbound.iter().map(|(uid, (node, pod))| (uid, node, pod))
    }

    /// A pod is known; `lacks` are the nodes that still have to acknowledge. Gives its node where there are none.
    pub fn bind(&mut self, uid: &str, lacks: BTreeMap<NodeName, Version>) -> Option<NodeName> {
        let (node, _) = self.unbound.remove(uid)?;
        if lacks.is_empty() {
            return Some(node);
        }
        for holder in lacks.keys() {
            self.by_holder.entry(holder.clone()).or_default().insert(uid.to_owned());
        }
        self.bound.insert(uid.to_owned(), Wait { node, lacks });
        None
    }

    /// A node has all up to this version: gives the pods that nobody waits for any more, with their nodes.
    pub fn acknowledged(&mut self, holder: &NodeName, version: Version) -> Vec<(NodeName, String)> {
        let uids: Vec<String> = self.by_holder.get(holder).into_iter().flatten().cloned().collect();
        let mut known = Vec::new();
        for uid in uids {
            let Some(wait) = self.bound.get_mut(&uid) else { continue };
            if wait.lacks.get(holder).is_some_and(|lacking| *lacking > version) {
                continue;
            }
            wait.lacks.remove(holder);
            let node = wait.lacks.is_empty().then(|| wait.node.clone());
            self.forget(holder, &uid);
            if let Some(node) = node {
                self.bound.remove(&uid);
                known.push((node, uid));
            }
        }
        known
    }

    fn forget(&mut self, holder: &NodeName, uid: &str) {
        if let Some(uids) = self.by_holder.get_mut(holder) {
            uids.remove(uid);
            if uids.is_empty() {
                self.by_holder.remove(holder);
            }
        }
    }
}
