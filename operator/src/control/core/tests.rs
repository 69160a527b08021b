mod believed;
mod standing;
mod waits;
mod words;

use std::time::Duration;

use ipnet::IpNet;
use towpath_net::policy::bundle::{Members, SetDelta};
use towpath_net::policy::digest::Digest;
use towpath_net::policy::input::{Key, Labels, Namespace, NetworkPolicy, Peer as From, Pod, Rule, Selector};
use towpath_net::transport::Transport;

use super::*;
use crate::control::claims;

fn key(name: &str) -> Key {
    Key { namespace: "web".to_owned(), name: name.to_owned() }
}

fn peer(number: u8) -> Peer {
    Peer {
        addresses: vec![[192, 168, 0, number].into()],
        pod_cidrs: vec![format!("10.0.{number}.0/24").parse::<IpNet>().unwrap()],
        accepts: vec![Transport::Direct],
        keys: None,
    }
}

fn pod(name: &str, uid: &str, node: &str) -> Change {
    Change::Pod(Pod {
        key: key(name),
        uid: uid.to_owned(),
        labels: [("app".to_owned(), name.to_owned())].into(),
        node: Some(node.into()),
        addresses: Vec::new(),
        ports: Vec::new(),
        is_host_network: false,
        is_ended: false,
    })
}

/// Of a pod, on the node of this number.
fn attached(name: &str, uid: &str, node: u8, is_waiting: bool) -> Attached {
    Attached { uid: uid.to_owned(), key: key(name), addresses: vec![[10, 0, node, 1].into()], is_waiting }
}

/// Lets every pod of the namespace be reached by all others of it, and by nobody else.
fn policy(name: &str) -> Change {
    let everyone = Selector::default();
    let peer = From::Pods { namespaces: None, pods: everyone.clone() };
    Change::Policy(NetworkPolicy {
        key: key(name),
        pods: everyone,
        ingress: Some(vec![Rule { ports: None, peers: Some(vec![peer]) }]),
        egress: None,
    })
}

/// Isolates the pod of this name.
fn isolation(name: &str, pod: &str) -> Change {
    Change::Policy(NetworkPolicy {
        key: key(name),
        pods: Selector { labels: [("app".to_owned(), pod.to_owned())].into(), ..Selector::default() },
        ingress: Some(Vec::new()),
        egress: Some(Vec::new()),
    })
}

/// A replica that knows three nodes, a pod on the first two, and a policy for both.
fn core() -> Core {
    let mut core = Core::default();
    core.change(Change::Namespace(Namespace { name: "web".to_owned(), labels: Labels::new() }));
    for (number, node) in [(1, "n1"), (2, "n2"), (3, "n3")] {
        core.peer(&node.into(), Some(peer(number)));
    }
    core.change(pod("a", "uid-a", "n1"));
    core.change(pod("b", "uid-b", "n2"));
    core.change(policy("p"));
    core.know_policies();
    core.know_peers();
    core.tell();
    core
}

/// The agent of a node comes, and has all that it is told.
fn follow(core: &mut Core, node: &str) -> Arc<Outbox> {
    let outbox = Arc::new(Outbox::default());
    let version = core.open(&node.into(), &Holdings::default(), &outbox).unwrap().version;
    core.acknowledged(&node.into(), version);
    outbox
}

/// The addresses in the sets of a node.
fn members(core: &mut Core, node: &str) -> BTreeSet<IpAddr> {
    let sets = core.compiler.bundle(&node.into()).sets;
    let all = sets.into_values().filter_map(|set| if let Members::Addresses(all) = set { Some(all) } else { None });
    all.flatten().collect()
}

fn addresses(nodes: &[u8]) -> BTreeSet<IpAddr> {
    nodes.iter().map(|node| IpAddr::from([10, 0, *node, 1])).collect()
}

/// Whether this pod was told to be known, since it was last asked.
fn is_known(outbox: &Outbox, uid: &str) -> bool {
    outbox.take_known().contains(uid)
}

/// The agent of a node has everything that it was told so far.
fn acknowledge(core: &mut Core, node: &str) {
    let version = core.sessions[&NodeName::from(node)].told;
    core.acknowledged(&node.into(), version);
}

/// The object of a pod, with a status that names this address.
fn named(name: &str, uid: &str, node: &str, address: [u8; 4]) -> Change {
    match pod(name, uid, node) {
        Change::Pod(pod) => Change::Pod(Pod { addresses: vec![address.into()], ..pod }),
        other => other,
    }
}

/// What is in the kernel of a node whose agent refuses nothing.
const fn settled(pods: Digest) -> Settled {
    Settled { pods, refusal: None }
}
