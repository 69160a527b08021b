//! A node with two pods, and the thread that owns its table of policies.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::json;
use towpath_cni::{Call, Plugin};
use towpath_control::client::{Client, Config, Directory, DirectoryError};
use towpath_kernel::nft::Nft;
use towpath_net::lease::Protocol;
use towpath_net::policy::bundle::{
    Allow, Bundle, Delta, Direction, Isolation, Members, Peers, PodPolicy, Ports, Profile, ProfileId, SetDelta, SetId,
};
use towpath_net::policy::digest::Digests;
use towpath_net::policy::input::Key;
use towpath_node_agent::paths::Paths;
use towpath_node_agent::policy::{Receipt, Remembered, Worker};
use towpath_node_agent::worker::End;

pub const STATE: &str = "/run/towpath";
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOKS: Duration = Duration::from_millis(5);
pub const TABLE: &str = "inet towpath-policy";
/// An agent that starts takes the latch over that an earlier one left, in one change of the ruleset.
pub const TAKEN_OVER: u32 = 1;
pub const FRIENDS: SetId = SetId(0x1234_5678_0000_0005);

pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}: {:#?}", listed());
        // No pause is no use where a look starts programs: they keep what is waited for from coming about.
        std::thread::sleep(LOOKS);
    }
}

/// What the kernel has, in an order of its own; nothing where there is no table.
pub fn listed() -> Vec<String> {
    let text = sh(&format!("nft -s list table {TABLE} 2>/dev/null || true"));
    let mut all: Vec<String> = text.split([',', '\n']).map(|part| part.trim().to_owned()).collect();
    all.sort();
    all
}

/// Counts whatever anybody does to the ruleset of this namespace.
pub fn generation() -> u32 {
    Nft::open().unwrap().generation().unwrap()
}

/// A node with two pods.
pub fn node() {
    sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let content = json!({
        "version": 1, "revision": "7f3a91c", "attachment": "Routed", "mtu": 1450, "quarantine": 0, "startup": "Async",
        "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
    });
    fs::create_dir_all(paths().policies().parent().unwrap()).unwrap();
    fs::write(format!("{STATE}/node.json"), content.to_string()).unwrap();
    attach("a");
    attach("b");
}

pub fn attach(name: &str) {
    sh(&format!("ip netns add {name}"));
    call("ADD", name, "eth0");
}

/// Attaches a pod, or ends an attachment of it.
pub fn call(verb: &str, name: &str, link: &str) {
    let environment = |variable: &str| {
        Some(match variable {
            "CNI_COMMAND" => verb.to_owned(),
            "CNI_CONTAINERID" => name.to_owned(),
            "CNI_IFNAME" => link.to_owned(),
            "CNI_NETNS" => format!("/run/netns/{name}"),
            "CNI_PATH" => "/opt/cni/bin".to_owned(),
            "CNI_ARGS" => format!("K8S_POD_NAMESPACE=web;K8S_POD_NAME={name};K8S_POD_UID={name}"),
            _ => return None,
        })
    };
    let config = json!({"cniVersion": "1.1.0", "name": "towpath", "type": "towpath", "stateDir": STATE});
    let call =
        Call { plugin: Plugin::Towpath, environment: &environment, read: &|| Ok(config.to_string().into_bytes()) };
    let mut out = Vec::new();
    towpath_cni::run(&call, &mut out, &mut Vec::new());
    assert!(!String::from_utf8_lossy(&out).contains("\"code\""), "{}", String::from_utf8_lossy(&out));
}

/// Pod `a` may be reached by friends, `b` by everyone.
pub fn bundle() -> Bundle {
    let pod = |name: &str, profile| {
        let key = Key { namespace: "web".to_owned(), name: name.to_owned() };
        (name.to_owned(), PodPolicy { key, profile, is_policed: true })
    };
    let ports = Ports::Range(Protocol::Tcp, 80, 80);
    let isolation = Isolation { policies: Vec::new(), allows: vec![Allow { ports, peers: Peers::In(vec![FRIENDS]) }] };
    let ingress = Direction { isolated: Some(isolation), ..Direction::default() };
    Bundle {
        is_enforced: true,
        pods: BTreeMap::from([pod("a", Some(ProfileId(1))), pod("b", None)]),
        profiles: BTreeMap::from([(ProfileId(1), Profile { ingress, egress: Direction::default() })]),
        sets: BTreeMap::from([(FRIENDS, addresses(&["10.9.9.9", "fd09::9"]))]),
    }
}

/// What an earlier agent was told, which is used at once.
pub fn told(bundle: Bundle) -> Remembered {
    Remembered { bundle, patience: Duration::ZERO }
}

pub fn addresses(all: &[&str]) -> Members {
    Members::Addresses(all.iter().map(|text| text.parse().unwrap()).collect())
}

pub fn paths() -> Paths {
    Paths {
        state: STATE.into(),
        lasting: "/run/lasting".into(),
        state_on_node: STATE.into(),
        cni_conf: "/run/net.d".into(),
        cni_bin: "/run/bin".into(),
        cni_binary: "/run/binary".into(),
        sysctls: "/proc/sys/net".into(),
    }
}

struct Nowhere;

impl Directory for Nowhere {
    async fn replicas(&self) -> Result<Vec<SocketAddr>, DirectoryError> {
        std::future::pending().await
    }

    async fn changed(&self, _: &[SocketAddr]) -> Result<Vec<SocketAddr>, DirectoryError> {
        std::future::pending().await
    }

    async fn authorities(&self) -> Result<String, DirectoryError> {
        std::future::pending().await
    }
}

/// The thread, told what an operator would have told.
pub struct Agent(pub Worker);

/// What an answer was, and what the kernel had when it was given.
pub type Answers = Receiver<(Result<(), String>, Vec<String>)>;

impl Agent {
    pub fn start(remembered: Option<Remembered>) -> Self {
        let config = Config::new("n1".into(), "/run/token".into(), "/run/operators".into());
        let (_, handle) = Client::new(config, Nowhere);
        Self(Worker::start(&paths(), handle, remembered).unwrap())
    }

    /// Starts with what was kept, and waits until that is in the kernel.
    pub fn restart(remembered: Option<Remembered>) -> Self {
        let agent = Self::start(remembered);
        wait_until("policies are in force", || agent.is_enforced() == Some(true));
        agent
    }

    pub fn stop(self) {
        self.0.inbox.end(End::Stop);
        self.0.join().unwrap();
    }

    pub fn is_enforced(&self) -> Option<bool> {
        self.0.in_force.borrow().is_enforced
    }

    /// Tells something; what is held of the answer is what another thread would hold.
    pub fn put(&self, delta: Delta) -> (Receipt, Answers) {
        let (tell, answers) = channel();
        let receipt = Receipt::telling(move |answer| tell.send((answer, listed())).unwrap());
        self.0.inbox.put(delta, receipt.share());
        (receipt, answers)
    }

    pub fn tell(&self, delta: Delta) -> (Result<(), String>, Vec<String>) {
        let (receipt, answers) = self.put(delta);
        receipt.done();
        answers.recv_timeout(DEADLINE).unwrap()
    }

    /// What it has; it has looked at everything that it was told before.
    pub fn digests(&self) -> Digests {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.0.inbox.digests()).unwrap()
    }
}

/// A delta that has somebody come to the set of friends.
pub fn coming(friend: &str) -> Delta {
    let change = SetDelta::Change { add: addresses(&[friend]), remove: addresses(&[]) };
    Delta { sets: BTreeMap::from([(FRIENDS, change)]), ..Delta::default() }
}

pub fn has(listing: &[String], part: &str) -> bool {
    listing.iter().any(|line| line.contains(part))
}
