//! What a bundle says of a packet, and which of its rules says so.
//!
//! It judges the first packet of a connection: answers, and errors about what was let through, always pass. Addresses are
//! those behind destination NAT and before source NAT, as the policies of a pod see them. Nothing is allocated.

use std::net::IpAddr;

use super::bundle::{AddressPort, Allow, Bundle, Direction, Isolation, Members, Ordered, Peers, Ports, Profile, SetId};
use super::input::{Action, Tier};
use super::objects::Way;
use crate::lease::Protocol;

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Packet {
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// The number of the protocol above IP (IANA).
    pub protocol: u8,
    /// The port of the destination, where the protocol is TCP, UDP or SCTP.
    pub port: Option<u16>,
}

/// Where an address is, seen from a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place<'a> {
    /// It is that of a pod of this node with a network of its own, by `metadata.uid`.
    Pod(&'a str),
    /// It is this node's own, so also that of its pods that have its network.
    Node,
    /// It is elsewhere.
    Elsewhere,
}

/// What becomes of a packet, and what says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// It passes: there is no policy in the cluster.
    NotEnforced,
    /// It passes: this side is no pod of this node, so others say what becomes of it.
    NotHere,
    /// It passes: a pod always reaches itself.
    Itself,
    /// It passes: a node always reaches its own pods.
    FromNode,
    /// It ends: the pod is not known, or what it may do is not.
    Unknown,
    /// It passes: nothing decides on it.
    Undecided,
    /// A rule of a `ClusterNetworkPolicy` accepts or denies it.
    Ruled(Tier, &'a Ordered),
    /// It passes: something is allowed in spite of the isolation.
    Allowed(&'a Isolation, &'a Allow),
    /// It ends: policies isolate the pod, and none allows it.
    Isolated(&'a Isolation),
}

/// What becomes of a packet at one node, which may have the pods at both of its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<'a> {
    /// What the pod may do that it comes from.
    pub egress: Verdict<'a>,
    /// What may reach the pod that it goes to.
    pub ingress: Verdict<'a>,
}

impl Packet {
    /// The other side, seen from a pod.
    pub const fn peer(&self, way: Way) -> IpAddr {
        match way {
            Way::Ingress => self.source,
            Way::Egress => self.destination,
        }
    }
}

impl Verdict<'_> {
    /// Whether the packet passes.
    pub const fn passes(&self) -> bool {
        match self {
            Self::NotEnforced
            | Self::NotHere
            | Self::Itself
            | Self::FromNode
            | Self::Undecided
            | Self::Allowed(..)
            | Self::Ruled(_, Ordered { action: Action::Accept | Action::Pass, .. }) => true,
            Self::Unknown | Self::Isolated(_) | Self::Ruled(_, Ordered { action: Action::Deny, .. }) => false,
        }
    }
}

impl Flow<'_> {
    /// Whether the packet passes both.
    pub const fn passes(&self) -> bool {
        self.egress.passes() && self.ingress.passes()
    }
}

impl Bundle {
    /// What becomes of a packet at this node. `place` tells where an address is.
    pub fn judge<'a>(&'a self, packet: &Packet, place: impl Fn(IpAddr) -> Place<'a>) -> Flow<'a> {
        let (source, destination) = (place(packet.source), place(packet.destination));
        let egress = match source {
            Place::Pod(uid) => self.judge_pod(uid, Way::Egress, packet),
            Place::Node | Place::Elsewhere => Verdict::NotHere,
        };
        let ingress = match (source, destination) {
            (Place::Node, Place::Pod(_)) => Verdict::FromNode,
            (_, Place::Pod(uid)) => self.judge_pod(uid, Way::Ingress, packet),
            (_, Place::Node | Place::Elsewhere) => Verdict::NotHere,
        };
        Flow { egress, ingress }
    }

    /// What becomes of a packet from or to one pod of this node.
    pub fn judge_pod(&self, uid: &str, way: Way, packet: &Packet) -> Verdict<'_> {
        if !self.is_enforced {
            return Verdict::NotEnforced;
        }
        let Some(pod) = self.pods.get(uid) else { return Verdict::Unknown };
        if packet.source == packet.destination {
            return Verdict::Itself;
        }
        let Some(id) = pod.profile else { return Verdict::Undecided };
        self.profiles.get(&id).map_or(Verdict::Unknown, |profile| self.judge_profile(profile, way, packet))
    }

    /// What becomes of a packet from or to a pod that may do this.
    pub fn judge_profile<'a>(&'a self, profile: &'a Profile, way: Way, packet: &Packet) -> Verdict<'a> {
        self.judge_direction(profile.direction(way), way, packet)
    }

    fn judge_direction<'a>(&'a self, direction: &'a Direction, way: Way, packet: &Packet) -> Verdict<'a> {
        if let Some(rule) = self.first(&direction.admin, way, packet) {
            return Verdict::Ruled(Tier::Admin, rule);
        }
        if let Some(isolation) = &direction.isolated {
            let allow = isolation.allows.iter().find(|allow| self.matches(&[allow.ports], &allow.peers, way, packet));
            return allow.map_or(Verdict::Isolated(isolation), |allow| Verdict::Allowed(isolation, allow));
        }
        self.first(&direction.baseline, way, packet)
            .map_or(Verdict::Undecided, |rule| Verdict::Ruled(Tier::Baseline, rule))
    }

    /// The first rule that matches, unless it passes.
    fn first<'a>(&'a self, rules: &'a [Ordered], way: Way, packet: &Packet) -> Option<&'a Ordered> {
        let rule = rules.iter().find(|rule| self.matches(&rule.ports, &rule.peers, way, packet))?;
        (rule.action != Action::Pass).then_some(rule)
    }

    fn matches(&self, ports: &[Ports], peers: &Peers, way: Way, packet: &Packet) -> bool {
        let peer = packet.peer(way);
        ports.iter().any(|ports| match (ports, peers) {
            (Ports::OfPeer, Peers::Anyone) => false,
            (Ports::OfPeer, Peers::In(sets)) => {
                way == Way::Egress && self.any(sets, |set| set.names(peer, packet.protocol, packet.port))
            }
            (_, _) if !ports.hold(packet.protocol, packet.port) => false,
            (_, Peers::Anyone) => true,
            (_, Peers::In(sets)) => self.any(sets, |set| set.holds(peer)),
        })
    }

    /// Whether it is true of any of the sets; one that is not there holds nobody.
    fn any(&self, sets: &[SetId], test: impl Fn(&Members) -> bool) -> bool {
        sets.iter().filter_map(|id| self.sets.get(id)).any(test)
    }
}

impl Ports {
    /// Whether this port of this protocol (IANA's number) is one of them; never where a set of peers names them.
    pub fn hold(&self, protocol: u8, port: Option<u16>) -> bool {
        match self {
            Self::Any => true,
            Self::All(of) => of.number() == protocol,
            Self::Range(of, first, last) => {
                of.number() == protocol && port.is_some_and(|port| (*first..=*last).contains(&port))
            }
            Self::OfPeer => false,
        }
    }
}

impl Members {
    /// Whether they hold the address, whatever the port.
    pub fn holds(&self, address: IpAddr) -> bool {
        match self {
            Self::Addresses(all) => all.contains(&address),
            Self::Ports(_) => false,
            Self::Ranges(all) => {
                let after = all.partition_point(|range| range.first <= address);
                all[..after].last().is_some_and(|range| address <= range.last)
            }
        }
    }

    /// Whether they name this port of the address.
    fn names(&self, address: IpAddr, protocol: u8, port: Option<u16>) -> bool {
        let (Self::Ports(all), Some(port)) = (self, port) else { return false };
        with_ports(protocol).is_some_and(|protocol| all.contains(&AddressPort { address, protocol, port }))
    }
}

/// The protocol of that number, if it is one with ports.
const fn with_ports(number: u8) -> Option<Protocol> {
    match number {
        6 => Some(Protocol::Tcp),
        17 => Some(Protocol::Udp),
        132 => Some(Protocol::Sctp),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
