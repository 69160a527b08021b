//! What packets meet.

use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};

use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use towpath_kernel::policy::{Meanwhile, PolicyTable};
use towpath_kernel::testing::isolated;
use towpath_net::lease::Protocol;
use towpath_net::policy::bind::LeaseChanges;
use towpath_net::policy::bundle::{Delta, Direction, Peers, Ports};
use towpath_net::policy::input::Action;

use crate::bundles::{Case, address, allow, from_sets, isolated as isolation, ordered, tcp, udp};
use crate::node::{OUTSIDE, Packet, UPLINK, addresses_of, arrives, connects, inside, make, run, talks};
use Packet::{Bare, Echo, Fragments, Tcp, Udp};

const POLICED: u64 = 1;
const FRIENDS: u64 = 2;

/// A pod with both of its addresses.
fn with(case: Case, pod: &str, profile: Option<u64>) -> Case {
    let addresses = addresses_of(pod).map(|address| address.to_string());
    case.pod(pod, profile, &addresses.each_ref().map(String::as_str))
}

fn set_of(case: Case, id: u64, pods: &[&str]) -> Case {
    let all: Vec<String> = pods.iter().flat_map(|pod| addresses_of(pod)).map(|address| address.to_string()).collect();
    case.set(id, &all.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Pod `a` with a profile, and others that nobody selects.
fn case(ingress: Direction, egress: Direction, others: &[&str]) -> Case {
    let case = with(Case::enforced(), "a", Some(POLICED)).profile(POLICED, ingress, egress);
    others.iter().fold(case, |case, pod| with(case, pod, None))
}

fn load(case: &Case) -> PolicyTable {
    let mut table = PolicyTable::open().unwrap();
    table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
    table
}

#[track_caller]
fn expect(from: &str, at: &str, packets: &[(Packet, bool)]) {
    for to in addresses_of(at) {
        for (packet, expected) in packets {
            assert_eq!(arrives(from, at, to, *packet), *expected, "{packet:?} of {from} to {at} ({to})");
        }
    }
}

#[test]
fn an_isolated_pod_gets_what_is_allowed_and_nothing_else_of_any_protocol() {
    isolated("packets::an_isolated_pod_gets_what_is_allowed_and_nothing_else_of_any_protocol", || {
        make(&["a", "b", "c"]);
        expect("c", "a", &[(Tcp(81), true), (Udp(81), true), (Bare(253), true), (Echo, true)]);
        let ingress =
            isolation(&["x/y"], vec![allow(tcp(80), from_sets(&[FRIENDS])), allow(udp(80), from_sets(&[FRIENDS]))]);
        let case = set_of(case(ingress, Direction::default(), &["b", "c"]), FRIENDS, &["b"]);
        load(&case);
        expect("b", "a", &[(Tcp(80), true), (Udp(80), true), (Fragments(80), true)]);
        expect(
            "b",
            "a",
            &[(Tcp(81), false), (Udp(81), false), (Fragments(81), false), (Bare(253), false), (Echo, false)],
        );
        expect("c", "a", &[(Tcp(80), false), (Udp(80), false), (Bare(253), false), (Echo, false)]);
        expect("outside", "a", &[(Tcp(80), false), (Udp(80), false)]);
        expect("outside", "c", &[(Tcp(80), true), (Udp(80), true), (Echo, true)]);
        // What it begins itself is answered.
        expect("a", "b", &[(Tcp(7), true), (Udp(7), true), (Echo, true)]);
    });
}

#[test]
fn what_is_said_of_egress_holds_toward_pods_the_outside_and_the_node_itself() {
    isolated("packets::what_is_said_of_egress_holds_toward_pods_the_outside_and_the_node_itself", || {
        make(&["a", "b", "c"]);
        let egress = isolation(&["x/y"], vec![allow(Ports::All(Protocol::Udp), from_sets(&[FRIENDS]))]);
        let case = case(Direction::default(), egress, &["b", "c"]);
        load(&set_of(case, FRIENDS, &["b"]));
        expect("a", "b", &[(Udp(5), true), (Fragments(5), true), (Tcp(5), false), (Echo, false)]);
        expect("a", "c", &[(Udp(5), false)]);
        for (pod, expected) in [("a", false), ("c", true)] {
            for to in UPLINK.into_iter().chain([OUTSIDE[0]]) {
                assert_eq!(answered(pod, address(to)), expected, "{pod} to {to}");
            }
        }
        // The node's neighbours are still found, and the node reaches its pod.
        run("ip neighbour flush all");
        run("ip -n a neighbour flush all");
        expect("b", "a", &[(Udp(5), true), (Tcp(5), true)]);
    });
}

/// Whether a pod has an answer of the node, or of somebody outside.
fn answered(pod: &str, to: IpAddr) -> bool {
    let place = if OUTSIDE.iter().any(|outside| address(outside) == to) { Some("outside") } else { None };
    let open = || UdpSocket::bind(SocketAddr::new(to, 9)).unwrap();
    let server = match place {
        Some(place) => inside(place, open),
        None => open(),
    };
    let wildcard = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = inside(pod, || UdpSocket::bind(wildcard).unwrap());
    _ = client.send_to(b"packet", (to, 9));
    // What another way brings comes behind it.
    let other = match place {
        Some(place) => inside(place, || UdpSocket::bind(wildcard).unwrap()),
        None => UdpSocket::bind(wildcard).unwrap(),
    };
    other.send_to(b"marker", (to, 9)).unwrap();
    let mut buffer = [0; 9];
    let (len, _) = server.recv_from(&mut buffer).unwrap();
    &buffer[..len] == b"packet"
}

#[test]
fn a_pod_that_is_not_known_sends_nothing_and_gets_nothing_but_of_its_node() {
    isolated("packets::a_pod_that_is_not_known_sends_nothing_and_gets_nothing_but_of_its_node", || {
        make(&["a", "b"]);
        let mut case = with(Case::enforced(), "b", None);
        let mut table = load(&case);
        let nothing = [(Tcp(80), false), (Udp(80), false), (Bare(253), false), (Echo, false)];
        expect("a", "b", &nothing);
        expect("b", "a", &nothing);
        expect("outside", "a", &nothing);
        for node in UPLINK {
            assert!(!answered("a", address(node)));
        }
        // Its lease alone does not make it known; nor does its pod alone.
        let leases: LeaseChanges = [("a".to_owned(), Some(addresses_of("a").to_vec()))].into();
        table.change(&case.bundle, &Delta::default(), &leases).unwrap();
        expect("a", "b", &nothing);
        let pod = with(Case::enforced(), "a", None).bundle.pods;
        let delta = Delta { pods: pod.into_iter().map(|(uid, pod)| (uid, Some(pod))).collect(), ..Delta::default() };
        table.change(&case.bundle, &delta, &LeaseChanges::new()).unwrap();
        case.bundle.apply(delta).unwrap();
        expect("a", "b", &[(Tcp(80), true), (Udp(80), true), (Bare(253), true), (Echo, true)]);
        // Its address is not another's: what has gone is not known any more.
        table.change(&case.bundle, &Delta::default(), &[("a".to_owned(), None)].into()).unwrap();
        expect("a", "b", &[(Tcp(80), false), (Udp(80), false)]);
    });
}

#[test]
fn connections_live_through_changes_and_new_ones_follow_them() {
    isolated("packets::connections_live_through_changes_and_new_ones_follow_them", || {
        make(&["a", "b", "c", "d"]);
        let ingress = isolation(&["x/y"], vec![allow(tcp(80), from_sets(&[FRIENDS]))]);
        let before = set_of(case(ingress, Direction::default(), &["b", "c"]), FRIENDS, &["b"]);
        let mut table = load(&before);
        let to = SocketAddr::new(addresses_of("a")[0], 80);
        let mut connection = connects("b", "a", to).unwrap();
        assert!(talks(&mut connection));
        let after = set_of(before.clone(), FRIENDS, &["c"]);
        let delta = Delta::between(&before.bundle, &after.bundle);
        let written = table.change(&before.bundle, &delta, &LeaseChanges::new()).unwrap();
        assert_eq!(written.transactions, 1);
        expect("c", "a", &[(Tcp(80), true)]);
        expect("b", "a", &[(Tcp(80), false)]);
        assert!(talks(&mut connection));
        // Also when the pod gets other rules, and when the whole table is made anew.
        let open = with(after.clone(), "a", None);
        let delta = Delta::between(&after.bundle, &open.bundle);
        table.change(&after.bundle, &delta, &LeaseChanges::new()).unwrap();
        expect("b", "a", &[(Tcp(80), true), (Tcp(81), true)]);
        assert!(talks(&mut connection));
        table.load(&after.bundle, &after.leases, Meanwhile::Closed).unwrap();
        assert!(talks(&mut connection));
        expect("b", "a", &[(Tcp(80), false)]);
        // Out of force everything goes.
        let delta = Delta { is_enforced: Some(false), ..Delta::default() };
        table.change(&after.bundle, &delta, &LeaseChanges::new()).unwrap();
        expect("b", "a", &[(Tcp(80), true)]);
        assert!(!table.exists().unwrap());
        // And into force again, with a pod that came meanwhile.
        let mut off = after.bundle.clone();
        off.apply(delta).unwrap();
        let pods = with(Case::enforced(), "d", None);
        let uid = "d".to_owned();
        let came = Delta { pods: [(uid.clone(), pods.bundle.pods.get(&uid).cloned())].into(), ..Delta::default() };
        let lease = [(uid.clone(), pods.leases.get(&uid).cloned())].into();
        assert_eq!(table.change(&off, &came, &lease).unwrap().transactions, 0);
        off.apply(came).unwrap();
        let on = Delta { is_enforced: Some(true), ..Delta::default() };
        table.change(&off, &on, &LeaseChanges::new()).unwrap();
        expect("b", "a", &[(Tcp(80), false)]);
        expect("b", "d", &[(Tcp(80), true)]);
    });
}

#[test]
fn a_pod_reaches_itself_by_a_service_whatever_it_may() {
    isolated("packets::a_pod_reaches_itself_by_a_service_whatever_it_may", || {
        make(&["a", "b"]);
        run("nft add table inet service");
        run("nft add chain inet service pre { type nat hook prerouting priority -100 ; }");
        run("nft add rule inet service pre ip daddr 10.96.0.1 dnat ip to 10.0.0.2");
        run("nft add chain inet service post { type nat hook postrouting priority 100 ; }");
        run("nft add rule inet service post ip saddr 10.0.0.2 ip daddr 10.0.0.2 masquerade");
        let deny = || isolation(&["x/y"], Vec::new());
        load(&case(deny(), deny(), &["b"]));
        assert!(arrives("a", "a", address("10.96.0.1"), Udp(80)));
        assert!(arrives("a", "a", address("10.96.0.1"), Tcp(80)));
        assert!(!arrives("b", "a", address("10.96.0.1"), Tcp(80)));
    });
}

#[test]
fn tiers_are_looked_at_in_order() {
    isolated("packets::tiers_are_looked_at_in_order", || {
        make(&["a", "b", "c"]);
        let friends = || from_sets(&[FRIENDS]);
        let admin = vec![
            ordered("accept", Action::Accept, &[tcp(1), udp(1)], friends()),
            ordered("pass", Action::Pass, &[tcp(2), tcp(3)], Peers::Anyone),
            ordered("deny", Action::Deny, &[Ports::Range(Protocol::Tcp, 1, 10)], Peers::Anyone),
        ];
        let isolation = isolation(&["x/y"], vec![allow(tcp(3), Peers::Anyone), allow(tcp(4), Peers::Anyone)]);
        let ingress = Direction { admin: admin.clone(), ..isolation };
        let others: &[&str] = &["b", "c"];
        load(&set_of(case(ingress, Direction::default(), others), FRIENDS, &["b"]));
        expect(
            "b",
            "a",
            &[(Tcp(1), true), (Udp(1), true), (Tcp(2), false), (Tcp(3), true), (Tcp(4), false), (Tcp(11), false)],
        );
        expect("c", "a", &[(Tcp(1), false), (Udp(1), false), (Tcp(3), true)]);
        let baseline = vec![
            ordered("inside", Action::Accept, &[Ports::All(Protocol::Tcp)], friends()),
            ordered("not-outside", Action::Deny, &[tcp(3), tcp(12)], Peers::Anyone),
        ];
        let ingress = Direction { admin, isolated: None, baseline };
        load(&set_of(case(ingress, Direction::default(), others), FRIENDS, &["b"]));
        expect("b", "a", &[(Tcp(1), true), (Tcp(2), true), (Tcp(3), true), (Tcp(4), false), (Tcp(12), true)]);
        expect(
            "c",
            "a",
            &[(Tcp(1), false), (Tcp(2), true), (Tcp(3), false), (Tcp(12), false), (Tcp(13), true), (Echo, true)],
        );
    });
}

#[test]
fn ranges_of_ports_blocks_named_ports_and_many_ports_mean_what_they_say() {
    isolated("packets::ranges_of_ports_blocks_named_ports_and_many_ports_mean_what_they_say", || {
        make(&["a", "b", "c"]);
        let blocks = || from_sets(&[FRIENDS]);
        let ingress = isolation(
            &["x/y"],
            vec![
                allow(Ports::Range(Protocol::Tcp, 8000, 8010), blocks()),
                allow(tcp(1), blocks()),
                allow(tcp(2), Peers::Anyone),
                allow(udp(1), Peers::In(Vec::new())),
                allow(udp(65_535), blocks()),
            ],
        );
        let named = [
            ("10.0.0.3", Protocol::Tcp, 9100),
            ("fd00::3", Protocol::Tcp, 9100),
            ("10.0.0.4", Protocol::Udp, 9100),
            ("fd00::4", Protocol::Udp, 9100),
        ];
        let egress = isolation(&["x/z"], vec![allow(Ports::OfPeer, from_sets(&[3]))]);
        // All of the pods' networks but for the address of `c`.
        let case = case(ingress, egress, &["b", "c"]).ports(3, &named);
        load(&case.blocks(FRIENDS, &["10.0.0.0/30", "10.0.0.5/32", "172.16.0.0/12", "fd00::/126", "fd16::/16"]));
        let inside = [(Tcp(7999), false), (Tcp(8000), true), (Tcp(8010), true), (Tcp(8011), false), (Tcp(1), true)];
        expect("b", "a", &inside);
        expect("outside", "a", &inside);
        expect("b", "a", &[(Tcp(2), true), (Udp(1), false), (Udp(65_535), true), (Udp(2), false)]);
        expect("c", "a", &[(Tcp(8000), false), (Tcp(1), false), (Tcp(2), true), (Udp(65_535), false), (Echo, false)]);
        expect("a", "b", &[(Tcp(9100), true), (Udp(9100), false), (Tcp(9101), false)]);
        expect("a", "c", &[(Tcp(9100), false), (Udp(9100), true)]);
    });
}

#[test]
fn who_is_not_policed_and_the_node_are_not_hindered() {
    isolated("packets::who_is_not_policed_and_the_node_are_not_hindered", || {
        make(&["a", "b"]);
        let deny = || isolation(&["x/y"], Vec::new());
        let case = case(deny(), deny(), &["b"]);
        load(&case);
        let node = std::thread::spawn(|| {
            addresses_of("a").map(|to| {
                let listener = inside("a", || std::net::TcpListener::bind(SocketAddr::new(to, 80)).unwrap());
                let connection = std::net::TcpStream::connect_timeout(&SocketAddr::new(to, 80), crate::node::PATIENCE);
                connection.is_ok() && listener.accept().is_ok()
            })
        });
        assert_eq!(node.join().unwrap(), [true; 2], "a probe of the node fails");
        expect("outside", "b", &[(Tcp(80), true), (Udp(80), true), (Fragments(80), true), (Bare(253), true)]);
    });
}

/// How many packets of pods were ended because their addresses are not known.
fn strangers() -> u64 {
    let listed = run("nft list chain inet towpath-policy from-pod");
    let (_, counted) = listed.split_once("counter packets ").unwrap();
    counted.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_a_pod_says_of_its_groups_is_not_counted_as_denied() {
    isolated("packets::what_a_pod_says_of_its_groups_is_not_counted_as_denied", || {
        make(&["a", "b"]);
        let sent = |kind: u8| {
            load(&case(Direction::default(), isolation(&["x/y"], Vec::new()), &["b"]));
            inside("a", || {
                let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
                let index = rustix::net::netdevice::name_to_index(&raw, "eth0").unwrap();
                let everybody = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, index);
                sendto(&raw, &[kind, 0, 0, 0, 0, 0, 0, 0], SendFlags::empty(), &everybody).unwrap();
            });
            // What was sent before has been dealt with.
            expect("b", "a", &[(Udp(80), true)]);
            strangers()
        };
        run("ip -n a address add fe80::a/64 dev eth0 nodad");
        assert_eq!((sent(143), sent(200)), (0, 1));
    });
}
