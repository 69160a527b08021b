//! What a change forbids ends at once, and all else goes on.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use towpath_kernel::conntrack::Tracker;
use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::{LeaseChanges, View};
use towpath_net::policy::bundle::{Bundle, Delta, Direction, Ports};
use towpath_net::policy::flows::{Suspicion, is_forbidden};

use crate::bundles::{Case, allow, from_sets, isolated as isolation};
use crate::node::{PATIENCE, Packet, UPLINK, addresses_of, arrives, connects, inside, make, run, talks};

const POLICED: u64 = 1;
const FRIENDS: u64 = 2;

/// Pod `a`, which only these may reach, among others.
fn case(friends: &[&str]) -> Case {
    let texts = |pod: &str| addresses_of(pod).map(|address| address.to_string());
    let ingress = isolation(&["x/y"], vec![allow(Ports::Any, from_sets(&[FRIENDS]))]);
    let mut case = Case::enforced().profile(POLICED, ingress, Direction::default());
    for (pod, profile) in [("a", Some(POLICED)), ("b", None), ("c", None)] {
        case = case.pod(pod, profile, &texts(pod).each_ref().map(String::as_str));
    }
    let members: Vec<String> = friends.iter().flat_map(|pod| texts(pod)).collect();
    case.set(FRIENDS, &members.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What goes on between a pod, or the node, and pod `a`.
struct Flows {
    tcp: (TcpStream, TcpStream),
    udp: (UdpSocket, UdpSocket),
}

impl Flows {
    fn begin(from: &str, to: IpAddr, port: u16) -> Self {
        let tcp = connects(from, "a", SocketAddr::new(to, port)).unwrap();
        let wildcard = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        let server = inside("a", || UdpSocket::bind((wildcard, port)).unwrap());
        let client = inside(from, || UdpSocket::bind((wildcard, 0)).unwrap());
        client.connect((to, port)).unwrap();
        client.send(b"ping").unwrap();
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        server.connect(server.recv_from(&mut [0; 4]).unwrap().1).unwrap();
        Self { tcp, udp: (client, server) }
    }

    fn go_on(&mut self) -> bool {
        let (client, server) = &self.udp;
        client.send(b"ping").unwrap();
        server.recv(&mut [0; 4]).unwrap();
        server.send(b"pong").unwrap();
        client.recv(&mut [0; 4]).unwrap();
        talks(&mut self.tcp)
    }

    /// Nothing arrives any more, of either side.
    fn ended(&mut self, from: &str) {
        let ((client, server), (sender, receiver)) = (&mut self.tcp, &self.udp);
        // What is sent and allowed comes behind what is sent before it.
        server.write_all(b"more").unwrap();
        assert!(arrives("a", from, addresses_of(from)[0], Packet::Udp(7)));
        client.write_all(b"ping").unwrap();
        server.write_all(b"more").unwrap();
        sender.send(b"ping").unwrap();
        assert!(arrives("c", "a", addresses_of("a")[0], Packet::Udp(7)));
        assert!(arrives("a", from, addresses_of(from)[0], Packet::Udp(7)));
        for stream in [client, server] {
            stream.set_nonblocking(true).unwrap();
            assert_eq!(stream.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock, "{stream:?}");
        }
        receiver.set_nonblocking(true).unwrap();
        assert_eq!(receiver.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// The numbers of the connections that a pod began, by what they are.
fn followed(pod: &str) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (address, family) in addresses_of(pod).iter().zip(["ipv4", "ipv6"]) {
        for protocol in ["tcp", "udp"] {
            let listed = run(&format!("conntrack -L -o id -f {family} -p {protocol} --orig-src {address}"));
            for line in listed.lines() {
                let words = || line.split_whitespace();
                let ends: Vec<&str> = words().filter(|word| word.contains("port=")).take(2).collect();
                let id = words().find(|word| word.starts_with("id=")).unwrap();
                all.insert(format!("{family} {protocol} {}", ends.join(" ")), id.to_owned());
            }
        }
    }
    all
}

/// What an agent does behind a change.
fn cut(table: &mut PolicyTable, suspicion: Suspicion, bundle: &Bundle) -> usize {
    let program = table.program().unwrap();
    let suspects = suspicion.suspects(bundle, program.bound(), program.leases());
    let (mut tracker, mut found) = (Tracker::open().unwrap(), Vec::new());
    tracker.look(&suspects, |some| found.extend(some)).unwrap();
    found.retain(|one| is_forbidden(bundle, program.bound(), &suspects, &one.packet));
    table.end_answers(&found).unwrap();
    tracker.forget(&found).unwrap()
}

#[test]
fn connections_that_a_change_forbids_end_and_no_others() {
    isolated("cut::connections_that_a_change_forbids_end_and_no_others", || {
        make(&["a", "b", "c"]);
        let (before, after) = (case(&["b", "c"]), case(&["c"]));
        let mut table = PolicyTable::open().unwrap();
        table.load(&before.bundle, &before.leases, Meanwhile::Closed).unwrap();
        let begin = |from: &str, port: u16| {
            (0..2_u16).zip(addresses_of("a")).map(|(at, to)| Flows::begin(from, to, port + at)).collect::<Vec<_>>()
        };
        let (mut of_b, mut of_c) = (begin("b", 80), begin("c", 90));
        let listener = inside("a", || TcpListener::bind("0.0.0.0:99").unwrap());
        let client = TcpStream::connect((addresses_of("a")[0], 99)).unwrap();
        let mut of_node = (client, listener.accept().unwrap().0);
        assert!(of_b.iter_mut().chain(&mut of_c).all(Flows::go_on));
        let (known_b, known_c) = (followed("b"), followed("c"));
        assert_eq!((known_b.len(), known_c.len()), (4, 4), "{known_b:?} {known_c:?}");

        let delta = Delta::between(&before.bundle, &after.bundle);
        let mut suspicion = Suspicion::default();
        let view = View { before: &before.bundle, delta: &delta };
        suspicion.change(view, table.program().unwrap().bound(), &LeaseChanges::new());
        table.change(&before.bundle, &delta, &LeaseChanges::new()).unwrap();
        assert_eq!(cut(&mut table, suspicion, &after.bundle), 4);
        assert_eq!(followed("b"), BTreeMap::new());
        assert_eq!(followed("c"), known_c);
        assert!(of_c.iter_mut().all(Flows::go_on));
        assert!(talks(&mut of_node), "of the node");
        for flows in &mut of_b {
            flows.ended("b");
        }
        assert_eq!(cut(&mut table, Suspicion::everyone(), &after.bundle), 0);
        // Nor where somebody takes the table away: from whoever cut them, and from an agent that comes later.
        for _ in 0..2 {
            run("nft delete table inet towpath-policy");
            assert!(matches!(table.repair(&after.bundle, &after.leases), Ok(Repair::Rebuilt(_))));
            for flows in &mut of_b {
                flows.ended("b");
            }
            drop(table);
            table = PolicyTable::open().unwrap();
            table.repair(&after.bundle, &after.leases).unwrap();
        }
        assert_eq!(followed("c").iter().filter(|(ends, _)| known_c.contains_key(*ends)).count(), 4);

        // Whoever may again, begins again, and the connection that was cut goes on where its beginner does.
        let delta = Delta::between(&after.bundle, &before.bundle);
        table.change(&after.bundle, &delta, &LeaseChanges::new()).unwrap();
        for mut flows in begin("b", 60) {
            assert!(flows.go_on());
        }
    });
}

#[test]
fn connections_from_before_policies_and_by_way_of_services_end_too() {
    isolated("cut::connections_from_before_policies_and_by_way_of_services_end_too", || {
        make(&["a", "b", "c"]);
        run("nft add table inet service");
        run("nft add chain inet service pre { type nat hook prerouting priority -100 ; }");
        run("nft add rule inet service pre ip daddr 10.96.0.1 dnat ip to 10.0.0.2");
        let mut off = case(&["c"]);
        off.bundle.is_enforced = false;
        let mut table = PolicyTable::open().unwrap();
        table.load(&off.bundle, &off.leases, Meanwhile::Open).unwrap();
        let service: IpAddr = "10.96.0.1".parse().unwrap();
        let mut of_b = Flows::begin("b", service, 80);
        let mut of_c = Flows::begin("c", service, 81);
        assert!(of_b.go_on() && of_c.go_on());
        let delta = Delta { is_enforced: Some(true), ..Delta::default() };
        let mut suspicion = Suspicion::default();
        suspicion.change(
            View { before: &off.bundle, delta: &delta },
            table.program().unwrap().bound(),
            &LeaseChanges::new(),
        );
        table.change(&off.bundle, &delta, &LeaseChanges::new()).unwrap();
        let on = case(&["c"]).bundle;
        assert_eq!(cut(&mut table, suspicion, &on), 2);
        assert!(of_c.go_on());
        of_b.ended("b");
    });
}

#[test]
fn what_a_pod_has_with_its_node_ends_where_its_egress_forbids_it() {
    isolated("cut::what_a_pod_has_with_its_node_ends_where_its_egress_forbids_it", || {
        make(&["a"]);
        let before = Case::enforced().pod("a", None, &["10.0.0.2", "fd00::2"]);
        let mut table = PolicyTable::open().unwrap();
        table.load(&before.bundle, &before.leases, Meanwhile::Closed).unwrap();
        let mut connections = UPLINK.map(|node| {
            let listener = TcpListener::bind(SocketAddr::new(node.parse().unwrap(), 80)).unwrap();
            let to = listener.local_addr().unwrap();
            (inside("a", || TcpStream::connect(to).unwrap()), listener.accept().unwrap().0)
        });
        assert!(connections.iter_mut().all(talks));
        let deny = isolation(&["x/y"], Vec::new());
        let after =
            before.profile(POLICED, Direction::default(), deny).pod("a", Some(POLICED), &["10.0.0.2", "fd00::2"]);
        table.load(&after.bundle, &after.leases, Meanwhile::Closed).unwrap();
        assert_eq!(cut(&mut table, Suspicion::everyone(), &after.bundle), 2);
        for (pod, node) in &mut connections {
            node.write_all(b"more").unwrap();
            pod.write_all(b"ping").unwrap();
            node.write_all(b"more").unwrap();
            // What the node sends anew arrives, behind all that was sent before.
            let own = addresses_of("a")[usize::from(node.local_addr().unwrap().is_ipv6())];
            let listener = inside("a", || TcpListener::bind(SocketAddr::new(own, 81)).unwrap());
            let mut probe = (TcpStream::connect((own, 81)).unwrap(), listener.accept().unwrap().0);
            assert!(talks(&mut probe));
            for stream in [pod, node] {
                stream.set_nonblocking(true).unwrap();
                assert_eq!(stream.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock, "{stream:?}");
            }
        }
    });
}

#[test]
fn all_connections_are_gone_through_where_many_pods_lost_something() {
    isolated("cut::all_connections_are_gone_through_where_many_pods_lost_something", || {
        make(&["a", "b", "c"]);
        let mut case = case(&["b", "c"]);
        let mut table = PolicyTable::open().unwrap();
        table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
        let flows = [Flows::begin("b", addresses_of("a")[0], 80), Flows::begin("c", addresses_of("a")[1], 81)];
        // More pods than the kernel is asked about one by one, each of which may nothing any more.
        let deny = || isolation(&["x/z"], Vec::new());
        case = case.profile(7, deny(), deny());
        for number in 100..110 {
            case = case.pod(&number.to_string(), Some(7), &[&format!("10.0.0.{number}"), &format!("fd00::{number}")]);
        }
        case = case.set(FRIENDS, &[]);
        table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
        assert_eq!(cut(&mut table, Suspicion::everyone(), &case.bundle), 4);
        drop(flows);
        assert_eq!((followed("b").len(), followed("c").len()), (0, 0));
    });
}
