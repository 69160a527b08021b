//! Nobody speaks for another: what pods send in the name of others, of real pods as the binary attaches them.
//!
//! Each forgery is tried with the rules, without them (and then it succeeds), and with them again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[macro_use]
mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use rustix::net::sockopt::set_ipv6_unicast_hops;
use rustix::net::{AddressFamily, SendFlags, SocketType, bind, ipproto, sendto, socket};
use serde_json::json;
use support::{Call, DEADLINE, add, config, converge_to, del, leases, netns, node_of, node_state_of, ping, sh, traces};
use towpath_kernel::netns::Namespace;
use towpath_kernel::testing::isolated;
use towpath_net::Family;
use towpath_net::lease::{Lease, host_interface};
use towpath_net::state::{Attachment, NodeState};

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
const PORT: u16 = 7777;
/// Of each family: the node on its uplink, who is there, and nobody at all.
const NODE: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
const OUTSIDE: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
const NOBODY: [&str; 2] = ["198.51.100.7", "2001:db8:1::7"];

/// A node with an uplink and three pods.
fn make(mode: Attachment) -> NodeState {
    for place in ["all", "default"] {
        sh(&format!("sysctl -qw net.ipv4.conf.{place}.rp_filter=0"));
    }
    node_of(mode, &DUAL);
    let state = node_state_of(mode, &DUAL);
    converge_to(&state);
    sh("ip netns add outside; ip link add eth0 type veth peer name eth0 netns outside");
    sh("ip link set eth0 up; ip -n outside link set eth0 up");
    for ((node, outside), length) in NODE.into_iter().zip(OUTSIDE).zip([24, 64]) {
        sh(&format!(
            "ip addr add {node}/{length} dev eth0 nodad; ip -n outside addr add {outside}/{length} dev eth0 nodad"
        ));
        sh(&format!("ip -n outside route add default via {node}"));
    }
    for pod in ["a", "b", "c"] {
        add(pod);
    }
    state
}

fn lease(pod: &str) -> Lease {
    leases().into_iter().find(|lease| lease.container_id == pod).unwrap()
}

fn address(pod: &str, family: Family) -> IpAddr {
    let held = lease(pod).addresses.into_iter().map(|leased| leased.address.addr());
    held.into_iter().find(|address| Family::of(*address) == family).unwrap()
}

fn of(family: Family, both: [&str; 2]) -> IpAddr {
    both[usize::from(family == Family::V6)].parse().unwrap()
}

fn inside<T: Send>(pod: &str, function: impl FnOnce() -> T + Send) -> T {
    Namespace::open(format!("/run/netns/{pod}")).unwrap().run(function).unwrap()
}

/// What listens in a namespace; the node itself has no name.
fn listen(place: &str) -> UdpSocket {
    let open = || UdpSocket::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
    let listener = if place.is_empty() { open() } else { inside(place, open) };
    listener.set_read_timeout(Some(DEADLINE)).unwrap();
    listener
}

/// Whether anything arrives of what is sent: told from a packet of pod `a` behind it, from its own address.
fn heard(listener: &UdpSocket, to: IpAddr, send: impl FnOnce()) -> bool {
    send();
    send_from(address("a", Family::of(to)), to, b"own");
    let mut buffer = [0; 8000];
    let mut arrived = false;
    loop {
        let length = listener.recv(&mut buffer).unwrap();
        match &buffer[..length] {
            b"own" => return arrived,
            _ => arrived = true,
        }
    }
}

fn send_from(from: IpAddr, to: IpAddr, words: &[u8]) {
    inside("a", || UdpSocket::bind((from, 0)).unwrap().send_to(words, (to, PORT)).unwrap());
}

/// Whether a packet of pod `a` arrives that says it is from somebody else.
fn forged(listener: &UdpSocket, from: IpAddr, to: IpAddr, length: usize) -> bool {
    let host = if from.is_ipv4() { "32" } else { "128" };
    sh(&format!("ip -n a addr add {from}/{host} dev eth0 nodad"));
    let arrived = heard(listener, to, || send_from(from, to, &vec![b'f'; length]));
    sh(&format!("ip -n a addr del {from}/{host} dev eth0"));
    arrived
}

/// Takes the rules away.
fn open_all(mode: Attachment) {
    sh("nft flush chain inet towpath from-pods");
    if mode == Attachment::Bridge {
        sh("nft flush chain bridge towpath bridged-frames");
    }
}

fn addresses_of_others(mode: Attachment) {
    let state = make(mode);
    assert_eq!(converge_to(&state), Vec::<String>::new(), "the agent wants something else than the binary wrote");
    let listeners = ["b", "", "outside"].map(listen);
    let targets = |family| [address("b", family), of(family, NODE), of(family, OUTSIDE)];
    let all = |expected: bool, when: &str| {
        for family in Family::ALL {
            for (listener, to) in listeners.iter().zip(targets(family)) {
                ping("ip netns exec a", &to.to_string());
                for from in [address("c", family), of(family, NOBODY)] {
                    for length in [100, 4000] {
                        assert_eq!(forged(listener, from, to, length), expected, "{from} to {to}, {length} {when}");
                    }
                }
                let own = || send_from(address("a", family), to, &[b'f'; 4000]);
                assert!(heard(listener, to, own), "its own fragments to {to} {when}");
            }
        }
    };
    all(false, "with the rules");
    open_all(mode);
    all(true, "without them");
    converge_to(&state);
    all(false, "with them again");
}
in_every_mode!(packets_from_addresses_of_others_reach_nobody, "", addresses_of_others);

fn ethernet_addresses_of_others(mode: Attachment) {
    let state = make(mode);
    let listener = listen("");
    let reaches = || {
        Family::ALL.map(|family| {
            let to = of(family, NODE);
            ping("ip netns exec a", &to.to_string());
            heard(&listener, to, || {
                sh("ip netns exec a nft 'table netdev forged {
                    chain out {
                        type filter hook egress device eth0 priority 0
                        udp dport 7777 ether saddr set 02:00:00:00:00:07
                    }
                }'");
                send_from(address("a", family), to, b"forged");
                sh("ip netns exec a nft delete table netdev forged");
            })
        })
    };
    assert_eq!(reaches(), [false; 2]);
    open_all(mode);
    // Ports of the bridge take no others anyway.
    assert_eq!(reaches(), [mode != Attachment::Bridge; 2]);
    converge_to(&state);
    assert_eq!(reaches(), [false; 2]);
}
in_every_mode!(packets_from_ethernet_addresses_of_others_reach_nobody, "", ethernet_addresses_of_others);

/// Makes pod `b` know where pod `c` is, has `a` say something else, and tells whether `b` believes it.
fn believed(family: Family, say: impl FnOnce()) -> bool {
    let victim = address("c", family);
    sh("ip -n b neigh flush dev eth0");
    ping("ip netns exec b", &victim.to_string());
    let known = || sh(&format!("ip -n b neigh show {victim} dev eth0"));
    assert!(known().contains(&lease("c").macs().pod.to_string()), "{}", known());
    say();
    // What was said before has been dealt with when this is answered.
    ping("ip netns exec a", &address("b", family).to_string());
    known().contains(&lease("a").macs().pod.to_string())
}

/// Asks for pod `b` as if it were `c` (RFC 826), and says so to everybody without being asked (RFC 5227, section 1.2).
fn arp() -> [bool; 2] {
    let (mine, victim) = (address("b", Family::V4), address("c", Family::V4));
    let asking = believed(Family::V4, || {
        sh(&format!("ip -n a addr add {victim}/32 dev eth0; ip -n a neigh flush dev eth0"));
        sh(&format!("ip netns exec a ping -n -c 1 -W 1 -I {victim} {mine} || true"));
        sh(&format!("ip -n a addr del {victim}/32 dev eth0"));
    });
    let telling = believed(Family::V4, || {
        sh(&format!(
            "ip netns exec a sysctl -qw net.ipv4.conf.eth0.arp_notify=1; ip -n a addr add {victim}/32 dev eth0"
        ));
        sh(&format!("ip -n a link set eth0 address {}", lease("a").macs().pod));
        sh(&format!(
            "ip -n a addr del {victim}/32 dev eth0; ip netns exec a sysctl -qw net.ipv4.conf.eth0.arp_notify=0"
        ));
    });
    [asking, telling]
}

/// Says where `c` is (RFC 4861, section 4.4), from its own address and from that of `c`.
fn advertisements() -> [bool; 2] {
    let victim = address("c", Family::V6);
    let say = |from: IpAddr| {
        let IpAddr::V6(target) = victim else { unreachable!() };
        // Solicited or not, it is to be taken instead of what was known; and the Ethernet address of `a`.
        let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
        message.extend(target.octets());
        message.extend([2, 1]);
        message.extend(lease("a").macs().pod.0);
        inside("a", || {
            let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
            set_ipv6_unicast_hops(&raw, Some(255)).unwrap();
            bind(&raw, &SocketAddr::new(from, 0)).unwrap();
            sendto(&raw, &message, SendFlags::empty(), &SocketAddr::new(address("b", Family::V6), 0)).unwrap();
        });
    };
    let own = believed(Family::V6, || say(address("a", Family::V6)));
    let others = believed(Family::V6, || {
        sh(&format!("ip -n a addr add {victim}/128 dev eth0 nodad"));
        say(victim);
        sh(&format!("ip -n a addr del {victim}/128 dev eth0"));
    });
    [own, others]
}

#[test]
fn a_pod_behind_the_bridge_is_not_believed_that_it_has_the_address_of_another() {
    isolated("a_pod_behind_the_bridge_is_not_believed_that_it_has_the_address_of_another", || {
        let state = make(Attachment::Bridge);
        for pod in ["b", "c"] {
            for family in Family::ALL {
                ping("ip netns exec a", &address(pod, family).to_string());
            }
        }
        assert_eq!((arp(), advertisements()), ([false; 2], [false; 2]));
        open_all(Attachment::Bridge);
        assert_eq!((arp(), advertisements()), ([true; 2], [true; 2]));
        converge_to(&state);
        assert_eq!((arp(), advertisements()), ([false; 2], [false; 2]));
    });
}

#[test]
fn what_a_pod_needs_before_it_has_an_address_and_to_find_others_goes_through() {
    isolated("what_a_pod_needs_before_it_has_an_address_and_to_find_others_goes_through", || {
        make(Attachment::Bridge);
        // Its link-local address anew, with all that the kernel says of it.
        sh("ip -n a link set eth0 addrgenmode none; ip -n a link set eth0 addrgenmode eui64");
        for target in ["b", "c"] {
            sh("ip -n a neigh flush dev eth0");
            for family in Family::ALL {
                ping("ip netns exec a", &address(target, family).to_string());
            }
        }
        let refused = sh("nft list chain inet towpath from-pods; nft list chain inet towpath nameless; \
                          nft list chain inet towpath neighbours; nft list chain bridge towpath bridged-frames");
        let counted = refused.lines().filter(|line| line.contains("counter packets"));
        assert!(counted.clone().all(|line| line.contains("counter packets 0 ")), "{refused}");
        assert_eq!(counted.count(), 4);
    });
}

/// What is limited goes by another device before IP sees it.
fn limited(mode: Attachment) {
    make(mode);
    let mut config = config();
    config["runtimeConfig"] = json!({"bandwidth": {"egressRate": 8_000_000, "egressBurst": 80_000_000}});
    Call::of("ADD", "d", &netns("d")).config(&config).succeed();
    for family in Family::ALL {
        for to in [of(family, NODE), address("a", family)] {
            ping("ip netns exec d", &to.to_string());
        }
    }
}
in_every_mode!(a_pod_whose_packets_are_limited_is_known_all_the_same, "", limited);

fn traces_of_all(mode: Attachment) {
    let state = make(mode);
    del("c");
    let before = traces();
    sh("ip netns del c");
    add("c");
    assert!(sh("nft list table inet towpath").contains(&host_or_bridge(mode, "c")));
    // A table of before there were these sets, and none at all, hinder no pod.
    for without in ["nft delete set inet towpath senders-v4", "nft delete table inet towpath"] {
        del("c");
        sh("ip netns del c");
        if without.contains("set") {
            open_all(mode);
        }
        sh(without);
        add("c");
        ping("ip netns exec c", &of(Family::V4, NODE).to_string());
    }
    converge_to(&state);
    ping("ip netns exec c", &of(Family::V4, NODE).to_string());
    del("c");
    assert_eq!(traces(), before);
}
in_every_mode!(what_the_table_has_of_a_pod_comes_and_goes_with_it_also_without_a_table, "", traces_of_all);

fn host_or_bridge(mode: Attachment, pod: &str) -> String {
    if mode == Attachment::Bridge { lease(pod).macs().pod.to_string() } else { host_interface(pod, "eth0") }
}
