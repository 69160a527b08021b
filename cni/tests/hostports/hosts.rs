//! Who has ports, and who asks for them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::Value;
use towpath_kernel::netns::Namespace;

use crate::support::{Call, DEADLINE, config_with_ports, netns, sh};

/// A host beside the node: 192.0.2.1 and `2001:db8::1` are the node, .2 and `::2` the host.
pub fn outside() -> Namespace {
    let path = netns("outside");
    sh("ip link add wire type veth peer name eth0 netns outside");
    sh("ip addr add 192.0.2.1/24 dev wire; ip addr add 192.0.2.9/24 dev wire");
    sh("ip addr add 2001:db8::1/64 dev wire nodad; ip link set wire up");
    sh("ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add 2001:db8::2/64 dev eth0 nodad");
    sh("ip -n outside link set eth0 up; ip -n outside route add default via 192.0.2.1");
    Namespace::open(path).unwrap()
}

pub fn add(name: &str, mappings: &Value) -> Value {
    Call::of("ADD", name, &netns(name)).config(&config_with_ports(mappings)).succeed().document
}

/// Answers every connection to port 80 of a pod with the pod's name.
pub fn serve(name: &'static str) {
    let pod = Namespace::open(format!("/run/netns/{name}")).unwrap();
    answer(pod.run(|| TcpListener::bind("[::]:80").unwrap()).unwrap(), name);
}

/// Answers every connection with a text.
pub fn answer(listener: TcpListener, text: &'static str) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            stream.unwrap().write_all(text.as_bytes()).unwrap();
        }
    });
}

pub fn ask(from: &Namespace, to: &str) -> std::io::Result<String> {
    let to: SocketAddr = to.parse().unwrap();
    from.run(|| TcpStream::connect_timeout(&to, DEADLINE)).unwrap().and_then(hear)
}

/// Asks from this namespace and an address of it.
pub fn ask_as(from: &str, to: &str) -> std::io::Result<String> {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let (from, to): (std::net::IpAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&stream, &SocketAddr::new(from, 0))?;
    connect(&stream, &to)?;
    hear(TcpStream::from(stream))
}

fn hear(mut stream: TcpStream) -> std::io::Result<String> {
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}

/// The file of the setting that lets packets from and to the loopback pass the link of a pod.
pub fn setting(container: &str) -> String {
    let link = towpath_net::lease::host_interface(container, "eth0");
    format!("/proc/sys/net/ipv4/conf/{link}/route_localnet")
}
