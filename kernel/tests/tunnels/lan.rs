//! A node with a pod, another node and a stranger on one wire, each in a namespace of its own.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use towpath_kernel::netns::Namespace;
use towpath_net::device::tunnel_mac;
use towpath_net::family::PerFamily;

use crate::packets::{self, PORT, Wrapping, packet, wrapped};

/// How long anything may take that is to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a program with words that have no blanks in them.
pub fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The node's own address, the other node's, and the stranger's.
pub const NODE: PerFamily<&str> = PerFamily { v4: "172.16.30.3", v6: "fd00:30::3" };
pub const OTHER: PerFamily<&str> = PerFamily { v4: "172.16.30.4", v6: "fd00:30::4" };
pub const STRANGER: PerFamily<&str> = PerFamily { v4: "172.16.30.9", v6: "fd00:30::9" };
/// The node's address on its tunnels, where inner packets are sent to.
pub const INSIDE: PerFamily<&str> = PerFamily { v4: "10.244.3.0", v6: "fd00:244:0:3::" };

/// Makes all of it, around the namespace of the caller.
pub fn make() {
    let mac = tunnel_mac(&"n3".into());
    let mut lines: Vec<String> = Vec::new();
    let mut line = |text: &str| lines.push(text.to_owned());
    for setting in ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0", "net.ipv4.ip_forward=1"] {
        line(&format!("sysctl -qw {setting}"));
    }
    line("ip netns add wire");
    line("ip -n wire link add wire0 type bridge");
    line("ip -n wire link set wire0 up");
    for (name, last) in [("", 3), ("other", 4), ("stranger", 9)] {
        let (at, port) = if name.is_empty() { (String::new(), "node") } else { (format!("-n {name} "), name) };
        if !name.is_empty() {
            line(&format!("ip netns add {name}"));
        }
        line(&format!("ip {at}link add eth0 type veth peer name {port} netns wire"));
        line(&format!("ip {at}address add 172.16.30.{last}/24 dev eth0"));
        line(&format!("ip {at}address add fd00:30::{last}/64 dev eth0 nodad"));
        line(&format!("ip {at}link set eth0 up"));
        line(&format!("ip -n wire link set {port} master wire0 up"));
    }
    line("ip netns add pod");
    line("ip link add tow000000000000 address 02:00:00:00:00:01 type veth peer name eth0 netns pod");
    line("ip link set tow000000000000 up");
    line("ip -n pod link set lo up");
    line("ip -n pod link set eth0 up");
    for address in ["10.244.3.2/32", "fd00:244:0:3::2/128"] {
        line(&format!("ip -n pod address add {address} dev eth0 nodad"));
    }
    for address in [OTHER.v4, OTHER.v6] {
        line(&format!("ip -n pod address add {address} dev lo"));
    }
    for (node, family) in [(NODE.v4, ""), (NODE.v6, "-6 ")] {
        line(&format!("ip {family}-n pod route add {node} dev eth0"));
        line(&format!("ip {family}-n pod neighbour add {node} lladdr 02:00:00:00:00:01 dev eth0"));
    }
    for (device, local, inside, prefix) in
        [("towvxlan4", NODE.v4, INSIDE.v4, 32), ("towvxlan6", NODE.v6, INSIDE.v6, 128)]
    {
        line(&format!("ip link add {device} address {mac} type vxlan id 4096 dstport 4789 local {local} nolearning"));
        line(&format!("ip address add {inside}/{prefix} dev {device} nodad"));
        line(&format!("ip link set {device} up"));
    }
    line(&format!("ip link add foreign address {mac} type vxlan id 77 dstport 4789 local {} nolearning", NODE.v4));
    line("ip link set foreign up");
    for line in &lines {
        run(line);
    }
    for name in ["other", "stranger"] {
        for address in [NODE.v4, NODE.v6] {
            wait_for(&format!("ip netns exec {name} ping -c 1 -W 1 {address}"));
        }
    }
}

/// Waits until a command succeeds.
fn wait_for(line: &str) {
    let end = Instant::now() + PATIENCE;
    let mut words = line.split_whitespace();
    let (program, words) = (words.next().unwrap(), words.collect::<Vec<_>>());
    while !Command::new(program).args(&words).output().unwrap().status.success() {
        assert!(Instant::now() < end, "{line} does not succeed");
    }
}

/// A packet in a tunnel, to the node.
#[derive(Clone, Copy)]
pub struct Forged {
    /// What it is, in words; it also carries them.
    pub what: &'static str,
    /// Where it is sent from: a namespace.
    pub place: &'static str,
    /// The outer source.
    pub outer: &'static str,
    /// The inner source.
    pub inner: &'static str,
    pub wrapping: Wrapping,
}

impl Forged {
    /// Sends it to an address of the node, for its address inside the tunnel.
    pub fn send(&self) {
        let (outer, inner): (IpAddr, IpAddr) = (self.outer.parse().unwrap(), self.inner.parse().unwrap());
        let of = |addresses: &PerFamily<&str>, like: IpAddr| -> IpAddr {
            if like.is_ipv4() { addresses.v4 } else { addresses.v6 }.parse().unwrap()
        };
        let content = wrapped(self.wrapping, tunnel_mac(&"n3".into()), &packet(inner, of(&INSIDE, inner), self.what));
        let place = Namespace::open(format!("/run/netns/{}", self.place)).unwrap();
        place.run(|| packets::send(outer, of(&NODE, outer), self.wrapping, &content)).unwrap();
    }
}

/// What listens inside the tunnel.
pub struct Listener {
    sockets: [UdpSocket; 2],
}

impl Listener {
    pub fn open() -> Self {
        let sockets = [INSIDE.v4, INSIDE.v6].map(|inside| {
            let socket = UdpSocket::bind((inside, PORT)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        });
        Self { sockets }
    }

    /// Sends a packet, and behind it one of the same family that always arrives; tells whether the first did.
    pub fn arrives(&self, forged: &Forged) -> bool {
        let is_v4 = forged.inner.contains('.');
        let (outer, inner) = if is_v4 { (OTHER.v4, "10.244.4.9") } else { (OTHER.v6, "fd00:244:0:4::9") };
        let what = "always arrives";
        let marker = Forged { what, place: "other", outer, inner, wrapping: Wrapping::Vxlan { vni: 4096 } };
        forged.send();
        marker.send();
        let socket = &self.sockets[usize::from(!is_v4)];
        let mut buffer = [0; 200];
        let mut arrived = false;
        loop {
            let len = socket.recv(&mut buffer).unwrap();
            match std::str::from_utf8(&buffer[..len]).unwrap() {
                text if text == what => return arrived,
                text => arrived |= text == forged.what,
            }
        }
    }
}
