//! Two nodes with pods, and policies as the operator reads and compiles them, in the kernel of each node.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use towpath_crds::cluster_policy::ClusterNetworkPolicy;
use towpath_kernel::policy::{Meanwhile, PolicyTable};
use towpath_net::Family;
use towpath_net::family::{PerFamily, host_net};
use towpath_net::policy::{
    bind::{LeaseChanges, Leases},
    bundle::Bundle,
    compile::{Change, Compiler},
    input::{Key, Namespace, Node as PolicyNode, Pod},
};
use towpath_net::state::NodeName;
use towpath_operator::policy::{
    cluster_policy::cluster_policy,
    network_policy::network_policy,
    objects::{ApiNamespace, ApiNode, ApiPod},
};

use super::exchange::Servers;
use super::steps::Attempt;
use crate::ground::{self, Named, Spot};

/// Which pods there are: upstream's houses, and the pods of its other specs.
const PODS: [&str; 14] = [
    "gryffindor/0",
    "gryffindor/1",
    "slytherin/0",
    "slytherin/1",
    "hufflepuff/0",
    "hufflepuff/1",
    "ravenclaw/0",
    "ravenclaw/1",
    "x/a",
    "x/b",
    "y/a",
    "y/b",
    "z/a",
    "z/b",
];
/// Pods in the networks of their nodes.
const HOSTED: [&str; 2] = ["forbidden-forrest/0", "forbidden-forrest/1"];
const NAME: &str = "policy";

/// A policy.
pub enum Policy {
    /// A `ClusterNetworkPolicy`, by its `spec`.
    Cluster(Value),
    /// A `NetworkPolicy`.
    Namespaced { namespace: String, spec: Value },
}

impl Policy {
    pub const fn spec(&mut self) -> &mut Value {
        match self {
            Self::Cluster(spec) | Self::Namespaced { spec, .. } => spec,
        }
    }

    fn key(namespace: &str) -> Key {
        Key { namespace: namespace.to_owned(), name: NAME.to_owned() }
    }
}

/// A node with what its kernel has of policies.
struct Node {
    ground: Named,
    spot: Spot,
    table: PolicyTable,
    bundle: Bundle,
}

/// Where a pod is.
struct Place {
    /// The pod's own namespace; a pod of its node's network has none.
    ground: Option<Named>,
    node: usize,
    addresses: PerFamily<IpAddr>,
}

/// All of it.
pub struct World {
    _wire: Named,
    nodes: Vec<Node>,
    places: BTreeMap<&'static str, Place>,
    compiler: Compiler,
    servers: Servers,
}

impl World {
    /// Makes it, without any policy, and sees that everybody reaches everybody.
    pub fn make() -> Self {
        let wire = ground::wire();
        let [first, second, _] = ground::spots();
        let nodes = [first, second].map(|spot| (ground::connect(&wire, &spot), spot));
        for (at, (node, _)) in nodes.iter().enumerate() {
            prepare(node, &nodes[1 - at].1);
        }
        let places = places(&nodes);
        let mut compiler = compiler(&nodes, &places);
        let nodes = nodes.into_iter().enumerate().map(|(at, (ground, spot))| {
            let bundle = compiler.subscribe(&spot.name.into());
            let leases = places.iter().filter(|(_, place)| place.node == at && place.ground.is_some());
            let leases: Leases = leases.map(|(name, place)| ((*name).to_owned(), both(place.addresses))).collect();
            let mut table = ground.namespace.run(|| PolicyTable::open().unwrap()).unwrap();
            table.load(&bundle, &leases, Meanwhile::Open).unwrap();
            Node { ground, spot, table, bundle }
        });
        let nodes = nodes.collect();
        let mut world = Self { _wire: wire, nodes, places, compiler, servers: Servers::default() };
        world.expect_open();
        world
    }

    /// Everybody is reached before there are policies: neighbours are known from here on.
    fn expect_open(&mut self) {
        let names: Vec<&str> = self.places.keys().copied().collect();
        for (at, from) in names.iter().enumerate().filter(|(_, from)| !HOSTED.contains(from)) {
            let to = names[(at + 1) % names.len()];
            for family in Family::ALL {
                let attempt: Attempt = format!("{from} {to} sctp 9003").parse().unwrap();
                crate::node::wait_for(&format!("{attempt:?}"), String::new, || {
                    self.reaches(&attempt, family).then_some(()).ok_or_else(|| "not reached".to_owned())
                });
            }
        }
    }

    /// Brings a policy into force, as it is now.
    pub fn set(&mut self, policy: &Policy) {
        let change = match policy {
            Policy::Cluster(spec) => {
                let object = json!({"metadata": {"name": NAME}, "spec": self.named(spec)});
                let object: ClusterNetworkPolicy = serde_json::from_value(object).unwrap();
                let (policy, findings) = cluster_policy(NAME.to_owned(), object.spec);
                assert_eq!(findings, []);
                Change::ClusterPolicy(policy.unwrap())
            }
            Policy::Namespaced { namespace, spec } => {
                let spec = serde_json::from_value(self.named(spec)).unwrap();
                let (policy, findings) = network_policy(Policy::key(namespace), spec);
                assert_eq!(findings, []);
                Change::Policy(policy)
            }
        };
        self.change(change);
    }

    /// Takes a policy out of force.
    pub fn unset(&mut self, policy: &Policy) {
        self.change(match policy {
            Policy::Cluster(_) => Change::ClusterPolicyGone(NAME.to_owned()),
            Policy::Namespaced { namespace, .. } => Change::PolicyGone(Policy::key(namespace)),
        });
    }

    fn change(&mut self, change: Change) {
        self.compiler.apply(change);
        for (name, delta) in self.compiler.deltas() {
            let node = self.nodes.iter_mut().find(|node| NodeName::from(node.spot.name) == name).unwrap();
            node.table.change(&node.bundle, &delta, &LeaseChanges::new()).unwrap();
            node.bundle.apply(delta).unwrap();
        }
    }

    /// What stands for a pod's addresses, made into them.
    fn named(&self, value: &Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.iter().flat_map(|item| self.each(item)).collect()),
            Value::Object(fields) => {
                let mut fields: serde_json::Map<_, _> =
                    fields.iter().map(|(name, field)| (name.clone(), self.named(field))).collect();
                let cidr = fields.get("cidr").and_then(net);
                if let (Some(cidr), Some(Value::Array(except))) = (cidr, fields.get_mut("except")) {
                    except.retain(|part| net(part).is_some_and(|part| cidr.contains(&part)));
                }
                Value::Object(fields)
            }
            other => other.clone(),
        }
    }

    fn each(&self, item: &Value) -> Vec<Value> {
        match item.as_str().and_then(|name| self.places.get(name)) {
            Some(place) => both(place.addresses).into_iter().map(|own| json!(host_net(own))).collect(),
            None => vec![self.named(item)],
        }
    }

    /// Whether somebody reaches somebody else, and is answered.
    pub fn reaches(&mut self, attempt: &Attempt, family: Family) -> bool {
        let ground = |name: &str| {
            let place = &self.places[name];
            let own = place.ground.as_ref().unwrap_or(&self.nodes[place.node].ground);
            (&own.namespace, *place.addresses.get(family))
        };
        self.servers.reached(ground(&attempt.from), ground(&attempt.to), attempt)
    }
}

fn net(value: &Value) -> Option<IpNet> {
    value.as_str()?.parse().ok()
}

fn both(addresses: PerFamily<IpAddr>) -> Vec<IpAddr> {
    Family::ALL.map(|family| *addresses.get(family)).to_vec()
}

/// Makes a node one that routes, to the pods of the other one too.
fn prepare(node: &Named, other: &Spot) {
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        node.set(setting, "1");
    }
    for (pods, address) in other.pod_cidrs.iter().zip(other.addresses()) {
        node.ip(&format!("route add {pods} via {}\n", address.addr()));
    }
}

/// Attaches all pods: every second one to the second node.
fn places(nodes: &[(Named, Spot); 2]) -> BTreeMap<&'static str, Place> {
    let attached = PODS.iter().enumerate().map(|(index, name)| (*name, attach(nodes, index)));
    let hosted = HOSTED.iter().enumerate().map(|(node, name)| {
        let [v4, v6] = nodes[node].1.addresses().map(|address| address.addr());
        (*name, Place { ground: None, node, addresses: PerFamily { v4, v6 } })
    });
    attached.chain(hosted).collect()
}

fn attach(nodes: &[(Named, Spot); 2], index: usize) -> Place {
    let (node, spot) = &nodes[index % 2];
    let name = format!("p{index}");
    let pod = Named::make(&name);
    pod.set("ipv6/conf/default/accept_dad", "0");
    let [v4, v6] = spot.pod_cidrs.map(|net| net.hosts().nth(index + 2).unwrap());
    let link = format!("tow{index:012x}");
    node.ip(&format!(
        "link add {link} type veth peer name eth0 netns {name}\nlink set {link} up\n\
         address add 169.254.1.1/32 dev {link}\naddress add fe80::1/128 dev {link} nodad\n\
         route add {v4} dev {link}\nroute add {v6} dev {link}\n"
    ));
    pod.ip(&format!(
        "link set lo up\nlink set eth0 up\naddress add {v4}/32 dev eth0\naddress add {v6}/128 dev eth0 nodad\n\
         route add default via 169.254.1.1 dev eth0 onlink\nroute add default via fe80::1 dev eth0 onlink\n"
    ));
    Place { ground: Some(pod), node: index % 2, addresses: PerFamily { v4, v6 } }
}

/// All that policies are compiled from, out of objects as the API has them.
fn compiler(nodes: &[(Named, Spot); 2], places: &BTreeMap<&'static str, Place>) -> Compiler {
    let mut compiler = Compiler::default();
    for (_, spot) in nodes {
        let addresses = spot.addresses().map(|address| json!({"type": "InternalIP", "address": address.addr()}));
        let labels = json!({"kubernetes.io/os": "linux"});
        let node = json!({"metadata": {"name": spot.name, "labels": labels}, "status": {"addresses": addresses}});
        let node: ApiNode = serde_json::from_value(node).unwrap();
        compiler.apply(Change::Node(PolicyNode::from(node)));
    }
    for (name, place) in places {
        let (namespace, own) = name.split_once('/').unwrap();
        let labels = json!({"kubernetes.io/metadata.name": namespace, "conformance-house": namespace});
        let object = json!({"metadata": {"name": namespace, "labels": labels}});
        let object: ApiNamespace = serde_json::from_value(object).unwrap();
        compiler.apply(Change::Namespace(Namespace::from(object)));
        let ports = json!([
            {"name": "web", "containerPort": 80},
            {"name": "association", "containerPort": 9003, "protocol": "SCTP"},
        ]);
        let pod = json!({
            "metadata": {
                "name": own, "namespace": namespace, "uid": name,
                "labels": {"conformance-house": namespace, "pod": own},
            },
            "spec": {
                "nodeName": nodes[place.node].1.name, "hostNetwork": place.ground.is_none(),
                "containers": [{"name": "server", "ports": ports}],
            },
            "status": {
                "phase": "Running", "podIPs": both(place.addresses).iter().map(|ip| json!({"ip": ip})).collect::<Value>(),
            },
        });
        let pod: ApiPod = serde_json::from_value(pod).unwrap();
        compiler.apply(Change::Pod(Pod::from(pod)));
    }
    compiler
}
