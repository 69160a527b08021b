//! What agents say of the addresses of their pods: earlier than the status of the pods says it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use towpath_control::message::{Attached, MOST_ADDRESSES};
use towpath_net::policy::identity;
use towpath_net::policy::input::{Key, Pod};
use towpath_net::state::NodeName;
use tracing::warn;

use super::waits::PodOf;

/// Of how many pods a node's agent may speak: many times as many as a kubelet runs (110, where nobody sets `maxPods`).
pub const MOST: usize = 4096;

/// How many former addresses of a pod are remembered: those of its last two sandboxes, however many attachments it has.
const MOST_PAST: usize = 2 * MOST_ADDRESSES;

/// What an agent says of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its namespace and name.
    pub pod: Key,
    /// The pod's addresses; none where it has none any more.
    pub addresses: Vec<IpAddr>,
    /// Those that its status may go on to name for a while, of before: the newest first, and no more than [`MOST_PAST`].
    pub past: Vec<IpAddr>,
    /// Whether there is such a pod on that node.
    pub is_bound: bool,
}

impl Claim {
    /// What the agent said so far is of before. Of addresses that never counted those are forgotten that are not the node's.
    fn retire(&mut self, is_own: impl Fn(IpAddr) -> bool) {
        self.addresses.retain(|address| self.is_bound || is_own(*address));
        let older = std::mem::take(&mut self.past);
        self.past = newest(self.addresses.drain(..).chain(older), &[]);
    }

    /// Whether the pod was given addresses behind this word, by what its status names.
    fn is_older_than(&mut self, status: &[IpAddr]) -> bool {
        let is_same = status.iter().all(|address| self.addresses.contains(address));
        if is_same && status.is_empty() == self.addresses.is_empty() {
            // What is of before is not named again.
            self.past.clear();
        }
        !status.iter().all(|address| self.addresses.contains(address) || self.past.contains(address))
    }
}

/// As many as are remembered, each once, but for those that the pod has.
fn newest(all: impl Iterator<Item = IpAddr>, has: &[IpAddr]) -> Vec<IpAddr> {
    let mut seen: HashSet<IpAddr> = has.iter().copied().collect();
    all.filter(|address| seen.insert(*address)).take(MOST_PAST).collect()
}

/// The last word of each agent on each of its pods. One agent's word takes nothing from another's.
#[derive(Debug, Default)]
pub struct Claims {
    /// By node, and what the pod is told apart by.
    by_node: HashMap<NodeName, BTreeMap<String, Claim>>,
    /// Those that there is such a pod for.
    bound: HashMap<Key, PodOf>,
    /// Nodes whose agents spoke of more pods than they may.
    excessive: BTreeSet<NodeName>,
    /// How many words were not heard for that.
    unheard: u64,
}

impl Claims {
    /// Whether the word of a node's agent on a pod is heard: of pods beyond [`MOST`] it is not.
    pub fn has_room(&mut self, pod: &PodOf) -> bool {
        let has_room = self.by_node.get(&pod.0).is_none_or(|all| all.len() < MOST || all.contains_key(&pod.1));
        if !has_room {
            self.unheard += 1;
            if self.excessive.insert(pod.0.clone()) {
                warn!(node = %pod.0, most = MOST, "an agent speaks of more pods than a node can have: of the others it is not heard");
            }
        }
        has_room
    }

    /// How many words were not heard.
    pub const fn unheard(&self) -> u64 {
        self.unheard
    }

    /// Takes a word on a pod, which is not bound before [`Self::bind`] says so. `known` are the addresses that it had so far;
    /// of those that its agent named, only what may be the node's is remembered.
    pub fn put(&mut self, node: &NodeName, attached: Attached, known: &[IpAddr], is_own: impl Fn(IpAddr) -> bool) {
        let Attached { uid, key, addresses, is_waiting: _ } = attached;
        let claims = self.by_node.entry(node.clone()).or_default();
        let mut before = claims.remove(&uid);
        if let Some(before) = &mut before {
            before.retire(is_own);
        }
        let before = before.map(|claim| claim.past).unwrap_or_default();
        // What is known is what the status of the pod may name now.
        let past = newest(known.iter().copied().chain(before), &addresses);
        claims.insert(uid, Claim { pod: key, addresses, past, is_bound: false });
    }

    /// The word of a node's agent on a pod.
    pub fn get(&self, (node, uid): &PodOf) -> Option<&Claim> {
        self.by_node.get(node)?.get(uid)
    }

    /// The word of a node's agent is from now on that a pod has no addresses any more. It stays until the pod is gone, for
    /// the status of the pod goes on to name them.
    pub fn withdraw(&mut self, (node, uid): &PodOf, is_own: impl Fn(IpAddr) -> bool) -> bool {
        let claim = self.by_node.get_mut(node).and_then(|claims| claims.get_mut(uid));
        claim.map(|claim| claim.retire(is_own)).is_some()
    }

    /// Whether there is such a pod on that node, as far as is known now. A word without addresses on a pod that there is
    /// not is forgotten.
    pub fn bind(&mut self, pod: &PodOf, is_bound: bool) {
        let Some(claim) = self.by_node.get_mut(&pod.0).and_then(|claims| claims.get_mut(&pod.1)) else { return };
        claim.is_bound = is_bound;
        if is_bound {
            self.bound.insert(claim.pod.clone(), pod.clone());
            return;
        }
        let (key, is_void) = (claim.pod.clone(), claim.addresses.is_empty());
        if self.bound.get(&key) == Some(pod) {
            self.bound.remove(&key);
        }
        if is_void {
            self.remove(pod);
        }
    }

    /// The pods that a node's agent spoke of.
    pub fn of_node(&self, node: &NodeName) -> Vec<PodOf> {
        let all = self.by_node.get(node).into_iter().flatten();
        all.map(|(uid, _)| (node.clone(), uid.clone())).collect()
    }

    /// The nodes whose agents spoke of pods.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeName> {
        self.by_node.keys()
    }

    /// A node is gone, and with it all that its agent said.
    pub fn forget(&mut self, node: &NodeName) {
        self.excessive.remove(node);
        for (uid, claim) in self.by_node.remove(node).unwrap_or_default() {
            if self.bound.get(&claim.pod).is_some_and(|bound| bound.0 == *node && bound.1 == uid) {
                self.bound.remove(&claim.pod);
            }
        }
    }

    /// The pod is gone, and with it the word on it. One on a pod of the same name that is not known yet stays, and so does
    /// one on a static pod: that runs on where somebody deletes the object which shows it, and another comes.
    pub fn gone(&mut self, pod: &Key) {
        match self.bound.remove(pod) {
            Some(bound) if identity::is_static(&bound.1) => self.bind(&bound, false),
            Some(bound) => self.remove(&bound),
            None => {}
        }
    }

    fn remove(&mut self, (node, uid): &PodOf) {
        if let Some(claims) = self.by_node.get_mut(node) {
            claims.remove(uid);
            if claims.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// Gives a pod the addresses that its node's agent says it has. Where its status names one that neither the agent nor the
    /// status named before, that is later than the agent's last word: the agent is away, and the pod was given another.
    pub fn overlay(&mut self, pod: &mut Pod, is_allowed: impl Fn(&NodeName, &[IpAddr]) -> bool) {
        if self.bound.get(&pod.key).is_some_and(|bound| bound.1 != pod.uid || Some(&bound.0) != pod.node.as_ref()) {
            // A pod of the same name came in its place.
            self.gone(&pod.key);
        }
        let Some(node) = &pod.node else { return };
        let of = (node.clone(), pod.uid.clone());
        let claims = self.by_node.get_mut(node).and_then(|claims| claims.get_mut(&pod.uid));
        let Some(claim) = claims.filter(|claim| claim.pod == pod.key) else { return };
        // One that has ended may be there for long, and has no use for a word that says so.
        let is_over = pod.is_ended && claim.addresses.is_empty();
        if is_over || claim.is_older_than(&pod.addresses) {
            self.bound.remove(&pod.key);
            return self.remove(&of);
        }
        let is_bound = is_allowed(node, &claim.addresses);
        if is_bound {
            pod.addresses.clone_from(&claim.addresses);
        }
        self.bind(&of, is_bound);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(uid: &str, last: u8) -> Attached {
        Attached { uid: uid.to_owned(), key: key(), addresses: vec![[10, 1, 1, last].into()], is_waiting: false }
    }

    fn key() -> Key {
        Key { namespace: "web".to_owned(), name: "a".to_owned() }
    }

    fn of(node: &str, uid: &str) -> PodOf {
        (node.into(), uid.to_owned())
    }

    #[test]
    fn one_agents_word_takes_nothing_from_anothers() {
        let mut claims = Claims::default();
        claims.put(&"n1".into(), attached("u", 1), &[], |_| true);
        claims.bind(&of("n1", "u"), true);
        claims.put(&"n2".into(), attached("u", 2), &[], |_| true);
        claims.bind(&of("n2", "u"), false);
        assert!(claims.get(&of("n1", "u")).is_some_and(|claim| claim.is_bound));
        claims.gone(&key());
        assert_eq!(claims.get(&of("n1", "u")), None);
        assert!(claims.get(&of("n2", "u")).is_some(), "there may be such a pod later");
    }

    #[test]
    fn a_word_on_the_next_pod_of_a_name_outlives_the_one_before() {
        let mut claims = Claims::default();
        claims.put(&"n1".into(), attached("old", 1), &[], |_| true);
        claims.bind(&of("n1", "old"), true);
        claims.put(&"n1".into(), attached("new", 1), &[], |_| true);
        claims.bind(&of("n1", "new"), false);
        claims.gone(&key());
        assert_eq!(claims.of_node(&"n1".into()), [of("n1", "new")]);
    }

    #[test]
    fn a_word_that_is_withdrawn_stays_while_there_is_such_a_pod() {
        let mut claims = Claims::default();
        claims.put(&"n1".into(), attached("u", 1), &[], |_| true);
        claims.bind(&of("n1", "u"), true);
        assert!(claims.withdraw(&of("n1", "u"), |_| true) && !claims.withdraw(&of("n1", "other"), |_| true));
        claims.bind(&of("n1", "u"), true);
        assert!(claims.get(&of("n1", "u")).is_some_and(|claim| claim.addresses.is_empty()));
        claims.bind(&of("n1", "u"), false);
        assert!(claims.by_node.is_empty() && claims.bound.is_empty());
    }

    #[test]
    fn the_word_on_a_static_pod_outlives_the_object_that_shows_it() {
        let mut claims = Claims::default();
        let uid = identity::identity("0123456789abcdef0123456789abcdef", &key());
        claims.put(&"n1".into(), attached(&uid, 1), &[], |_| true);
        claims.bind(&of("n1", &uid), true);
        claims.gone(&key());
        assert!(claims.get(&of("n1", &uid)).is_some_and(|claim| !claim.is_bound));
        assert!(claims.withdraw(&of("n1", &uid), |_| true));
        claims.bind(&of("n1", &uid), false);
        assert!(claims.by_node.is_empty() && claims.bound.is_empty());
    }

    #[test]
    fn an_agent_is_heard_of_so_many_pods_and_no_more() {
        let mut claims = Claims::default();
        for number in 0..2 * MOST {
            let uid = number.to_string();
            if claims.has_room(&of("n1", &uid)) {
                claims.put(&"n1".into(), attached(&uid, 1), &[], |_| true);
            }
        }
        assert_eq!((claims.of_node(&"n1".into()).len(), claims.unheard()), (MOST, MOST as u64));
        assert!(claims.has_room(&of("n1", "0")), "of those that it spoke of before it is heard");
        assert!(claims.has_room(&of("n2", "a")), "others are");
        assert_eq!(claims.excessive.len(), 1, "it is logged once");
        claims.forget(&"n1".into());
        assert!(claims.by_node.is_empty() && claims.excessive.is_empty());
    }

    #[test]
    fn what_an_agent_said_goes_with_its_node() {
        let mut claims = Claims::default();
        claims.put(&"n1".into(), attached("u", 1), &[], |_| true);
        claims.bind(&of("n1", "u"), true);
        claims.put(&"n2".into(), attached("u", 1), &[], |_| true);
        claims.forget(&"n2".into());
        assert_eq!(claims.bound.len(), 1, "a pod of the same name on another node");
        claims.forget(&"n1".into());
        assert!(claims.by_node.is_empty() && claims.bound.is_empty());
    }
}
