//! Which addresses are spoken for: those of the pods of a node, and those of the node itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::policy::input::Key;
use towpath_net::state::{NodeName, Peer};

/// The ranges of all nodes, whosever they are.
#[derive(Debug, Default)]
pub struct Places {
    /// How many nodes have each.
    ranges: HashMap<IpNet, u32>,
    /// How long these are or were: an address is looked for once with each.
    lengths: BTreeSet<(Family, u8)>,
}

impl Places {
    /// A node has these ranges and addresses. Tells whether nobody had one of them.
    pub fn add(&mut self, peer: &Peer) -> bool {
        let mut is_new = false;
        for range in ranges(peer) {
            let nodes = self.ranges.entry(range).or_default();
            is_new |= *nodes == 0;
            *nodes += 1;
            self.lengths.insert((Family::of(range.addr()), range.prefix_len()));
        }
        is_new
    }

    /// A node does not have these any more.
    pub fn remove(&mut self, peer: &Peer) {
        for range in ranges(peer) {
            let Some(nodes) = self.ranges.get_mut(&range) else { continue };
            *nodes -= 1;
            if *nodes == 0 {
                self.ranges.remove(&range);
            }
        }
    }

    /// Whether an address is of some node, or of its pods.
    pub fn holds(&self, address: IpAddr) -> bool {
        let family = Family::of(address);
        let ranges = self.lengths.range((family, 0)..=(family, u8::MAX));
        let mut ranges = ranges.filter_map(|(_, length)| IpNet::new(address, *length).ok());
        ranges.any(|range| self.ranges.contains_key(&range.trunc()))
    }
}

fn ranges(peer: &Peer) -> impl Iterator<Item = IpNet> {
    peer.pod_cidrs.iter().map(IpNet::trunc).chain(peer.addresses.iter().copied().map(IpNet::from))
}

/// A pod whose status names addresses that are of another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// What the pod is told apart by.
    pub uid: String,
    /// Its node.
    pub node: NodeName,
    /// All that its status names.
    pub addresses: Vec<IpAddr>,
}

/// All such pods.
pub type Doubts = BTreeMap<Key, Doubt>;

#[cfg(test)]
mod tests {
    use towpath_net::transport::Transport;

    use super::*;

    fn peer(addresses: &[&str], ranges: &[&str]) -> Peer {
        Peer {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            pod_cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(),
            accepts: vec![Transport::Direct],
            keys: None,
        }
    }

    #[test]
    fn addresses_are_found_in_ranges_of_every_length() {
        let mut places = Places::default();
        let wide = peer(&["192.168.0.1"], &["10.0.0.0/16", "fd00::/64"]);
        let narrow = peer(&["192.168.0.2"], &["10.0.1.0/24"]);
        assert!(places.add(&wide) && places.add(&narrow));
        assert!(!places.add(&narrow), "somebody has it");
        let holds = |places: &Places, text: &str| places.holds(text.parse().unwrap());
        for text in ["10.0.1.9", "10.0.2.9", "fd00::9", "192.168.0.1", "192.168.0.2"] {
            assert!(holds(&places, text), "{text}");
        }
        for text in ["10.1.0.1", "fd00:1::1", "192.168.0.3"] {
            assert!(!holds(&places, text), "{text}");
        }
        places.remove(&wide);
        places.remove(&narrow);
        assert!(holds(&places, "10.0.1.9") && !holds(&places, "10.0.2.9"));
        places.remove(&narrow);
        assert!(places.ranges.is_empty());
    }
}
