//! A node with a pod, and others on its wire, each in a namespace of its own; what the node lets in and out is as the
//! table has it.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_kernel::nft::Nft;
pub use towpath_kernel::testing::{inside, run};
use towpath_net::family::{PerFamily, host_net};
use towpath_net::lease::{AttachmentId, Lease, LeasedAddress, Phase};
use towpath_net::observed::Surroundings;
use towpath_net::render::render;
use towpath_net::state::{Masquerade, MasqueradeMode, NodeSpec, NodeState, Peer};
use towpath_net::transport::Transports;

/// How long anything may take that is to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The node's own address, and the other node's.
pub const NODE: PerFamily<&str> = PerFamily { v4: "172.16.30.3", v6: "fd00:30::3" };
pub const OTHER: PerFamily<&str> = PerFamily { v4: "172.16.30.4", v6: "fd00:30::4" };
/// The node's end of the pod's pair, and its Ethernet address.
pub const POD_LINK: &str = "tow000000000000";
pub const POD_LINK_MAC: &str = "02:00:00:00:00:01";
/// The pod's own.
const POD_MAC: &str = "02:00:00:00:00:02";
/// The pod's addresses.
pub const POD: PerFamily<&str> = PerFamily { v4: "10.244.3.2", v6: "fd00:244:0:3::2" };

/// Waits until a command succeeds.
pub fn wait_for(line: &str) {
    let end = Instant::now() + PATIENCE;
    let mut words = line.split_whitespace();
    let (program, words) = (words.next().unwrap(), words.collect::<Vec<_>>());
    while !Command::new(program).args(&words).output().unwrap().status.success() {
        assert!(Instant::now() < end, "{line} does not succeed");
    }
}

/// Makes a node with a pod of the namespace of the caller, and others on its wire: their names, and the last number of
/// their addresses. All reach the node; nothing leads to the pod.
pub fn make(others: &[(&str, u8)]) {
    for setting in ["ipv4.ip_forward=1", "ipv6.conf.all.forwarding=1"] {
        run(&format!("sysctl -qw net.{setting}"));
    }
    for place in ["all", "default"] {
        run(&format!("sysctl -qw net.ipv4.conf.{place}.rp_filter=0"));
    }
    run("ip netns add wire");
    run("ip -n wire link add wire0 type bridge");
    run("ip -n wire link set wire0 up");
    join("", "node", 3);
    for (name, last) in others {
        run(&format!("ip netns add {name}"));
        join(&format!("-n {name} "), name, *last);
    }
    run("ip netns add pod");
    run(&format!("ip link add {POD_LINK} address {POD_LINK_MAC} type veth peer name eth0 address {POD_MAC} netns pod"));
    run(&format!("ip link set {POD_LINK} up"));
    for link in ["lo", "eth0"] {
        run(&format!("ip -n pod link set {link} up"));
    }
    run(&format!("ip -n pod address add {}/32 dev eth0", POD.v4));
    run(&format!("ip -n pod address add {}/128 dev eth0 nodad", POD.v6));
    for (name, _) in others {
        for address in [NODE.v4, NODE.v6] {
            wait_for(&format!("ip netns exec {name} ping -c 1 -W 1 {address}"));
        }
    }
}

/// Connects a namespace, which `at` names, to a port of the wire.
fn join(at: &str, port: &str, last: u8) {
    run(&format!("ip {at}link add eth0 type veth peer name {port} netns wire"));
    run(&format!("ip {at}address add 172.16.30.{last}/24 dev eth0"));
    run(&format!("ip {at}address add fd00:30::{last}/64 dev eth0 nodad"));
    for link in ["lo", "eth0"] {
        run(&format!("ip {at}link set {link} up"));
    }
    run(&format!("ip -n wire link set {port} master wire0 up"));
}

/// The pod's.
fn lease() -> Lease {
    let attachment = AttachmentId { container: "pod".to_owned(), interface: "eth0".to_owned() };
    let leased = |address: &str, gateway: &str| LeasedAddress {
        address: host_net(address.parse().unwrap()),
        gateway: gateway.parse().unwrap(),
    };
    Lease {
        host_interface: POD_LINK.to_owned(),
        phase: Phase::Ready,
        addresses: vec![leased(POD.v4, "169.254.1.1"), leased(POD.v6, "fe80::1")],
        mac: POD_MAC.parse().ok(),
        ..Lease::unknown(&attachment)
    }
}

/// Gives the node its table: it is n3, and n4 its only peer.
pub fn close(transport: Transports, pod_ranges: &[&str]) {
    let addresses = |of: PerFamily<&str>| [of.v4, of.v6].map(|text| text.parse::<IpAddr>().unwrap()).to_vec();
    let nets = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect::<Vec<IpNet>>();
    let pod_cidrs = nets(&["10.244.4.0/24", "fd00:244:0:4::/64"]);
    let peer = Peer { addresses: addresses(OTHER), pod_cidrs, accepts: transport.accepts.clone(), keys: None };
    let spec = NodeSpec {
        transport,
        pod_ranges: nets(pod_ranges),
        masquerade: Masquerade { mode: MasqueradeMode::LeavingCluster, excluded: Vec::new() },
        ..NodeSpec::plain(addresses(NODE), nets(&["10.244.3.0/24", "fd00:244:0:3::/64"]))
    };
    let state = NodeState { node: "n3".into(), spec, peers: [("n4".into(), peer)].into() };
    let table = render(&state, &[lease()], &Surroundings::default(), None).desired.table.unwrap();
    Nft::open().unwrap().replace(&table).unwrap();
}
