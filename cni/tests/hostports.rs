//! Ports of the node that lead to pods.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};

use serde_json::{Value, json};
use support::{Call, DEADLINE, config_with_ports, del, leases, netns, node, sh, table, traces};
use towpath_kernel::netns::Namespace;
use towpath_kernel::testing::isolated;

const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];

/// A host beside the node: 192.0.2.1 and `2001:db8::1` are the node, .2 and `::2` the host.
fn outside() -> Namespace {
    let path = netns("outside");
    sh("ip link add wire type veth peer name eth0 netns outside");
    sh("ip addr add 192.0.2.1/24 dev wire; ip addr add 192.0.2.9/24 dev wire");
    sh("ip addr add 2001:db8::1/64 dev wire nodad; ip link set wire up");
    sh("ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8::2/64 dev eth0 nodad");
    sh("ip -n outside link set eth0 up; ip -n outside route add default via 192.0.2.1");
    Namespace::open(path).unwrap()
}

fn add(name: &str, mappings: &Value) -> Value {
    Call::of("ADD", name, &netns(name)).config(&config_with_ports(mappings)).succeed().document
}

/// Answers every connection to port 80 of a pod with the pod's name.
fn serve(name: &'static str) {
    let pod = Namespace::open(format!("/run/netns/{name}")).unwrap();
    let listener = pod.run(|| TcpListener::bind("[::]:80").unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(name.as_bytes()).unwrap();
        }
    });
}

fn ask(from: &Namespace, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    let socket = from.run(|| TcpStream::connect_timeout(&to, DEADLINE)).unwrap();
    socket.and_then(|mut stream| {
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    })
}

#[test]
fn a_host_port_leads_to_the_pod_from_everywhere_and_closes_with_it() {
    isolated("a_host_port_leads_to_the_pod_from_everywhere_and_closes_with_it", || {
        node(&DUAL);
        table();
        let outside = outside();
        let here = Namespace::current().unwrap();
        let before = traces();
        add("a", &json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]));
        serve("a");
        for to in ["192.0.2.1:8080", "192.0.2.9:8080", "[2001:db8::1]:8080"] {
            assert_eq!(ask(&outside, to).unwrap(), "a", "{to}");
            assert_eq!(ask(&here, to).unwrap(), "a", "{to} from the node");
        }
        let pod = Namespace::open("/run/netns/a").unwrap();
        assert_eq!(ask(&pod, "192.0.2.1:8080").unwrap(), "a", "from the pod itself");
        // The second call of a runtime names neither ports nor namespace.
        Call::of("DEL", "a", "").succeed();
        assert!(ask(&outside, "192.0.2.1:8080").is_err());
        assert_eq!(traces(), before);
    });
}

#[test]
fn a_host_port_of_one_address_is_open_there_alone() {
    isolated("a_host_port_of_one_address_is_open_there_alone", || {
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
fn a_host_port_that_is_taken_refuses_the_pod_and_leaves_nothing() {
    isolated("a_host_port_that_is_taken_refuses_the_pod_and_leaves_nothing", || {
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
fn without_the_agents_table_a_pod_with_host_ports_waits_and_leaves_nothing() {
    isolated("without_the_agents_table_a_pod_with_host_ports_waits_and_leaves_nothing", || {
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
fn a_flow_of_datagrams_follows_its_port_from_pod_to_pod() {
    isolated("a_flow_of_datagrams_follows_its_port_from_pod_to_pod", || {
        node(&DUAL);
        table();
        let outside = outside();
        let client = outside.run(|| UdpSocket::bind("192.0.2.2:5353").unwrap()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let ports = json!([{"HostPort": 5000, "ContainerPort": 53, "Protocol": "UDP"}]);
        let reply = |name: &str| {
            let pod = Namespace::open(format!("/run/netns/{name}")).unwrap();
            let server = pod.run(|| UdpSocket::bind("0.0.0.0:53").unwrap()).unwrap();
            server.set_read_timeout(Some(DEADLINE)).unwrap();
            client.send_to(b"?", "192.0.2.1:5000").unwrap();
            let mut buffer = [0; 8];
            let (_, from) = server.recv_from(&mut buffer).unwrap_or_else(|e| panic!("{name} got nothing: {e}"));
            server.send_to(name.as_bytes(), from).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], name.as_bytes());
        };
        // Datagrams that came before any pod was there began a flow to the node itself.
        client.send_to(b"?", "192.0.2.1:5000").unwrap();
        add("a", &ports);
        reply("a");
        del("a");
        add("b", &ports);
        reply("b");
    });
}
