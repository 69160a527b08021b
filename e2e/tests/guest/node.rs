//! A node with a real agent that is told its state by a file, and pods attached by the real CNI binary.

use std::{
    collections::BTreeMap,
    env, fs,
    io::Write as _,
    net::IpAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use serde_json::{Value, json};
use towpath_e2e::wait::{self, Interrupt, Look, WaitError};
use towpath_kernel::{link, netlink, wireguard::WireGuard};
use towpath_net::{
    device,
    family::PerFamily,
    node_file::NodeFile,
    state::{Attachment, Masquerade, MasqueradeMode, NodeName, NodeSpec, NodeState, Peer, Revision},
    transport::{Keys, PublicKey, Slot, Transports},
};

use crate::ground::{Named, Spot, pod_ranges};

/// How long anything may take: an emulated processor is slow, and the host may be busy.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `look` finds something; where it does not, `tell` says how things are.
#[track_caller]
pub fn wait_for<T>(what: &str, tell: impl FnOnce() -> String, mut look: impl FnMut() -> Result<T, String>) -> T {
    let looking = || -> Result<Look<T>, WaitError> { Ok(look().map_or_else(Look::NotYet, Look::Found)) };
    match wait::until(what, LIMIT, &Interrupt::default(), looking) {
        Ok(found) => found,
        Err(error) => panic!("{error}\n{}", tell()),
    }
}

/// How a network is to be.
#[derive(Clone, Debug)]
pub struct Setting {
    pub transport: Transports,
    pub attachment: Attachment,
    /// Which of IPv4 and IPv6 nodes and pods have.
    pub families: [bool; 2],
}

impl Setting {
    /// Routed pods with both families.
    pub const fn of_transport(transport: Transports) -> Self {
        Self { transport, attachment: Attachment::Routed, families: [true, true] }
    }

    fn of<T: Copy>(&self, both: &[T; 2]) -> Vec<T> {
        both.iter().zip(self.families).filter(|(_, wanted)| *wanted).map(|(item, _)| *item).collect()
    }

    /// What a node is told of itself.
    pub fn spec(&self, spot: &Spot, revision: &Revision) -> NodeSpec {
        let addresses: Vec<IpAddr> = self.of(&spot.addresses()).iter().map(ipnet::IpNet::addr).collect();
        NodeSpec {
            revision: revision.clone(),
            pod_ranges: self.of(&pod_ranges()),
            masquerade: Masquerade { mode: MasqueradeMode::LeavingCluster, excluded: Vec::new() },
            attachment: self.attachment,
            transport: self.transport.clone(),
            ..NodeSpec::plain(addresses, self.of(&spot.pod_cidrs))
        }
    }
}

/// A node.
pub struct Node {
    pub spot: Spot,
    pub ground: Named,
    root: PathBuf,
    agent: Mutex<Option<Child>>,
}

impl Node {
    pub fn make(wire: &Named, spot: Spot) -> Self {
        let ground = crate::ground::connect(wire, &spot);
        let root = PathBuf::from("/run").join(spot.name);
        fs::create_dir(&root).unwrap();
        Self { ground, root, agent: Mutex::new(None), spot }
    }

    pub fn name(&self) -> NodeName {
        self.spot.name.into()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// Starts the agent, or starts it again.
    pub fn start(&self) {
        let log = fs::File::options().create(true).append(true).open(self.path("log")).unwrap();
        let mut command = Command::new(env::var("TOWPATH_AGENT").unwrap());
        command.args(["run", "--file", &self.text("state.json"), "--state-dir", &self.text("towpath")]);
        command.args(["--cni-conf-dir", &self.text("net.d"), "--cni-bin-dir", &self.text("bin")]);
        command.args(["--cni-binary", &env::var("TOWPATH_CNI").unwrap(), "--listen", "127.0.0.1:9471"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let agent = self.ground.namespace.run(|| command.spawn().unwrap()).unwrap();
        *self.agent.lock().unwrap() = Some(agent);
    }

    /// Ends the agent at once, as `kill -9` does.
    pub fn kill(&self) {
        if let Some(mut agent) = self.agent.lock().unwrap().take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    /// Tells the agent a state, in one step.
    pub fn tell(&self, spec: NodeSpec, peers: BTreeMap<NodeName, Peer>) {
        let state = NodeState { node: self.name(), spec, peers };
        let aside = self.path("state.new");
        fs::write(&aside, serde_json::to_string(&state).unwrap()).unwrap();
        fs::rename(aside, self.path("state.json")).unwrap();
    }

    /// Waits until the agent has brought a revision about.
    #[track_caller]
    pub fn wait_applied(&self, revision: &Revision) {
        wait_for(
            &format!("{}: revision {revision}", self.spot.name),
            || self.tell_all(),
            || {
                let file = self.file()?;
                let ready = self.path("net.d/05-towpath.conflist").exists();
                let seen = || format!("revision {}, ready for pods: {ready}", file.revision);
                if ready && file.revision == *revision { Ok(()) } else { Err(seen()) }
            },
        );
    }

    /// What the agent tells the CNI binary.
    pub fn file(&self) -> Result<NodeFile, String> {
        let text = fs::read_to_string(self.path("towpath/node.json")).map_err(|error| error.to_string())?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// The end of what the agent logged.
    pub fn log(&self) -> String {
        towpath_e2e::process::tail(&self.path("log"), 30)
    }

    /// What the kernel has, for a test that fails.
    pub fn tell_all(&self) -> String {
        let name = self.spot.name;
        let state = self.ground.sh(
            "ip -br link; ip -br address; ip route; ip -6 route; ip nexthop; ip neigh; bridge fdb; nft list ruleset",
        );
        format!("=== {name}\n{state}\n--- agent of {name}\n{}\n", self.log())
    }

    /// The public keys of its devices, as the kernel has them, once it has both.
    pub fn keys(&self) -> Keys {
        wait_for(
            &format!("{}: keys of its WireGuard devices", self.spot.name),
            || self.tell_all(),
            || {
                Ok(Keys {
                    first: Some(self.key(Slot::First)?),
                    second: Some(self.key(Slot::Second)?),
                    active: Slot::First,
                })
            },
        )
    }

    fn key(&self, slot: Slot) -> Result<PublicKey, String> {
        let name = device::wireguard(slot);
        let read = || WireGuard::open().map(|mut wireguard| wireguard.device(name));
        let device = self.ground.namespace.run(read).map_err(|error| error.to_string())?;
        let device = device.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        device.public_key.ok_or_else(|| format!("{name} has no key"))
    }

    /// Attaches a pod, as a runtime does with the configuration that the agent wrote.
    pub fn attach(&self, name: &str) -> Pod<'_> {
        let ground = Named::make(&format!("{}-{name}", self.spot.name));
        let result = self.call("ADD", name, &ground.path());
        let mut addresses = PerFamily { v4: None, v6: None };
        for entry in result["ips"].as_array().unwrap() {
            let address: IpAddr = entry["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
            *addresses.get_mut(towpath_net::family::Family::of(address)) = Some(address);
        }
        let mut socket = ground.namespace.socket(netlink::Protocol::Route).unwrap().unwrap();
        let mtu = link::find(&mut socket, "eth0").unwrap().unwrap().mtu;
        Pod { node: self, name: name.to_owned(), ground, addresses, mtu: usize::try_from(mtu).unwrap() }
    }

    fn call(&self, verb: &str, container: &str, netns: &str) -> Value {
        let text = fs::read_to_string(self.path("net.d/05-towpath.conflist")).unwrap();
        let list: Value = serde_json::from_str(&text).unwrap();
        let mut config = list["plugins"][0].clone();
        config["cniVersion"] = list["cniVersion"].clone();
        config["name"] = list["name"].clone();
        config["runtimeConfig"] = json!({});
        let mut command = Command::new(self.path("bin/towpath"));
        command.env_clear().env("CNI_COMMAND", verb).env("CNI_CONTAINERID", container).env("CNI_IFNAME", "eth0");
        command.env("CNI_NETNS", netns).env("CNI_PATH", self.path("bin"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.ground.namespace.run(|| command.spawn().unwrap()).unwrap();
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{verb} {container}: {answer}\n{}", self.tell_all());
        serde_json::from_str(&answer).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(Some(agent)) = self.agent.get_mut() {
            _ = agent.kill();
            _ = agent.wait();
        }
        _ = fs::remove_dir_all(&self.root);
    }
}

/// A pod, attached until this is dropped.
pub struct Pod<'a> {
    pub node: &'a Node,
    name: String,
    pub ground: Named,
    pub addresses: PerFamily<Option<IpAddr>>,
    /// In bytes.
    pub mtu: usize,
}

impl Pod<'_> {
    pub fn detach(self) {
        self.node.call("DEL", &self.name, &self.ground.path());
    }
}
