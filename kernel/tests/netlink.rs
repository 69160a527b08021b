//! The typed netlink operations against the real kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use towpath_kernel::link::{self, Change, Kind, Link, Mac, VethPair};
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::netns::{self, Namespace};
use towpath_kernel::route::{self, ROUTE_PROTOCOL, Route};
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_kernel::testing::isolated;
use towpath_kernel::{address, route::BOOT};
use towpath_net::observed::Sysctl;

use std::os::fd::AsFd;

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn pod(name: &str) -> Namespace {
    ip(&format!("netns add {name}"));
    Namespace::open(format!("/run/netns/{name}")).unwrap()
}

/// How long anything may take before a test fails.
const DEADLINE: Duration = Duration::from_secs(20);
const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));

fn veth<'a>(name: &'a str, peer_name: &'a str, namespace: &'a Namespace) -> VethPair<'a> {
    let peer_namespace = namespace.as_fd();
    VethPair { name, mac: MACS.0, peer_name, peer_mac: MACS.1, peer_namespace, mtu: 1400, bridge: None }
}

fn pair(socket: &mut Socket, name: &str, namespace: &Namespace) -> Link {
    let pair = veth(name, "eth0", namespace);
    link::create_veth(socket, &pair).unwrap();
    let index = link::find(socket, name).unwrap().unwrap().index;
    link::change(socket, index, Change { alias: Some("mine"), ..Change::default() }).unwrap();
    link::find(socket, name).unwrap().unwrap()
}

fn up(socket: &mut Socket, link: &Link) {
    link::change(socket, link.index, Change { up: Some(true), ..Change::default() }).unwrap();
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

#[test]
fn a_pair_is_made_complete_in_one_message_and_deleted_as_one() {
    isolated("a_pair_is_made_complete_in_one_message_and_deleted_as_one", || {
        let pod = pod("pod");
        let mut node = Socket::open(Protocol::Route).unwrap();
        let mut inside = pod.socket(Protocol::Route).unwrap().unwrap();
        let host = pair(&mut node, "tow1", &pod);
        let eth0 = link::find(&mut inside, "eth0").unwrap().unwrap();
        assert_eq!((host.mtu, host.alias.as_deref(), &host.kind, host.up), (1400, Some("mine"), &Kind::Veth, false));
        assert_eq!((eth0.mtu, &eth0.kind, eth0.up), (1400, &Kind::Veth, false));
        assert_eq!(host.peer.unwrap().index, eth0.index);
        assert!(host.peer.unwrap().namespace.is_some());
        assert_eq!((host.mac, eth0.mac), (Some(MACS.0), Some(MACS.1)));
        assert_eq!(node.writes(), 2);

        let again = veth("tow1", "e", &pod);
        assert!(link::create_veth(&mut node, &again).unwrap_err().is_taken());
        let taken = veth("tow2", "eth0", &pod);
        assert!(link::create_veth(&mut node, &taken).unwrap_err().is_taken());
        assert_eq!(link::find(&mut node, "tow2").unwrap(), None, "half of a pair was left");

        up(&mut node, &host);
        link::change(&mut node, host.index, Change { mtu: Some(1300), ..Change::default() }).unwrap();
        let changed = link::find(&mut node, "tow1").unwrap().unwrap();
        assert_eq!((changed.up, changed.mtu), (true, 1300));
        let names: Vec<String> = link::list(&mut node).unwrap().into_iter().map(|l| l.name).collect();
        assert_eq!(names, ["lo", "tow1"]);

        link::delete(&mut node, "tow1").unwrap();
        assert_eq!(link::find(&mut inside, "eth0").unwrap(), None);
        let error = link::delete(&mut node, "tow1").unwrap_err();
        assert!(error.is_missing(), "{error}");
        assert_eq!(error.to_string(), "delete link tow1: No such device (os error 19)");
    });
}

#[test]
fn addresses_are_usable_at_once_and_bring_no_route() {
    isolated("addresses_are_usable_at_once_and_bring_no_route", || {
        let pod = pod("pod");
        let mut node = Socket::open(Protocol::Route).unwrap();
        let host = pair(&mut node, "tow1", &pod);
        up(&mut node, &host);
        for text in ["10.244.1.1/24", "fd00::1/64"] {
            address::add(&mut node, host.index, net(text)).unwrap();
            address::add(&mut node, host.index, net(text)).unwrap();
        }
        let of_host = |socket: &mut Socket| -> Vec<String> {
            let all = address::list(socket).unwrap().into_iter().filter(|a| a.link == host.index);
            let ours = all.filter(|a| !a.address.to_string().starts_with("fe80"));
            ours.inspect(|a| assert!(a.usable)).map(|a| a.address.to_string()).collect()
        };
        assert_eq!(of_host(&mut node), ["10.244.1.1/24", "fd00::1/64"]);
        let routes = route::list(&mut node).unwrap();
        assert!(routes.iter().all(|r| r.destination == net("fe80::/64")), "{routes:?}");
        address::delete(&mut node, host.index, net("10.244.1.1/24")).unwrap();
        assert!(address::delete(&mut node, host.index, net("10.244.1.1/24")).unwrap_err().is_missing());
        assert_eq!(of_host(&mut node), ["fd00::1/64"]);
    });
}

#[test]
fn routes_read_back_as_they_were_written_and_are_deleted_exactly() {
    isolated("routes_read_back_as_they_were_written_and_are_deleted_exactly", || {
        let pod = pod("pod");
        let mut node = Socket::open(Protocol::Route).unwrap();
        let host = pair(&mut node, "tow1", &pod);
        link::change(&mut node, host.index, Change { no_generated_addresses: true, ..Change::default() }).unwrap();
        up(&mut node, &host);
        let mut written = Vec::new();
        for (gateway, pod, cidr) in [("10.9.0.1", "10.9.0.2", "10.8.0.0/16"), ("fd00::1", "fd00::2", "fd08::/64")] {
            address::add(&mut node, host.index, IpNet::from(gateway.parse::<std::net::IpAddr>().unwrap())).unwrap();
            let pod: std::net::IpAddr = pod.parse().unwrap();
            written.push(Route::on_link(IpNet::from(pod), host.index, ROUTE_PROTOCOL));
            let mut via = Route::via(net(cidr), pod, host.index, ROUTE_PROTOCOL);
            via.source = Some(gateway.parse().unwrap());
            written.push(via);
            let blackhole = if pod.is_ipv4() { "10.7.0.0/16" } else { "fd07::/64" };
            written.push(Route::blackhole(net(blackhole), ROUTE_PROTOCOL));
            let everything = if pod.is_ipv4() { "0.0.0.0/0" } else { "::/0" };
            written.push(Route::via(net(everything), pod, host.index, BOOT));
        }
        for route in &written {
            route::add(&mut node, route).unwrap();
            assert!(route::add(&mut node, route).unwrap_err().is_taken());
            route::replace(&mut node, route).unwrap();
        }
        let sorted = |mut routes: Vec<Route>| {
            routes.sort();
            routes
        };
        let listed = route::list(&mut node).unwrap();
        assert_eq!(sorted(listed), sorted(written.clone()));
        for (index, route) in written.iter().enumerate() {
            let mut other = route.clone();
            other.protocol = route::Protocol(99);
            assert!(route::delete(&mut node, &other).unwrap_err().is_missing(), "deleted somebody else's {route}");
            route::delete(&mut node, route).unwrap();
            assert_eq!(route::list(&mut node).unwrap().len(), written.len() - index - 1);
        }
    });
}

#[test]
fn errors_carry_the_kernels_explanation() {
    isolated("errors_carry_the_kernels_explanation", || {
        let mut node = Socket::open(Protocol::Route).unwrap();
        let lo = link::find(&mut node, "lo").unwrap().unwrap();
        let route = Route::via(net("10.0.0.0/8"), "192.0.2.1".parse().unwrap(), lo.index, BOOT);
        let error = route::add(&mut node, &route).unwrap_err();
        let expected = "add route 10.0.0.0/8 via 192.0.2.1 dev #1: Network is unreachable (os error 101) \
                        (Nexthop has invalid gateway)";
        assert_eq!(error.to_string(), expected);
        assert_eq!(route::list(&mut node).unwrap(), [], "a namespace without any route has no table");
        assert_eq!(link::find(&mut node, "nothing").unwrap(), None, "the socket is in step after an error");
    });
}

#[test]
fn of_several_changes_at_once_the_first_refused_is_told_and_the_next_request_is_not_mistaken() {
    isolated("of_several_changes_at_once_the_first_refused_is_told_and_the_next_request_is_not_mistaken", || {
        let mut node = Socket::open(Protocol::Route).unwrap();
        let ends = link::create_veth(&mut node, &veth("tow1", "eth0", &pod("pod"))).unwrap();
        assert_eq!(link::find(&mut node, "tow1").unwrap().unwrap().peer.unwrap().index, ends.pod);
        let up = link::changing(ends.node, Change { up: Some(true), proxy_arp: Some(false), ..Change::default() });
        let to = |text: &str| route::adding(&Route::on_link(net(text), ends.node, ROUTE_PROTOCOL));
        node.execute_all(&[up, address::adding(ends.node, net("10.0.0.1/32")), to("10.0.0.2/32")]).unwrap();
        let twice = [to("10.0.0.3/32"), to("10.0.0.2/32"), to("10.0.0.3/32"), to("10.0.0.4/32")];
        let error = node.execute_all(&twice).unwrap_err();
        assert!(error.is_taken() && error.object.contains("10.0.0.2/32"), "{error}");
        assert_eq!(route::list(&mut node).unwrap().len(), 3);
        let error = node.execute_all(&[to("10.0.0.5/32"), to("10.0.0.5/32")]).unwrap_err();
        assert!(error.is_taken() && error.object.contains("10.0.0.5/32"), "{error}");
        node.execute_all(&[]).unwrap();
        assert!(link::find(&mut node, "tow1").unwrap().unwrap().up);
    });
}

#[test]
fn an_ipv6_address_is_local_on_the_link_that_has_it() {
    isolated("an_ipv6_address_is_local_on_the_link_that_has_it", || {
        let mut node = Socket::open(Protocol::Route).unwrap();
        let pod = pod("pod");
        let first = pair(&mut node, "tow1", &pod);
        let second = link::create_veth(&mut node, &veth("tow2", "eth1", &pod)).unwrap();
        up(&mut node, &first);
        for text in ["fd00::1", "fe80::1"] {
            let address: Ipv6Addr = text.parse().unwrap();
            address::add(&mut node, first.index, IpNet::from(IpAddr::from(address))).unwrap();
            let end = Instant::now() + DEADLINE;
            while !route::is_local(&mut node, first.index, address).unwrap() {
                assert!(Instant::now() < end, "{text} is not local");
                std::thread::yield_now();
            }
            assert!(!route::is_local(&mut node, second.node, address).unwrap(), "{text}");
            assert!(!route::is_local(&mut node, first.index, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)).unwrap());
        }
    });
}

#[test]
fn a_large_dump_is_read_whole() {
    isolated("a_large_dump_is_read_whole", || {
        let mut node = Socket::open(Protocol::Route).unwrap();
        for high in 0..20 {
            for low in 0..=255 {
                let cidr = net(&format!("10.{high}.{low}.0/24"));
                route::add(&mut node, &Route::blackhole(cidr, ROUTE_PROTOCOL)).unwrap();
            }
        }
        assert_eq!(route::list(&mut node).unwrap().len(), 20 * 256);
        assert_eq!(node.writes(), 20 * 256);
    });
}

#[test]
fn namespaces_are_told_apart_and_settings_are_those_of_the_namespace() {
    isolated("namespaces_are_told_apart_and_settings_are_those_of_the_namespace", || {
        let pod = pod("pod");
        let own = Namespace::current().unwrap();
        assert!(!pod.is_same_as(&own));
        assert!(pod.is_same_as(&Namespace::open("/run/netns/../netns/pod").unwrap()));
        assert!(pod.run(|| Namespace::current().unwrap().is_same_as(&pod)).unwrap());
        let home = Namespace::current().unwrap();
        assert!(pod.visit(|| Namespace::current().unwrap().is_same_as(&pod)).unwrap());
        assert!(Namespace::current().unwrap().is_same_as(&home), "a visit ends where it began");
        std::fs::write("/run/plain", "").unwrap();
        assert!(matches!(Namespace::open("/run/plain"), Err(netns::Error::NotANamespace(_))));
        assert!(matches!(Namespace::open("/run/missing"), Err(netns::Error::Missing(_))));
        let mount = Namespace::open("/proc/self/ns/mnt").unwrap();
        assert!(matches!(mount.run(|| ()), Err(netns::Error::Enter { .. })), "entered a namespace of another kind");

        let settings = Sysctls::below(sysctl::ROOT);
        let key = Sysctl("net/ipv4/ip_forward".to_owned());
        settings.write(&key, "0").unwrap();
        assert!(pod.run(|| settings.ensure(&key, "1")).unwrap().unwrap());
        assert!(!pod.run(|| settings.ensure(&key, "1")).unwrap().unwrap());
        assert_eq!(settings.read(&key).unwrap().as_deref(), Some("0"));
        let missing = Sysctl("net/ipv4/conf/nothing/forwarding".to_owned());
        assert_eq!(settings.read(&missing).unwrap(), None);
        assert!(settings.write(&missing, "1").unwrap_err().to_string().contains("net/ipv4/conf/nothing/forwarding"));
    });
}
