//! Two nodes on one wire, each in a network namespace with an agent that is told its state by a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use towpath_kernel::netns::Namespace;

use super::node::{START, get, run, wait_for, without_numbers};

const AGENT: &str = env!("CARGO_BIN_EXE_towpath-agent");
/// How long anything may take on a machine with much else to do.
pub const SOON: Duration = Duration::from_secs(10);

/// What a node is told of itself.
#[derive(Clone, Debug)]
pub struct Part {
    pub transport: &'static str,
    pub attachment: &'static str,
    pub addresses: String,
}

/// One of the nodes.
pub struct Node {
    pub name: &'static str,
    number: u8,
    root: PathBuf,
    agent: Option<Child>,
}

impl Node {
    fn make(name: &'static str, number: u8) -> Self {
        run(&format!("ip netns add {name}"));
        let root = PathBuf::from(format!("/run/nodes/{name}"));
        fs::create_dir_all(root.join("state/peers")).unwrap();
        fs::write(root.join("towpath"), "towpath.dev").unwrap();
        Self { name, number, root, agent: None }
    }

    /// Runs a program in the node's namespace.
    pub fn run(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.name))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn addresses(&self) -> String {
        format!(r#"["172.16.30.{0}", "fd00:30::{0}"]"#, self.number)
    }

    fn pod_cidrs(&self) -> String {
        format!(r#"["10.244.{0}.0/24", "fd00:244:0:{0}::/64"]"#, self.number)
    }

    /// As it is by itself.
    pub fn part(&self, transport: &'static str) -> Part {
        Part { transport, attachment: "Routed", addresses: self.addresses() }
    }

    /// Writes the node's own part.
    pub fn tell(&self, part: &Part) {
        let Part { transport, attachment, addresses } = part;
        let text = format!(
            "node: {}\nspec:\n  revision: \"7f3a91c\"\n  addresses: {addresses}\n  podCIDRs: {}\n  attachment: {attachment}\n  \
             transport: {transport}\n  masquerade: {{mode: LeavingCluster}}\n",
            self.name,
            self.pod_cidrs()
        );
        put(&self.path("state/node.yaml"), &text);
    }

    /// Tells the node of another one.
    pub fn tell_of(&self, other: &Self, accepts: &str, addresses: &str) {
        let text = format!("{{addresses: {addresses}, podCIDRs: {}, accepts: {accepts}}}\n", other.pod_cidrs());
        put(&self.path(&format!("state/peers/{}.yaml", other.name)), &text);
    }

    /// What a subcommand of the agent prints.
    pub fn agent(&self, action: &str) -> String {
        let (state, folder) = (self.path("state"), self.path("towpath-state"));
        self.run(&format!("{AGENT} {action} --file {} --state-dir {}", state.display(), folder.display()))
    }

    pub fn start(&mut self) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name, AGENT, "run", "--listen", "127.0.0.1:9471"]);
        let places = [
            ("--file", "state"),
            ("--state-dir", "towpath-state"),
            ("--cni-conf-dir", "net.d"),
            ("--cni-bin-dir", "bin"),
            ("--cni-binary", "towpath"),
        ];
        for (option, place) in places {
            command.arg(option).arg(self.path(place));
        }
        let log = fs::File::create(self.path("log")).unwrap();
        self.agent = Some(command.stdout(Stdio::null()).stderr(log).spawn().unwrap());
        wait_for("an answer", START, || self.get("/healthz").starts_with("HTTP/1.1 200"));
    }

    pub fn wait_until_ready(&self) {
        wait_for(&format!("{} to be ready", self.name), START, || self.get("/readyz").starts_with("HTTP/1.1 200"));
    }

    /// Kills the agent, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    pub fn get(&self, path: &str) -> String {
        let namespace = Namespace::open(format!("/run/netns/{}", self.name)).unwrap();
        namespace.run(|| get(path)).unwrap()
    }

    pub fn metric(&self, name: &str) -> u64 {
        let text = self.get("/metrics");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("towpath_agent_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in {text}")).parse().unwrap()
    }

    /// Everything that the agent keeps in the kernel, in words.
    pub fn kept(&self) -> String {
        let all = [
            "ip -d -o link show type vxlan",
            "ip -o address show scope global",
            "ip route show",
            "ip -6 route show",
            "ip nexthop show",
            "ip neighbour show nud permanent",
            "ip -6 neighbour show nud permanent",
            "bridge fdb show dev towvxlan4",
            "sysctl net.ipv4.conf.towvxlan4.rp_filter net.ipv4.ip_forward",
        ];
        let texts: Vec<String> = all.into_iter().map(|line| self.show(line)).collect();
        let lines = texts.iter().flat_map(|text| text.lines()).map(|line| match line.split_once(": ") {
            Some((number, rest)) if number.parse::<u32>().is_ok() => rest,
            _ => line,
        });
        // Elements of sets are shown in no order.
        let table = self.show("nft list table inet towpath");
        let words = table.split([' ', ',', '\n', '\t']).filter(|word| !word.is_empty()).map(str::to_owned);
        let mut lines: Vec<String> = lines.map(without_numbers).chain(words).collect();
        lines.sort();
        lines.join("\n")
    }

    /// The same where there may be nothing to show.
    pub fn show(&self, line: &str) -> String {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name]).args(line.split_whitespace());
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    }

    /// Whether an echo comes back.
    pub fn reaches(&self, address: &str) -> bool {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", self.name, "ping", "-n", "-q", "-c", "1", "-W", "1", address]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.path("log")).unwrap_or_default();
            eprintln!("the log of {}:\n{log}", self.name);
        }
        self.kill();
    }
}

/// In one step, as whoever feeds a node should write.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Two nodes on one wire, that know of each other; nothing runs yet.
pub fn make(transport: &'static str, accepts: &str) -> (Node, Node) {
    let (a, b) = (Node::make("n1", 1), Node::make("n2", 2));
    run("ip link add eth0 netns n1 type veth peer name eth0 netns n2");
    for node in [&a, &b] {
        for line in [
            "ip link set lo up".to_owned(),
            format!("ip address add 172.16.30.{}/24 dev eth0", node.number),
            format!("ip address add fd00:30::{}/64 dev eth0 nodad", node.number),
            "ip link set eth0 addrgenmode none".to_owned(),
            "ip link set eth0 up".to_owned(),
        ] {
            node.run(&line);
        }
    }
    for (node, other) in [(&a, &b), (&b, &a)] {
        wait_for("the wire", SOON, || node.reaches(&format!("172.16.30.{}", other.number)));
        node.tell(&node.part(transport));
        node.tell_of(other, accepts, &other.addresses());
    }
    (a, b)
}
