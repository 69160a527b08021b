//! WireGuard: its keys, what is seen on the wire in any phase of a node's life, and the change of keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use towpath_net::{
    family::Family,
    state::NodeName,
    transport::{Slot, Transport, Transports},
};

use crate::{
    capture::Capture,
    network::Network,
    node::{Node, Pod, Setting, wait_for},
    probe::{self, Counts, Stream},
};

/// The nodes whose pods talk.
const PAIRS: [(usize, usize); 3] = [(0, 1), (0, 2), (2, 1)];

/// One pod of each node with the others, in both families, all the time.
struct Talk {
    streams: Vec<Stream>,
}

impl Talk {
    fn begin(pods: &[Pod<'_>], pace: Duration) -> Self {
        let of =
            |(from, to): (usize, usize)| Family::ALL.map(|family| Stream::begin(&pods[from], &pods[to], family, pace));
        Self { streams: PAIRS.into_iter().flat_map(of).collect() }
    }

    /// Waits until every stream has sent what would be seen in clear, answered or not.
    fn wait_tried(&self) {
        let before: Vec<_> = self.streams.iter().map(Stream::tried).collect();
        let behind = || self.streams.iter().zip(&before).filter(|(stream, before)| stream.tried() < **before + WATCHED);
        wait_for("echoes that are sent", String::new, || match behind().count() {
            0 => Ok(()),
            count => Err(format!("{count} streams are behind")),
        });
    }

    /// Waits until every stream had answers that came after this moment.
    fn wait_answered(&self, what: &str, network: &Network) {
        let before: Vec<_> = self.streams.iter().map(Stream::answered).collect();
        wait_for(
            &format!("answers after {what}"),
            || network.tell_all(),
            || {
                let silent =
                    self.streams.iter().zip(&before).filter(|(stream, before)| stream.answered() <= **before + 2);
                match silent.count() {
                    0 => Ok(()),
                    count => Err(format!("{count} of {} are without", self.streams.len())),
                }
            },
        );
    }

    fn end(self) -> Vec<Counts> {
        self.streams.into_iter().map(Stream::end).collect()
    }
}

/// That nothing was seen in clear since the last look.
fn assert_sealed(capture: &Capture, phase: &str) {
    let seen = capture.seen();
    println!("  {phase}: {seen:?}");
    let others: BTreeMap<_, _> = seen.iter().filter(|(by, _)| **by != Transport::WireGuard).collect();
    assert_eq!(others, BTreeMap::new(), "{phase}: packets of pods that are not encrypted");
}

/// What somebody does to a node whose packets are to be encrypted.
const ALTERATIONS: [(&str, &str); 5] = [
    ("the table was deleted", "nft delete table inet towpath"),
    ("the routes were deleted", "ip route flush proto 117; ip -6 route flush proto 117"),
    ("a device was deleted", "ip link delete towwg0"),
    ("both devices were deleted", "ip link delete towwg0; ip link delete towwg1"),
    ("the devices were set down", "ip link set towwg0 down; ip link set towwg1 down"),
];

/// What keeps a node's packets from leaving in clear, and what encrypts them, in no order.
fn fences(node: &Node) -> BTreeSet<String> {
    let shown =
        node.ground.sh("nft list chain inet towpath encrypted; ip route show proto 117; ip -6 route show proto 117; \
         ip -br link show type wireguard");
    shown.lines().map(str::to_owned).collect()
}

/// How many echoes of each pair are watched for what must not be there: a second of them.
const WATCHED: usize = 20;
/// One echo of a pair in this time.
const PACE: Duration = Duration::from_millis(50);

/// No packet between pods is in clear: not before there are keys, not without an agent, and not when somebody takes
/// away what encrypts them.
pub fn sealed_in_every_phase() {
    let network = Network::make();
    let capture = Capture::begin(&network.wire);
    network.start();
    let setting = Setting::of_transport(Transports::only(Transport::WireGuard));
    let told = network.tell(&setting, &BTreeMap::new());
    network.wait(&told);
    let pods: Vec<_> = network.nodes.iter().map(|node| node.attach("pod")).collect();
    let talk = Talk::begin(&pods, PACE);
    let watched = |phase: &str| {
        talk.wait_tried();
        assert_sealed(&capture, phase);
    };
    let answered = |phase: &str| {
        talk.wait_answered(phase, &network);
        assert_sealed(&capture, phase);
    };
    watched("no node knows a key of another");
    let mut keys = network.keys();
    network.wait(&network.tell(&setting, &keys));
    answered("keys were told");
    let first = &network.nodes[0];
    first.kill();
    watched("the agent was killed");
    answered("the agent was killed, later");
    first.start();
    let whole = fences(first);
    // Each of two fences is enough: the next alteration comes when both are there again.
    let healed = |phase: &str| {
        let look = || {
            let missing: Vec<String> = whole.difference(&fences(first)).cloned().collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("without {missing:?}")) }
        };
        wait_for(&format!("{phase}: healing"), || network.tell_all(), look);
        answered(phase);
    };
    for (what, line) in ALTERATIONS {
        first.ground.sh(line);
        healed(&format!("{what}, under an agent"));
        first.kill();
        first.ground.sh(line);
        watched(&format!("{what}, without an agent"));
        first.start();
        healed(&format!("{what}, and the agent was started again"));
    }
    keys.remove(&network.nodes[1].name());
    network.wait(&network.tell(&setting, &keys));
    watched("nobody knows the key of one node any more");
    network.wait(&network.tell(&setting, &network.keys()));
    answered("the key was told again");
    talk.end();
    for pod in pods {
        pod.detach();
    }
}

/// How old keys become, in seconds: nodes that are emulated take several of them for each change.
const ROTATION: u32 = 30;
/// How often every key is to change.
const CHANGES: usize = 2;

/// Keys change under steady traffic, and no packet is lost.
pub fn keys_change_without_loss() {
    let network = Network::make();
    network.start();
    let mut transport = Transports::only(Transport::WireGuard);
    transport.tunnels.wire_guard.rotation_seconds = Some(ROTATION);
    let setting = Setting::of_transport(transport);
    network.settle(&setting);
    let pods: Vec<_> = network.nodes.iter().map(|node| node.attach("pod")).collect();
    for (a, b) in PAIRS {
        for family in Family::ALL {
            probe::settle(&pods[a], &pods[b], family).unwrap();
        }
    }
    // Six streams: over 200 packets in a second, there and back.
    let talk = Talk::begin(&pods, PACE);
    let mut told = network.keys();
    let mut changes: BTreeMap<(NodeName, Slot), usize> = BTreeMap::new();
    let every = network.nodes.len() * Slot::ALL.len();
    let end = Instant::now() + Duration::from_secs(u64::from(ROTATION)) * 15;
    while changes.len() < every || changes.values().any(|count| *count < CHANGES) {
        assert!(Instant::now() < end, "keys did not change: {changes:?}\n{}", network.tell_all());
        talk.wait_answered("the last look at the keys", &network);
        let now = network.keys();
        for (name, slot) in network.nodes.iter().flat_map(|node| Slot::ALL.map(|slot| (node.name(), slot))) {
            if now[&name].of(slot) != told[&name].of(slot) {
                *changes.entry((name, slot)).or_default() += 1;
            }
        }
        if now != told {
            network.tell(&setting, &now);
            told = now;
        }
    }
    let counts = talk.end();
    println!("keys changed: {changes:?}; packets: {counts:?}");
    for count in counts {
        assert_eq!(count.answered, count.sent, "packets were lost while keys changed");
    }
    for pod in pods {
        pod.detach();
    }
}
