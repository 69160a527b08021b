//! Pods whose start waits until every node that must know their addresses does.

use std::collections::BTreeSet;

use towpath_control::server::Version;
use towpath_net::state::NodeName;

use super::lacks::{Behind, Lacks};

/// A pod by its node and what it is told apart by: no node's agent speaks for another's.
pub type PodOf = (NodeName, String);

/// All pods that wait.
#[derive(Debug, Default)]
pub struct Waits {
    /// Those that cannot be judged yet: nobody knows such a pod so far, or where to answer.
    unbound: BTreeSet<PodOf>,
    bound: Lacks<PodOf>,
}

impl Waits {
    /// A pod waits.
    pub fn begin(&mut self, pod: PodOf) {
        self.bound.end(&pod);
        self.unbound.insert(pod);
    }

    /// Nobody waits for the pod any more.
    pub fn end(&mut self, pod: &PodOf) {
        self.unbound.remove(pod);
        self.bound.end(pod);
    }

    /// Ends all waits of pods of a node.
    pub fn end_of(&mut self, node: &NodeName) {
        let all: Vec<PodOf> =
            self.unbound.iter().chain(self.bound.keys()).filter(|pod| pod.0 == *node).cloned().collect();
        for pod in &all {
            self.end(pod);
        }
    }

    /// The pods that are to be judged as soon as they are known.
    pub fn unbound(&self) -> impl Iterator<Item = &PodOf> {
        self.unbound.iter()
    }

    /// A pod is known, and these nodes still have to acknowledge. Tells whether there are none.
    pub fn bind(&mut self, pod: &PodOf, behind: Behind) -> bool {
        let is_known = self.unbound.remove(pod) && behind.is_empty();
        self.bound.put(pod.clone(), behind);
        is_known
    }

    /// A node has all up to this version: gives the pods that nobody waits for any more.
    pub fn acknowledged(&mut self, holder: &NodeName, version: Version) -> Vec<PodOf> {
        self.bound.acknowledged(holder, version)
    }

    /// A node is not told anything any more, or does not take it: gives the pods that nobody waits for any more.
    pub fn left(&mut self, holder: &NodeName) -> Vec<PodOf> {
        self.bound.left(holder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str) -> PodOf {
        ("n1".into(), uid.to_owned())
    }

    fn behind(node: &str) -> Behind {
        Behind::from([(node.into(), Version(3))])
    }

    #[test]
    fn a_pod_waits_until_it_is_known_and_every_node_has_acknowledged() {
        let mut waits = Waits::default();
        waits.begin(pod("a"));
        assert_eq!(waits.unbound().collect::<Vec<_>>(), [&pod("a")]);
        assert!(!waits.bind(&pod("a"), behind("n2")));
        assert_eq!(waits.unbound().count(), 0);
        assert!(waits.acknowledged(&"n2".into(), Version(2)).is_empty());
        assert_eq!(waits.acknowledged(&"n2".into(), Version(3)), [pod("a")]);
    }

    #[test]
    fn a_pod_that_no_node_must_know_does_not_wait() {
        let mut waits = Waits::default();
        waits.begin(pod("a"));
        assert!(waits.bind(&pod("a"), Behind::new()));
        assert!(!waits.bind(&pod("a"), Behind::new()), "it is told once");
    }

    #[test]
    fn who_begins_to_wait_again_is_judged_again() {
        let mut waits = Waits::default();
        waits.begin(pod("a"));
        waits.bind(&pod("a"), behind("n2"));
        waits.begin(pod("a"));
        assert!(waits.acknowledged(&"n2".into(), Version(9)).is_empty());
        assert!(waits.bind(&pod("a"), Behind::new()));
    }

    #[test]
    fn nobody_waits_for_pods_of_a_node_that_went() {
        let mut waits = Waits::default();
        for pod in [pod("a"), pod("b"), ("n3".into(), "c".to_owned())] {
            waits.begin(pod);
        }
        waits.bind(&pod("a"), behind("n2"));
        waits.end_of(&"n1".into());
        assert_eq!(waits.unbound().count(), 1);
        assert!(waits.left(&"n2".into()).is_empty());
    }
}
