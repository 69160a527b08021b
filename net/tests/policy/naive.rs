//! What the text of the API says of a packet, taken literally: no index, no cache, nothing of what is tested.

use std::net::IpAddr;

use towpath_net::policy::input::{
    Action, Block, ClusterPeer, ClusterPolicy, ClusterRule, Labels, NamedPort, NetworkPolicy, Operator, Peer, Pod,
    Port, Rule, Selector, Subject, Tier,
};

use crate::world::{Packet, Way, World};

/// Whether a packet passes the policies of one pod in one direction.
pub fn passes(world: &World, pod: &Pod, way: Way, packet: &Packet) -> bool {
    if packet.source == packet.destination {
        return true;
    }
    let view = View { world, pod, way, packet };
    match view.tier(Tier::Admin) {
        Some(Action::Accept) => return true,
        Some(Action::Deny) => return false,
        Some(Action::Pass) | None => {}
    }
    let isolating: Vec<(&NetworkPolicy, &Vec<Rule>)> =
        world.policies.iter().filter_map(|policy| Some((policy, view.isolates(policy)?))).collect();
    if !isolating.is_empty() {
        return isolating.iter().any(|(policy, rules)| rules.iter().any(|rule| view.allows(policy, rule)));
    }
    view.tier(Tier::Baseline) != Some(Action::Deny)
}

/// One packet seen from one pod.
struct View<'a> {
    world: &'a World,
    pod: &'a Pod,
    way: Way,
    packet: &'a Packet,
}

impl View<'_> {
    fn peer(&self) -> IpAddr {
        match self.way {
            Way::Ingress => self.packet.source,
            Way::Egress => self.packet.destination,
        }
    }

    /// What the policies of a tier decide: the first rule that matches, by priority, name and place in the policy.
    fn tier(&self, tier: Tier) -> Option<Action> {
        let mut policies: Vec<&ClusterPolicy> = self
            .world
            .cluster_policies
            .iter()
            .filter(|policy| policy.tier == tier && self.is_subject(&policy.subject, self.pod))
            .collect();
        policies.sort_by(|a, b| a.priority.cmp(&b.priority).then_with(|| a.name.cmp(&b.name)));
        for policy in policies {
            let rules = match self.way {
                Way::Ingress => &policy.ingress,
                Way::Egress => &policy.egress,
            };
            for rule in rules {
                if rule.peers.iter().any(|peer| self.cluster_rule_matches(rule, peer)) {
                    return Some(rule.action);
                }
            }
        }
        None
    }

    /// Whether a selector of namespaces and one of pods select a pod. Nobody selects pods of the host's network.
    fn is_subject(&self, subject: &Subject, pod: &Pod) -> bool {
        !pod.is_host_network
            && self.namespace_matches(&subject.namespaces, &pod.key.namespace)
            && matches(&subject.pods, &pod.labels)
    }

    fn namespace_matches(&self, selector: &Selector, name: &str) -> bool {
        self.world.namespaces.iter().any(|namespace| namespace.name == name && matches(selector, &namespace.labels))
    }

    /// The rules of a policy for this direction, if it isolates the pod in it.
    fn isolates<'p>(&self, policy: &'p NetworkPolicy) -> Option<&'p Vec<Rule>> {
        let selected = !self.pod.is_host_network
            && policy.key.namespace == self.pod.key.namespace
            && matches(&policy.pods, &self.pod.labels);
        let rules = match self.way {
            Way::Ingress => policy.ingress.as_ref(),
            Way::Egress => policy.egress.as_ref(),
        };
        rules.filter(|_| selected)
    }

    fn allows(&self, policy: &NetworkPolicy, rule: &Rule) -> bool {
        let ports = rule.ports.as_deref();
        let Some(peers) = &rule.peers else {
            return self.ports_match(ports, &self.at_peer(|_| true));
        };
        peers.iter().any(|peer| match peer {
            Peer::Block(block) => block_holds(block, self.peer()) && self.ports_match(ports, &self.at_peer(|_| true)),
            Peer::Pods { namespaces, pods } => {
                let selected = self.at_peer(|pod| {
                    matches(pods, &pod.labels)
                        && match namespaces {
                            Some(selector) => self.namespace_matches(selector, &pod.key.namespace),
                            None => pod.key.namespace == policy.key.namespace,
                        }
                });
                !selected.is_empty() && self.ports_match(ports, &selected)
            }
        })
    }

    fn cluster_rule_matches(&self, rule: &ClusterRule, peer: &ClusterPeer) -> bool {
        let ports = rule.ports.as_deref();
        match peer {
            ClusterPeer::Pods(subject) => {
                let selected = self.at_peer(|pod| self.is_subject(subject, pod));
                !selected.is_empty() && self.ports_match(ports, &selected)
            }
            ClusterPeer::Nodes(selector) => {
                let is_node = self
                    .world
                    .nodes
                    .iter()
                    .any(|node| node.addresses.contains(&self.peer()) && matches(selector, &node.labels));
                self.way == Way::Egress && is_node && self.ports_match(ports, &[])
            }
            ClusterPeer::Network(net) => {
                let holds = cidr_holds(net.addr(), net.prefix_len(), self.peer());
                self.way == Way::Egress && holds && self.ports_match(ports, &self.at_peer(|_| true))
            }
        }
    }

    /// The pods that have the other side's address, of those that are asked for.
    fn at_peer(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<&Pod> {
        let address = self.peer();
        self.world
            .pods
            .iter()
            .filter(|pod| !pod.is_host_network && !pod.is_ended && pod.addresses.contains(&address) && wanted(pod))
            .collect()
    }

    /// Whether the packet's port is one of these. Names are those of the pod that the packet goes to: of the own one
    /// where it comes in, of any of the selected ones that have the address where it goes out.
    fn ports_match(&self, ports: Option<&[Port]>, selected: &[&Pod]) -> bool {
        let Some(ports) = ports else { return true };
        let targets: &[&Pod] = match self.way {
            Way::Ingress => &[self.pod],
            Way::Egress => selected,
        };
        let named = |wanted: &dyn Fn(&NamedPort) -> bool| {
            targets.iter().flat_map(|pod| &pod.ports).any(|port| {
                wanted(port) && number(port.protocol) == self.packet.protocol && self.packet.port == Some(port.port)
            })
        };
        ports.iter().any(|port| match port {
            Port::All(protocol) => number(*protocol) == self.packet.protocol,
            Port::Range(protocol, first, last) => {
                number(*protocol) == self.packet.protocol
                    && self.packet.port.is_some_and(|port| *first <= port && port <= *last)
            }
            Port::Named(protocol, name) => named(&|port| port.name == *name && port.protocol == *protocol),
            Port::NamedOfAny(name) => named(&|port| port.name == *name),
        })
    }
}

/// IANA's number of a protocol.
fn number(protocol: towpath_net::lease::Protocol) -> u8 {
    match protocol {
        towpath_net::lease::Protocol::Tcp => 6,
        towpath_net::lease::Protocol::Udp => 17,
        towpath_net::lease::Protocol::Sctp => 132,
    }
}

/// Whether a selector selects what has these labels (`meta/v1` `LabelSelector`).
fn matches(selector: &Selector, labels: &Labels) -> bool {
    selector.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        && selector.expressions.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
}

/// Whether an address is in the block, and in none of what is taken from it.
fn block_holds(block: &Block, address: IpAddr) -> bool {
    cidr_holds(block.cidr.addr(), block.cidr.prefix_len(), address)
        && !block.except.iter().any(|net| cidr_holds(net.addr(), net.prefix_len(), address))
}

/// Whether two addresses have the same family and the same first bits.
fn cidr_holds(net: IpAddr, length: u8, address: IpAddr) -> bool {
    let (net, address, width) = match (net, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => (u128::from(u32::from(net)), u128::from(u32::from(address)), 32),
        (IpAddr::V6(net), IpAddr::V6(address)) => (u128::from(net), u128::from(address), 128),
        _ => return false,
    };
    let host_bits = width - u32::from(length);
    // A shift by the whole width is not defined: then no bit of the network is left to compare.
    host_bits == 128 || net >> host_bits == address >> host_bits
}
