//! What is compiled of a cluster for each of its nodes.

use std::collections::BTreeMap;

use fastrand::Rng;
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::input::{Labels, Pod, Selector};
use towpath_net::state::NodeName;

use crate::world::World;

/// The bundle of each node, as it has come about by changes: objects come, change and go in a random order, and nodes are
/// told at random moments, of all or of what is new.
pub fn bundles(world: &World, seed: u64) -> BTreeMap<NodeName, Bundle> {
    let mut rng = Rng::with_seed(seed);
    let mut compiler = Compiler::default();
    let mut bundles = BTreeMap::new();
    for change in history(world, &mut rng) {
        compiler.apply(change);
        if rng.u8(0..4) == 0 {
            take(&mut compiler, &mut bundles);
        }
        if rng.u8(0..16) == 0 {
            let node = &world.nodes.get(rng.usize(..3)).or(world.nodes.first());
            bundles.extend(node.map(|node| (node.name.clone(), compiler.subscribe(&node.name))));
        }
    }
    for node in &world.nodes {
        bundles.entry(node.name.clone()).or_insert_with(|| compiler.subscribe(&node.name));
    }
    take(&mut compiler, &mut bundles);
    bundles
}

fn take(compiler: &mut Compiler, bundles: &mut BTreeMap<NodeName, Bundle>) {
    for (node, delta) in compiler.deltas() {
        bundles.get_mut(&node).unwrap().apply(delta).unwrap();
    }
}

/// The lives of all objects, mixed.
fn history(world: &World, rng: &mut Rng) -> Vec<Change> {
    let mut lives: Vec<Vec<Change>> = Vec::new();
    let mut live = |change| {
        let life = life(change, rng);
        lives.push(life);
    };
    world.namespaces.iter().cloned().map(Change::Namespace).for_each(&mut live);
    world.nodes.iter().cloned().map(Change::Node).for_each(&mut live);
    world.pods.iter().cloned().map(Change::Pod).for_each(&mut live);
    world.policies.iter().cloned().map(Change::Policy).for_each(&mut live);
    world.cluster_policies.iter().cloned().map(Change::ClusterPolicy).for_each(&mut live);
    lives.extend(world.pods.iter().filter_map(|pod| double(pod, rng)));
    let mut history = Vec::new();
    while !lives.is_empty() {
        let at = rng.usize(..lives.len());
        if let Some(change) = lives[at].pop() {
            history.push(change);
        } else {
            lives.swap_remove(at);
        }
    }
    history
}

/// The last change of an object first: what it is in the end, and perhaps that it was something else before, or was away
/// in between.
fn life(change: Change, rng: &mut Rng) -> Vec<Change> {
    let mut life = vec![change.clone()];
    if rng.u8(0..3) > 0 {
        return life;
    }
    if rng.bool() {
        life.extend(gone(&change));
    }
    let mut earlier = change;
    match &mut earlier {
        Change::Namespace(namespace) => namespace.labels = labels(rng),
        Change::Node(node) => node.addresses.truncate(1),
        Change::Pod(pod) => before(pod, rng),
        Change::Policy(policy) if rng.bool() => policy.pods = Selector::default(),
        Change::Policy(policy) => policy.egress = Some(Vec::new()),
        Change::ClusterPolicy(policy) => policy.priority = 7,
        _ => {}
    }
    life.push(earlier);
    life
}

/// Labels that selectors ask for.
fn labels(rng: &mut Rng) -> Labels {
    let pairs = [("app", "web"), ("app", "db"), ("tier", "web"), ("tier", "")];
    let few = pairs.into_iter().filter(|_| rng.u8(0..3) == 0);
    few.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn gone(change: &Change) -> Option<Change> {
    Some(match change {
        Change::Namespace(namespace) => Change::NamespaceGone(namespace.name.clone()),
        Change::Node(node) => Change::NodeGone(node.name.clone()),
        Change::Pod(pod) => Change::PodGone(pod.key.clone()),
        Change::Policy(policy) => Change::PolicyGone(policy.key.clone()),
        Change::ClusterPolicy(policy) => Change::ClusterPolicyGone(policy.name.clone()),
        _ => return None,
    })
}

fn before(pod: &mut Pod, rng: &mut Rng) {
    match rng.u8(0..8) {
        0 => pod.labels = labels(rng),
        1 => pod.addresses.clear(),
        2 => pod.node = None,
        3 => pod.is_ended = true,
        4 => pod.ports.clear(),
        5 => pod.is_host_network = !pod.is_host_network,
        6 => pod.addresses = ["10.0.1.1", "fd00::1:2"].map(|text| text.parse().unwrap()).to_vec(),
        _ => pod.uid += "-before",
    }
}

/// The life of another pod that had the address for a while, the end first.
fn double(pod: &Pod, rng: &mut Rng) -> Option<Vec<Change>> {
    let mut double = pod.clone();
    double.key.name += "-double";
    double.uid += "-double";
    let end = Change::PodGone(double.key.clone());
    (rng.u8(0..6) == 0).then(|| vec![end, Change::Pod(double)])
}
