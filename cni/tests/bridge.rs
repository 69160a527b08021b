//! Pods behind the bridge: Services between them, frames that are none of their own, and a bridge that is not there.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[macro_use]
mod support;

use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::thread;

use rustix::net::sockopt::set_ipv6_multicast_hops;
use rustix::net::{AddressFamily, SendFlags, SocketType, ipproto, sendto, socket};
use serde_json::json;
use support::{
    Call, DEADLINE, add, config_after, del, leases, netns, node_json, node_of, ping, sh, table, write_node_json,
};
use towpath_kernel::netns::Namespace;
use towpath_kernel::testing::isolated;
use towpath_net::lease::host_interface;
use towpath_net::state::Attachment;

const DUAL: [&str; 2] = ["10.42.1.0/24", "fd00:42::/64"];

/// Runs a function in a pod.
fn inside<T: Send>(pod: &str, function: impl FnOnce() -> T + Send) -> T {
    Namespace::open(format!("/run/netns/{pod}")).unwrap().run(function).unwrap()
}

/// A program in a pod that answers one connection with the address that it came from.
fn answer_once(pod: &str, port: u16) -> thread::JoinHandle<()> {
    let listener = inside(pod, || TcpListener::bind(("::", port)).unwrap());
    thread::spawn(move || {
        let (mut stream, from) = listener.accept().unwrap();
        stream.write_all(from.ip().to_canonical().to_string().as_bytes()).unwrap();
    })
}

/// What a server answers to a pod.
fn ask(pod: &str, server: &str) -> String {
    let server: SocketAddr = server.parse().unwrap();
    inside(pod, || {
        let mut stream = TcpStream::connect_timeout(&server, DEADLINE).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    })
}

#[test]
fn services_lead_from_one_pod_to_another_and_to_itself_and_answers_come_back() {
    isolated("services_lead_from_one_pod_to_another_and_to_itself_and_answers_come_back", || {
        node_of(Attachment::Bridge, &DUAL);
        add("client");
        add("server");
        // As kube-proxy does: what goes to a Service is rewritten, and masqueraded where a pod reaches itself.
        sh("nft 'table inet services {
            chain pre {
                type nat hook prerouting priority -100
                ip daddr 10.96.0.1 tcp dport 80 dnat ip to 10.42.1.3:8080
                ip6 daddr fd00:96::1 tcp dport 80 dnat ip6 to [fd00:42::3]:8080
            }
            chain post {
                type nat hook postrouting priority 100
                ip saddr 10.42.1.3 ip daddr 10.42.1.3 masquerade
                ip6 saddr fd00:42::3 ip6 daddr fd00:42::3 masquerade
            }
        }'");
        for (service, client, itself) in
            [("10.96.0.1:80", "10.42.1.2", "10.42.1.1"), ("[fd00:96::1]:80", "fd00:42::2", "fd00:42::1")]
        {
            for (pod, seen) in [("client", client), ("server", itself)] {
                let server = answer_once("server", 8080);
                assert_eq!(ask(pod, service), seen, "{service} from {pod}");
                server.join().unwrap();
            }
        }
    });
}

fn host_ports(mode: Attachment) {
    node_of(mode, &["10.244.1.0/24", "fd00:10:244:1::/64"]);
    table();
    sh("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo");
    add("client");
    let config = support::config_with_ports(&json!([{"hostPort": 8000, "containerPort": 8080}]));
    let result = Call::of("ADD", "server", &netns("server")).config(&config).succeed().document;
    let mut check = config;
    check["prevResult"] = result;
    Call::of("CHECK", "server", "/run/netns/server").config(&check).succeed();
    for pod in ["client", "server"] {
        for address in ["192.0.2.1:8000", "[2001:db8::1]:8000"] {
            let server = answer_once("server", 8080);
            ask(pod, address);
            server.join().unwrap();
        }
    }
    let loopback = Some("[::1]:8000").filter(|_| mode != Attachment::Bridge);
    for address in ["192.0.2.1:8000", "127.0.0.1:8000", "[2001:db8::1]:8000"].into_iter().chain(loopback) {
        let server = answer_once("server", 8080);
        let address: SocketAddr = address.parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, DEADLINE);
        assert!(stream.is_ok(), "{address} from the node: {stream:?}");
        stream.unwrap().read_to_string(&mut String::new()).unwrap();
        server.join().unwrap();
    }
    del("server");
}
in_every_mode!(host_ports_lead_to_pods_from_everywhere, "", host_ports);

#[test]
fn a_port_of_the_ipv6_loopback_alone_is_refused_to_a_pod_behind_the_bridge() {
    isolated("a_port_of_the_ipv6_loopback_alone_is_refused_to_a_pod_behind_the_bridge", || {
        node_of(Attachment::Bridge, &DUAL);
        table();
        let config = support::config_with_ports(&json!([{"hostPort": 1, "containerPort": 1, "hostIP": "::1"}]));
        let message = Call::of("ADD", "a", &netns("a")).config(&config).fail(104);
        assert!(message.contains("behind a bridge, and no packet for ::1 gets past one"), "{message}");
        assert!(leases().is_empty());
    });
}

/// Counts the frames from an Ethernet address that reach a pod.
fn count(pod: &str, from: &str) {
    sh(&format!(
        "ip netns exec {pod} nft 'table netdev seen {{
            chain seen {{
                type filter hook ingress device eth0 priority 0
                ether saddr {from} counter
            }}
        }}'"
    ));
}

/// How many there were.
fn counted(pod: &str) -> u64 {
    let rules = sh(&format!("ip netns exec {pod} nft list table netdev seen; ip netns exec {pod} nft flush ruleset"));
    let (_, counter) = rules.split_once("packets ").unwrap();
    counter.split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_frame_with_an_ethernet_address_that_is_not_the_pods_is_not_bridged() {
    isolated("a_frame_with_an_ethernet_address_that_is_not_the_pods_is_not_bridged", || {
        node_of(Attachment::Bridge, &DUAL);
        add("a");
        add("b");
        ping("ip netns exec a", "10.42.1.3");
        let victims = sh("ip netns exec b cat /sys/class/net/eth0/address");
        for foreign in ["02:00:00:00:00:07", victims.trim()] {
            let own = sh("ip netns exec a cat /sys/class/net/eth0/address");
            sh(&format!("ip -n a link set eth0 address {foreign}"));
            count("b", foreign);
            for target in ["10.42.1.3", "fd00:42::3", "10.42.1.1"] {
                sh(&format!("! ip netns exec a ping -n -c 1 -W 1 {target}"));
            }
            assert_eq!(counted("b"), 0, "frames of {foreign}");
            sh(&format!("ip -n a link set eth0 address {own}"));
            count("b", own.trim());
            ping("ip netns exec a", "10.42.1.3");
            assert!(counted("b") > 0);
            ping("ip netns exec b", "10.42.1.2");
        }
    });
}

#[test]
fn nobody_draws_the_packets_of_another_pod_from_the_node() {
    isolated("nobody_draws_the_packets_of_another_pod_from_the_node", || {
        node_of(Attachment::Bridge, &DUAL);
        add("a");
        add("b");
        // It has the other's address, and says so to everybody.
        sh("ip -n a addr add 10.42.1.3/24 dev eth0; ! ip netns exec a ping -n -c 1 -W 1 -I 10.42.1.3 10.42.1.1");
        count("b", sh("ip -br link show towbr0 | awk '{print $3}'").trim());
        ping("", "10.42.1.3");
        assert!(counted("b") > 0);
    });
}

#[test]
fn advice_of_routers_is_taken_by_no_pod() {
    isolated("advice_of_routers_is_taken_by_no_pod", || {
        node_of(Attachment::Bridge, &DUAL);
        add("a");
        add("b");
        ping("ip netns exec a", "fd00:42::3");
        let routes = || (sh("ip -n b -6 route"), sh("ip -6 route"), sh("ip -n b -o -6 addr"));
        let before = routes();
        advertise("a");
        // What was sent before has been dealt with when this is answered.
        ping("ip netns exec a", "fd00:42::3");
        ping("ip netns exec a", "fd00:42::1");
        assert_eq!(routes(), before);
    });
}

/// Sends a router advertisement (RFC 4861, section 4.2) with a prefix to all nodes, from a pod.
fn advertise(pod: &str) {
    let mut message = vec![134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend([3, 4, 64, 0xc0, 0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    message.extend("2001:db8:bad::".parse::<Ipv6Addr>().unwrap().octets());
    inside(pod, || {
        let raw = socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        set_ipv6_multicast_hops(&raw, 255).unwrap();
        let eth0 = sh("ip -o link show eth0").split(':').next().unwrap().parse().unwrap();
        let all = SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, eth0);
        sendto(&raw, &message, SendFlags::empty(), &all).unwrap();
    });
}

#[test]
fn without_the_bridge_or_its_gateway_a_pod_is_refused_for_now() {
    isolated("without_the_bridge_or_its_gateway_a_pod_is_refused_for_now", || {
        let mut content = node_json(&DUAL);
        content["attachment"] = json!("Bridge");
        write_node_json(&content);
        table();
        let path = netns("a");
        let message = Call::of("ADD", "a", &path).fail(11);
        assert!(message.contains("has not made the bridge towbr0 yet"), "{message}");
        assert!(Call::new("STATUS").fail(50).contains("has not made the bridge towbr0 yet"));
        assert!(leases().is_empty());
        node_of(Attachment::Bridge, &DUAL);
        Call::new("STATUS").succeed();
        sh("ip addr del 10.42.1.1/24 dev towbr0");
        let message = Call::of("ADD", "a", &path).fail(11);
        assert!(message.contains("the gateway 10.42.1.1 yet"), "{message}");
        sh("ip addr add 10.42.1.1/24 dev towbr0 noprefixroute");
        Call::of("ADD", "a", &path).succeed();
    });
}

#[test]
fn an_address_of_a_pod_whose_lease_was_lost_is_passed_over_and_the_lease_is_made_anew() {
    isolated("an_address_of_a_pod_whose_lease_was_lost_is_passed_over_and_the_lease_is_made_anew", || {
        node_of(Attachment::Bridge, &DUAL);
        let result = add("a");
        let before = leases();
        sh("rm -r /run/towpath/leases");
        assert_eq!(add("b")["ips"][0]["address"], "10.42.1.3/24");
        let swept = support::sweep();
        assert_eq!(swept.adopted.len(), 1);
        let after = leases();
        assert_eq!((after[0].mode, &after[0].addresses), (before[0].mode, &before[0].addresses));
        Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result)).succeed();
        sh("rm -r /run/towpath/leases");
        del("a");
        assert!(!sh("ip neigh show dev towbr0").contains("10.42.1.2 "));
    });
}

#[test]
fn what_of_a_port_is_altered_is_found() {
    isolated("what_of_a_port_is_altered_is_found", || {
        node_of(Attachment::Bridge, &DUAL);
        let veth = host_interface("a", "eth0");
        for (alteration, found) in [
            ("ip link set VETH nomaster", "no port of the bridge"),
            ("ip link set VETH type bridge_slave hairpin off", "no port of the bridge"),
            ("ip link set VETH type bridge_slave locked off", "no port of the bridge"),
            ("ip link set VETH type bridge_slave learning on", "no port of the bridge"),
            ("ip link set VETH type bridge_slave flood on", "no port of the bridge"),
            ("bridge fdb del MAC dev VETH master", "does not have MAC behind its port"),
            ("ip neigh replace 10.42.1.2 lladdr 02:00:00:00:00:07 dev towbr0", "neighbour 10.42.1.2 is believed"),
            ("ip -n a route del default", "in the pod: route 0.0.0.0/0"),
            ("ip -n a route del 10.42.1.0/30", "in the pod: route 10.42.1.0/30"),
        ] {
            write_node_json(&{
                let mut content = node_json(&["10.42.1.0/30"]);
                content["attachment"] = json!("Bridge");
                content
            });
            let result = add("a");
            let mac = result["interfaces"][1]["mac"].as_str().unwrap();
            sh(&alteration.replace("VETH", &veth).replace("MAC", mac));
            let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
            let message = check.fail(105);
            assert!(message.contains(&found.replace("MAC", mac)), "{alteration}: {message}");
            del("a");
            sh("ip netns del a");
        }
    });
}
