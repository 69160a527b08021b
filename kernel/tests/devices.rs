//! Links of the node itself on the real kernel: each kind is made, seen as it was made, put right, made anew and removed.
//!
//! `TOWPATH_KINDS` names the kinds to try, with commas: not every kernel has all of them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use towpath_kernel::events::Events;
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, converge, sysctls_of};
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::{isolated, run};
use towpath_net::Family;
use towpath_net::device::{Device, DeviceKind};
use towpath_net::mac::Mac;
use towpath_net::observed::{
    Address, Desired, Encapsulation, Forwarding, Neighbour, Nexthop, NexthopId, Observed, Station, Sysctl, Target,
};
use towpath_net::ops::Op;

/// What this kernel is taken to have where nobody says otherwise.
const KINDS: &str = "bridge,vxlan,vxlan6";
const NODE: Ipv4Addr = Ipv4Addr::new(172, 16, 30, 3);

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A device of a kind, by the name that a node has it by.
fn device(kind: &str) -> (&'static str, Device) {
    let plain = |kind, mac| Device { kind, mac, mtu: 1400, up: true };
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let vxlan = |local: IpAddr| DeviceKind::Vxlan { vni: 4096, port: 4789, local };
    match kind {
        "bridge" => ("towbr0", plain(DeviceKind::Bridge, mac)),
        "vxlan" => ("towvxlan4", plain(vxlan(NODE.into()), mac)),
        "vxlan6" => ("towvxlan6", plain(vxlan(address("fd00:30::3")), mac)),
        "ipip" => ("towipip4", plain(DeviceKind::Ipip { local: NODE }, None)),
        "ip6tnl" => ("towipip6", plain(DeviceKind::Ip6Tnl, None)),
        "geneve" => ("towgeneve", plain(DeviceKind::Geneve { port: 6081 }, mac)),
        "wireguard" => ("towwg0", plain(DeviceKind::WireGuard, None)),
        other => panic!("TOWPATH_KINDS: no kind {other:?}"),
    }
}

/// What a node has on such a device, and what leads to it.
fn desired(kind: &str) -> Desired {
    let (name, device) = device(kind);
    let mut desired = Desired {
        devices: BTreeMap::from([(name.to_owned(), device)]),
        addresses: BTreeSet::from(
            ["10.244.3.0/32", "fd00:244:0:3::/128"].map(|a| Address { link: name.into(), address: net(a) }),
        ),
        sysctls: BTreeMap::from([(Sysctl::of_link(Family::V4, name, "rp_filter"), "2".to_owned())]),
        ..Desired::default()
    };
    for (peer, to, gateway) in [(4, "10.244.4.0/24", "10.244.4.0"), (5, "fd00:244:0:5::/64", "fe80::5")] {
        let (mac, node) = (Mac([2, 0, 0, 0, 0, peer]), format!("172.16.30.{peer}"));
        let outer = if kind == "vxlan6" { format!("fd00:30::{peer}") } else { node.clone() };
        let gateway = address(if kind == "ipip" { &node } else { gateway });
        match kind {
            "vxlan" | "vxlan6" => {
                let station = Station { link: name.into(), mac };
                desired.stations.insert(station, Forwarding::To(address(&outer)));
                desired.neighbours.insert(Neighbour { link: name.into(), address: gateway }, mac);
            }
            "geneve" => _ = desired.neighbours.insert(Neighbour { link: name.into(), address: gateway }, mac),
            _ => {}
        }
        let target = match (kind, peer) {
            ("bridge" | "wireguard", _) => Target::Link { link: name.into() },
            // IPv4 in IPv4, and IPv6 in IPv6.
            ("ipip", 5) | ("ip6tnl", 4) => continue,
            _ => Target::Via(way(kind, name, peer, gateway)),
        };
        desired.routes.insert(net(to), target);
    }
    desired
}

fn way(kind: &str, link: &str, peer: u8, gateway: IpAddr) -> Nexthop {
    let outer = |vni, prefix: &str| Encapsulation {
        vni,
        source: address(&format!("{prefix}3")),
        destination: address(&format!("{prefix}{peer}")),
    };
    let encapsulation = match (kind, peer) {
        ("ip6tnl", _) => Some(outer(0, "fd00:30::")),
        ("geneve", 4) => Some(outer(4096, "172.16.30.")),
        // Pods of one family between node addresses of the other.
        ("geneve", _) => Some(outer(4096, "fd00:30::")),
        _ => None,
    };
    let id = NexthopId(NexthopId::FIRST + u32::from(peer));
    Nexthop { id, gateway, link: link.into(), on_link: true, encapsulation }
}

struct Node {
    kernel: HostKernel,
    desired: Desired,
}

impl Node {
    fn make(kind: &str) -> Self {
        run("ip link add eth0 type veth peer name wire");
        run("ip address add 172.16.30.3/24 dev eth0");
        run("ip address add fd00:30::3/64 dev eth0 nodad");
        run("ip link set eth0 up");
        run("ip link set wire up");
        Self { kernel: HostKernel::open(Sysctls::below(ROOT)).unwrap(), desired: desired(kind) }
    }

    fn observe(&mut self) -> Observed {
        self.kernel.observe(&sysctls_of(&self.desired)).unwrap()
    }

    /// Converges, and sees that all that is wanted is there, and nothing is left to do.
    #[track_caller]
    fn converge(&mut self, because: &str) -> Vec<Op> {
        let seen = self.observe();
        let report = converge(&mut self.kernel, &self.desired, &seen);
        assert!(report.failed.is_empty() && report.conflicts.is_empty(), "{because}: {report:?}");
        let seen = self.observe();
        assert_eq!(seen.devices, self.desired.devices, "{because}");
        assert_eq!(seen.addresses, self.desired.addresses, "{because}");
        assert_eq!(seen.neighbours, self.desired.neighbours, "{because}");
        assert_eq!(seen.stations, self.desired.stations, "{because}");
        assert_eq!(seen.sysctls, self.desired.sysctls, "{because}");
        let routes: BTreeMap<IpNet, Target> = seen.routes.iter().map(|r| (r.destination, r.target)).collect();
        assert_eq!(routes, self.desired.routes, "{because}");
        let again = converge(&mut self.kernel, &self.desired, &seen);
        assert!(again.done.is_empty() && again.failed.is_empty(), "{because}: {again:?}");
        report.done
    }
}

/// What somebody may do to a device of a kind.
fn alterations(kind: &str, name: &str) -> Vec<String> {
    let mut lines = vec![
        format!("ip link set {name} down"),
        format!("ip link set {name} mtu 1300"),
        format!("ip link delete {name}"),
        format!("ip address flush dev {name}"),
        format!("ip address add 10.9.9.9/32 dev {name}"),
        format!("sysctl -q -w net.ipv4.conf.{name}.rp_filter=0"),
    ];
    let more: &[&str] = match kind {
        "bridge" => &[
            "ip link set NAME address 02:00:00:00:00:99",
            "ip link set NAME type bridge stp_state 1",
            "ip link set NAME type bridge nf_call_iptables 0",
            "ip link set NAME type bridge mcast_snooping 1",
            "ip neighbour replace 10.244.3.7 lladdr 02:00:00:00:00:07 dev NAME nud permanent",
        ],
        "vxlan" | "vxlan6" => &[
            "ip link set NAME address 02:00:00:00:00:99",
            "ip link set NAME type vxlan learning",
            "ip neighbour delete 10.244.4.0 dev NAME",
            "ip neighbour change 10.244.4.0 lladdr 02:00:00:00:00:44 dev NAME nud permanent",
            "ip neighbour change 10.244.4.0 lladdr 02:00:00:00:00:04 dev NAME nud reachable",
            "ip neighbour add 10.244.9.0 lladdr 02:00:00:00:00:09 dev NAME nud permanent",
            "bridge fdb delete 02:00:00:00:00:04 dev NAME self",
            "bridge fdb replace 02:00:00:00:00:04 dev NAME dst OTHER self permanent",
            "bridge fdb add 02:00:00:00:00:99 dev NAME dst OTHER self permanent",
            "bridge fdb append 00:00:00:00:00:00 dev NAME dst OTHER self permanent",
        ],
        "geneve" => &["ip link set NAME address 02:00:00:00:00:99", "ip neighbour flush dev NAME nud permanent"],
        "ipip" => &["ip link set NAME type ipip ttl 12"],
        _ => &[],
    };
    let other = if kind == "vxlan6" { "fd00:30::9" } else { "172.16.30.9" };
    lines.extend(more.iter().map(|line| line.replace("NAME", name).replace("OTHER", other)));
    if !matches!(kind, "bridge" | "wireguard") {
        lines.push("ip nexthop flush proto 117".to_owned());
    }
    lines
}

fn live_of(kind: &str) {
    let mut node = Node::make(kind);
    let (name, _) = device(kind);
    assert!(!node.converge("from nothing").is_empty());
    for line in alterations(kind, name) {
        run(&line);
        assert!(!node.converge(&line).is_empty(), "not seen: {line}");
    }
    // Something else under the name.
    run(&format!("ip link delete {name}"));
    run(&format!("ip link add {name} type veth peer name other"));
    let done = node.converge("something else");
    assert!(done.iter().any(|op| matches!(op, Op::MakeDevice { anew: true, .. })), "{done:?}");
    node.desired = Desired { leaving: true, ..Desired::default() };
    node.converge("leaving");
    assert!(!run("ip -o link").contains(name));
}

#[test]
fn every_kind_is_made_seen_as_it_is_put_right_made_anew_and_removed() {
    isolated("every_kind_is_made_seen_as_it_is_put_right_made_anew_and_removed", || {
        let kinds = env::var("TOWPATH_KINDS").unwrap_or_else(|_| KINDS.to_owned());
        for kind in kinds.split(',') {
            live_of(kind);
            run("ip link delete eth0");
        }
    });
}

#[test]
fn a_kernel_without_a_kind_is_told_by_the_module_that_it_lacks() {
    isolated("a_kernel_without_a_kind_is_told_by_the_module_that_it_lacks", || {
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        // Settings of a kernel whose bridges pass no filters.
        let mut unfiltered = HostKernel::open(Sysctls::below("/run")).unwrap();
        let (name, device) = device("bridge");
        let op = Op::MakeDevice { name: name.to_owned(), device, anew: false };
        let error = unfiltered.apply_all(std::slice::from_ref(&op)).remove(0).unwrap_err();
        assert_eq!(error.to_string(), "this kernel has no filters for bridges (module br_netfilter)");
        assert!(!run("ip -o link").contains(name));
        kernel.apply_all(&[op]).remove(0).unwrap();
    });
}

#[test]
fn events_tell_of_what_is_on_a_nodes_own_links_and_of_no_others() {
    isolated("events_tell_of_what_is_on_a_nodes_own_links_and_of_no_others", || {
        let mut node = Node::make("vxlan");
        node.converge("from nothing");
        let mut events = Events::open([0; 2]).unwrap();
        // The kernel takes its time for what it does by itself to links that come up.
        while run("ip address show").contains("tentative") {
            std::thread::yield_now();
        }
        while events.drain().unwrap() {}
        for foreign in [
            "ip neighbour add 172.16.30.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent",
            "ip neighbour delete 172.16.30.77 dev eth0",
            "ip nexthop add id 7 via 172.16.30.9 dev eth0",
            "ip nexthop delete id 7",
        ] {
            run(foreign);
            assert!(!events.drain().unwrap(), "{foreign}");
        }
        let id = NexthopId::FIRST + 4;
        for ours in [
            "ip neighbour change 10.244.4.0 lladdr 02:00:00:00:00:44 dev towvxlan4 nud permanent".to_owned(),
            "ip neighbour delete 10.244.4.0 dev towvxlan4".to_owned(),
            "bridge fdb delete 02:00:00:00:00:04 dev towvxlan4 self".to_owned(),
            "bridge fdb append 00:00:00:00:00:00 dev towvxlan4 dst 172.16.30.9 self permanent".to_owned(),
            format!("ip nexthop replace id {id} via 172.16.30.9 dev eth0"),
            format!("ip nexthop delete id {id}"),
        ] {
            run(&ours);
            assert!(events.drain().unwrap(), "{ours}");
            while events.drain().unwrap() {}
        }
        run("ip link delete towvxlan4");
        node.converge("anew");
        while events.drain().unwrap() {}
        run("ip neighbour delete 10.244.4.0 dev towvxlan4");
        assert!(events.drain().unwrap(), "a link that came later");
    });
}
