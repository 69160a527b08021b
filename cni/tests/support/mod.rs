//! A node in namespaces of its own, and a runtime that calls the binary.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, converge};
use towpath_kernel::leases::Store;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::nft::Nft;
use towpath_kernel::release::{Sight, Swept, sweep_node};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_net::lease::Lease;
use towpath_net::observed::Surroundings;
use towpath_net::render::{render, settings_of};
use towpath_net::state::{Attachment, NodeName, NodeSpec, NodeState};
use towpath_net::sweep::Scope;

/// The folder of the node's state.
pub const STATE: &str = "/run/towpath";
/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at: a look may start programs, which without a pause keep it from coming about.
const LOOKS: Duration = Duration::from_millis(5);

/// Runs a command line, which must succeed, and returns what it printed.
pub fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {}{stderr}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stdout).unwrap()
}

/// The same as lines without blanks at their ends.
pub fn lines(line: &str) -> Vec<String> {
    sh(line).lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Waits until a condition holds.
pub fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        std::thread::park_timeout(LOOKS);
    }
}

/// Every way to attach pods.
pub const MODES: [Attachment; 3] = [Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge];

/// Makes a test for each way to attach pods: `$body` gets the way. `$module` is where the tests are, as in their names.
#[macro_export]
macro_rules! in_every_mode {
    ($name:ident, $module:literal, $body:ident) => {
        mod $name {
            use towpath_kernel::testing::isolated;
            use towpath_net::state::Attachment;

            #[test]
            fn routed() {
                let name = concat!($module, stringify!($name), "::routed");
                isolated(name, || super::$body(Attachment::Routed));
            }

            #[test]
            fn link_local() {
                let name = concat!($module, stringify!($name), "::link_local");
                isolated(name, || super::$body(Attachment::LinkLocal));
            }

            #[test]
            fn bridge() {
                let name = concat!($module, stringify!($name), "::bridge");
                isolated(name, || super::$body(Attachment::Bridge));
            }
        }
    };
}

/// Makes this namespace a node that the agent has rendered, with routed pods.
pub fn node(pod_cidrs: &[&str]) {
    node_of(Attachment::Routed, pod_cidrs);
}

/// Makes this namespace a node that the agent has rendered.
pub fn node_of(mode: Attachment, pod_cidrs: &[&str]) {
    let mut content = node_json(pod_cidrs);
    content["attachment"] = mode.to_string().into();
    if mode == Attachment::Bridge {
        // A bridge follows the least MTU of its pods, or the uplink's where there are none: here there is no uplink.
        content["mtu"] = 1500.into();
    }
    write_node_json(&content);
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    if mode == Attachment::Bridge {
        converge_to(&node_state_of(mode, pod_cidrs));
    }
}

/// What the agent of a node with these blocks is told.
pub fn node_state_of(mode: Attachment, pod_cidrs: &[&str]) -> NodeState {
    let blocks = pod_cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    let spec = NodeSpec { attachment: mode, ..NodeSpec::plain(Vec::new(), blocks) };
    NodeState { node: NodeName::from("n1"), spec, peers: std::collections::BTreeMap::new() }
}

/// Gives the kernel what the agent would, until nothing is left to do; tells what was done.
pub fn converge_to(state: &NodeState) -> Vec<String> {
    let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
    let mut done = Vec::new();
    loop {
        let leases = leases();
        let keys = settings_of(state, &leases).into_keys().collect();
        let observed = kernel.observe(&keys).unwrap();
        let desired = render(state, &leases, &observed.surroundings, None).desired;
        let report = converge(&mut kernel, &desired, &observed);
        let failed: Vec<String> = report.failed.iter().map(|f| format!("{}: {}", f.op, f.error)).collect();
        assert!(report.is_complete(), "{failed:#?} {:?}", report.conflicts);
        if report.done.is_empty() {
            return done;
        }
        done.extend(report.done.iter().map(ToString::to_string));
        assert!(done.len() < 1000, "no end of what is to be done: {done:#?}");
    }
}

/// What the agent writes for the binary; freed addresses may be given again at once.
pub fn node_json(pod_cidrs: &[&str]) -> Value {
    json!({
        "version": 1, "revision": "7f3a91c", "attachment": "Routed", "mtu": 1450, "podCIDRs": pod_cidrs,
        "quarantine": 0,
    })
}

/// Writes any file.
pub fn write_file(path: &str, content: &str) {
    fs::write(path, content).unwrap();
}

/// Writes `node.json`.
pub fn write_node_json(content: &Value) {
    fs::create_dir_all(STATE).unwrap();
    fs::write(format!("{STATE}/node.json"), content.to_string()).unwrap();
}

/// What the agent of the node is told.
pub fn node_state() -> NodeState {
    node_state_of(Attachment::Routed, &["10.244.1.0/24", "fd00:10:244:1::/64"])
}

/// Makes the agent's table.
pub fn table() {
    let desired = render(&node_state(), &leases(), &Surroundings::default(), None).desired;
    Nft::open().unwrap().replace(&desired.table.unwrap()).unwrap();
}

/// Makes a pod's namespace, with its loopback down as runtimes do, and returns its path.
pub fn netns(name: &str) -> String {
    sh(&format!("ip netns add {name}"));
    format!("/run/netns/{name}")
}

/// All leases of the node.
pub fn leases() -> Vec<Lease> {
    let listing = Store::below(Path::new(STATE)).read_all().unwrap();
    assert!(listing.broken.is_empty(), "{:?}", listing.broken);
    listing.leases
}

/// Sweeps as the agent does.
pub fn sweep() -> Swept {
    let mut socket = Socket::open(Protocol::Route).unwrap();
    sweep_node(&Store::below(Path::new(STATE)), &mut socket, &Scope::Node, Sight::Own).unwrap()
}

/// Everything that attachments leave traces in.
pub fn traces() -> String {
    let links = sh("ip -o link | sed 's/.*: \\(.*\\): <.*/\\1/'");
    // The kernel takes note in its own time that a bridge has lost its last port.
    let rest = sh("ip route show table all; ip -6 route show table all; ip -o addr; ip rule").replace(" linkdown", "");
    // And in a second that an address which it gave a link of the node is nobody else's, and only then has routes for it.
    let of_a_pod = |line: &str| line.contains(" tow") && !line.contains(" towbr0 ");
    let unsettled = |line: &&str| line.contains("cast fe80:: ") || line.starts_with("local fe80::") && !of_a_pod(line);
    let rest: Vec<&str> = rest.lines().filter(|line| !unsettled(line)).collect();
    let rest = rest.join("\n").replace(" tentative", "");
    let table = sh("nft --stateless list ruleset");
    let leases = sh(&format!("find {STATE} -mindepth 3 -not -path '*/freed/*' 2>/dev/null | sort; true"));
    format!("{links}{rest}{table}{leases}")
}

/// The configuration that the agent writes, in version 1.1.0.
pub fn config() -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "towpath", "type": "towpath", "stateDir": STATE,
        "capabilities": {"portMappings": true}, "dns": {},
    })
}

/// The same with host ports, as containerd sends them.
pub fn config_with_ports(mappings: &Value) -> Value {
    let mut config = config();
    config["runtimeConfig"] = json!({"portMappings": mappings});
    config
}

/// One call of the binary.
pub struct Call {
    program: String,
    environment: Vec<(String, String)>,
    input: String,
}

/// What the binary answered.
#[derive(Debug)]
pub struct Answer {
    /// Its exit status.
    pub status: i32,
    /// What it printed, where that is a document.
    pub document: Value,
    /// All that it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
}

impl Call {
    /// A call of a verb with the usual configuration.
    pub fn new(verb: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_towpath").to_owned();
        Self { program, environment: Vec::new(), input: config().to_string() }.with("CNI_COMMAND", verb)
    }

    /// A call for an attachment.
    pub fn of(verb: &str, container: &str, netns: &str) -> Self {
        let call = Self::new(verb).with("CNI_CONTAINERID", container).with("CNI_IFNAME", "eth0");
        call.with("CNI_NETNS", netns).with("CNI_PATH", "/opt/cni/bin")
    }

    /// With an environment variable.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With another configuration.
    pub fn config(self, config: &Value) -> Self {
        self.input(&config.to_string())
    }

    /// With any input.
    pub fn input(self, input: &str) -> Self {
        Self { input: input.to_owned(), ..self }
    }

    /// As another program.
    pub fn program(self, program: &str) -> Self {
        Self { program: program.to_owned(), ..self }
    }

    /// Starts the binary and gives it its input.
    pub fn start(&self) -> Child {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment.iter().cloned());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It may end without reading.
        _ = child.stdin.take().unwrap().write_all(self.input.as_bytes());
        child
    }

    /// Runs the binary.
    pub fn run(&self) -> Answer {
        let output = self.start().wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Answer {
            status: output.status.code().unwrap_or(-1),
            document: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs the binary, which must succeed.
    pub fn succeed(&self) -> Answer {
        let answer = self.run();
        assert_eq!(answer.status, 0, "{answer:?}");
        assert_eq!(answer.stderr, "", "{answer:?}");
        answer
    }

    /// Runs the binary, which must fail with a code; returns its message.
    pub fn fail(&self, code: u32) -> String {
        let answer = self.run();
        assert_eq!(answer.status, 1, "{answer:?}");
        assert_eq!(answer.document["code"], code, "{answer:?}");
        let details = answer.document["details"].as_str().unwrap_or_default();
        format!("{} {details}", answer.document["msg"].as_str().unwrap())
    }
}

/// A call of GC, with a list of what the runtime knows or without any.
pub fn collect(listed: Option<&[&str]>) -> Call {
    let mut config = config();
    if let Some(listed) = listed {
        let entry = |container: &&str| json!({"containerID": container, "ifname": "eth0"});
        config["cni.dev/valid-attachments"] = listed.iter().map(entry).collect::<Vec<Value>>().into();
    }
    Call::new("GC").config(&config)
}

/// Attaches a pod in a new namespace of its own name; returns the result.
pub fn add(name: &str) -> Value {
    Call::of("ADD", name, &netns(name)).succeed().document
}

/// Detaches a pod.
pub fn del(name: &str) {
    let answer = Call::of("DEL", name, &format!("/run/netns/{name}")).succeed();
    assert_eq!(answer.stdout, "");
}

/// The configuration of CHECK after a result.
pub fn config_after(result: &Value) -> Value {
    let mut config = config();
    config["prevResult"] = result.clone();
    config
}

/// Sends one packet and waits for its answer.
pub fn ping(from: &str, to: &str) -> String {
    sh(&format!("{from} ping -n -c 1 -W 5 {to}"))
}
