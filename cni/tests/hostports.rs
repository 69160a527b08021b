//! Ports of the node that lead to pods.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "hostports/hosts.rs"]
mod hosts;
#[path = "hostports/sctp.rs"]
mod sctp;
mod support;

use std::fs;
use std::net::{TcpListener, UdpSocket};

use hosts::{add, answer, ask, ask_as, outside, serve, setting};
use serde_json::json;
use support::{
    Call, DEADLINE, config_after, config_with_ports, del, leases, netns, node, node_state, sh, table, traces,
};
use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::{Kernel as _, converge, sysctls_of};
use towpath_kernel::netns::Namespace;
use towpath_kernel::sysctl::{ROOT, Sysctls};
use towpath_kernel::testing::isolated;
use towpath_net::observed::Surroundings;
use towpath_net::render::render;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

#[test]
fn c32_a_host_port_leads_to_the_pod_from_everywhere_and_closes_with_it() {
    isolated("c32_a_host_port_leads_to_the_pod_from_everywhere_and_closes_with_it", || {
        node(&DUAL);
        table();
        let outside = outside();
        let here = Namespace::current().unwrap();
        let before = traces();
        add("a", &json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]));
        serve("a");
        add("b", &json!([]));
        let [pod, other] = ["a", "b"].map(|name| Namespace::open(format!("/run/netns/{name}")).unwrap());
        for to in ["192.0.2.1:8080", "192.0.2.9:8080", "[2001:db8::1]:8080"] {
            assert_eq!(ask(&outside, to).unwrap(), "a", "{to}");
            assert_eq!(ask(&here, to).unwrap(), "a", "{to} from the node");
            assert_eq!(ask(&other, to).unwrap(), "a", "{to} from another pod");
            assert_eq!(ask(&pod, to).unwrap(), "a", "{to} from the pod itself");
        }
        for to in ["127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask(&here, to).unwrap(), "a", "{to}");
        }
        del("b");
        sh("ip netns delete b");
        // The second call of a runtime names neither ports nor namespace.
        Call::of("DEL", "a", "").succeed();
        for to in ["192.0.2.1:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert!(ask(&here, to).is_err(), "{to}");
        }
        assert!(ask(&outside, "192.0.2.1:8080").is_err());
        assert_eq!(traces(), before);
    });
}

#[test]
fn c32_a_program_of_the_node_keeps_its_port_of_the_loopback() {
    isolated("c32_a_program_of_the_node_keeps_its_port_of_the_loopback", || {
        node(&DUAL);
        table();
        let outside = outside();
        let here = Namespace::current().unwrap();
        let program = TcpListener::bind("127.0.0.1:8080").unwrap();
        answer(program, "program");
        answer(TcpListener::bind("[::]:8081").unwrap(), "of all addresses");
        add("a", &json!([{"hostPort": 8080, "containerPort": 80}, {"hostPort": 8081, "containerPort": 80}]));
        serve("a");
        assert_eq!(ask(&here, "127.0.0.1:8080").unwrap(), "program");
        assert_eq!(ask(&here, "[::1]:8080").unwrap(), "a", "nobody listened there");
        assert_eq!(ask(&here, "192.0.2.1:8080").unwrap(), "a");
        for loopback in ["127.0.0.1:8081", "[::1]:8081"] {
            assert_eq!(ask(&here, loopback).unwrap(), "of all addresses");
        }
        assert_eq!(ask(&outside, "[2001:db8::1]:8081").unwrap(), "a", "the node's other addresses lead to the pod");
        assert_eq!(ask(&outside, "192.0.2.1:8080").unwrap(), "a");
    });
}

#[test]
fn c32_a_port_of_the_loopback_is_open_to_the_node_alone() {
    isolated("c32_a_port_of_the_loopback_is_open_to_the_node_alone", || {
        node(&DUAL);
        table();
        let outside = outside();
        let here = Namespace::current().unwrap();
        add(
            "a",
            &json!([
                {"hostPort": 8080, "containerPort": 80, "hostIP": "127.0.0.1"},
                {"hostPort": 8080, "containerPort": 80, "hostIP": "::1"},
            ]),
        );
        serve("a");
        for to in ["127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(ask(&here, to).unwrap(), "a", "{to}");
        }
        assert_eq!(ask_as("192.0.2.1", "127.0.0.1:8080").unwrap(), "a", "as a program that chose its own address");
        for to in ["192.0.2.1:8080", "[2001:db8::1]:8080"] {
            assert!(ask(&here, to).is_err(), "{to}");
            assert!(ask(&outside, to).is_err(), "{to}");
        }
    });
}

#[test]
fn c32_no_neighbour_reaches_what_is_open_on_the_nodes_loopback() {
    isolated("c32_no_neighbour_reaches_what_is_open_on_the_nodes_loopback", || {
        node(&DUAL);
        table();
        let outside = outside();
        let port = json!({"hostPort": 9090, "containerPort": 90, "protocol": "udp"});
        let (mut any, mut here) = (port.clone(), port);
        any["hostPort"] = 9091.into();
        here["hostIP"] = "127.0.0.1".into();
        add("a", &json!([here, any]));
        let program = Namespace::open("/run/netns/a").unwrap().run(|| UdpSocket::bind("0.0.0.0:90").unwrap()).unwrap();
        program.set_read_timeout(Some(DEADLINE)).unwrap();
        // What a host on the same wire can do to send packets to an address that no host may send to.
        sh("ip -n outside link set lo down; ip -n outside route add 127.0.0.1 via 192.0.2.1");
        sh("ip netns exec outside sysctl -qw net.ipv4.conf.all.route_localnet=1");
        let send = |text: &'static str, to: &'static str| {
            outside.run(|| UdpSocket::bind("192.0.2.2:0").unwrap().send_to(text.as_bytes(), to).unwrap()).unwrap()
        };
        send("to the loopback", "127.0.0.1:9090");
        send("to the loopback", "127.0.0.1:9091");
        send("to the node", "192.0.2.1:9091");
        let mut buffer = [0; 32];
        let length = program.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"to the node", "the first to arrive");
    });
}

#[test]
fn c32_no_pod_reaches_what_listens_on_the_nodes_loopback() {
    isolated("c32_no_pod_reaches_what_listens_on_the_nodes_loopback", || {
        node(&DUAL);
        table();
        let program = UdpSocket::bind("127.0.0.1:9090").unwrap();
        program.set_read_timeout(Some(DEADLINE)).unwrap();
        add("a", &json!([{"hostPort": 8080, "containerPort": 80}]));
        assert_eq!(fs::read_to_string(setting("a")).unwrap(), "1\n", "the kernel itself lets such packets in");
        // What a pod with every privilege in its namespace can do to send them.
        sh("ip -n a link set lo down; ip -n a route add 127.0.0.1 via 10.244.1.1");
        sh("ip netns exec a sysctl -qw net.ipv4.conf.all.route_localnet=1");
        let pod = Namespace::open("/run/netns/a").unwrap();
        let send = |text: &'static str| {
            pod.run(|| UdpSocket::bind("10.244.1.2:0").unwrap().send_to(text.as_bytes(), "127.0.0.1:9090").unwrap())
                .unwrap()
        };
        send("guarded");
        sh("nft flush chain inet towpath guard");
        send("not guarded");
        let mut buffer = [0; 32];
        let length = program.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"not guarded", "the first to arrive");
    });
}

#[test]
fn c32_a_host_port_of_one_address_is_open_there_alone() {
    isolated("c32_a_host_port_of_one_address_is_open_there_alone", || {
        node(&DUAL);
        table();
        let outside = outside();
        add("a", &json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.9"}]));
        serve("a");
        assert_eq!(ask(&outside, "192.0.2.9:8080").unwrap(), "a");
        assert!(ask(&outside, "192.0.2.1:8080").is_err());
        // The same port of another address may be another pod's.
        add("b", &json!([{"hostPort": 8080, "containerPort": 80, "hostIP": "192.0.2.1"}]));
        serve("b");
        assert_eq!(ask(&outside, "192.0.2.1:8080").unwrap(), "b");
        del("a");
        assert_eq!(ask(&outside, "192.0.2.1:8080").unwrap(), "b");
    });
}

#[test]
fn c32_a_host_port_that_is_taken_refuses_the_pod_and_leaves_nothing() {
    isolated("c32_a_host_port_that_is_taken_refuses_the_pod_and_leaves_nothing", || {
        node(&DUAL);
        table();
        add("a", &json!([{"hostPort": 8080, "containerPort": 80}]));
        let path = netns("b");
        let before = traces();
        for host_ip in ["", "0.0.0.0", "::", "192.0.2.1"] {
            let ports = config_with_ports(&json!([
                {"hostPort": 9090, "containerPort": 80},
                {"hostPort": 8080, "containerPort": 80, "hostIP": host_ip},
            ]));
            let message = Call::of("ADD", "b", &path).config(&ports).fail(103);
            assert!(message.contains("of this node is taken by a/eth0"), "{message}");
        }
        assert_eq!(traces(), before);
        let udp = config_with_ports(&json!([{"hostPort": 8080, "containerPort": 80, "protocol": "udp"}]));
        Call::of("ADD", "b", &path).config(&udp).succeed();
    });
}

#[test]
fn c32_without_the_agents_table_a_pod_with_host_ports_waits_and_leaves_nothing() {
    isolated("c32_without_the_agents_table_a_pod_with_host_ports_waits_and_leaves_nothing", || {
        node(&DUAL);
        let path = netns("a");
        let before = traces();
        let ports = config_with_ports(&json!([{"hostPort": 8080, "containerPort": 80}]));
        let message = Call::of("ADD", "a", &path).config(&ports).fail(11);
        assert!(message.contains("is the agent running?"), "{message}");
        assert_eq!(traces(), before);
        table();
        Call::of("ADD", "a", &path).config(&ports).succeed();
        // The table went with the agent: detaching does not need it.
        sh("nft delete table inet towpath");
        del("a");
        assert!(leases().is_empty());
    });
}

#[test]
fn c32_a_flow_of_datagrams_follows_its_port_from_pod_to_pod() {
    isolated("c32_a_flow_of_datagrams_follows_its_port_from_pod_to_pod", || {
        node(&DUAL);
        table();
        let outside = outside();
        let clients =
            [("192.0.2.2:5353", "192.0.2.1:5000"), ("[2001:db8::2]:5353", "[2001:db8::1]:5000")].map(|(own, to)| {
                let client = outside.run(|| UdpSocket::bind(own).unwrap()).unwrap();
                client.set_read_timeout(Some(DEADLINE)).unwrap();
                (client, to)
            });
        let ports = json!([{"HostPort": 5000, "ContainerPort": 53, "Protocol": "UDP"}]);
        let reply_to = |name: &str, (client, to): &(UdpSocket, &str)| {
            let pod = Namespace::open(format!("/run/netns/{name}")).unwrap();
            let server = pod.run(|| UdpSocket::bind("[::]:53").unwrap()).unwrap();
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            client.send_to(b"?", to).unwrap();
            let mut buffer = [0; 8];
            let (_, from) = server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{name} got nothing: {e}"));
            server.send_to(name.as_bytes(), from).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], name.as_bytes());
        };
        let reply = |name: &str| clients.iter().for_each(|client| reply_to(name, client));
        // Datagrams that came before any pod was there began a flow to the node itself.
        for (client, to) in &clients {
            client.send_to(b"?", to).unwrap();
        }
        add("a", &ports);
        reply("a");
        del("a");
        add("b", &ports);
        reply("b");
    });
}

#[test]
fn c32_flows_to_the_same_port_of_other_hosts_go_on() {
    isolated("c32_flows_to_the_same_port_of_other_hosts_go_on", || {
        node(&DUAL);
        table();
        // Without what connection tracking knows, no answer finds the pod.
        sh(
            "nft 'table ip elsewhere { chain out { type nat hook postrouting priority 100; oifname wire masquerade; }; }'",
        );
        let outside = outside();
        let server = outside.run(|| UdpSocket::bind("192.0.2.2:5000").unwrap()).unwrap();
        server.set_read_timeout(Some(DEADLINE)).unwrap();
        add("a", &json!([]));
        let pod = Namespace::open("/run/netns/a").unwrap();
        let client = pod.run(|| UdpSocket::bind("10.244.1.2:0").unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        client.send_to(b"?", "192.0.2.2:5000").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(from.ip().to_string(), "192.0.2.1");
        add("b", &json!([{"hostPort": 5000, "containerPort": 53, "protocol": "udp"}]));
        del("b");
        server.send_to(b"!", from).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
    });
}

#[test]
fn c32_check_finds_a_loopback_that_was_closed() {
    isolated("c32_check_finds_a_loopback_that_was_closed", || {
        node(&DUAL);
        table();
        let result = add("a", &json!([{"hostPort": 8080, "containerPort": 80}]));
        let check = Call::of("CHECK", "a", "/run/netns/a").config(&config_after(&result));
        check.succeed();
        fs::write(setting("a"), "0").unwrap();
        let message = check.fail(105);
        assert!(message.contains("route_localnet is not 1"), "{message}");
        fs::write(setting("a"), "1").unwrap();
        sh("ip -6 route flush table local proto 117");
        let message = check.fail(105);
        assert!(message.contains("address ::1/128 is missing"), "{message}");
    });
}

#[test]
fn c32_the_agent_finds_nothing_to_mend_about_a_new_pod() {
    isolated("c32_the_agent_finds_nothing_to_mend_about_a_new_pod", || {
        node(&DUAL);
        let mut kernel = HostKernel::open(Sysctls::below(ROOT)).unwrap();
        let mut turn = || {
            let desired = render(&node_state(), &leases(), &Surroundings::default(), None).desired;
            let seen = kernel.observe(&sysctls_of(&desired)).unwrap();
            converge(&mut kernel, &desired, &seen)
        };
        turn();
        let mut config = config_with_ports(&json!([
            {"hostPort": 8080, "containerPort": 80},
            {"hostPort": 8081, "containerPort": 80, "hostIP": "192.0.2.1", "protocol": "udp"},
            {"hostPort": 8082, "containerPort": 80, "hostIP": "::1", "protocol": "sctp"},
        ]));
        config["runtimeConfig"]["bandwidth"] = json!({"ingressRate": 8_000_000, "egressRate": 8_000_000});
        Call::of("ADD", "a", &netns("a")).config(&config).succeed();
        let report = turn();
        assert!(report.done.is_empty() && report.is_complete(), "{report:?}");
    });
}

#[test]
fn c32_ports_of_sctp_lead_to_the_pod() {
    isolated("c32_ports_of_sctp_lead_to_the_pod", || {
        node(&DUAL);
        table();
        let outside = outside();
        add("a", &json!([{"hostPort": 5000, "containerPort": 80, "protocol": "SCTP"}]));
        let pod = Namespace::open("/run/netns/a").unwrap();
        let (client, server) = (sctp::Raw::open(&outside), sctp::Raw::open(&pod));
        client.send("192.0.2.1", &sctp::initiation(4000, 5000));
        assert_eq!(server.receive(), ("192.0.2.2".parse().unwrap(), sctp::Ports { from: 4000, to: 80 }));
        server.send("192.0.2.2", &sctp::acknowledgement(80, 4000));
        assert_eq!(client.receive(), ("192.0.2.1".parse().unwrap(), sctp::Ports { from: 5000, to: 4000 }));
    });
}

#[test]
fn c32_a_kernel_that_cannot_follow_sctp_is_named() {
    isolated("c32_a_kernel_that_cannot_follow_sctp_is_named", || {
        node(&DUAL);
        table();
        let path = netns("a");
        let before = traces();
        let folder = "/proc/sys/net/netfilter";
        sh(&format!("mount -t tmpfs none {folder}; echo 30 > {folder}/nf_conntrack_udp_timeout"));
        let ports = config_with_ports(&json!([{"hostPort": 5000, "containerPort": 80, "protocol": "sctp"}]));
        let message = Call::of("ADD", "a", &path).config(&ports).fail(104);
        assert!(
            message.contains("Sctp port 5000 cannot be opened") && message.contains("CONFIG_NF_CT_PROTO_SCTP"),
            "{message}"
        );
        assert_eq!(traces(), before);
        sh(&format!("umount {folder}"));
        Call::of("ADD", "a", &path).config(&ports).succeed();
    });
}
