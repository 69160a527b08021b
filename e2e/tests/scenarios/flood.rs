//! Nothing forbidden gets through, whatever happens to agents, operators, tables and nodes.
//!
//! Pods send packets that policies forbid from before their receivers are there. Receivers have no port open: the kernel
//! counts in their own namespaces, from these' first moment on, what arrives for ports that nobody listens on.

mod arrived;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Scope};
use std::time::Duration;

use ipnet::IpNet;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use towpath_kernel::netns::Namespace;

use crate::cluster::{Cluster, NEXT_IMAGE, Pod, addresses_in, eventually, kill, namespaces_of};
use crate::crowd::Crowd;
use crate::stream::Stream;
use crate::survival::wait_for_agent;
use arrived::Arrived;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// Where packets go: nobody listens there.
const PORT: u16 = 9;
/// How long a flooder waits before it sends to all of its destinations again.
const PAUSE: Duration = Duration::from_millis(50);
/// Small blocks, so that pods soon have the addresses of others that have gone.
const NETWORK: &str = "{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {name: default}, spec: {ipam: \
    {mode: NodeCIDR, allocation: Allocate, podCIDRs: [10.244.0.0/16, 'fd00:10:244::/112'], nodeMaskSize: {ipv4: 26, \
    ipv6: 122}}, attachment: {mode: Routed}, transport: {mode: Direct}, masquerade: {mode: LeavingCluster}}}";
/// Pods of the label `closed`, or of that crowd, get packets of friends alone; those of the label `mute` send to the closed
/// ones alone, and those of crowds to nobody.
const POLICIES: &str = "
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed}, spec: {podSelector: {matchLabels: {closed: 'yes'}},
 policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {friend: 'yes'}}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: closed-crowd}, spec: {podSelector: {matchLabels: {crowd:
 closed}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {friend: 'yes'}}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: mute}, spec: {podSelector: {matchLabels: {mute: 'yes'}},
 policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {closed: 'yes'}}}]}]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: mute-crowds}, spec: {podSelector: {matchExpressions:
 [{key: crowd, operator: Exists}]}, policyTypes: [Egress]}}
";

/// Sends datagrams, and beginnings of connections, to all destinations again and again from inside a namespace.
fn flood(namespace: &Namespace, to: &[IpAddr], signals: &Signals) {
    let send = || {
        let sockets = ["0.0.0.0:0", "[::]:0"].map(|wildcard| UdpSocket::bind(wildcard).unwrap());
        while !signals.end.load(Ordering::Relaxed) {
            for address in to {
                let at = SocketAddr::new(*address, PORT);
                // There may be no way yet, or nobody any more.
                _ = sockets[usize::from(address.is_ipv6())].send_to(b"flood", at);
                let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
                let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
                let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None).unwrap();
                _ = rustix::net::connect(&socket, &at);
            }
            signals.rounds.fetch_add(1, Ordering::Relaxed);
            thread::park_timeout(PAUSE);
        }
    };
    namespace.run(send).unwrap();
}

/// What threads that flood have in common.
#[derive(Default)]
struct Signals {
    /// All end.
    end: AtomicBool,
    /// How often one of them sent to all of its destinations.
    rounds: AtomicU64,
}

/// Ends the threads with the value, also where the test fails.
struct Ends<'a>(&'a Signals);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.end.store(true, Ordering::Relaxed);
    }
}

/// Threads that flood, until they are told to end.
#[derive(Clone, Copy)]
struct Flooders<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    cluster: &'scope Cluster,
    signals: &'scope Signals,
}

impl Flooders<'_, '_> {
    fn begin(self, pod: &Pod, to: Vec<IpAddr>) {
        let namespace = self.cluster.namespace(pod);
        self.scope.spawn(move || flood(&namespace, &to, self.signals));
    }

    /// Floods from every pod that comes to a node, as soon as there is a namespace for it, which is before its ADD.
    fn whoever_comes(self, node: &'static str, to: Vec<IpAddr>) {
        let mut known: BTreeSet<PathBuf> = self.cluster.namespaces_on(node).into_iter().collect();
        self.scope.spawn(move || {
            let mut runtime = None;
            while !self.signals.end.load(Ordering::Relaxed) {
                runtime = runtime
                    .filter(|pid: &u32| namespaces_of(*pid).exists())
                    .or_else(|| self.cluster.pid_of(node, "containerd"));
                let found = runtime.and_then(|pid| namespaces_of(pid).read_dir().ok()).into_iter().flatten().flatten();
                for path in found.map(|entry| entry.path()) {
                    // The file is there a moment before the namespace is.
                    if !known.contains(&path)
                        && let Ok(namespace) = Namespace::open(&path)
                    {
                        known.insert(path);
                        let to = to.clone();
                        self.scope.spawn(move || flood(&namespace, &to, self.signals));
                    }
                }
                thread::park_timeout(Duration::from_millis(1));
            }
        });
    }
}

/// All addresses that pods of these nodes can have.
fn ranges(cluster: &Cluster, nodes: &[&str]) -> Vec<IpAddr> {
    let cidrs = nodes.iter().map(|node| cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs[*]"));
    let cidrs: Vec<IpNet> = cidrs.collect::<Vec<_>>().join(" ").split(' ').map(|net| net.parse().unwrap()).collect();
    cidrs.iter().flat_map(|net| net.hosts().skip(1)).collect()
}

fn apply(cluster: &Cluster, name: &str, node: &str, labels: &str) {
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{{labels}}}}}, spec: {{nodeName: {node}, \
         terminationGracePeriodSeconds: 1, automountServiceAccountToken: false, enableServiceLinks: false, containers: \
         [{{name: pause, image: 'registry.k8s.io/pause:3.10.2'}}]}}}}"
    ));
}

fn ready(cluster: &Cluster, name: &str) -> Pod {
    cluster.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=240s"));
    cluster.pod_seen(name)
}

fn start(cluster: &Cluster, name: &str, node: &str, labels: &str) -> Pod {
    apply(cluster, name, node, labels);
    ready(cluster, name)
}

fn cluster(name: &str) -> Cluster {
    let cluster = Cluster::bare(name);
    cluster.install();
    cluster.apply(NETWORK);
    cluster.wait_ready();
    // So that no other pods come.
    cluster.kubectl("-n kube-system scale deployment coredns --replicas=0");
    cluster.kubectl("-n kube-system wait --for=delete pod -l k8s-app=kube-dns --timeout=180s");
    cluster
}

/// A cluster, and receivers each of which must get nothing.
struct Scene<'a> {
    cluster: &'a Cluster,
    signals: &'a Signals,
    receivers: BTreeMap<&'static str, Namespace>,
}

impl Scene<'_> {
    #[track_caller]
    fn assert_nothing(&self, what: &str) {
        let arrived: Vec<_> = self.receivers.iter().map(|(name, inside)| (*name, Arrived::read(inside))).collect();
        println!("{what}: {arrived:?} after {} rounds", self.signals.rounds.load(Ordering::Relaxed));
        assert!(arrived.iter().all(|(_, arrived)| *arrived == Arrived::default()), "{what}: {arrived:?}");
    }

    fn programs_are_killed(&self) {
        for round in 0..4 {
            for node in NODES {
                kill(wait_for_agent(self.cluster, node));
                if let Some(pid) = self.cluster.pid_of(node, "towpath-operator").filter(|_| round % 2 == 0) {
                    kill(pid);
                }
            }
        }
        self.cluster.wait_ready();
        self.assert_nothing("kill -9 of agents and operators");
    }

    /// As an upgrade does it: by another image, node by node, with both in the cluster meanwhile. Its programs are the same,
    /// so this does not show that two versions understand each other.
    fn programs_are_replaced(&self) {
        let old = self.images();
        self.cluster.load_next_image();
        let both = [("daemonset/towpath-agent", "agent"), ("deployment/towpath-operator", "operator")];
        for (object, container) in both {
            self.cluster.kubectl(&format!("-n towpath-system set image {object} {container}={NEXT_IMAGE}"));
        }
        for (object, _) in both {
            self.cluster.kubectl(&format!("-n towpath-system rollout status {object} --timeout=240s"));
        }
        let new = self.images();
        assert!(old.len() == 1 && new.len() == 1 && old != new, "from {old:?} to {new:?}");
        self.assert_nothing("upgrade of all agents and operators");
    }

    /// By their contents, those that are in use.
    fn images(&self) -> BTreeSet<String> {
        let path = "{.items[*].status.containerStatuses[*].imageID}";
        let line = format!("-n towpath-system get pods --field-selector status.phase=Running -o jsonpath={path}");
        self.cluster.kubectl(&line).split_whitespace().map(str::to_owned).collect()
    }

    fn tables_are_deleted(&self) {
        for round in 0..24 {
            let node = ["n1", "n3"][round % 2];
            let agent = wait_for_agent(self.cluster, node);
            self.table_is_back(node);
            // Of some nobody is told at once.
            if round % 8 > 5 {
                kill(agent);
            }
            self.cluster.on(node, "nft delete table inet towpath-policy");
        }
        self.table_is_back("n1");
        self.table_is_back("n3");
        self.assert_nothing("deletion of tables by hand");
    }

    fn table_is_back(&self, node: &str) {
        eventually(&format!("the table of policies on {node}"), Duration::from_secs(120), || {
            let tables = self.cluster.on(node, "nft list tables");
            if tables.contains("inet towpath-policy") { Ok(()) } else { Err(tables) }
        });
    }

    /// The namespaces of all pods, by their addresses of IPv4.
    fn namespaces(&self) -> BTreeMap<String, Namespace> {
        let paths = NODES.iter().flat_map(|node| self.cluster.namespaces_on(node));
        let all = paths.filter_map(|path| Namespace::open(path).ok());
        all.filter_map(|namespace| Some((addresses_in(&namespace).pop()?, namespace))).collect()
    }

    /// Many pods that anybody reaches, and behind them as many, with addresses of these, that nobody reaches.
    fn pods_come_and_go(&self) {
        let (open, took) = Crowd::start(self.cluster, "open", 100, &NODES);
        let before: BTreeSet<String> = open.addresses().into_iter().collect();
        let all = self.namespaces();
        let pods: Vec<&Namespace> = before.iter().filter_map(|address| all.get(address)).collect();
        // One of them may have the address of a receiver that has gone, which nobody but mute ones send to.
        let reached = eventually("packets for open pods", Duration::from_secs(120), || {
            let reached = pods.iter().filter(|pod| Arrived::read(pod).has_all()).count();
            if reached >= pods.len() - 1 { Ok(reached) } else { Err(format!("{reached} of {} reached", pods.len())) }
        });
        open.end();
        let (closed, took_again) = Crowd::start(self.cluster, "closed", 100, &NODES);
        let after: BTreeSet<String> = closed.addresses().into_iter().collect();
        let again = after.intersection(&before).count();
        let all = self.namespaces();
        let arrived: Vec<_> = after.iter().filter_map(|a| Some((a, Arrived::read(all.get(a)?)))).collect();
        let hit: Vec<_> = arrived.iter().filter(|(_, arrived)| *arrived != Arrived::default()).collect();
        println!("100 open pods within {took:?}, {reached} of them reached");
        println!("100 closed ones within {took_again:?}, {again} addresses used again, {} reached", hit.len());
        assert_eq!(arrived.len(), 100);
        assert!(hit.is_empty(), "{hit:?}");
        assert!(again > 20, "{again} addresses used again");
        self.assert_nothing("pods that come and go");
        closed.end();
    }
}

#[test]
fn nothing_that_is_forbidden_gets_through_whatever_happens() {
    let (cluster, signals) = (cluster("flood"), Signals::default());
    thread::scope(|scope| {
        let _ends = Ends(&signals);
        let flooders = Flooders { scope, cluster: &cluster, signals: &signals };
        cluster.apply(POLICIES);
        // Those that mute ones must not reach.
        let [here, there] = [("here", "n1"), ("there", "n3")].map(|(name, node)| start(&cluster, name, node, ""));
        let mute = "mute: 'yes'";
        let (near, far) = (start(&cluster, "near", "n1", mute), start(&cluster, "far", "n2", ""));
        let everyone = ranges(&cluster, &NODES);
        let open: Vec<IpAddr> = here.addresses.iter().chain(&there.addresses).copied().collect();
        let others: Vec<IpAddr> = everyone.iter().filter(|address| !open.contains(address)).copied().collect();
        flooders.begin(&near, everyone.clone());
        flooders.begin(&far, others);
        flooders.whoever_comes("n1", there.addresses.clone());
        let closed = start(&cluster, "closed", "n1", "closed: 'yes', mute: 'yes'");
        let receivers = [("here", &here), ("there", &there), ("closed", &closed)];
        let receivers = receivers.map(|(name, pod)| (name, cluster.namespace(pod))).into();
        let mut scene = Scene { cluster: &cluster, signals: &signals, receivers };
        scene.assert_nothing("ADD");
        let friend = start(&cluster, "friend", "n2", "friend: 'yes'");
        let allowed = Stream::start(&cluster, &friend, &closed, 900);
        scene.programs_are_killed();
        scene.programs_are_replaced();
        allowed.end().assert_nothing_lost();
        scene.tables_are_deleted();
        the_node_boots(&mut scene);
        flooders.begin(&ready(&cluster, "near"), everyone);
        scene.pods_come_and_go();
        what_is_allowed_arrives(&scene, flooders, &friend);
    });
}

fn the_node_boots(scene: &mut Scene<'_>) {
    let cluster = scene.cluster;
    // What comes to the node again must not reach those that are left; this one might.
    cluster.kubectl("delete pod here --wait");
    scene.receivers.remove("here");
    cluster.lab.node_restart("n1").unwrap();
    for pod in ["near", "closed"] {
        cluster.wait_for(&format!("the next container of {pod}"), Duration::from_secs(120), || {
            let count = cluster.field(&format!("pod/{pod}"), ".status.containerStatuses[0].restartCount");
            if count.parse::<u32>().is_ok_and(|count| count > 0) { Ok(()) } else { Err(count) }
        });
    }
    cluster.wait_ready();
    let closed = cluster.namespace(&ready(cluster, "closed"));
    assert!(!closed.is_same_as(&scene.receivers["closed"]));
    scene.receivers.insert("closed", closed);
    scene.assert_nothing("start of a node");
}

/// Otherwise all of the above says nothing.
fn what_is_allowed_arrives(scene: &Scene<'_>, flooders: Flooders<'_, '_>, friend: &Pod) {
    let closed = scene.cluster.pod_seen("closed");
    flooders.begin(friend, closed.addresses);
    let arrives = |name: &str, why: &str| {
        eventually(&format!("{name}: {why}"), Duration::from_secs(120), || {
            let arrived = Arrived::read(&scene.receivers[name]);
            if arrived.has_all() { Ok(()) } else { Err(format!("{arrived:?}")) }
        });
    };
    arrives("closed", "packets of a friend");
    assert_eq!(Arrived::read(&scene.receivers["there"]), Arrived::default());
    scene.cluster.kubectl("delete networkpolicy --all");
    arrives("there", "packets of who was mute");
}
