//! What is in effect, as the kernel has it: by which transports other nodes are reached, and whether that is encrypted.

use std::collections::BTreeMap;
use std::hash::{Hash as _, Hasher as _};

use fnv::FnvHasher;
use ipnet::IpNet;

use crate::device::{DeviceKind, transport_of};
use crate::observed::{Observed, Route, Target};
use crate::state::{NodeState, Peer};
use crate::transport::Transport;

/// Whether packets to pods of other nodes are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// None of them.
    #[default]
    None,
    /// Those to some nodes.
    Partial,
    /// All of them; what cannot be is dropped.
    Full,
}

/// What is in effect on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// How many nodes are reached by each transport.
    pub paths: BTreeMap<Transport, usize>,
    /// How many routes of ours there are, but for those to pods of this node.
    pub routes: usize,
    /// The sum of their hashes: so one route more or less costs no look at the others.
    sum: u64,
    /// Whether there is a WireGuard device that is up, and everything that is not sent by it is dropped.
    closed: bool,
}

impl Effect {
    /// What is in effect, given what the kernel has.
    pub fn of(state: &NodeState, seen: &Observed) -> Self {
        let mut effect = Self { closed: is_closed(state, seen), ..Self::default() };
        let ours = seen.routes.iter().filter(|route| route.target.pod_link().is_none());
        let mut ways = Vec::new();
        for route in ours {
            effect.add_route(route);
            ways.extend(transport(&route.target).map(|transport| (route.destination, transport)));
        }
        for peer in state.peers.values() {
            effect.add_peer(peer, |cidr| {
                ways.binary_search_by_key(cidr, |(to, _)| *to).ok().and_then(|at| ways.get(at)).map(|(_, way)| *way)
            });
        }
        effect
    }

    /// Takes note of a route that was added.
    fn add_route(&mut self, route: &Route) {
        self.routes += 1;
        self.sum = self.sum.wrapping_add(hash(route));
    }

    /// Takes note of a route that was removed.
    fn remove_route(&mut self, route: &Route) {
        self.routes = self.routes.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(hash(route));
    }

    /// Takes note of a node that is reached; `way` tells by what each of its CIDRs is.
    fn add_peer(&mut self, peer: &Peer, way: impl Fn(&IpNet) -> Option<Transport>) {
        for transport in ways_to(peer, way) {
            *self.paths.entry(transport).or_default() += 1;
        }
    }

    /// Takes note of a node that is reached no more the way it was.
    fn remove_peer(&mut self, peer: &Peer, way: impl Fn(&IpNet) -> Option<Transport>) {
        for transport in ways_to(peer, way) {
            if let Some(nodes) = self.paths.get_mut(&transport) {
                *nodes = nodes.saturating_sub(1);
            }
        }
        self.paths.retain(|_, nodes| *nodes > 0);
    }

    /// Takes note of what became of a few nodes, which are told as they were and as they are, as are their routes.
    pub fn change<'a>(
        &mut self,
        peers: impl Iterator<Item = (Option<&'a Peer>, Option<&'a Peer>)>,
        before: &BTreeMap<IpNet, Target>,
        after: &BTreeMap<IpNet, Target>,
    ) {
        let way = |routes: &BTreeMap<IpNet, Target>, cidr: &IpNet| routes.get(cidr).and_then(transport);
        for (was, is) in peers {
            if let Some(was) = was {
                self.remove_peer(was, |cidr| way(before, cidr));
            }
            if let Some(is) = is {
                self.add_peer(is, |cidr| way(after, cidr));
            }
        }
        let route = |(destination, target): (&IpNet, &Target)| Route { destination: *destination, target: *target };
        for gone in before.iter().filter(|(to, target)| after.get(*to) != Some(*target)) {
            self.remove_route(&route(gone));
        }
        for new in after.iter().filter(|(to, target)| before.get(*to) != Some(*target)) {
            self.add_route(&route(new));
        }
    }

    /// Whether packets to pods of other nodes are encrypted.
    pub fn encryption(&self) -> Encryption {
        let encrypted = self.paths.contains_key(&Transport::WireGuard);
        match (encrypted, self.paths.len()) {
            (true, 1) | (false, 0) if self.closed => Encryption::Full,
            (true, _) => Encryption::Partial,
            (false, _) => Encryption::None,
        }
    }

    /// A short hash of the routes, whatever their order.
    pub fn digest(&self) -> String {
        format!("{:08x}", (self.sum >> 32) ^ (self.sum & 0xffff_ffff))
    }
}

/// By what packets travel that take a route; nothing where they do not leave the node.
pub fn transport(target: &Target) -> Option<Transport> {
    match target {
        Target::Via(nexthop) => Some(transport_of(&nexthop.link).unwrap_or(Transport::Direct)),
        Target::Link { link } => transport_of(link),
        Target::Blackhole | Target::Other => None,
    }
}

fn ways_to(peer: &Peer, way: impl Fn(&IpNet) -> Option<Transport>) -> impl Iterator<Item = Transport> {
    let mut ways: Vec<Transport> = peer.pod_cidrs.iter().filter_map(way).collect();
    ways.sort_unstable();
    ways.dedup();
    ways.into_iter()
}

/// Both ranges of pods that lead nowhere and a device that is up: what cannot be encrypted is dropped.
fn is_closed(state: &NodeState, seen: &Observed) -> bool {
    let dropped = |range: &IpNet| {
        let blackhole = Route { destination: *range, target: Target::Blackhole };
        seen.routes.contains(&blackhole)
    };
    let device = seen.devices.values().any(|device| device.kind == DeviceKind::WireGuard && device.up);
    device && state.spec.pod_ranges.iter().all(dropped)
}

fn hash(route: &Route) -> u64 {
    let mut hash = FnvHasher::default();
    route.hash(&mut hash);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::observed::{Nexthop, NexthopId};
    use crate::state::NodeSpec;

    fn peer(cidr: &str) -> Peer {
        let pod_cidrs = vec![cidr.parse().unwrap()];
        Peer { addresses: Vec::new(), pod_cidrs, accepts: Vec::new(), keys: None }
    }

    fn route(cidr: &str, link: &str) -> Route {
        let target = match link {
            "" => Target::Blackhole,
            link if transport_of(link) == Some(Transport::WireGuard) => Target::Link { link: link.into() },
            link => Target::Via(Nexthop {
                id: NexthopId(1),
                gateway: [172, 16, 30, 4].into(),
                link: link.into(),
                on_link: false,
                encapsulation: None,
            }),
        };
        Route { destination: cidr.parse().unwrap(), target }
    }

    fn state(peers: &[(&str, &str)]) -> NodeState {
        let mut spec = NodeSpec::plain(Vec::new(), Vec::new());
        spec.pod_ranges = vec!["10.244.0.0/16".parse().unwrap()];
        let peers = peers.iter().map(|(name, cidr)| ((*name).into(), peer(cidr))).collect();
        NodeState { node: "n1".into(), spec, peers }
    }

    fn seen(routes: &[(&str, &str)], wireguard: bool) -> Observed {
        let device = Device { kind: DeviceKind::WireGuard, mac: None, mtu: 1420, up: true };
        Observed {
            routes: routes.iter().map(|(cidr, link)| route(cidr, link)).collect(),
            devices: wireguard.then(|| ("towwg0".to_owned(), device)).into_iter().collect(),
            ..Observed::default()
        }
    }

    #[test]
    fn a_node_counts_where_the_kernel_has_a_route_to_its_pods() {
        let state = state(&[("n2", "10.244.2.0/24"), ("n3", "10.244.3.0/24"), ("n4", "10.244.4.0/24")]);
        let effect = Effect::of(
            &state,
            &seen(&[("10.244.2.0/24", "eth0"), ("10.244.3.0/24", "towvxlan4"), ("10.244.4.0/24", "")], false),
        );
        assert_eq!(effect.paths, [(Transport::Direct, 1), (Transport::Vxlan, 1)].into());
        assert_eq!((effect.encryption(), effect.routes), (Encryption::None, 3));
    }

    #[test]
    fn encryption_is_full_only_where_nothing_else_gets_out() {
        let of = |peers: &[(&str, &str)], routes: &[(&str, &str)], device| {
            Effect::of(&state(peers), &seen(routes, device)).encryption()
        };
        let (closed, by_wireguard) = (("10.244.0.0/16", ""), ("10.244.2.0/24", "towwg0"));
        let one = [("n2", "10.244.2.0/24")];
        let two = [("n2", "10.244.2.0/24"), ("n3", "10.244.3.0/24")];
        assert_eq!(of(&one, &[closed, by_wireguard], true), Encryption::Full);
        assert_eq!(of(&one, &[by_wireguard], true), Encryption::Partial);
        assert_eq!(of(&two, &[closed, by_wireguard, ("10.244.3.0/24", "eth0")], true), Encryption::Partial);
        assert_eq!(of(&[], &[closed], true), Encryption::Full);
        assert_eq!(of(&[], &[closed], false), Encryption::None);
        assert_eq!(of(&one, &[("10.244.2.0/24", "eth0")], false), Encryption::None);
    }

    #[test]
    fn a_change_of_one_node_comes_to_the_same_as_a_look_at_all() {
        let before = seen(&[("10.244.2.0/24", "eth0")], false);
        let after = seen(&[("10.244.2.0/24", "eth0"), ("10.244.3.0/24", "towvxlan4")], false);
        let (one, two) =
            (state(&[("n2", "10.244.2.0/24")]), state(&[("n2", "10.244.2.0/24"), ("n3", "10.244.3.0/24")]));
        let mut effect = Effect::of(&one, &before);
        let (added, peer) = (route("10.244.3.0/24", "towvxlan4"), peer("10.244.3.0/24"));
        effect.add_route(&added);
        effect.add_peer(&peer, |_| transport(&added.target));
        assert_eq!(effect, Effect::of(&two, &after));
        assert_ne!(effect.digest(), Effect::of(&one, &before).digest());
        effect.remove_peer(&peer, |_| transport(&added.target));
        effect.remove_route(&added);
        assert_eq!(effect, Effect::of(&one, &before));
    }
}
