//! Pods that start where there are policies: the CNI plugin, the agent's thread of policies, and a pod that sends without end
//! what it may not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::watch::{Receiver, channel};
use towpath_cni::{Call, Plugin};
use towpath_control::client::{Client, Config, KubeDirectory};
use towpath_kernel::netns::Namespace;
use towpath_kernel::testing::isolated;
use towpath_net::policy::admission::Progress;
use towpath_net::policy::bundle::{Bundle, Direction, Isolation, PodPolicy, Profile, ProfileId};
use towpath_net::policy::input::Key;
use towpath_node_agent::paths::Paths;
use towpath_node_agent::policy::{Admissions, Gate, Remembered, Worker};
use towpath_node_agent::worker::End;

const STATE: &str = "/run/towpath";
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOKS: Duration = Duration::from_millis(5);
/// The addresses of who must get nothing.
const ADDRESSES: [&str; 2] = ["10.244.1.77", "fd00:10:244:1::77"];
const PORT: u16 = 9;
const FLOOD: &[u8] = b"flood";
const PROBE: &[u8] = b"probe";

fn run(line: &str) {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}");
        // Who looks without a pause keeps what it waits for from coming about.
        thread::sleep(LOOKS);
    }
}

/// A node whose pods start as is said here.
fn node(startup: &str) {
    run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    say(startup);
}

fn say(startup: &str) {
    let content = json!({
        "version": 1, "revision": "7f3a91c", "attachment": "Routed", "mtu": 1450, "quarantine": 0, "startup": startup,
        "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"],
    });
    fs::create_dir_all(STATE).unwrap();
    fs::write(format!("{STATE}/node.json"), content.to_string()).unwrap();
}

/// What a call of the plugin for a pod printed, and logged.
fn call(verb: &str, name: &str, arguments: &str) -> (Value, String) {
    let environment = |variable: &str| {
        Some(match variable {
            "CNI_COMMAND" => verb.to_owned(),
            "CNI_CONTAINERID" => name.to_owned(),
            "CNI_IFNAME" => "eth0".to_owned(),
            "CNI_NETNS" => format!("/run/netns/{name}"),
            "CNI_PATH" => "/opt/cni/bin".to_owned(),
            "CNI_ARGS" => format!("K8S_POD_NAMESPACE=web;K8S_POD_NAME={name};K8S_POD_UID={name}{arguments}"),
            _ => return None,
        })
    };
    let config = json!({"cniVersion": "1.1.0", "name": "towpath", "type": "towpath", "stateDir": STATE});
    let read = || Ok(config.to_string().into_bytes());
    let call = Call { plugin: Plugin::Towpath, environment: &environment, read: &read };
    let (mut out, mut log) = (Vec::new(), Vec::new());
    towpath_cni::run(&call, &mut out, &mut log);
    let document = serde_json::from_slice(&out).unwrap_or(Value::Null);
    assert!(document["code"].is_null(), "{verb} {name}: {document}");
    (document, String::from_utf8(log).unwrap())
}

/// The agent's part of this, told what an operator would have told.
struct Agent {
    worker: Worker,
    admissions: Receiver<Admissions>,
    /// Serves as long as it is there.
    _runtime: Runtime,
}

impl Agent {
    fn start(bundle: Bundle) -> Self {
        let paths = Paths {
            state: STATE.into(),
            lasting: STATE.into(),
            state_on_node: STATE.into(),
            cni_conf: "/run/net.d".into(),
            cni_bin: "/run/bin".into(),
            cni_binary: "/run/binary".into(),
            sysctls: "/proc/sys/net".into(),
        };
        let config = Config::new("n1".into(), "/run/token".into(), "/run/operators".into());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // Nobody follows: there is no operator to be found.
        let handle = runtime.block_on(async {
            let client = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
            let directory = KubeDirectory::new(kube::Client::try_from(client).unwrap(), "towpath-system");
            Client::new(config, directory).1
        });
        let worker = Worker::start(&paths, handle, Some(Remembered { bundle, patience: Duration::ZERO })).unwrap();
        let (count, admissions) = channel(Admissions::default());
        let (in_force, inbox) = (worker.in_force.clone(), worker.inbox.clone());
        let gate = runtime.block_on(async { Gate::open(&paths, in_force, count, inbox).unwrap() });
        runtime.spawn(gate.serve());
        Self { worker, admissions, _runtime: runtime }
    }

    fn stop(self) {
        self.worker.inbox.end(End::Stop);
        self.worker.join().unwrap();
    }

    fn progress(&self, uid: &str) -> Option<Progress> {
        self.worker.in_force.borrow().pods.get(uid).map(|standing| standing.progress)
    }

    /// Attaches a pod that others must know; they do as soon as its policies are in force.
    fn admit(&self, name: &str) -> Pod {
        let pod = Pod::prepare(name);
        let adding = thread::spawn({
            let name = name.to_owned();
            move || call("ADD", &name, &wish())
        });
        wait_until("its policies are in force", || self.progress(name) == Some(Progress::InForce));
        assert!(!adding.is_finished());
        self.worker.inbox.known(name.to_owned());
        assert_eq!(adding.join().unwrap().1, "");
        pod
    }
}

fn wish() -> String {
    format!(";IP={}", ADDRESSES.join(","))
}

/// Policies under which these pods let nothing in, and these everything.
fn bundle(closed: &[&str], open: &[&str]) -> Bundle {
    let ingress = Direction { isolated: Some(Isolation::default()), ..Direction::default() };
    let profile = Profile { ingress, egress: Direction::default() };
    let entry = |name: &&str, is_policed: bool| {
        let key = Key { namespace: "web".into(), name: (*name).into() };
        ((*name).to_owned(), PodPolicy { key, profile: is_policed.then_some(ProfileId(7)), is_policed })
    };
    let pods = closed.iter().map(|name| entry(name, true)).chain(open.iter().map(|name| entry(name, false)));
    Bundle {
        is_enforced: true,
        pods: pods.collect(),
        profiles: BTreeMap::from([(ProfileId(7), profile)]),
        ..Bundle::default()
    }
}

/// A pod, and what comes to it from the moment on that there is its namespace.
struct Pod {
    name: String,
    sockets: [UdpSocket; 2],
}

impl Pod {
    fn prepare(name: &str) -> Self {
        run(&format!("ip netns add {name} && ip -n {name} link set lo up"));
        let namespace = Namespace::open(format!("/run/netns/{name}")).unwrap();
        let bind = |any: &str| {
            let socket = UdpSocket::bind(SocketAddr::new(any.parse().unwrap(), PORT)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let sockets = namespace.run(|| ["0.0.0.0", "::"].map(|any| if any == "::" { only_v6() } else { bind(any) }));
        Self { name: name.to_owned(), sockets: sockets.unwrap() }
    }

    fn attach(name: &str) -> Self {
        let pod = Self::prepare(name);
        assert_eq!(call("ADD", name, &wish()).1, "");
        pod
    }

    fn detach(self) {
        call("DEL", &self.name, "");
        run(&format!("ip netns delete {}", self.name));
    }

    /// What has come to each address since this was asked last.
    fn received(&self) -> [Vec<Vec<u8>>; 2] {
        self.sockets.each_ref().map(|socket| {
            let mut buffer = [0; 64];
            std::iter::from_fn(|| socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())).collect()
        })
    }

    /// Answers one packet of each family, so that the connections are no longer new.
    fn answer(&self) {
        for socket in &self.sockets {
            let mut buffer = [0; 64];
            let mut from = None;
            wait_until("there is something to answer", || {
                from = socket.recv_from(&mut buffer).ok();
                from.is_some()
            });
            socket.send_to(b"yes", from.unwrap().1).unwrap();
        }
    }

    /// That nothing came but what the node sends, which may always.
    fn assert_untouched(&self) {
        let node = UdpSocket::bind("[::]:0").unwrap();
        let mut all: [Vec<Vec<u8>>; 2] = Default::default();
        for (number, address) in ADDRESSES.into_iter().enumerate() {
            let address: IpAddr = address.parse().unwrap();
            let mapped = match address {
                IpAddr::V4(address) => address.to_ipv6_mapped().into(),
                other @ IpAddr::V6(_) => other,
            };
            wait_until("the node's own packet is there", || {
                node.send_to(PROBE, SocketAddr::new(mapped, PORT)).unwrap();
                for (all, more) in all.iter_mut().zip(self.received()) {
                    all.extend(more);
                }
                all[number].iter().any(|packet| packet == PROBE)
            });
        }
        let forbidden = all.map(|all| all.iter().filter(|packet| *packet != PROBE).count());
        assert_eq!(forbidden, [0, 0], "of what is forbidden came to {ADDRESSES:?}");
    }
}

/// Of IPv6 alone, beside one of IPv4 at the same port.
fn only_v6() -> UdpSocket {
    use rustix::net::{AddressFamily, SocketType, bind, socket, sockopt};
    let socket = socket(AddressFamily::INET6, SocketType::DGRAM, None).unwrap();
    sockopt::set_ipv6_v6only(&socket, true).unwrap();
    bind(&socket, &SocketAddr::new("::".parse().unwrap(), PORT)).unwrap();
    let socket = UdpSocket::from(socket);
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Sends to both addresses, without end.
struct Flood {
    sent: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Flood {
    fn begin(from: &str) -> Self {
        let (sent, ends) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let namespace = Namespace::open(format!("/run/netns/{from}")).unwrap();
        let threads = [("0.0.0.0:0", ADDRESSES[0]), ("[::]:0", ADDRESSES[1])].map(|(own, to)| {
            let socket = namespace.run(|| UdpSocket::bind(own).unwrap()).unwrap();
            let (sent, ends) = (Arc::clone(&sent), Arc::clone(&ends));
            let to = SocketAddr::new(to.parse().unwrap(), PORT);
            thread::spawn(move || {
                while !ends.load(Ordering::Relaxed) {
                    // Nobody may have the address now.
                    _ = socket.send_to(FLOOD, to);
                    sent.fetch_add(1, Ordering::Relaxed);
                    thread::yield_now();
                }
            })
        });
        Self { sent, ends, threads: threads.into() }
    }

    /// Waits until that many more packets were sent.
    fn go_on(&self, packets: u64) {
        let end = self.sent.load(Ordering::Relaxed) + packets;
        wait_until("more was sent", || self.sent.load(Ordering::Relaxed) >= end);
    }

    fn end(self) {
        self.ends.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

fn attach_flooder() {
    run("ip netns add evil && ip -n evil link set lo up");
    assert_eq!(call("ADD", "evil", "").1, "");
}

#[test]
fn nothing_forbidden_reaches_a_pod_from_before_its_start_on() {
    isolated("nothing_forbidden_reaches_a_pod_from_before_its_start_on", || {
        node("Strict");
        let agent = Agent::start(bundle(&["victim"], &["evil"]));
        attach_flooder();
        let flood = Flood::begin("evil");
        flood.go_on(500);
        let victim = agent.admit("victim");
        flood.go_on(2000);
        victim.assert_untouched();
        flood.end();
        wait_until("both are counted", || *agent.admissions.borrow() == Admissions { known: 2, given_up: 0 });
        agent.stop();
    });
}

#[test]
fn pods_start_also_where_the_folder_of_the_agent_was_removed() {
    isolated("pods_start_also_where_the_folder_of_the_agent_was_removed", || {
        node("Strict");
        let agent = Agent::start(bundle(&[], &["old", "evil"]));
        let folder = Path::new(STATE).join("agent");
        fs::remove_dir_all(&folder).unwrap();
        wait_until("there is a socket again", || folder.join("admission.sock").exists());
        attach_flooder();
        wait_until("it is counted", || agent.admissions.borrow().known == 1);
        agent.stop();
    });
}

#[test]
fn who_gets_the_addresses_of_another_gets_nothing_that_this_one_was_allowed() {
    isolated("who_gets_the_addresses_of_another_gets_nothing_that_this_one_was_allowed", || {
        node("Strict");
        let agent = Agent::start(bundle(&["after", "zafter"], &["evil", "old"]));
        attach_flooder();
        let flood = Flood::begin("evil");
        for name in ["after", "zafter", "after", "zafter"] {
            let old = Pod::attach("old");
            let mut came = [false; 2];
            wait_until("an open pod gets it all", || {
                let received = old.received();
                came = [0, 1].map(|number| came[number] || !received[number].is_empty());
                came == [true; 2]
            });
            old.answer();
            flood.go_on(100);
            old.detach();
            let after = agent.admit(name);
            flood.go_on(500);
            after.assert_untouched();
            after.detach();
        }
        let old = Pod::attach("old");
        old.answer();
        flood.go_on(100);
        agent.stop();
        old.detach();
        say("Wait");
        let after = Pod::prepare("after");
        let (_, word) = call("ADD", "after", &wish());
        assert!(word.contains("the node agent is not there"), "{word}");
        flood.go_on(500);
        after.assert_untouched();
        flood.end();
        assert!(Path::new(STATE).join("agent/admission.sock").exists(), "the next agent replaces it");
    });
}
