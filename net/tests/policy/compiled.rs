//! What is compiled of a cluster for each of its nodes, and what it says of a packet.

use std::collections::BTreeMap;
use std::net::IpAddr;

use fastrand::Rng;
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::evaluate::{self, Place};
use towpath_net::policy::input::Pod;
use towpath_net::state::NodeName;

use crate::naive;
use crate::world::{Packet, Way, World, is_local};

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

/// The first packet of which a node's bundle says something else than the text of the API, and what.
pub fn differs(world: &World, packets: &[Packet], seed: u64) -> Option<(Packet, String)> {
    let bundles = bundles(world, seed);
    packets.iter().find_map(|packet| {
        let one = world.pods.iter().find_map(|pod| differs_for(world, &bundles, pod, packet));
        let why = one.or_else(|| bundles.iter().find_map(|(node, bundle)| differs_at(world, node, bundle, packet)));
        Some((*packet, why?))
    })
}

/// For one pod and each direction.
fn differs_for(world: &World, bundles: &BTreeMap<NodeName, Bundle>, pod: &Pod, packet: &Packet) -> Option<String> {
    let bundle = bundles.get(pod.node.as_ref().filter(|_| is_local(pod))?)?;
    [(Way::Egress, packet.source), (Way::Ingress, packet.destination)].into_iter().find_map(|(way, own)| {
        if !pod.addresses.contains(&own) {
            return None;
        }
        let expected = !world.is_policed() || naive::passes(world, pod, way, packet);
        let verdict = bundle.judge_pod(&pod.uid, of(way), &to(packet));
        (verdict.passes() != expected).then(|| {
            format!("{way:?} of {}: the API says that it passes: {expected}; the bundle says {verdict:?}", pod.uid)
        })
    })
}

/// For a node as a whole, where it can be told which pods are meant.
fn differs_at(world: &World, node: &NodeName, bundle: &Bundle, packet: &Packet) -> Option<String> {
    let source = Local::at(world, node, packet.source)?;
    let destination = Local::at(world, node, packet.destination)?;
    let expected = passes(world, source, destination, packet);
    let place = |address| if address == packet.source { source.place() } else { destination.place() };
    let flow = bundle.judge(&to(packet), place);
    (flow.passes() != expected)
        .then(|| format!("at {node}: the API says that it passes: {expected}; the bundle says {flow:?}"))
}

/// Whether a packet passes a node, by the text of the API.
pub fn passes(world: &World, source: Local<'_>, destination: Local<'_>, packet: &Packet) -> bool {
    let passes_pod = |end, way| match end {
        Local::Pod(pod) => naive::passes(world, pod, way, packet),
        Local::Node | Local::Elsewhere => true,
    };
    let reaches = matches!(source, Local::Node) || passes_pod(destination, Way::Ingress);
    !world.is_policed() || passes_pod(source, Way::Egress) && reaches
}

/// What is at an address, seen from a node.
#[derive(Clone, Copy, Debug)]
pub enum Local<'a> {
    Pod(&'a Pod),
    Node,
    Elsewhere,
}

impl<'a> Local<'a> {
    /// Nothing where several pods of the node claim the address.
    pub fn at(world: &'a World, node: &NodeName, address: IpAddr) -> Option<Self> {
        let here = |pod: &&Pod| is_local(pod) && pod.node.as_ref() == Some(node) && pod.addresses.contains(&address);
        let pods: Vec<&Pod> = world.pods.iter().filter(here).collect();
        let own = world.nodes.iter().any(|one| one.name == *node && one.addresses.contains(&address));
        match (pods.as_slice(), own) {
            ([], true) => Some(Self::Node),
            ([], false) => Some(Self::Elsewhere),
            ([one], false) => Some(Self::Pod(one)),
            _ => None,
        }
    }

    fn place(self) -> Place<'a> {
        match self {
            Self::Pod(pod) => Place::Pod(&pod.uid),
            Self::Node => Place::Node,
            Self::Elsewhere => Place::Elsewhere,
        }
    }
}

fn of(way: Way) -> evaluate::Way {
    match way {
        Way::Ingress => evaluate::Way::Ingress,
        Way::Egress => evaluate::Way::Egress,
    }
}

fn to(packet: &Packet) -> evaluate::Packet {
    let Packet { source, destination, protocol, port } = *packet;
    evaluate::Packet { source, destination, protocol, port }
}
