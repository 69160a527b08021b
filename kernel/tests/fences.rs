//! What the table keeps from the wire, and from pods: real packets of a pod, its node, and another node.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket, sockopt};
use support::{NODE, OTHER, PATIENCE, POD, POD_LINK, inside, run, wait_for};
use towpath_kernel::testing::isolated;
use towpath_net::transport::{Transport, Transports};

const PORT: u16 = 7777;
/// Of each family: the node, the other node, a pod there, and an address outside behind it.
const NODES: [[&str; 4]; 2] =
    [[NODE.v4, OTHER.v4, "10.244.4.9", "10.99.0.9"], [NODE.v6, OTHER.v6, "fd00:244:0:4::9", "fd00:99::9"]];

/// This namespace becomes a node with a pod, and a plain route to the pods of another.
fn make() {
    support::make(&[("other", 4)]);
    run(&format!("ip address add 169.254.1.1/32 dev {POD_LINK}"));
    run(&format!("ip address add fe80::1/128 dev {POD_LINK} nodad"));
    for [node, other, pod, outside] in NODES {
        run(&format!("ip -n other address add {pod} dev lo nodad"));
        run(&format!("ip -n other address add {outside} dev lo nodad"));
        let is_v4 = node.contains('.');
        let gateway = if is_v4 { "169.254.1.1" } else { "fe80::1" };
        run(&format!("ip -n pod route add default via {gateway} dev eth0 onlink"));
        let (here, there) = if is_v4 { (POD.v4, "10.244.4.0/24") } else { (POD.v6, "fd00:244:0:4::/64") };
        run(&format!("ip route add {here} dev {POD_LINK}"));
        run(&format!("ip -n other route add {here} via {node}"));
        run(&format!("ip route add {there} via {other}"));
        run(&format!("ip route add {outside} via {other} mtu 1300"));
        for address in [other, outside] {
            wait_for(&format!("ip netns exec pod ping -c 1 -W 1 {address}"));
        }
    }
}

fn put(transport: Transport) {
    support::close(Transports::only(transport), &["10.244.0.0/16", "fd00:244::/48"]);
}

/// What listens on the other node at every address it has.
fn listen(port: u16) -> UdpSocket {
    let socket = inside("other", || UdpSocket::bind(("::", port)).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Whether a packet of the pod arrives there: told from one behind it that always does.
fn arrives(listener: &UdpSocket, to: SocketAddr, marker: SocketAddr) -> bool {
    inside("pod", || {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.send_to(b"first", to).unwrap();
        socket.send_to(b"marker", marker).unwrap();
    });
    let (mut arrived, mut buffer) = (false, [0; 100]);
    loop {
        let len = listener.recv(&mut buffer).unwrap();
        match &buffer[..len] {
            b"marker" => return arrived,
            _ => arrived = true,
        }
    }
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

#[test]
fn what_is_for_pods_of_other_nodes_does_not_leave_in_clear_by_whatever_route() {
    isolated("what_is_for_pods_of_other_nodes_does_not_leave_in_clear_by_whatever_route", || {
        make();
        let listener = listen(PORT);
        for [_, _, pod, outside] in NODES {
            assert!(arrives(&listener, at(pod, PORT), at(outside, PORT)), "{pod} is not even reached without a table");
        }
        put(Transport::WireGuard);
        for [_, _, pod, outside] in NODES {
            assert!(!arrives(&listener, at(pod, PORT), at(outside, PORT)), "{pod} is reached in clear");
            let own = UdpSocket::bind(if pod.contains('.') { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            let refused = own.send_to(b"first", at(pod, PORT)).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::PermissionDenied, "the node itself reaches {pod} in clear");
        }
        // A route by a tunnel that does not encrypt is no better.
        run("ip link add towvxlan4 type vxlan id 1 dstport 4789 remote 172.16.30.4");
        run("ip link set towvxlan4 up");
        run("ip route replace 10.244.4.0/24 dev towvxlan4");
        let own = UdpSocket::bind("0.0.0.0:0").unwrap();
        let refused = own.send_to(b"first", at("10.244.4.9", PORT)).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    });
}

#[test]
fn no_pod_reaches_the_ports_of_tunnels_on_any_node_and_others_outside_it_does() {
    isolated("no_pod_reaches_the_ports_of_tunnels_on_any_node_and_others_outside_it_does", || {
        make();
        let port = 51_820;
        let (listener, marker) = (listen(port), listen(PORT));
        put(Transport::WireGuard);
        let reaches = |to: &str, outside: &str| {
            inside("pod", || {
                let socket = UdpSocket::bind(if to.contains('.') { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
                socket.send_to(b"first", at(to, port)).unwrap();
                socket.send_to(b"marker", at(outside, PORT)).unwrap();
            });
            marker.recv(&mut [0; 100]).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener.recv(&mut [0; 100]).is_ok()
        };
        for [_, other, _, outside] in NODES {
            assert!(reaches(outside, outside), "WireGuard of a pod's own cannot reach {outside}");
            assert!(!reaches(other, outside), "a pod reaches the tunnel of {other}");
        }
        // A service that leads to a tunnel leads to nothing.
        run("nft add table inet service");
        run("nft add chain inet service pre { type nat hook prerouting priority -100 ; }");
        run("nft add rule inet service pre ip daddr 10.96.0.1 udp dport 51820 dnat ip to 172.16.30.4:51820");
        assert!(!reaches("10.96.0.1", NODES[0][3]), "a pod reaches a tunnel by a service");
    });
}

#[test]
fn connections_of_pods_begin_with_segments_that_fit_the_way() {
    isolated("connections_of_pods_begin_with_segments_that_fit_the_way", || {
        make();
        let listener = inside("other", || TcpListener::bind(("::", PORT)).unwrap());
        // The largest segment that the other side would send.
        let largest = |outside: &str| {
            let _pod = inside("pod", || TcpStream::connect_timeout(&at(outside, PORT), PATIENCE).unwrap());
            let (_accepted, from) = listener.accept().unwrap();
            let shown = run(&format!("ip netns exec other ss -Htni dport = :{}", from.port()));
            let segment = |word: &str| word.strip_prefix("mss:").and_then(|size| size.parse::<u32>().ok());
            shown.split_whitespace().filter_map(segment).max().unwrap()
        };
        let fits = |[node, .., outside]: [&str; 4]| {
            let headers = if node.contains('.') { 40 } else { 60 };
            largest(outside) <= 1300 - headers
        };
        assert_eq!(NODES.map(fits), [false; 2], "segments fit anyway");
        put(Transport::Direct);
        assert_eq!(NODES.map(fits), [true; 2]);
    });
}

/// Sends a packet of a pod, with its IP header, to an address.
fn forge(packet: &[u8], to: &str) {
    inside("pod", || {
        let raw = socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)).unwrap();
        sendto(&raw, packet, SendFlags::empty(), &at(to, 0)).unwrap();
    });
}

#[test]
fn no_pod_says_that_it_is_the_loopback() {
    isolated("no_pod_says_that_it_is_the_loopback", || {
        make();
        run(&format!("sysctl -qw net.ipv4.conf.{POD_LINK}.route_localnet=1"));
        let program = UdpSocket::bind((NODE.v4, PORT)).unwrap();
        program.set_read_timeout(Some(PATIENCE)).unwrap();
        // A UDP packet (RFC 791, RFC 768), of which the kernel makes the rest.
        let ends = ["127.0.0.9", NODE.v4].map(|end| end.parse::<Ipv4Addr>().unwrap().octets()).concat();
        let header = [&[0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0], &ends[..]].concat();
        let udp = [PORT.to_be_bytes(), PORT.to_be_bytes(), 8_u16.to_be_bytes(), [0; 2]].concat();
        let packet = [header, udp].concat();
        // From where the first packet comes: behind the forged one is one that always arrives.
        let source = || {
            forge(&packet, NODE.v4);
            inside("pod", || UdpSocket::bind((POD.v4, 0)).unwrap().send_to(b"", (NODE.v4, PORT)).unwrap());
            let first = program.recv_from(&mut []).unwrap().1.ip();
            if first.is_loopback() {
                program.recv_from(&mut []).unwrap();
            }
            first.to_string()
        };
        assert_eq!(source(), "127.0.0.9", "the kernel itself lets such packets in");
        put(Transport::Direct);
        assert_eq!(source(), POD.v4);
    });
}

/// How many advertisements of routers the node hears when a pod sends one (RFC 4861, section 4.2).
fn advertised() -> u64 {
    run("nft add table inet probe");
    run("nft add chain inet probe seen { type filter hook input priority 10 ; }");
    run("nft add rule inet probe seen icmpv6 type nd-router-advert counter");
    inside("pod", || {
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&raw, 255).unwrap();
        let index = rustix::net::netdevice::name_to_index(&raw, "eth0").unwrap();
        let everybody = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
        let message = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        sendto(&raw, &message, SendFlags::empty(), &everybody).unwrap();
    });
    // What was sent before has been dealt with when this is answered.
    run(&format!("ip netns exec pod ping -c 1 {}", NODE.v6));
    let listed = run("nft list table inet probe");
    run("nft delete table inet probe");
    let (_, counted) = listed.split_once("packets ").unwrap();
    counted.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn no_pod_is_a_router_for_its_node() {
    isolated("no_pod_is_a_router_for_its_node", || {
        make();
        assert_eq!(advertised(), 1);
        put(Transport::Direct);
        assert_eq!(advertised(), 0);
    });
}
