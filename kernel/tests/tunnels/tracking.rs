//! Which packets the kernel follows as connections.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use towpath_kernel::testing::isolated;
use towpath_net::transport::Transport;

use crate::lan::{self, Listener, STRANGER};
use crate::support::{NODE, OTHER, PATIENCE, POD_LINK, inside, run};
use crate::{close, forged};

/// The port of VXLAN.
const TUNNEL: u16 = 4789;

/// How many connections to the tunnel's port between two addresses are followed.
fn followed(from: &str, to: &str) -> usize {
    let family = if from.contains('.') { "ipv4" } else { "ipv6" };
    run(&format!("conntrack -L -f {family} -p udp --orig-src {from} --orig-dst {to} --dport {TUNNEL}")).lines().count()
}

#[test]
fn what_tunnels_send_and_take_is_not_followed_and_what_is_inside_is() {
    isolated("tracking::what_tunnels_send_and_take_is_not_followed_and_what_is_inside_is", || {
        lan::make();
        let listener = Listener::open();
        close(vec![Transport::Vxlan]);
        let cases =
            [(NODE.v4, OTHER.v4, STRANGER.v4, "10.244.4.2"), (NODE.v6, OTHER.v6, STRANGER.v6, "fd00:244:0:4::2")];
        for (node, other, stranger, pod) in cases {
            assert!(listener.arrives(&forged("from a node", "other", other, pod)));
            assert_eq!(followed(other, node), 0, "what arrives from {other}");
            let family = if pod.contains('.') { "ipv4" } else { "ipv6" };
            let known = run(&format!("conntrack -L -f {family} -p udp --orig-src {pod}"));
            assert_eq!(known.lines().count(), 1, "what is inside, from {pod}: {known}");
            let own = UdpSocket::bind((node, 0)).unwrap();
            for to in [other, stranger] {
                own.send_to(b"", (to, TUNNEL)).unwrap();
            }
            assert_eq!(followed(node, other), 0, "what leaves for {other}");
            assert_eq!(followed(node, stranger), 1, "what leaves for {stranger}, who is no node");
        }
    });
}

#[test]
fn pods_reach_that_port_of_somebody_else_by_the_nodes_address() {
    isolated("tracking::pods_reach_that_port_of_somebody_else_by_the_nodes_address", || {
        lan::make();
        close(vec![Transport::Vxlan]);
        for (node, pod, stranger) in [(NODE.v4, "10.244.3.2", STRANGER.v4), (NODE.v6, "fd00:244:0:3::2", STRANGER.v6)] {
            let (family, len) = if node.contains('.') { ("", 32) } else { ("-6 ", 128) };
            run(&format!("ip {family}route add {pod}/{len} dev {POD_LINK}"));
            run(&format!("ip {family}-n pod route add {stranger} via {node} dev eth0 src {pod}"));
            let listener = inside("stranger", || UdpSocket::bind((stranger, TUNNEL)).unwrap());
            listener.set_read_timeout(Some(PATIENCE)).unwrap();
            let to = SocketAddr::new(stranger.parse().unwrap(), TUNNEL);
            inside("pod", || UdpSocket::bind((pod, 0)).unwrap().send_to(b"", to).unwrap());
            let from = listener.recv_from(&mut [0; 8]).unwrap().1.ip();
            assert_eq!(from, node.parse::<IpAddr>().unwrap());
            assert_eq!(followed(pod, stranger), 1);
        }
    });
}
