//! The real kernel, in namespaces of its own: what is planned can be done, is seen again, and is healed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use towpath_kernel::events::Events;
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel, Report, converge, sysctls_of};
use towpath_kernel::nft::Nft;
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::{isolated, run};
use towpath_net::bandwidth::{Bandwidth, Limit};
use towpath_net::lease::{HostPort, Lease, LeasedAddress, Phase, Protocol};
use towpath_net::observed::{Desired, Observed, Surroundings};
use towpath_net::render::{render, render_nothing};
use towpath_net::state::{Attachment, Masquerade, MasqueradeMode, NodeName, NodeSpec, NodeState};

/// Waits until the kernel has taken note of links that came up, and has given them their addresses: it does both in its
/// own time.
fn settle(links: &[&str]) {
    let end = Instant::now() + Duration::from_secs(60);
    let settled = |link: &&str| {
        let state = run(&format!("ip link show {link}"));
        !state.contains("DOWN") && !run(&format!("ip address show {link}")).contains("tentative")
    };
    while !links.iter().all(settled) {
        assert!(Instant::now() < end, "links do not settle: {}", run("ip address"));
        std::thread::yield_now();
    }
}

fn spec(n: u8) -> NodeSpec {
    let addresses = vec![IpAddr::from([172, 16, 30, n]), format!("fd00:30::{n}").parse().unwrap()];
    let pod_cidrs =
        ["10.244.N.0/24", "fd00:244:0:N::/64"].map(|cidr| cidr.replace('N', &n.to_string()).parse().unwrap());
    NodeSpec {
        masquerade: Masquerade {
            mode: MasqueradeMode::LeavingCluster,
            excluded: vec!["192.168.0.0/16".parse().unwrap(), "255.0.0.0/8".parse().unwrap()],
        },
        ..NodeSpec::plain(addresses, pod_cidrs.into())
    }
}

fn lease() -> Lease {
    let port = |host_ip: Option<&str>, host_port, protocol| HostPort {
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        container_port: 80,
        protocol,
    };
    Lease {
        network: "towpath".to_owned(),
        container_id: "5b1f".to_owned(),
        interface: "eth0".to_owned(),
        netns: String::new(),
        host_interface: "tow000000000000".to_owned(),
        phase: Phase::Ready,
        mode: Attachment::Routed,
        addresses: vec![
            LeasedAddress { address: "10.244.3.2/24".parse().unwrap(), gateway: "10.244.3.1".parse().unwrap() },
            LeasedAddress {
                address: "fd00:244:0:3::2/64".parse().unwrap(),
                gateway: "fd00:244:0:3::1".parse().unwrap(),
            },
        ],
        mtu: 1400,
        mac: None,
        host_ports: vec![
            port(None, 8080, Protocol::Tcp),
            port(Some("127.0.0.1"), 8081, Protocol::Udp),
            port(Some("fd00:30::3"), 8081, Protocol::Udp),
        ],
        loopback_ports: vec![port(Some("127.0.0.1"), 8080, Protocol::Tcp), port(Some("::1"), 8080, Protocol::Tcp)],
        bandwidth: Some(Bandwidth { ingress: None, egress: Some(Limit { rate: 8_000_000, burst: None }) }),
        pod: None,
    }
}

fn desired(around: &Surroundings) -> Desired {
    let nodes: Vec<(NodeName, NodeSpec)> = (1..6).map(|n| (NodeName(format!("n{n}")), spec(n))).collect();
    let state =
        NodeState::assemble(&NodeName::from("n3"), nodes.iter().map(|(name, spec)| (name, spec, None))).unwrap();
    let rendered = render(&state, &[lease()], around, None);
    assert_eq!(rendered.obstacles, []);
    rendered.desired
}

/// A node with an uplink and one pod's pair of links.
struct Node {
    kernel: HostKernel,
    desired: Desired,
}

impl Node {
    fn make() -> Self {
        run("ip link add eth0 type veth peer name wire");
        run("ip link add tow000000000000 type veth peer name pod0");
        run(&format!("ip link add {} type ifb", lease().attachment().shaper()));
        run("ip address add 172.16.30.3/24 dev eth0");
        run("ip address add fd00:30::3/64 dev eth0 nodad");
        run("ip link set eth0 up");
        run("ip link set wire up");
        run("ip link set pod0 up");
        settle(&["eth0", "wire"]);
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        let around = kernel.observe(&BTreeSet::new()).unwrap().surroundings;
        Self { kernel, desired: desired(&around) }
    }

    fn observe(&mut self) -> Observed {
        self.kernel.observe(&sysctls_of(&self.desired)).unwrap()
    }

    fn converge(&mut self) -> Report {
        let seen = self.observe();
        converge(&mut self.kernel, &self.desired, &seen)
    }

    #[track_caller]
    fn assert_converged(&mut self) {
        let writes = self.kernel.writes();
        let report = self.converge();
        assert!(report.done.is_empty() && report.failed.is_empty(), "{report:?}");
        assert_eq!(self.kernel.writes(), writes, "a correct kernel was written to");
    }
}

#[test]
fn a_node_gets_all_that_was_rendered_and_a_correct_one_is_not_written_to() {
    isolated("a_node_gets_all_that_was_rendered_and_a_correct_one_is_not_written_to", || {
        let mut node = Node::make();
        let report = node.converge();
        assert!(report.failed.is_empty() && report.conflicts.is_empty(), "{report:?}");
        node.assert_converged();
        let mut fresh = Node { kernel: HostKernel::open(Sysctls::below(ROOT)).unwrap(), desired: node.desired };
        fresh.assert_converged();
        assert_eq!(fresh.kernel.writes(), 0);
    });
}

#[test]
fn whatever_is_altered_by_hand_comes_back() {
    isolated("whatever_is_altered_by_hand_comes_back", || {
        let mut node = Node::make();
        node.converge();
        let shaper = lease().attachment().shaper();
        for alteration in [
            &format!("ip link set {shaper} down"),
            &format!("ip link set {shaper} mtu 1300"),
            "ip -6 route delete local ::1 dev tow000000000000 table local",
            "nft flush chain inet towpath guard",
            "nft delete element inet towpath hostports-by-address-v6 { ::1 . tcp . 8080 }",
            "ip route delete 10.244.4.0/24",
            "ip nexthop flush proto 117",
            "ip route replace 10.244.4.0/24 via 172.16.30.5 proto 117",
            "ip -6 route delete fd00:244:0:4::/64",
            "ip -6 route replace fd00:244:0:4::/64 via fd00:30::5 proto 117",
            "ip route delete blackhole 10.244.3.0/24",
            "ip route add 10.99.0.0/24 via 172.16.30.5 proto 117",
            "ip route append 10.244.4.0/24 via 172.16.30.5 proto 117",
            "ip route replace 10.244.4.0/24 proto 117 nexthop via 172.16.30.4 nexthop via 172.16.30.5",
            "ip route delete 10.244.3.2",
            "ip address delete 10.244.3.1/32 dev tow000000000000",
            "ip -6 address delete fd00:244:0:3::1/128 dev tow000000000000",
            "ip address add 10.9.9.9/32 dev tow000000000000",
            "ip link set tow000000000000 down",
            "ip link set tow000000000000 mtu 1300",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "sysctl -q -w net.ipv6.conf.all.forwarding=0",
            "nft add rule inet towpath output accept",
            "nft insert rule inet towpath output counter",
            "nft flush chain inet towpath postrouting",
            "nft chain inet towpath output { policy drop ; }",
            "nft add chain inet towpath another",
            "nft add set inet towpath another { type mark ; }",
            "nft add element inet towpath pods-v4 { 1.2.3.0/24 }",
            "nft delete element inet towpath hostports-v4 { tcp . 8080 }",
            "nft add table inet towpath { flags dormant ; }",
            "nft delete table inet towpath",
        ] {
            run(alteration);
            let report = node.converge();
            assert!(!report.done.is_empty(), "not seen: {alteration}");
            assert!(report.failed.is_empty(), "{alteration}: {report:?}");
            // What went with a link that was down comes back in the same pass.
            node.assert_converged();
        }
    });
}

#[test]
fn a_foreign_route_in_the_way_is_reported_and_left_alone() {
    isolated("a_foreign_route_in_the_way_is_reported_and_left_alone", || {
        let mut node = Node::make();
        run("ip route add 10.244.4.0/24 via 172.16.30.9 proto static");
        let report = node.converge();
        assert_eq!(report.conflicts, ["10.244.4.0/24".parse().unwrap()]);
        assert!(report.failed.is_empty(), "{report:?}");
        assert_eq!(run("ip route show 10.244.4.0/24"), "10.244.4.0/24 via 172.16.30.9 dev eth0 proto static \n");
    });
}

#[test]
fn a_node_that_is_left_is_as_it_was() {
    isolated("a_node_that_is_left_is_as_it_was", || {
        let mut node = Node::make();
        run("ip link delete tow000000000000");
        run(&format!("ip link delete {}", lease().attachment().shaper()));
        node.desired = desired(&node.observe().surroundings);
        run("ip route add 10.50.0.0/16 via 172.16.30.9 proto static");
        run("nft add table inet foreign");
        let state = || ["ip link", "ip address", "ip route", "ip -6 route", "ip rule", "nft list ruleset"].map(run);
        let before = state();
        let settings = node.observe().sysctls;
        node.converge();
        assert_ne!(state(), before);
        node.desired = render_nothing(settings.clone());
        let report = node.converge();
        assert!(report.failed.is_empty(), "{report:?}");
        assert_eq!(state(), before);
        assert_eq!(node.observe().sysctls, settings);
    });
}

#[test]
fn host_ports_are_opened_and_closed_any_number_of_times() {
    isolated("host_ports_are_opened_and_closed_any_number_of_times", || {
        let mut node = Node::make();
        let mut nft = Nft::open().unwrap();
        nft.dismiss(&lease()).unwrap();
        node.converge();
        let full = nft.read().unwrap();
        nft.dismiss(&lease()).unwrap();
        nft.dismiss(&lease()).unwrap();
        assert_ne!(nft.read().unwrap(), full);
        nft.admit(&lease()).unwrap();
        nft.admit(&lease()).unwrap();
        assert_eq!(nft.read().unwrap(), full);
    });
}

#[test]
fn events_tell_of_changes_to_what_is_ours_and_not_of_foreign_tables() {
    isolated("events_tell_of_changes_to_what_is_ours_and_not_of_foreign_tables", || {
        let mut node = Node::make();
        node.converge();
        settle(&["tow000000000000", "pod0"]);
        let mut events = Events::open([0; 2]).unwrap();
        assert!(!events.drain().unwrap());
        for change in [
            "ip route delete 10.244.4.0/24",
            "ip link set tow000000000000 mtu 1300",
            "sysctl -q -w net.ipv4.ip_forward=0",
            "sysctl -q -w net.ipv6.conf.all.forwarding=0",
            "nft flush chain inet towpath postrouting",
            "nft delete table inet towpath",
        ] {
            run(change);
            assert!(events.drain().unwrap(), "{change}");
            while events.drain().unwrap() {}
        }
        run("nft add table inet foreign");
        run("nft add chain inet foreign other");
        assert!(!events.drain().unwrap());
    });
}
