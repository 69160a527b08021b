//! A node without Kubernetes: a space with the agent in it, which a file tells its state, and a host beside it.

use std::{
    cell::Cell,
    collections::BTreeSet,
    env, fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::{
    process::Signal,
    thread::{LinkNameSpaceType, move_into_link_name_space},
};
use serde_json::Value;
use towpath_e2e::{
    cgroup::CgroupTree,
    isolated,
    process::{Launch, PATH, Place, ProcessId, tail},
    run,
    space::{Blueprint, Space},
    wait::{self, Interrupt, Look, WaitError},
};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long anything may take before a test fails.
const SOON: Duration = Duration::from_secs(30);
/// What a host beside the node calls the node.
const ADDRESSES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
const STATE: &str = r#"
node: n1
spec:
  revision: "7f3a91c"
  addresses: ["192.0.2.1", "2001:db8::1"]
  podCIDRs: ["10.244.1.0/24", "fd00:244:0:1::/64"]
  attachment: Routed
  transport: {prefers: [Direct], accepts: [Direct]}
  masquerade: {mode: LeavingCluster}
peers: {}
"#;
/// What the agent is told, and what runtimes look for.
const FILES: [(&str, &str); 4] = [
    ("state.yaml", STATE),
    ("etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ("etc/resolv.conf", ""),
    ("var/tmp/.keep", ""),
];
/// The node is .1, the host beside it .2.
const WIRE: [&str; 5] = [
    "link set wire addrgenmode none",
    "address add 192.0.2.1/24 dev wire",
    "address add 2001:db8::1/64 dev wire nodad",
    "link set wire up",
    "route add default via 192.0.2.2",
];
const OUTSIDE: [&str; 6] = [
    "link set wire addrgenmode none",
    "address add 192.0.2.2/24 dev wire",
    "address add 2001:db8::2/64 dev wire nodad",
    "link set wire up",
    "route add default via 192.0.2.1",
    "route add ::/0 via 2001:db8::1",
];
/// Everything that attachments leave traces in. Where the last address was, and which ones rest, is meant to stay.
const TRACES: &str =
    "ip -o link | cut -d: -f2; ip -o address; ip route show table all; ip -6 route show table all; ip rule
    nft -s list ruleset; tc qdisc | grep 'dev tow'
    find /run/towpath/leases -type f ! -path '*/freed/*' ! -name lock ! -name 'cursor*'";

/// Runs `body` in namespaces of its own. Without them a test that is killed would leave its processes.
pub fn isolated(test: &str, body: impl FnOnce(&Path)) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("runtimes").join(test.replace("::", "."));
    let inside = Cell::new(false);
    let result = isolated::isolated(test, &folder, || {
        inside.set(true);
        body(&folder);
    });
    match result {
        Err(error) => panic!("{error}"),
        // What runs in there may write until it is gone.
        Ok(()) if inside.get() => {}
        Ok(()) => fs::remove_dir_all(folder).unwrap(),
    }
}

/// A node and a host beside it; they end with this value.
pub struct Node {
    /// The node.
    pub space: Space,
    outside: Space,
    folder: PathBuf,
    cgroups: Option<CgroupTree>,
}

/// A lease, as far as it concerns a runtime.
#[derive(Debug)]
pub struct Lease {
    /// `CNI_CONTAINERID`.
    pub container: String,
    /// The name of the node's end of the pair.
    pub link: String,
    /// Of the pod.
    pub addresses: BTreeSet<IpAddr>,
    /// The node's ports that lead to it.
    pub ports: BTreeSet<u64>,
}

impl Node {
    /// A node below `folder` with more folders of the host in it. Its containers have no cgroups. Where there was a node
    /// before, this is the same one after a power cut.
    pub fn make(folder: &Path, folders: &[(&Path, &str)]) -> Self {
        let node = Self::with_cgroups(folder, folders, None);
        // Programs that look for a hierarchy find none, whatever this machine has; podman's locks are in shared memory.
        node.run("mount -t tmpfs tmpfs /sys/fs/cgroup && mount -t tmpfs tmpfs /dev/shm");
        node
    }

    /// The same, where containers have cgroups: they are in the tree of this name.
    pub fn make_with_cgroups(folder: &Path, folders: &[(&Path, &str)], name: &str) -> Self {
        let cgroups = CgroupTree::of(&name.parse().unwrap()).unwrap();
        // Of a run that was cut off.
        cgroups.destroy(None).unwrap();
        Self::with_cgroups(folder, folders, Some(cgroups))
    }

    fn with_cgroups(folder: &Path, folders: &[(&Path, &str)], cgroups: Option<CgroupTree>) -> Self {
        let binaries = PathBuf::from(env::var_os("TOWPATH_IMAGE_FOLDER").unwrap_or_else(|| {
            panic!("TOWPATH_IMAGE_FOLDER is not set: it is the folder with Towpath's binaries, and `make test` sets it")
        }));
        let binaries = [(binaries.as_path(), "opt/towpath")];
        let joined = |name: &str| cgroups.as_ref().map_or_else(Vec::new, |tree| tree.create(name).unwrap());
        let space = |name: &str, folders: &[(&Path, &str)]| {
            let (root, record) = (folder.join(name), folder.join(format!("{name}.json")));
            Space::create(Blueprint { name, root: &root, folders, cgroups: joined(name), record: &record }).unwrap()
        };
        let node = Self {
            space: space("n1", &[&binaries, folders].concat()),
            outside: space("outside", &[]),
            folder: folder.to_owned(),
            cgroups,
        };
        let pair = format!("link add wire type veth peer name wire netns {}", node.outside.pid());
        node.space.ip(&[pair]).unwrap();
        node.space.ip(&WIRE.map(str::to_owned)).unwrap();
        node.outside.ip(&OUTSIDE.map(str::to_owned)).unwrap();
        for (path, text) in FILES {
            node.write(path, text);
        }
        node
    }

    /// Writes a file of the node's.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.space.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Starts a program of the node's that stays.
    pub fn start(&self, name: &str, line: &str) -> ProcessId {
        let arguments = line.split_whitespace().map(str::to_owned).collect();
        Launch { place: Place::Space, arguments, environment: Vec::new(), log: self.log(name) }
            .start(&self.space)
            .unwrap()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Starts the agent, and waits until it is ready.
    pub fn start_agent(&self) -> ProcessId {
        let agent = self.start(
            "agent",
            "/opt/towpath/towpath-agent run --file /state.yaml --listen 127.0.0.1:9471 --cni-binary /opt/towpath/towpath
             --state-dir /run/towpath --cni-conf-dir /etc/cni/net.d --cni-bin-dir /opt/cni/bin",
        );
        eventually("a ready agent", || match ask(&self.space, SocketAddr::from(([127, 0, 0, 1], 9471)), "/readyz") {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", tail(&self.log("agent"), 20))),
        });
        agent
    }

    /// A command line of a shell's on the node.
    pub fn shell(&self, line: &str) -> Command {
        shell(&self.space, line)
    }

    /// Runs a command line on the node, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        self.attempt(line).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command line on the node, which must fail, and returns all that it printed.
    #[track_caller]
    pub fn fail(&self, line: &str) -> String {
        let output = run::output(&mut self.shell(line)).unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(!output.status.success(), "{line} succeeded: {text}");
        text
    }

    /// Runs a command line on the node.
    pub fn attempt(&self, line: &str) -> Result<String, String> {
        let output = run::run(&mut self.shell(line)).map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// What a web server answers to the node and to the host beside it, at each of the node's addresses.
    pub fn ask(&self, port: u16, path: &str) -> Result<BTreeSet<String>, String> {
        let mut answers = BTreeSet::new();
        for address in ADDRESSES {
            for space in [&self.space, &self.outside] {
                let to = SocketAddr::new(address, port);
                answers.insert(ask(space, to, path).map_err(|error| format!("{} asks {to}: {error}", space.name))?);
            }
        }
        Ok(answers)
    }

    /// All leases.
    pub fn leases(&self) -> Vec<Lease> {
        let records = self.space.path("run/towpath/leases/attachments");
        let entries = fs::read_dir(records).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut records: Vec<PathBuf> = entries.collect();
        // What begins with a dot is still being written.
        records.retain(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
        records.sort();
        // One that is gone meanwhile was released.
        records.iter().filter_map(|path| fs::read(path).ok()).map(|record| Lease::parse(&record)).collect()
    }

    /// What attachments leave traces in.
    pub fn traces(&self) -> String {
        self.run(TRACES)
    }

    /// Waits until all is as it was.
    #[track_caller]
    pub fn nothing_is_left(&self, before: &str) {
        eventually("nothing to be left", || {
            let now = self.traces();
            let new = |line: &&str| !before.lines().any(|other| other == *line);
            if now == before { Ok(()) } else { Err(now.lines().filter(new).collect::<Vec<_>>().join("\n")) }
        });
    }
}

/// Waits for a condition.
#[track_caller]
pub fn eventually(what: &str, mut look: impl FnMut() -> Result<(), String>) {
    let waited = wait::until::<(), WaitError>(what, SOON, &Interrupt::default(), || {
        Ok(match look() {
            Ok(()) => Look::Found(()),
            Err(instead) => Look::NotYet(instead),
        })
    });
    waited.unwrap_or_else(|error| panic!("{error}"));
}

/// Ends a process as a crash would.
pub fn kill(process: ProcessId) {
    process.signal(Signal::KILL).unwrap();
    eventually("the end of a process", || if process.alive() { Err("it runs".to_owned()) } else { Ok(()) });
}

impl Drop for Node {
    fn drop(&mut self) {
        for space in [&self.space, &self.outside] {
            drop(space.end());
        }
        if let Some(Err(error)) = self.cgroups.as_ref().map(|tree| tree.destroy(None)) {
            println!("{error}");
        }
    }
}

impl Lease {
    fn parse(record: &[u8]) -> Self {
        let record: Value = serde_json::from_slice(record).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = |field: &str| record[field].as_array().cloned().unwrap_or_default();
        let address = |of: &Value| text(&of["address"]).split('/').next().unwrap().parse().unwrap();
        Self {
            container: text(&record["containerId"]),
            link: text(&record["hostInterface"]),
            addresses: list("addresses").iter().map(address).collect(),
            ports: list("hostPorts").iter().map(|port| port["hostPort"].as_u64().unwrap()).collect(),
        }
    }
}

fn shell(space: &Space, line: &str) -> Command {
    let mut command = space.command("sh");
    command.args(["-c", line]).env_clear().env("PATH", format!("/opt/lab/tools:{PATH}")).env("HOME", "/root");
    command
}

/// The body of what a web server answers to a space.
fn ask(space: &Space, to: SocketAddr, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    let namespace = fs::File::open(space.namespace("net"))?;
    let ask = move || -> io::Result<String> {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    // A thread that moves into a namespace stays there, so it ends.
    let answer = thread::spawn(ask).join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.trim_end().to_owned()),
        _ => Err(io::Error::other(answer)),
    }
}
