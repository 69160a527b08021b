//! The same by hand: two nodes on the same wire, their pods, plain routes, a tunnel, and one rule that masquerades.

use std::net::IpAddr;

use crate::{
    ground::{Named, Spot, Uplink, connect},
    link::Path,
};

/// What every pod network has, and kube-proxy too: the kernel follows connections, on which packets spend most of what
/// they spend in filters.
const MASQUERADE: &str = "nft 'add table inet hand; add chain inet hand leave { type nat hook postrouting priority srcnat; }; \
                          add rule inet hand leave ip saddr 10.50.0.0/15 ip daddr != 10.50.0.0/15 masquerade'";

/// Two nodes, and three pods with a pair of links each.
pub struct Nodes {
    hosts: [Named; 2],
    /// Two of the first node, one of the second.
    pods: [Named; 3],
    /// One of each, behind the tunnel.
    wrapped: [Named; 2],
}

fn spot(name: &'static str, port: &'static str, last: u8) -> Spot {
    let addresses = [format!("172.16.1.{last}/24"), format!("fd00:16:1::{last}/64")];
    let addresses = addresses.map(|address| address.parse().unwrap());
    Spot {
        name,
        uplinks: vec![Uplink { link: "eth0", port, subnet: 1, addresses }],
        pod_cidrs: [format!("10.50.{last}.0/24"), format!("fd00:50:0:{last}::/64")].map(|text| text.parse().unwrap()),
    }
}

/// A pod's pair of links, with an address of its own and a route to it.
fn pod(node: &Named, name: &str, host: &str, address: &str, mtu: u32) -> Named {
    let pod = Named::make(name);
    node.ip(&format!(
        "link add {host} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}\nlink set {host} up\n"
    ));
    pod.ip(&format!(
        "link set lo up\nlink set eth0 up\naddress add {address}/32 dev eth0\nroute add 10.50.0.1 dev eth0\n\
         route add default via 10.50.0.1 dev eth0\n"
    ));
    node.ip(&format!("address add 10.50.0.1/32 dev {host}\nroute add {address} dev {host}\n"));
    pod
}

impl Nodes {
    pub fn make(wire: &Named) -> Self {
        let nodes =
            [("h1", "w4", 21), ("h2", "w5", 22)].map(|(name, port, last)| connect(wire, &spot(name, port, last)));
        for node in &nodes {
            node.set("ipv4/ip_forward", "1");
            assert_eq!(node.sh(MASQUERADE), "");
        }
        nodes[0].ip("route add 10.50.22.0/24 via 172.16.1.22 dev eth0\n");
        nodes[1].ip("route add 10.50.21.0/24 via 172.16.1.21 dev eth0\n");
        let pods = [
            pod(&nodes[0], "h1-a", "va", "10.50.21.2", 1500),
            pod(&nodes[0], "h1-b", "vb", "10.50.21.3", 1500),
            pod(&nodes[1], "h2-a", "va", "10.50.22.2", 1500),
        ];
        let wrapped =
            [pod(&nodes[0], "h1-w", "vw", "10.51.21.2", 1450), pod(&nodes[1], "h2-w", "vw", "10.51.22.2", 1450)];
        Self { hosts: nodes, pods, wrapped }
    }

    /// Makes the tunnel.
    pub fn wrap(&self) {
        for (node, own, other) in [(&self.hosts[0], 21, 22), (&self.hosts[1], 22, 21)] {
            let mac = |last: u8| format!("02:00:00:00:01:{last:02x}");
            node.ip(&format!(
                "link add vx mtu 1450 address {} type vxlan id 9 dstport 4790 local 172.16.1.{own} nolearning\n\
                 address add 10.51.{own}.0/32 dev vx\nlink set vx up\n\
                 neighbour add 10.51.{other}.0 lladdr {} dev vx nud permanent\n\
                 route add 10.51.{other}.0/24 via 10.51.{other}.0 dev vx onlink\n",
                mac(own),
                mac(other)
            ));
            let said = node.sh(&format!("bridge fdb add {} dev vx dst 172.16.1.{other} self permanent", mac(other)));
            assert_eq!(said, "");
        }
    }

    fn path<'a>(from: &'a Named, to: &'a Named, address: &str) -> Path<'a> {
        Path { from, to, address: address.parse::<IpAddr>().unwrap() }
    }

    /// Between pods of one node.
    pub fn near(&self) -> Path<'_> {
        Self::path(&self.pods[0], &self.pods[1], "10.50.21.3")
    }

    /// Between pods of two nodes, by plain routes.
    pub fn direct(&self) -> Path<'_> {
        Self::path(&self.pods[0], &self.pods[2], "10.50.22.2")
    }

    /// The same through the tunnel.
    pub fn wrapped(&self) -> Path<'_> {
        Self::path(&self.wrapped[0], &self.wrapped[1], "10.51.22.2")
    }
}
