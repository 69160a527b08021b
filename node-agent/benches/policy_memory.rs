//! How much memory an agent has that keeps many policies: the program itself, with a table in the kernel, told by the
//! snapshot that an earlier one left. All of it runs in namespaces that end with it.

#![allow(clippy::unwrap_used, reason = "a benchmark ends where something fails")]

#[path = "../../kernel/benches/policy/scene.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod scene;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use towpath_control::snapshot;
use towpath_control::update::State;
use towpath_kernel::leases::Store;
use towpath_net::lease::{Lease, LeasedAddress, Phase, PodReference};

use scene::{PODS, Scene, local};

const STATE: &str = "/run/towpath";
const PORT: u16 = 9471;
const POLICIES: usize = 10_000;
const PEERS: usize = 100_000;
const PORTS: usize = 20;
/// What the agent may have.
const BAR: usize = 40;
const DEADLINE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let [agent] = words.as_slice() else {
        eprintln!("usage: policy_memory AGENT, where AGENT is the agent's program");
        return ExitCode::FAILURE;
    };
    if let Some(outcome) = towpath_kernel::testing::alone().unwrap() {
        return if outcome.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    prepare();
    let mut child = start(agent);
    let metrics = in_force();
    let [resident, most] = ["VmRSS", "VmHWM"].map(|what| mib(child.id(), what));
    child.kill().unwrap();
    child.wait().unwrap();
    for line in metrics.lines().filter(|line| line.starts_with("towpath_agent_policy_objects")) {
        println!("{line}");
    }
    println!(
        "an agent with {POLICIES} policies, {PEERS} peers, {PODS} pods: {resident} MiB (at most {most} MiB), bar {BAR} MiB"
    );
    if resident < BAR { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What an earlier agent left.
fn prepare() {
    let scene = Scene::new(POLICIES, PEERS, PORTS);
    let store = Store::below(Path::new(STATE));
    for pod in 0..PODS {
        drop(store.adopt(lease(pod)).unwrap());
    }
    fs::create_dir_all(format!("{STATE}/agent")).unwrap();
    let state = State { peers: BTreeMap::new(), policy: scene.bundle };
    snapshot::save(Path::new(&format!("{STATE}/agent/policies")), &[], &state).unwrap();
    // Nobody answers there.
    let kubeconfig =
        "{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
        clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {}}]}";
    fs::write("/run/kubeconfig", kubeconfig).unwrap();
}

fn lease(pod: usize) -> Lease {
    let name = format!("pod-{pod}");
    Lease {
        network: "towpath".to_owned(),
        container_id: name.clone(),
        interface: "eth0".to_owned(),
        netns: String::new(),
        host_interface: String::new(),
        phase: Phase::Ready,
        mode: towpath_net::state::Attachment::default(),
        addresses: vec![LeasedAddress {
            address: IpAddr::V4(local(pod)).into(),
            gateway: Ipv4Addr::new(169, 254, 1, 1).into(),
        }],
        mtu: 1500,
        mac: None,
        host_ports: Vec::new(),
        loopback_ports: Vec::new(),
        bandwidth: None,
        pod: Some(PodReference { namespace: "load".to_owned(), name: name.clone(), uid: name }),
    }
}

fn start(agent: &str) -> Child {
    let mut command = Command::new(agent);
    command.args(["run", "--node", "here", "--state-dir", STATE, "--listen", &format!("127.0.0.1:{PORT}")]);
    command.args(["--cni-binary", "/run/none", "--cni-conf-dir", "/run/net.d", "--cni-bin-dir", "/run/bin"]);
    command.env("KUBECONFIG", "/run/kubeconfig").stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until the policies are in the kernel, for all pods; what the agent says then.
fn in_force() -> String {
    let end = Instant::now() + DEADLINE;
    while !is_in_force() {
        assert!(Instant::now() < end, "policies are not in force");
    }
    scrape().unwrap_or_default()
}

/// The chains by which packets come in are made last.
fn is_in_force() -> bool {
    let listed = |what: &str| {
        let name = if what == "map" { "ingress-v4" } else { "forward" };
        let output = Command::new("nft").args(["list", what, "inet", "towpath-policy", name]).output().unwrap();
        if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { String::new() }
    };
    listed("map").matches("goto").count() == PODS && !listed("chain").is_empty()
}

fn scrape() -> Option<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn mib(process: u32, what: &str) -> usize {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{what}:"))).unwrap();
    let kib: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    kib / 1024
}
