//! What is sent into the tunnels of a node, and what comes out of them.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use towpath_net::device::tunnel_mac;
use towpath_net::family::PerFamily;

use crate::packets::{self, PORT, Wrapping, packet, wrapped};
use crate::support::{self, NODE, OTHER, PATIENCE, POD_LINK_MAC, inside, run, wait_for};

/// The address of somebody on the wire who is no node.
pub const STRANGER: PerFamily<&str> = PerFamily { v4: "172.16.30.9", v6: "fd00:30::9" };
/// The node's address on its tunnels, where inner packets are sent to.
const INSIDE: PerFamily<&str> = PerFamily { v4: "10.244.3.0", v6: "fd00:244:0:3::" };

/// Makes the node, with tunnels, and with a pod that can say it is another node.
pub fn make() {
    support::make(&[("other", 4), ("stranger", 9)]);
    for address in [OTHER.v4, OTHER.v6] {
        run(&format!("ip -n pod address add {address} dev lo"));
    }
    for (node, family) in [(NODE.v4, ""), (NODE.v6, "-6 ")] {
        run(&format!("ip {family}-n pod route add {node} dev eth0"));
        run(&format!("ip {family}-n pod neighbour add {node} lladdr {POD_LINK_MAC} dev eth0"));
    }
    let mac = tunnel_mac(&"n3".into());
    for (device, local, inside, prefix) in
        [("towvxlan4", NODE.v4, INSIDE.v4, 32), ("towvxlan6", NODE.v6, INSIDE.v6, 128)]
    {
        run(&format!("ip link add {device} address {mac} type vxlan id 4096 dstport 4789 local {local} nolearning"));
        run(&format!("ip address add {inside}/{prefix} dev {device} nodad"));
        run(&format!("ip link set {device} up"));
        // The kernel takes packets for it a moment later, if it is of IPv6.
        wait_for(&format!("ping -c 1 -W 1 {inside}"));
    }
    run(&format!("ip link add foreign address {mac} type vxlan id 77 dstport 4789 local {} nolearning", NODE.v4));
    run("ip link set foreign up");
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
    /// Sends it to the node's own address, for its address inside the tunnel.
    pub fn send(&self) {
        let node = if self.outer.contains('.') { NODE.v4 } else { NODE.v6 };
        self.send_to(SocketAddr::new(node.parse().unwrap(), packets::port(self.wrapping)));
    }

    /// Sends it to any address and port, for the node's address inside the tunnel.
    pub fn send_to(&self, to: SocketAddr) {
        let (outer, inner): (IpAddr, IpAddr) = (self.outer.parse().unwrap(), self.inner.parse().unwrap());
        let within = if inner.is_ipv4() { INSIDE.v4 } else { INSIDE.v6 }.parse().unwrap();
        let content = wrapped(self.wrapping, tunnel_mac(&"n3".into()), &packet(inner, within, self.what));
        inside(self.place, || packets::send(outer, to, self.wrapping, &content));
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
        self.arrives_when(forged, Forged::send)
    }

    /// The same, sent in another way.
    pub fn arrives_when(&self, forged: &Forged, send: impl FnOnce(&Forged)) -> bool {
        let is_v4 = forged.inner.contains('.');
        let (outer, inner) = if is_v4 { (OTHER.v4, "10.244.4.9") } else { (OTHER.v6, "fd00:244:0:4::9") };
        let what = "always arrives";
        let marker = Forged { what, place: "other", outer, inner, wrapping: Wrapping::Vxlan { vni: 4096 } };
        send(forged);
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
