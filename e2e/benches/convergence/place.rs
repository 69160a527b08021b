//! Where it is measured: a lab with Towpath, and pods in it.

use std::fs;
use std::net::IpAddr;

use towpath_e2e::Lab;
use towpath_e2e::lab::Manner;
use towpath_kernel::netns::Namespace;

use crate::cluster::{Cluster, Pod};

/// The pods that other policies select, one of each node.
pub const OTHERS: [&str; 3] = ["other-1", "other-2", "other-3"];

/// The lab, the two pods, and the namespaces that are entered.
pub struct Place {
    cluster: Cluster,
    /// Who probes, and where.
    pub from: Spot,
    /// Who is probed, and where.
    pub to: Spot,
    /// Where the API server is reached without a way between.
    pub control_plane: Namespace,
    /// The node of who is probed.
    pub node: Namespace,
}

/// A pod.
pub struct Spot {
    /// Its primary address.
    pub address: IpAddr,
    /// Its network.
    pub namespace: Namespace,
}

impl Place {
    /// Brings a lab up, or takes one that is up, and starts the pods.
    pub fn make(lab: Option<&str>) -> Self {
        let cluster = match lab {
            None => Cluster::up("converge"),
            Some(name) => Cluster { lab: Lab::open(&name.parse().unwrap(), &Manner::default()).unwrap() },
        };
        for (name, node) in [("from", "n1"), ("to", "n2")] {
            cluster.start_pod(name, node, "");
        }
        for (name, node) in OTHERS.into_iter().zip(["n1", "n2", "n3"]) {
            cluster.start_pod(name, node, "");
        }
        let wait = |name: &str| {
            cluster.kubectl(&format!("wait --for=condition=Ready pod/{name} --timeout=120s"));
            cluster.pod_seen(name)
        };
        for name in OTHERS {
            wait(name);
        }
        let (from, to) = (Spot::of(&wait("from")), Spot::of(&wait("to")));
        let space = cluster.lab.space("control-plane").unwrap();
        let control_plane = Namespace::open(space.namespace("net")).unwrap();
        let node = Namespace::open(cluster.lab.node("n2").unwrap().netns_path().unwrap()).unwrap();
        Self { cluster, from, to, control_plane, node }
    }

    /// The lab's kubeconfig.
    pub fn kubeconfig(&self) -> std::path::PathBuf {
        self.cluster.lab.kubeconfig()
    }

    /// Takes the pods away, of which a lab that stays has no more use.
    pub fn clear(&self) {
        let pods = [&["from", "to"], &OTHERS[..]].concat().join(" ");
        self.cluster.kubectl(&format!("delete pod --wait=false {pods}"));
    }
}

impl Spot {
    fn of(pod: &Pod) -> Self {
        let address = pod.addresses[0];
        let namespace = Namespace::open(format!("/proc/{}/ns/net", process_with(address))).unwrap();
        Self { address, namespace }
    }
}

/// A process in the network of a pod. A node has a route to the address; the table of the pod, which has it as its own, is
/// the smallest in which it is.
fn process_with(address: IpAddr) -> u32 {
    let entry = format!("|-- {address}\n");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let tables = processes.filter_map(|process| {
        let pid = process.file_name().to_str()?.parse::<u32>().ok()?;
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        let table = fs::read_to_string(format!("/proc/{pid}/net/fib_trie")).ok()?;
        (name.trim_end() == "agnhost" && table.contains(&entry)).then_some((table.len(), pid))
    });
    tables.min().unwrap_or_else(|| panic!("no process has {address}")).1
}
