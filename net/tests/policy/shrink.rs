//! What goes wrong with a whole cluster, in the smallest one with which it still goes wrong.

use towpath_net::policy::input::{ClusterRule, NetworkPolicy, Peer, Pod, Rule, Selector, Subject};

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
    let mut found = Vec::new();
    let mut keep = |change: &dyn Fn(&mut World)| {
        let mut copy = world.clone();
        change(&mut copy);
        found.push(copy);
    };
    without_one(&world.cluster_policies, &mut |left| keep(&|copy| copy.cluster_policies = left.clone()));
    without_one(&world.policies, &mut |left| keep(&|copy| copy.policies = left.clone()));
    without_one(&world.pods, &mut |left| keep(&|copy| copy.pods = left.clone()));
    without_one(&world.namespaces, &mut |left| keep(&|copy| copy.namespaces = left.clone()));
    without_one(&world.nodes, &mut |left| keep(&|copy| copy.nodes = left.clone()));
    for (at, policy) in world.policies.iter().enumerate() {
        for less in less_policy(policy) {
            keep(&|copy| copy.policies[at] = less.clone());
        }
    }
    for (at, policy) in world.cluster_policies.iter().enumerate() {
        for less in less_subject(&policy.subject) {
            keep(&|copy| copy.cluster_policies[at].subject = less.clone());
        }
        for less in less_each(&policy.ingress, less_cluster_rule) {
            keep(&|copy| copy.cluster_policies[at].ingress = less.clone());
        }
        for less in less_each(&policy.egress, less_cluster_rule) {
            keep(&|copy| copy.cluster_policies[at].egress = less.clone());
        }
    }
    for (at, pod) in world.pods.iter().enumerate() {
        for less in less_pod(pod) {
            keep(&|copy| copy.pods[at] = less.clone());
        }
    }
    for at in 0..world.namespaces.len() {
        keep_if(!world.namespaces[at].labels.is_empty(), || keep(&|copy| copy.namespaces[at].labels.clear()));
    }
    for at in 0..world.nodes.len() {
        keep_if(!world.nodes[at].labels.is_empty(), || keep(&|copy| copy.nodes[at].labels.clear()));
    }
    found
}

fn keep_if(there_is_some: bool, keep: impl FnOnce()) {
    if there_is_some {
        keep();
    }
}

/// The list without each of its entries.
fn without_one<T: Clone>(list: &[T], keep: &mut dyn FnMut(Vec<T>)) {
    for at in 0..list.len() {
        let mut left = list.to_vec();
        left.remove(at);
        keep(left);
    }
}

/// The list without each of its entries, and with less of each.
fn less_each<T: Clone>(list: &[T], less: impl Fn(&T) -> Vec<T>) -> Vec<Vec<T>> {
    let mut found = Vec::new();
    without_one(list, &mut |left| found.push(left));
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
            let mut found = Vec::new();
            without_one(&block.except, &mut |except| {
                found.push(Peer::Block(towpath_net::policy::input::Block { cidr: block.cidr, except }));
            });
            found
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

fn less_cluster_rule(rule: &ClusterRule) -> Vec<ClusterRule> {
    let mut found = Vec::new();
    without_one(&rule.peers, &mut |peers| found.push(ClusterRule { peers, ..rule.clone() }));
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
    without_one(&selector.expressions, &mut |expressions| {
        found.push(Selector { labels: selector.labels.clone(), expressions });
    });
    found
}

fn less_pod(pod: &Pod) -> Vec<Pod> {
    let mut found = Vec::new();
    without_one(&pod.addresses, &mut |addresses| found.push(Pod { addresses, ..pod.clone() }));
    without_one(&pod.ports, &mut |ports| found.push(Pod { ports, ..pod.clone() }));
    for key in pod.labels.keys() {
        let mut less = pod.clone();
        less.labels.remove(key);
        found.push(less);
    }
    found
}
