//! What is compiled of a cluster for each of its nodes.

use std::collections::BTreeMap;

use fastrand::Rng;
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::input::Pod;
use towpath_net::state::NodeName;

use crate::world::World;

/// The bundle of each node, as it has come about by changes: in a random order, some of them not the last of their object.
pub fn bundles(world: &World, seed: u64) -> BTreeMap<NodeName, Bundle> {
    let mut rng = Rng::with_seed(seed);
    let mut compiler = Compiler::default();
    let mut bundles: BTreeMap<NodeName, Bundle> =
        world.nodes.iter().map(|node| (node.name.clone(), compiler.subscribe(&node.name))).collect();
    let mut changes = objects(world);
    rng.shuffle(&mut changes);
    for change in changes {
        if let Some(earlier) = earlier(&change, &mut rng) {
            compiler.apply(earlier);
            catch_up(&mut compiler, &mut bundles, &mut rng);
        }
        compiler.apply(change);
        catch_up(&mut compiler, &mut bundles, &mut rng);
    }
    take(&mut compiler, &mut bundles);
    bundles
}

fn catch_up(compiler: &mut Compiler, bundles: &mut BTreeMap<NodeName, Bundle>, rng: &mut Rng) {
    if rng.u8(0..4) == 0 {
        take(compiler, bundles);
    }
}

fn take(compiler: &mut Compiler, bundles: &mut BTreeMap<NodeName, Bundle>) {
    for (node, delta) in compiler.deltas() {
        bundles.get_mut(&node).unwrap().apply(delta).unwrap();
    }
}

fn objects(world: &World) -> Vec<Change> {
    let mut changes = Vec::new();
    changes.extend(world.namespaces.iter().cloned().map(Change::Namespace));
    changes.extend(world.nodes.iter().cloned().map(Change::Node));
    changes.extend(world.pods.iter().cloned().map(Change::Pod));
    changes.extend(world.policies.iter().cloned().map(Change::Policy));
    changes.extend(world.cluster_policies.iter().cloned().map(Change::ClusterPolicy));
    changes
}

/// What an object may have been before.
fn earlier(change: &Change, rng: &mut Rng) -> Option<Change> {
    if rng.u8(0..3) > 0 {
        return None;
    }
    let mut earlier = change.clone();
    match &mut earlier {
        Change::Namespace(namespace) => namespace.labels.clear(),
        Change::Node(node) => node.addresses.truncate(1),
        Change::Pod(pod) => before(pod, rng),
        Change::Policy(policy) => policy.egress = Some(Vec::new()),
        Change::ClusterPolicy(policy) => policy.priority = 7,
        _ => {}
    }
    Some(earlier)
}

fn before(pod: &mut Pod, rng: &mut Rng) {
    match rng.u8(0..6) {
        0 => pod.labels.clear(),
        1 => pod.addresses.clear(),
        2 => pod.node = None,
        3 => pod.is_ended = true,
        4 => pod.ports.clear(),
        _ => pod.uid += "-before",
    }
}
