//! Traffic goes on without the agent, without the operator and without the API server.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use towpath_e2e::component::{ComponentId, Kind};

use crate::cluster::{Cluster, Pod, eventually, kill};

/// Packets a second.
const RATE: u32 = 1000;

/// Sequence-numbered packets from one pod to another, until it is stopped.
pub struct Stream {
    ping: Child,
}

impl Stream {
    /// Starts in the pod's own namespaces, so that no API server is needed on the way.
    pub fn start(cluster: &Cluster, from: &Pod, to: &Pod, seconds: u32) -> Self {
        let namespace = cluster.namespace(from);
        let count = (seconds * RATE).to_string();
        let address = to.addresses[0].to_string();
        let ping = std::process::Command::new("nsenter")
            .args([
                &format!("--net={}", namespace.path().display()),
                "--",
                "ping",
                "-q",
                "-i",
                "0.001",
                "-c",
                &count,
                "-W",
                "2",
                &address,
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { ping }
    }

    /// Whether there are packets to send yet.
    pub fn is_running(&mut self) -> bool {
        self.ping.try_wait().unwrap().is_none()
    }

    /// The same, at once.
    pub fn end(mut self) -> (u32, u32) {
        assert!(self.is_running(), "the stream ended by itself");
        let pid = self.ping.id().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.finish()
    }

    /// How many were sent, and how many answers came.
    pub fn finish(self) -> (u32, u32) {
        let output = self.ping.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("packets transmitted")).unwrap_or_else(|| panic!("{text}"));
        let numbers: Vec<u32> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        (numbers[0], numbers[1])
    }
}

#[test]
fn an_agent_pod_that_is_deleted_by_force_leaves_the_network_as_it_is() {
    let cluster = Cluster::up("forced");
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let routes = cluster.on("n1", "ip route show proto 117");
    let mut stream = Stream::start(&cluster, &a, &b, 25);
    let before = wait_for_agent(&cluster, "n1");
    cluster.kubectl("-n towpath-system delete pod -l app.kubernetes.io/name=towpath-agent --force --grace-period=0");
    cluster.wait_for("the next agent", Duration::from_secs(40), || {
        let now = cluster.agent_pid("n1");
        if now.is_some_and(|pid| pid != before) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    while stream.is_running() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let (sent, answered) = stream.finish();
    assert_eq!(sent, answered);
    assert_eq!(cluster.on("n1", "ip route show proto 117"), routes);
}

/// The process of a node's agent, as soon as there is one.
pub fn wait_for_agent(cluster: &Cluster, node: &str) -> u32 {
    let mut found = None;
    cluster.wait_for(&format!("the agent of {node}"), Duration::from_secs(30), || {
        found = cluster.agent_pid(node);
        found.map(drop).ok_or_else(|| "no such process".to_owned())
    });
    found.unwrap()
}

#[test]
fn traffic_and_deletion_go_on_without_operator_and_api_server() {
    let cluster = Cluster::up("alone");
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let c = cluster.pod("c", "n3");
    let mut stream = Stream::start(&cluster, &a, &b, 90);
    cluster.kubectl("-n towpath-system scale deployment towpath-operator --replicas=0");
    cluster.kubectl("-n towpath-system wait --for=delete pod -l app.kubernetes.io/name=towpath-operator --timeout=30s");
    cluster.kubectl("delete pod c --wait=false");
    let block = cluster.field("nodenetwork/n3", ".spec.podCIDRs[0]");
    let api = ComponentId::single(Kind::KubeApiserver);
    cluster.lab.stop_component(&api).unwrap();
    let down = Instant::now();
    // An agent that is killed now starts from its memory, and heals what is altered meanwhile.
    let route = cluster.on("n1", &format!("ip route get {}", b.addresses[0]));
    kill(wait_for_agent(&cluster, "n1"));
    wait_for_agent(&cluster, "n1");
    let way = cluster.on("n1", &format!("ip route show {block}"));
    cluster.on("n1", &format!("ip route delete {block}"));
    eventually("the route to n3", Duration::from_secs(10), || {
        let now = cluster.on("n1", &format!("ip route show {block}"));
        if now == way { Ok(()) } else { Err(now) }
    });
    while down.elapsed() < Duration::from_secs(60) {
        assert!(stream.is_running(), "the stream ended");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(first_line(&cluster.on("n1", &format!("ip route get {}", b.addresses[0]))), first_line(&route));
    cluster.lab.start_component(&api).unwrap();
    cluster.wait_for("the API server", Duration::from_secs(30), || {
        cluster.lab.kubectl(&["get", "nodes"]).map(drop).map_err(|error| error.to_string())
    });
    cluster.kubectl("-n towpath-system scale deployment towpath-operator --replicas=2");
    cluster.wait_ready();
    cluster.wait_for("the end of pod c", Duration::from_secs(60), || {
        let left = cluster.on("n3", &format!("ip route show {}", c.addresses[0]));
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    let (sent, answered) = stream.finish();
    println!("{sent} packets sent, {answered} answered");
    assert_eq!(sent, answered);
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
