//! What the table keeps from the wire, and from pods: real packets of a pod, its node, and another node.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use towpath_kernel::netns::Namespace;
use towpath_kernel::nft::Nft;
use towpath_kernel::testing::isolated;
use towpath_net::observed::Surroundings;
use towpath_net::render::render;
use towpath_net::state::{NodeSpec, NodeState, Peer};
use towpath_net::transport::{Transport, Transports};

const PATIENCE: Duration = Duration::from_secs(60);
const PORT: u16 = 7777;
/// Of each family: the node, the other node, a pod there, and an address outside behind it.
const NODES: [[&str; 4]; 2] = [
    ["172.16.30.3", "172.16.30.4", "10.244.4.9", "10.99.0.9"],
    ["fd00:30::3", "fd00:30::4", "fd00:244:0:4::9", "fd00:99::9"],
];

fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for(line: &str) {
    let end = Instant::now() + PATIENCE;
    let mut words = line.split_whitespace();
    let (program, words) = (words.next().unwrap(), words.collect::<Vec<_>>());
    while !Command::new(program).args(&words).output().unwrap().status.success() {
        assert!(Instant::now() < end, "{line} does not succeed");
    }
}

fn inside<T: Send>(place: &str, function: impl FnOnce() -> T + Send) -> T {
    Namespace::open(format!("/run/netns/{place}")).unwrap().run(function).unwrap()
}

/// This namespace becomes a node with a pod, and a plain route to the pods of another.
fn make() {
    for setting in ["net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0", "net.ipv6.conf.all.forwarding=1"] {
        run(&format!("sysctl -qw {setting}"));
    }
    run("ip netns add other");
    run("ip netns add pod");
    run("ip link add eth0 type veth peer name eth0 netns other");
    run("ip link add tow000000000000 type veth peer name eth0 netns pod");
    run("ip -n pod address add 10.244.3.2/32 dev eth0");
    run("ip -n pod address add fd00:244:0:3::2/128 dev eth0 nodad");
    for (at, [address, address6]) in
        [("", ["172.16.30.3/24", "fd00:30::3/64"]), ("-n other ", ["172.16.30.4/24", "fd00:30::4/64"])]
    {
        run(&format!("ip {at}address add {address} dev eth0"));
        run(&format!("ip {at}address add {address6} dev eth0 nodad"));
        run(&format!("ip {at}link set lo up"));
        run(&format!("ip {at}link set eth0 up"));
    }
    run("ip link set tow000000000000 up");
    run("ip address add 169.254.1.1/32 dev tow000000000000");
    run("ip address add fe80::1/128 dev tow000000000000 nodad");
    run("ip -n pod link set eth0 up");
    for [node, other, pod, outside] in NODES {
        run(&format!("ip -n other address add {pod} dev lo nodad"));
        run(&format!("ip -n other address add {outside} dev lo nodad"));
        let gateway = if node.contains('.') { "169.254.1.1" } else { "fe80::1" };
        run(&format!("ip -n pod route add default via {gateway} dev eth0 onlink"));
        let (here, there) =
            if node.contains('.') { ("10.244.3.2", "10.244.4.0/24") } else { ("fd00:244:0:3::2", "fd00:244:0:4::/64") };
        run(&format!("ip route add {here} dev tow000000000000"));
        run(&format!("ip -n other route add {here} via {node}"));
        run(&format!("ip route add {there} via {other}"));
        run(&format!("ip route add {outside} via {other} mtu 1300"));
        for address in [other, outside] {
            wait_for(&format!("ip netns exec pod ping -c 1 -W 1 {address}"));
        }
    }
}

fn put(transport: Transport) {
    let of = |column: usize| NODES.map(|row| row[column].parse::<IpAddr>().unwrap()).to_vec();
    let transports = Transports::only(transport);
    let nets = |list: [&str; 2]| list.map(|net| net.parse().unwrap()).to_vec();
    let spec = NodeSpec {
        transport: transports.clone(),
        pod_ranges: nets(["10.244.0.0/16", "fd00:244::/48"]),
        ..NodeSpec::plain(of(0), nets(["10.244.3.0/24", "fd00:244:0:3::/64"]))
    };
    let pod_cidrs = nets(["10.244.4.0/24", "fd00:244:0:4::/64"]);
    let peer = Peer { addresses: of(1), pod_cidrs, accepts: transports.accepts, keys: None };
    let state = NodeState { node: "n3".into(), spec, peers: [("n4".into(), peer)].into() };
    let table = render(&state, &[], &Surroundings::default(), None).desired.table.unwrap();
    Nft::open().unwrap().replace(&table).unwrap();
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
