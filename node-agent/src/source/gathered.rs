//! What is known of a node's state before all of it is: nothing is handed on until then.

use std::collections::BTreeMap;

use towpath_net::state::{NodeName, NodeState, Peer};

use crate::policy::Receipt;
use crate::snapshot::{Assignment, Own, Update};

/// What is known, and was not handed on yet.
#[derive(Debug)]
pub enum Gathered {
    /// Something is missing.
    Some(Box<Parts>),
    /// All was handed on, and what comes is handed on at once.
    Handed,
}

/// The parts of a state.
#[derive(Debug)]
pub struct Parts {
    node: NodeName,
    own: Option<Own>,
    peers: BTreeMap<NodeName, Peer>,
    /// Whether these are all other nodes, by whatever an agent was told.
    is_told: bool,
    owed: Vec<Receipt>,
}

impl Gathered {
    /// Nothing is known.
    pub fn nothing(node: NodeName) -> Self {
        Self::of(node, BTreeMap::new(), false)
    }

    /// The other nodes are known.
    pub fn with(node: NodeName, peers: BTreeMap<NodeName, Peer>) -> Self {
        Self::of(node, peers, true)
    }

    fn of(node: NodeName, peers: BTreeMap<NodeName, Peer>, is_told: bool) -> Self {
        Self::Some(Box::new(Parts { node, own: None, peers, is_told, owed: Vec::new() }))
    }

    /// The node's own part.
    pub fn own(&mut self, own: Box<Own>, each: &mut impl FnMut(Update)) {
        match self {
            Self::Handed => each(Update::Own(own)),
            Self::Some(parts) => {
                parts.own = Some(*own);
                self.hand_on(each);
            }
        }
    }

    /// There is no own part any more. Where it was handed on, what runs, runs on.
    pub fn forget_own(&mut self) {
        if let Self::Some(parts) = self {
            parts.own = None;
        }
    }

    /// What becomes of other nodes.
    pub fn peers(
        &mut self,
        changes: BTreeMap<NodeName, Option<Peer>>,
        receipt: Receipt,
        each: &mut impl FnMut(Update),
    ) {
        match self {
            Self::Handed => {
                for (name, peer) in changes {
                    each(Update::Peer(name, peer));
                }
                each(Update::Receipt(receipt));
            }
            Self::Some(parts) => {
                parts.is_told = true;
                parts.owed.push(receipt);
                for (name, peer) in changes {
                    match peer {
                        Some(peer) => _ = parts.peers.insert(name, peer),
                        None => _ = parts.peers.remove(&name),
                    }
                }
                self.hand_on(each);
            }
        }
    }

    /// Hands all of it on, where it is all there.
    fn hand_on(&mut self, each: &mut impl FnMut(Update)) {
        let Self::Some(parts) = self else { return };
        let Some(Own { object, generation, spec }) = parts.own.take_if(|_| parts.is_told) else { return };
        let state = NodeState { node: parts.node.clone(), spec, peers: std::mem::take(&mut parts.peers) };
        each(Update::State(Box::new(Assignment { object, generation, state })));
        parts.owed.drain(..).for_each(|receipt| each(Update::Receipt(receipt)));
        *self = Self::Handed;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use towpath_net::state::NodeSpec;
    use towpath_net::transport::Transport;

    use super::*;

    fn own(object: &str) -> Box<Own> {
        let spec = NodeSpec::plain(Vec::new(), Vec::new());
        Box::new(Own { object: object.to_owned(), generation: 1, spec })
    }

    fn peer() -> Peer {
        let addresses = vec!["172.16.30.9".parse().unwrap()];
        Peer { addresses, pod_cidrs: Vec::new(), accepts: vec![Transport::Direct], keys: None }
    }

    fn receipt() -> (Receipt, Receiver<Result<(), String>>) {
        let (tell, told) = channel();
        (Receipt::telling(move |answer| tell.send(answer).unwrap()), told)
    }

    /// What was handed on: of a state its object and the names of its peers.
    fn names(all: &[Update]) -> Vec<String> {
        let name = |update: &Update| match update {
            Update::State(whole) => {
                let peers: Vec<&str> = whole.state.peers.keys().map(|name| name.0.as_str()).collect();
                format!("state {} {}", whole.object, peers.join(" "))
            }
            Update::Own(own) => format!("own {}", own.object),
            Update::Peer(name, peer) => format!("peer {name} {}", peer.is_some()),
            Update::Receipt(_) => "receipt".to_owned(),
            Update::Enforced(_) => "enforced".to_owned(),
        };
        all.iter().map(name).collect()
    }

    #[test]
    fn nothing_is_handed_on_before_all_of_it_is_known() {
        let (mut gathered, mut all) = (Gathered::nothing("n1".into()), Vec::new());
        let mut each = |update| all.push(update);
        gathered.peers(
            BTreeMap::from([("n2".into(), Some(peer())), ("n3".into(), Some(peer()))]),
            receipt().0,
            &mut each,
        );
        gathered.peers(BTreeMap::from([("n2".into(), None)]), receipt().0, &mut each);
        gathered.own(own("a"), &mut each);
        gathered.own(own("b"), &mut each);
        gathered.peers(BTreeMap::from([("n4".into(), None)]), receipt().0, &mut each);
        assert_eq!(names(&all), ["state a n3", "receipt", "receipt", "own b", "peer n4 false", "receipt"]);
    }

    #[test]
    fn an_own_part_that_went_before_the_others_are_known_is_not_handed_on() {
        let (mut gathered, mut all) = (Gathered::nothing("n1".into()), Vec::new());
        let mut each = |update| all.push(update);
        let (receipt, answer) = receipt();
        gathered.own(own("gone"), &mut each);
        gathered.forget_own();
        gathered.peers(BTreeMap::from([("n2".into(), Some(peer()))]), receipt, &mut each);
        assert!(matches!(gathered, Gathered::Some(_)));
        gathered.own(own("new"), &mut each);
        gathered.forget_own();
        gathered.own(own("newer"), &mut each);
        assert_eq!(names(&all), ["state new n2", "receipt", "own newer"]);
        drop((gathered, all));
        assert!(answer.recv().is_err(), "nobody did anything for it");
    }

    #[test]
    fn what_an_earlier_agent_was_told_of_other_nodes_will_do() {
        let mut gathered = Gathered::with("n1".into(), BTreeMap::from([("n2".into(), peer())]));
        let mut all = Vec::new();
        gathered.own(own("a"), &mut |update| all.push(update));
        assert_eq!(names(&all), ["state a n2"]);
    }
}
