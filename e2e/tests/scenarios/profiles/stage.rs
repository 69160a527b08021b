//! A cluster with a profile's network and pods on it, as rows need it.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;
use towpath_e2e::address::{Family, nth};

use crate::cluster::{Cluster, Pod};

/// A cluster, and four pods: two on `n1`, one on each of the others.
pub struct Stage {
    /// The cluster.
    pub cluster: Cluster,
    /// In the order in which they were made.
    pub pods: Vec<Pod>,
}

/// Where pods are: `n1` has two, so that the same node is a case too.
const PODS: [(&str, &str); 4] = [("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n3")];

impl Stage {
    /// Makes the pods, one after the other.
    pub fn set(cluster: Cluster) -> Self {
        let pods = PODS.map(|(name, node)| cluster.pod(name, node)).to_vec();
        Self { cluster, pods }
    }

    /// The families that pods have addresses of.
    pub fn families(&self) -> Vec<Family> {
        self.pods[0].addresses.iter().copied().map(Family::of).collect()
    }

    /// The first block of a family that a node has.
    pub fn block(&self, node: &str, family: Family) -> IpNet {
        let all = self.cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs[*]");
        let of_family = |block: &IpNet| Family::of(block.addr()) == family;
        let mut blocks = all.split_whitespace().map(|text| text.parse::<IpNet>().unwrap());
        blocks.find(of_family).unwrap_or_else(|| panic!("{node} has no block of {family:?}: {all}"))
    }

    /// The address of a node's block that is a number of places after its first.
    pub fn of_block(&self, node: &str, family: Family, place: u128) -> IpAddr {
        nth(self.block(node, family).network(), place)
    }

    /// A node's address.
    pub fn node_address(&self, node: &str, family: Family) -> IpAddr {
        let all = self.cluster.lab.node(node).unwrap().addresses();
        all.into_iter().find(|address| Family::of(*address) == family).unwrap()
    }

    /// A pod's address.
    pub fn address(&self, pod: &str, family: Family) -> IpAddr {
        let pod = self.pods.iter().find(|known| known.name == pod).unwrap();
        pod.addresses.iter().copied().find(|address| Family::of(*address) == family).unwrap()
    }

    /// The node's end of a pod's pair, as the pod's end names it.
    pub fn veth(&self, pod: &str) -> String {
        let node = &self.pods.iter().find(|known| known.name == pod).unwrap().node;
        let index = self.cluster.in_pod(pod, "cat /sys/class/net/eth0/iflink");
        let links = self.cluster.on(node, "ip -o link show");
        let line = links.lines().find(|line| line.starts_with(&format!("{}: ", index.trim())));
        let line = line.unwrap_or_else(|| panic!("{node} has no link {index}: {links}"));
        line.split([':', '@']).nth(1).unwrap().trim().to_owned()
    }

    /// The Ethernet address of a node's VXLAN device.
    pub fn tunnel_mac(&self, node: &str, family: Family) -> String {
        self.word_after(node, &format!("ip -o link show dev {}", vxlan(family)), "link/ether")
    }

    /// What stands for a node on the VXLAN devices of others: its tunnel address, and for IPv6 the link-local address of
    /// its device.
    pub fn tunnel_gateway(&self, node: &str, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.of_block(node, family, 0),
            Family::V6 => link_local(&self.tunnel_mac(node, family)).into(),
        }
    }

    /// One word of what a command on a node shows: the one after `word`.
    pub fn word_after(&self, node: &str, command: &str, word: &str) -> String {
        let shown = self.cluster.on(node, command);
        let found = shown.split_whitespace().skip_while(|seen| *seen != word).nth(1);
        found.unwrap_or_else(|| panic!("{node}: {command}: no {word} in {shown}")).to_owned()
    }
}

/// The address that an Ethernet address makes (RFC 4291, appendix A).
fn link_local(mac: &str) -> Ipv6Addr {
    let mut bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    bytes[0] ^= 2;
    let identifier: [u8; 8] = [&bytes[..3], &[0xff, 0xfe], &bytes[3..]].concat().try_into().unwrap();
    Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(u64::from_be_bytes(identifier)))
}

/// What `ip` is told for a family.
pub fn option(family: Family) -> &'static str {
    match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    }
}

/// How an address of a family reads in the lists of `ip`.
pub fn inet(family: Family) -> &'static str {
    match family {
        Family::V4 => "inet",
        Family::V6 => "inet6",
    }
}

/// The VXLAN device of a family.
pub fn vxlan(family: Family) -> &'static str {
    match family {
        Family::V4 => "towvxlan4",
        Family::V6 => "towvxlan6",
    }
}

/// The length of an address of a family.
pub fn length(family: Family) -> u8 {
    match family {
        Family::V4 => 32,
        Family::V6 => 128,
    }
}
