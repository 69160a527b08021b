//! Nodes and pods' namespaces.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use ipnet::IpNet;
use serde_json::json;
use towpath_e2e::run::{run, run_with_input};
use towpath_kernel::{netns::Namespace, nft::Nft};
use towpath_net::{
    observed::Surroundings,
    render::render,
    state::{NodeName, NodeSpec, NodeState},
};

/// The MTU of all pods.
pub const MTU: u32 = 1450;

/// Which families pods have addresses of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stack {
    /// IPv4 alone.
    Single,
    /// Both.
    Dual,
}

impl Stack {
    /// The node's block of each family: one that holds 4,000 pods.
    pub fn blocks(self) -> Vec<IpNet> {
        let (v4, v6) = ("10.20.0.0/19".parse().unwrap(), "fd00:10:20::/64".parse().unwrap());
        match self {
            Self::Single => vec![v4],
            Self::Dual => vec![v4, v6],
        }
    }

    /// Everything, in each family.
    pub fn everything(self) -> &'static [&'static str] {
        match self {
            Self::Single => &["0.0.0.0/0"],
            Self::Dual => &["0.0.0.0/0", "::/0"],
        }
    }
}

/// A node: a network namespace, and a folder for what plugins remember.
#[derive(Debug)]
pub struct Node {
    namespace: Namespace,
    /// The folder.
    pub state: PathBuf,
    /// Which families its pods have.
    pub stack: Stack,
    name: String,
    pods: AtomicUsize,
}

/// Makes `/run` empty and writable, for these namespaces alone.
pub fn prepare_host() {
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0755", "tmpfs", "/run"])).unwrap();
    fs::create_dir("/run/netns").unwrap();
}

impl Node {
    /// Makes a node; the agent's part of it is done.
    pub fn new(name: &str, stack: Stack) -> Self {
        let path = add_namespaces(&[name.to_owned()]).remove(0);
        let state = Path::new("/run/state").join(name);
        fs::create_dir_all(&state).unwrap();
        let node = Self {
            namespace: Namespace::open(path).unwrap(),
            state,
            stack,
            name: name.to_owned(),
            pods: AtomicUsize::new(0),
        };
        node.enter(|| {
            run(Command::new("ip").args(["link", "set", "lo", "up"])).unwrap();
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
            let table = render(&node.desired(), &[], &Surroundings::default(), None).desired.table.unwrap();
            Nft::open().unwrap().replace(&table).unwrap();
        });
        let content = json!({
            "version": 1, "revision": "0", "attachment": "Routed", "mtu": MTU, "podCIDRs": stack.blocks(),
        });
        fs::write(node.state.join("node.json"), content.to_string()).unwrap();
        node
    }

    /// Runs something on the node; what it starts runs there, too.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    /// Makes namespaces of pods of this node; their paths.
    pub fn pods(&self, count: usize) -> Vec<PathBuf> {
        let first = self.pods.fetch_add(count, Ordering::Relaxed);
        let names: Vec<String> = (first..first + count).map(|index| format!("{}-{index}", self.name)).collect();
        add_namespaces(&names)
    }

    fn desired(&self) -> NodeState {
        let spec = NodeSpec::plain(Vec::<IpAddr>::new(), self.stack.blocks());
        NodeState { node: NodeName::from(self.name.as_str()), spec, peers: std::collections::BTreeMap::new() }
    }
}

fn add_namespaces(names: &[String]) -> Vec<PathBuf> {
    let lines: Vec<String> = names.iter().map(|name| format!("netns add {name}\n")).collect();
    run_with_input(Command::new("ip").args(["-batch", "-"]), &lines.concat()).unwrap();
    names.iter().map(|name| Path::new("/run/netns").join(name)).collect()
}
