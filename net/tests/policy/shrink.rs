//! What goes wrong with a whole cluster, in the smallest one with which it still goes wrong.

use towpath_net::policy::input::{
    Block, ClusterPolicy, ClusterRule, NetworkPolicy, Peer, Pod, Rule, Selector, Subject,
};

use crate::world::World;

/// Takes away one thing after another while it still fails.
pub fn shrink(mut world: World, still_fails: impl Fn(&World) -> bool) -> World {
    while let Some(smaller) = smaller(&world).into_iter().find(&still_fails) {
        world = smaller;
    }
    world
}

/// All clusters with one thing less; the ones without much of it first.
fn smaller(world: &World) -> Vec<World> {
    let mut smaller = Smaller { world, found: Vec::new() };
    without_one(&world.cluster_policies).for_each(|left| smaller.keep(|copy| copy.cluster_policies = left));
    without_one(&world.policies).for_each(|left| smaller.keep(|copy| copy.policies = left));
    without_one(&world.pods).for_each(|left| smaller.keep(|copy| copy.pods = left));
    without_one(&world.namespaces).for_each(|left| smaller.keep(|copy| copy.namespaces = left));
    without_one(&world.nodes).for_each(|left| smaller.keep(|copy| copy.nodes = left));
    for (at, policy) in world.policies.iter().enumerate() {
        for less in less_policy(policy) {
            smaller.keep(|copy| copy.policies[at] = less);
        }
    }
    for (at, policy) in world.cluster_policies.iter().enumerate() {
        for less in less_cluster_policy(policy) {
            smaller.keep(|copy| copy.cluster_policies[at] = less);
        }
    }
    for (at, pod) in world.pods.iter().enumerate() {
        for less in less_pod(pod) {
            smaller.keep(|copy| copy.pods[at] = less);
        }
    }
    for at in (0..world.namespaces.len()).filter(|at| !world.namespaces[*at].labels.is_empty()) {
        smaller.keep(|copy| copy.namespaces[at].labels.clear());
    }
    for at in (0..world.nodes.len()).filter(|at| !world.nodes[*at].labels.is_empty()) {
        smaller.keep(|copy| copy.nodes[at].labels.clear());
    }
    smaller.found
}

struct Smaller<'w> {
    world: &'w World,
    found: Vec<World>,
}

impl Smaller<'_> {
    fn keep(&mut self, change: impl FnOnce(&mut World)) {
        let mut copy = self.world.clone();
        change(&mut copy);
        self.found.push(copy);
    }
}

/// The list without each of its entries.
fn without_one<T: Clone>(list: &[T]) -> impl Iterator<Item = Vec<T>> {
    (0..list.len()).map(|at| {
        let mut left = list.to_vec();
        left.remove(at);
        left
    })
}

/// The list without each of its entries, and with less of each.
fn less_each<T: Clone>(list: &[T], less: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut found: Vec<Vec<T>> = without_one(list).collect();
    for (at, item) in list.iter().enumerate() {
        for smaller in less(item) {
            let mut copy = list.to_vec();
            copy[at] = smaller;
            found.push(copy);
        }
    }
    found
}

/// The same of a list that is nothing rather than empty.
fn less_optional<T: Clone>(list: Option<&Vec<T>>, less: impl Fn(&T) -> Vec<T>) -> Vec<Option<Vec<T>>> {
    let Some(list) = list else { return Vec::new() };
    let shorter = less_each(list, less).into_iter().filter(|list| !list.is_empty()).map(Some);
    [None].into_iter().chain(shorter).collect()
}

fn less_policy(policy: &NetworkPolicy) -> Vec<NetworkPolicy> {
    let rules = |rules: &Option<Vec<Rule>>| {
        let shorter = rules.iter().flat_map(|rules| less_each(rules, less_rule)).map(Some);
        rules.as_ref().map(|_| None).into_iter().chain(shorter).collect::<Vec<_>>()
    };
    let ingress = rules(&policy.ingress).into_iter().map(|ingress| NetworkPolicy { ingress, ..policy.clone() });
    let egress = rules(&policy.egress).into_iter().map(|egress| NetworkPolicy { egress, ..policy.clone() });
    let pods = less_selector(&policy.pods).into_iter().map(|pods| NetworkPolicy { pods, ..policy.clone() });
    ingress.chain(egress).chain(pods).collect()
}

fn less_rule(rule: &Rule) -> Vec<Rule> {
    let peers = less_optional(rule.peers.as_ref(), less_peer).into_iter();
    let ports = less_optional(rule.ports.as_ref(), |_| Vec::new()).into_iter();
    peers
        .map(|peers| Rule { peers, ports: rule.ports.clone() })
        .chain(ports.map(|ports| Rule { peers: rule.peers.clone(), ports }))
        .collect()
}

fn less_peer(peer: &Peer) -> Vec<Peer> {
    match peer {
        Peer::Block(block) => {
            without_one(&block.except).map(|except| Peer::Block(Block { cidr: block.cidr, except })).collect()
        }
        Peer::Pods { namespaces, pods } => {
            let fewer = namespaces.iter().flat_map(less_selector).map(Some);
            let own = namespaces.as_ref().map(|_| None).into_iter().chain(fewer);
            own.map(|namespaces| Peer::Pods { namespaces, pods: pods.clone() })
                .chain(less_selector(pods).into_iter().map(|pods| Peer::Pods { namespaces: namespaces.clone(), pods }))
                .collect()
        }
    }
}

fn less_cluster_policy(policy: &ClusterPolicy) -> Vec<ClusterPolicy> {
    let subjects = less_subject(&policy.subject).into_iter();
    let ingress = less_each(&policy.ingress, less_cluster_rule).into_iter();
    let egress = less_each(&policy.egress, less_cluster_rule).into_iter();
    subjects
        .map(|subject| ClusterPolicy { subject, ..policy.clone() })
        .chain(ingress.map(|ingress| ClusterPolicy { ingress, ..policy.clone() }))
        .chain(egress.map(|egress| ClusterPolicy { egress, ..policy.clone() }))
        .collect()
}

fn less_cluster_rule(rule: &ClusterRule) -> Vec<ClusterRule> {
    let mut found: Vec<ClusterRule> =
        without_one(&rule.peers).map(|peers| ClusterRule { peers, ..rule.clone() }).collect();
    for ports in less_optional(rule.ports.as_ref(), |_| Vec::new()) {
        found.push(ClusterRule { ports, ..rule.clone() });
    }
    found
}

fn less_subject(subject: &Subject) -> Vec<Subject> {
    let namespaces = less_selector(&subject.namespaces).into_iter();
    let pods = less_selector(&subject.pods).into_iter();
    namespaces
        .map(|namespaces| Subject { namespaces, pods: subject.pods.clone() })
        .chain(pods.map(|pods| Subject { namespaces: subject.namespaces.clone(), pods }))
        .collect()
}

fn less_selector(selector: &Selector) -> Vec<Selector> {
    let mut found = Vec::new();
    for key in selector.labels.keys() {
        let mut less = selector.clone();
        less.labels.remove(key);
        found.push(less);
    }
    let fewer = without_one(&selector.expressions);
    found.extend(fewer.map(|expressions| Selector { labels: selector.labels.clone(), expressions }));
    found
}

fn less_pod(pod: &Pod) -> Vec<Pod> {
    let mut found: Vec<Pod> = without_one(&pod.addresses).map(|addresses| Pod { addresses, ..pod.clone() }).collect();
    found.extend(without_one(&pod.ports).map(|ports| Pod { ports, ..pod.clone() }));
    for key in pod.labels.keys() {
        let mut less = pod.clone();
        less.labels.remove(key);
        found.push(less);
    }
    found
}
