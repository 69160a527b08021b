//! A node with an uplink and an agent that is told its state by a file.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use towpath_node_agent::paths::Paths;

const AGENT: &str = env!("CARGO_BIN_EXE_towpath-agent");
pub const STATE: &str = r#"
node: n3
spec:
  revision: "7f3a91c"
  addresses: ["172.16.30.3", "fd00:30::3"]
  podCIDRs: ["10.244.3.0/24", "fd00:244:0:3::/64"]
  attachment: Routed
  transport: {prefers: [Direct], accepts: [Direct]}
  masquerade: {mode: LeavingCluster}
peers:
  n4: {addresses: ["172.16.30.4", "fd00:30::4"], podCIDRs: ["10.244.4.0/24", "fd00:244:0:4::/64"], accepts: [Direct]}
  n5: {addresses: ["172.16.30.5", "fd00:30::5"], podCIDRs: ["10.244.5.0/24", "fd00:244:0:5::/64"], accepts: [Direct]}
"#;

pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// How long an agent may take to start.
pub const START: Duration = Duration::from_secs(60);
/// How often a condition is looked at: without a pause, the programs that look would keep it from coming about.
const LOOKS: Duration = Duration::from_millis(10);
/// How much of one look counts as time in which the agent could work: in the rest the test itself had no processor.
const LOOK: Duration = Duration::from_millis(150);

/// Waits for a condition, and tells what was waited for where it does not come.
#[track_caller]
pub fn wait_for(what: &str, longest: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let (start, mut spent) = (Instant::now(), Duration::ZERO);
    loop {
        let begun = Instant::now();
        if condition() {
            return start.elapsed();
        }
        assert!(spent < longest, "{what} did not come within {longest:?}, or {:?} of the clock", start.elapsed());
        std::thread::sleep(LOOKS);
        spent += begun.elapsed().min(LOOK);
    }
}

/// A node with an uplink, and its folders.
pub struct Node {
    root: PathBuf,
}

impl Node {
    pub fn make() -> Self {
        run("ip link add eth0 type veth peer name wire");
        run("ip address add 172.16.30.3/24 dev eth0");
        run("ip address add fd00:30::3/64 dev eth0 nodad");
        // No address but these: others come when the kernel finds the time.
        run("ip link set eth0 addrgenmode none");
        run("ip link set wire addrgenmode none");
        run("ip link set eth0 up");
        run("ip link set wire up");
        let settled = || !run("ip link").contains("DOWN") && run("ip -6 route show table local").contains("fd00:30::3");
        wait_for("links that the kernel has taken note of", START, settled);
        let root = PathBuf::from("/run/node");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("state.yaml"), STATE).unwrap();
        fs::write(root.join("towpath"), "towpath.dev").unwrap();
        Self { root }
    }

    pub fn path(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    /// For a worker in this process.
    pub fn paths(&self) -> Paths {
        Paths {
            state: self.path("towpath-state").into(),
            lasting: self.path("lasting").into(),
            state_on_node: self.path("towpath-state").into(),
            cni_conf: self.path("net.d").into(),
            cni_bin: self.path("bin").into(),
            cni_binary: self.path("towpath").into(),
            sysctls: "/proc/sys".into(),
        }
    }

    pub fn command(&self, action: &str) -> Command {
        let mut command = Command::new(AGENT);
        command.args([action, "--file", &self.path("state.yaml"), "--state-dir", &self.path("towpath-state")]);
        command.args(["--cni-conf-dir", &self.path("net.d"), "--cni-bin-dir", &self.path("bin")]);
        command
    }

    pub fn start(&self) -> Agent {
        let mut command = self.command("run");
        command.args(["--cni-binary", &self.path("towpath"), "--listen", "127.0.0.1:9471"]);
        let log = fs::File::create(self.root.join("log")).unwrap();
        let agent = Agent(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        wait_for("readiness", START, || get("/readyz").starts_with("HTTP/1.1 200"));
        agent
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the log of the agent:\n{}", self.log());
        }
    }
}

pub struct Agent(Child);

impl Agent {
    pub fn signal(mut self, signal: &str) {
        run(&format!("kill -{signal} {}", self.0.id()));
        self.0.wait().unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

pub fn get(path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect("127.0.0.1:9471") else { return String::new() };
    let request = format!("GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    if stream.write_all(request.as_bytes()).is_ok() {
        _ = stream.read_to_string(&mut answer);
    }
    answer
}

pub fn metric(name: &str) -> u64 {
    let text = get("/metrics");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("towpath_agent_{name} ")));
    line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
}

/// Waits for a metric of the agent; `name` may have labels.
#[track_caller]
pub fn wait_for_metric(name: &str, value: u64, longest: Duration) -> Duration {
    let line = format!("towpath_agent_{name} {value}\n");
    wait_for(&line, longest, || get("/metrics").contains(&line))
}

/// The routes of ours, without the numbers of the nexthop objects that they lead to.
pub fn routes() -> String {
    without_numbers(&(run("ip route show proto 117") + &run("ip -6 route show proto 117")))
}

/// What `ip` shows, without numbers that say nothing.
pub fn without_numbers(text: &str) -> String {
    let mut words = text.split(' ').collect::<Vec<_>>();
    while let Some(at) = words.iter().position(|word| ["nhid", "id"].contains(word)) {
        words.drain(at..at + 2);
    }
    words.join(" ")
}

pub fn everything() -> String {
    let settings = run("sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding");
    ["ip address", "ip route", "ip -6 route", "ip rule", "nft list ruleset"].map(run).concat() + &settings
}
