//! The thread that owns the table of policies, on the real kernel: what it leaves alone, puts right, answers and refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde_json::json;
use towpath_cni::{Call, Plugin};
use towpath_control::client::{Client, Config, Directory, DirectoryError};
use towpath_kernel::nft::Nft;
use towpath_kernel::testing::isolated;
use towpath_net::lease::Protocol;
use towpath_net::policy::bundle::{
    Allow, Bundle, Delta, Direction, Isolation, Members, Peers, PodPolicy, Ports, Profile, ProfileId, SetDelta, SetId,
};
use towpath_net::policy::digest::Digests;
use towpath_net::policy::input::Key;
use towpath_node_agent::paths::Paths;
use towpath_node_agent::policy::{Receipt, Remembered, Worker, remembered};
use towpath_node_agent::worker::End;

const STATE: &str = "/run/towpath";
const DEADLINE: Duration = Duration::from_secs(30);
const TABLE: &str = "inet towpath-policy";
/// An agent that starts takes the latch over that an earlier one left, in one change of the ruleset.
const TAKEN_OVER: u32 = 1;
const FRIENDS: SetId = SetId(0x1234_5678_0000_0005);

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "waited in vain until {what}: {:#?}", listed());
        std::thread::yield_now();
    }
}

/// What the kernel has, in an order of its own; nothing where there is no table.
fn listed() -> Vec<String> {
    let text = sh(&format!("nft -s list table {TABLE} 2>/dev/null || true"));
    let mut all: Vec<String> = text.split([',', '\n']).map(|part| part.trim().to_owned()).collect();
    all.sort();
    all
}

/// Counts whatever anybody does to the ruleset of this namespace.
fn generation() -> u32 {
    Nft::open().unwrap().generation().unwrap()
}

/// A node with two pods.
fn node() {
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

fn attach(name: &str) {
    sh(&format!("ip netns add {name}"));
    let environment = |variable: &str| {
        Some(match variable {
            "CNI_COMMAND" => "ADD".to_owned(),
            "CNI_CONTAINERID" => name.to_owned(),
            "CNI_IFNAME" => "eth0".to_owned(),
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
fn bundle() -> Bundle {
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
fn told(bundle: Bundle) -> Remembered {
    Remembered { bundle, patience: Duration::ZERO }
}

fn addresses(all: &[&str]) -> Members {
    Members::Addresses(all.iter().map(|text| text.parse().unwrap()).collect())
}

fn paths() -> Paths {
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
struct Agent(Worker);

/// What an answer was, and what the kernel had when it was given.
type Answers = Receiver<(Result<(), String>, Vec<String>)>;

impl Agent {
    fn start(remembered: Option<Remembered>) -> Self {
        let config = Config::new("n1".into(), "/run/token".into(), "/run/operators".into());
        let (_, handle) = Client::new(config, Nowhere);
        Self(Worker::start(&paths(), handle, remembered).unwrap())
    }

    /// Starts with what was kept, and waits until that is in the kernel.
    fn restart(remembered: Option<Remembered>) -> Self {
        let agent = Self::start(remembered);
        wait_until("policies are in force", || agent.is_enforced() == Some(true));
        agent
    }

    fn stop(self) {
        self.0.inbox.end(End::Stop);
        self.0.join().unwrap();
    }

    fn is_enforced(&self) -> Option<bool> {
        self.0.in_force.borrow().is_enforced
    }

    fn put(&self, delta: Delta) -> (Weak<Receipt>, Answers) {
        let (tell, answers) = channel();
        let receipt = Arc::new(Receipt::telling(move |answer| tell.send((answer, listed())).unwrap()));
        let weak = Arc::downgrade(&receipt);
        self.0.inbox.put(delta, receipt);
        (weak, answers)
    }

    fn tell(&self, delta: Delta) -> (Result<(), String>, Vec<String>) {
        self.put(delta).1.recv_timeout(DEADLINE).unwrap()
    }

    /// What it has; it has looked at everything that it was told before.
    fn digests(&self) -> Digests {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(self.0.inbox.digests()).unwrap()
    }
}

/// A delta that has somebody come to the set of friends.
fn coming(friend: &str) -> Delta {
    let change = SetDelta::Change { add: addresses(&[friend]), remove: addresses(&[]) };
    Delta { sets: BTreeMap::from([(FRIENDS, change)]), ..Delta::default() }
}

fn has(listing: &[String], part: &str) -> bool {
    listing.iter().any(|line| line.contains(part))
}

#[test]
fn an_agent_that_starts_again_writes_nothing_that_is_there_already() {
    isolated("an_agent_that_starts_again_writes_nothing_that_is_there_already", || {
        node();
        Agent::restart(Some(told(bundle()))).stop();
        let (before, was) = (listed(), generation());
        assert!(has(&before, "10.9.9.9"), "{before:#?}");
        let agent = Agent::restart(Some(told(bundle())));
        agent.digests();
        assert_eq!(generation(), was + TAKEN_OVER, "the kernel was written to");
        agent.stop();
        // Nor one that remembers nothing, whatever it finds: nobody knows what is to be.
        let agent = Agent::start(None);
        agent.digests();
        assert_eq!((generation(), agent.is_enforced()), (was + TAKEN_OVER, None));
        // And told the same it finds all of it.
        let (answer, _) = agent.tell(Delta::between(&Bundle::default(), &bundle()));
        assert_eq!((answer, generation()), (Ok(()), was + 2 * TAKEN_OVER));
        wait_until("policies are in force", || agent.is_enforced() == Some(true));
        agent.stop();
        assert_eq!(listed(), before);
    });
}

#[test]
fn while_nothing_is_enforced_pods_come_and_go_and_nothing_is_written() {
    isolated("while_nothing_is_enforced_pods_come_and_go_and_nothing_is_written", || {
        node();
        let agent = Agent::start(Some(told(Bundle { is_enforced: false, ..bundle() })));
        wait_until("it is known that nothing is enforced", || agent.is_enforced() == Some(false));
        let was = generation();
        attach("c");
        let known = || agent.0.in_force.borrow().pods.contains_key("c");
        wait_until("the pod is known", known);
        assert_eq!(agent.tell(coming("10.9.9.8")).0, Ok(()));
        // The binary writes what packets the pod may send, if there were a table for it: here there is none.
        assert_eq!(generation(), was, "the kernel was written to");
        let (answer, listing) = agent.tell(Delta { is_enforced: Some(true), ..Delta::default() });
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}

#[test]
fn what_somebody_alters_by_hand_comes_back_at_once() {
    isolated("what_somebody_alters_by_hand_comes_back_at_once", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let before = listed();
        let profile = "ingress-v4-0000000000000001";
        for alteration in [
            format!("nft delete element {TABLE} peers-v4 '{{ 0x12345678 . 0x00000005 . 10.9.9.9 }}'"),
            format!("nft add element {TABLE} peers-v4 '{{ 0x12345678 . 0x00000005 . 10.1.1.1 }}'"),
            format!("nft delete element {TABLE} ingress-v4 '{{ 10.244.1.2 }}'"),
            format!("nft flush map {TABLE} egress-v6"),
            format!("nft flush chain {TABLE} {profile}"),
            format!("nft insert rule {TABLE} {profile} accept"),
            format!("nft insert rule {TABLE} forward accept"),
            format!("nft add chain {TABLE} strange"),
            format!("nft delete chain {TABLE} forward"),
            format!("nft delete table {TABLE}"),
            "nft flush ruleset".to_owned(),
        ] {
            sh(&alteration);
            wait_until(&format!("it is as before: {alteration}"), || listed() == before);
        }
        agent.stop();
    });
}

#[test]
fn what_was_kept_and_is_damaged_is_not_used() {
    isolated("what_was_kept_and_is_damaged_is_not_used", || {
        node();
        let agent = Agent::start(None);
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        wait_until("it is kept", || remembered(&paths()).is_some());
        agent.stop();
        assert_eq!(remembered(&paths()), Some(told(bundle())));
        let file = paths().policies();
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let was = generation();
        for damaged in [Vec::new(), b"something else".to_vec(), whole[..whole.len() - 1].to_vec(), flipped] {
            fs::write(&file, damaged).unwrap();
            let found = remembered(&paths());
            assert_eq!(found, None);
            let agent = Agent::start(found);
            agent.digests();
            // What is in the kernel stays in force until it is known again what is to be.
            assert_eq!(generation(), was);
            agent.stop();
        }
        fs::write(&file, whole).unwrap();
        Agent::restart(remembered(&paths())).stop();
        assert_eq!(generation(), was + TAKEN_OVER);
    });
}

#[test]
fn what_was_told_before_the_node_started_is_used_where_no_operator_tells_anything_in_time() {
    isolated("what_was_told_before_the_node_started_is_used_where_no_operator_tells_anything_in_time", || {
        node();
        fs::create_dir_all(paths().kept()).unwrap();
        let agent = Agent::start(None);
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        // The last word of all is on disk when the agent has ended.
        assert_eq!(agent.tell(coming("10.9.9.8")).0, Ok(()));
        agent.stop();
        assert_eq!(fs::read(paths().lasting_policies()).unwrap(), fs::read(paths().policies()).unwrap());
        assert_eq!(fs::metadata(paths().lasting_policies()).unwrap().mode() & 0o777, 0o600);
        fs::remove_file(paths().policies()).unwrap();
        assert_eq!(remembered(&paths()), None, "pods may run: the kernel may have what is newer");
        sh(&format!("rm {STATE}/node.json; nft flush ruleset"));
        let mut old = remembered(&paths()).unwrap();
        assert_eq!(old.bundle.pods, bundle().pods);
        assert!(old.patience > Duration::ZERO);
        // An operator that is there is heard.
        old.patience = Duration::from_hours(1);
        let agent = Agent::start(Some(old.clone()));
        assert_eq!((agent.digests(), agent.is_enforced()), (Digests::of(&Bundle::default()), None));
        let (answer, listing) = agent.tell(Delta::between(&Bundle::default(), &bundle()));
        assert!(answer.is_ok() && has(&listing, "10.9.9.9") && !has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        agent.stop();
        sh("nft flush ruleset");
        // One that is not is waited for.
        old.patience = Duration::from_millis(50);
        let agent = Agent::restart(Some(old));
        assert!(has(&listed(), "10.9.9.8"), "{:#?}", listed());
        agent.stop();
    });
}

#[test]
fn an_update_is_answered_when_it_is_in_the_kernel_and_nobody_has_to_do_anything_for_it() {
    isolated("an_update_is_answered_when_it_is_in_the_kernel_and_nobody_has_to_do_anything_for_it", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let (answer, listing) = agent.tell(coming("10.9.9.8"));
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        let (weak, answers) = agent.put(coming("10.9.9.7"));
        if let Some(held) = weak.upgrade() {
            // As the thread does that owns the rest of the kernel.
            wait_until("it is in the kernel", || has(&listed(), "10.9.9.7"));
            agent.digests();
            assert!(answers.try_recv().is_err(), "it was answered too early");
            drop(held);
        }
        let (answer, listing) = answers.recv_timeout(DEADLINE).unwrap();
        assert!(answer.is_ok() && has(&listing, "10.9.9.7"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}

#[test]
fn an_update_that_cannot_be_brought_about_is_refused_and_leaves_nothing() {
    isolated("an_update_that_cannot_be_brought_about_is_refused_and_leaves_nothing", || {
        node();
        let missing = SetDelta::Change { add: addresses(&["10.1.1.1"]), remove: addresses(&[]) };
        let missing = Delta { sets: BTreeMap::from([(SetId(77), missing)]), ..Delta::default() };
        let lacking = {
            let mut after = bundle();
            after.pods.get_mut("b").unwrap().profile = Some(ProfileId(99));
            after
        };
        // As the first that it is told.
        let agent = Agent::start(None);
        let (answer, listing) = agent.tell(Delta::between(&Bundle::default(), &lacking));
        assert!(answer.unwrap_err().contains("which the bundle lacks"));
        assert_eq!((listing, agent.is_enforced()), (vec![String::new()], None));
        assert_eq!(agent.digests(), Digests::of(&Bundle::default()));
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        let (before, was) = (listed(), generation());
        for (delta, why) in [
            (missing, "ask for the whole state"),
            (Delta::between(&bundle(), &lacking), "which the bundle lacks"),
            (Delta { sets: BTreeMap::from([(FRIENDS, SetDelta::Gone)]), ..Delta::default() }, "still used"),
        ] {
            let (answer, listing) = agent.tell(delta);
            assert!(answer.as_ref().is_err_and(|reason| reason.contains(why)), "{answer:?}");
            assert_eq!((listing, generation(), agent.digests()), (before.clone(), was, Digests::of(&bundle())));
        }
        let (answer, listing) = agent.tell(coming("10.9.9.8"));
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}
