//! Nodes with two uplinks: each packet leaves by the one that leads to its peer, as large as that carries, and an uplink
//! that goes takes nothing with it that the other one carries.

use std::{collections::BTreeMap, fmt::Write as _};

use serde_json::Value;
use towpath_e2e::rows::{Rows, exactly};
use towpath_net::{
    family::Family,
    transport::{Transport, Transports},
};

use crate::{
    ground::{Uplink, spots_with_two_uplinks},
    network::{Network, timed},
    node::{Node, Pod, Setting, wait_for},
    probe::{self, Outside, Wire},
};

/// Outside of the cluster: behind the first uplink, by the way to everywhere else, and behind the second.
const OUTSIDE: [[&str; 2]; 2] = [["192.0.2.1", "2001:db8:1::1"], ["198.51.100.1", "2001:db8:2::1"]];
/// What the second subnet carries, in bytes: more than the first, and less.
const MTUS: [u32; 3] = [9000, 1400, 1500];
/// More than what belongs to a link, and less than what is sent to a pod.
const SOME: u64 = 20_000;

/// Everything with plain routes, then with VXLAN.
pub fn each_packet_leaves_by_the_uplink_that_leads_to_its_peer() {
    let network = Network::of(spots_with_two_uplinks());
    for node in &network.nodes {
        // An answer may come by the other uplink: the strict filter of sources (RFC 3704) would drop it.
        node.ground.set("ipv4/conf/all/rp_filter", "2");
    }
    for outside in OUTSIDE.as_flattened() {
        network.wire.ip(&format!("address add {outside} dev lo"));
    }
    network.nodes[0].ground.ip(BEYOND);
    network.start();
    for transport in [Transport::Direct, Transport::Vxlan] {
        let setting = Setting::of_transport(Transports::only(transport));
        timed(&format!("{transport}, two uplinks"), || {
            network.settle(&setting);
            routes(&network, transport);
            for mtu in MTUS {
                carries(&network, transport, mtu);
            }
            let pods: Vec<_> = network.nodes.iter().map(|node| node.attach("pod")).collect();
            masqueraded(&network, &pods[0]);
            for outage in OUTAGES {
                timed(&format!("  {}", outage.what), || outage.passes(&network, &pods, transport));
            }
            pods.into_iter().for_each(Pod::detach);
        });
    }
    assert_eq!(network.fragments(), BTreeMap::new(), "there were fragments");
}

/// The ways of the first node that lead by its second uplink.
const BEYOND: &str = "route replace 198.51.100.0/24 via 172.16.2.1 dev eth1
route replace 2001:db8:2::/64 via fd00:16:2::1 dev eth1
";

/// Where the routes of the first node lead.
fn routes(network: &Network, transport: Transport) {
    let mut rows = Rows::new("two uplinks");
    let by = |number: usize, link: &str| {
        let spot = &network.nodes[number].spot;
        let ways = spot.pod_cidrs.into_iter().zip(spot.addresses());
        let way = |(cidr, address): (ipnet::IpNet, ipnet::IpNet)| format!("{cidr} via {} dev {link}", address.addr());
        ways.map(way).collect::<Vec<_>>()
    };
    let expected = match transport {
        Transport::Direct => [by(1, "eth0"), by(2, "eth1")].concat(),
        _ => [1, 2].map(|number| tunnelled(&network.nodes[number])).concat(),
    };
    let command = "ip route show proto 117 type unicast; ip -6 route show proto 117 type unicast";
    rows.row("routes to peers", command, &exactly(expected), || Ok(network.nodes[0].ground.sh(command)));
    rows.finish();
}

fn tunnelled(node: &Node) -> Vec<String> {
    node.spot
        .pod_cidrs
        .into_iter()
        .zip(["towvxlan4", "towvxlan6"])
        .map(|(cidr, link)| format!("{cidr} dev {link}"))
        .collect()
}

/// Gives the second subnet an MTU; new pods of the nodes in it follow, and reach each other by packets of that size.
fn carries(network: &Network, transport: Transport, mtu: u32) {
    let Network { nodes, wire, .. } = network;
    wire.ip(&format!("link set x1 mtu {mtu}\nlink set w3 mtu {mtu}\nlink set br2 mtu {mtu}\n"));
    nodes[0].ground.ip(&format!("link set eth1 mtu {mtu}\n"));
    nodes[2].ground.ip(&format!("link set eth0 mtu {mtu}\n"));
    let expected = mtu.min(1500) - transport.overhead(Family::V6);
    for node in [&nodes[0], &nodes[2]] {
        wait_for(
            &format!("{}: an MTU of {expected} over uplinks of 1500 and {mtu}", node.spot.name),
            || node.tell_all(),
            || match node.file()?.mtu {
                seen if seen == expected => Ok(()),
                seen => Err(format!("{seen}")),
            },
        );
    }
    let pods: Vec<_> = nodes.iter().map(|node| node.attach("sized")).collect();
    for (to, [ours, other]) in [(1, ["w1", "x1"]), (2, ["x1", "w1"])] {
        let [before, before_other] = [ours, other].map(|port| sent(network, port));
        talk(network, &pods[0], &pods[to]);
        let [sent, sent_other] = [sent(network, ours) - before, sent(network, other) - before_other];
        assert!(sent > SOME && sent_other < SOME, "to n{}: {sent} bytes by {ours}, {sent_other} by {other}", to + 1);
    }
    pods.into_iter().for_each(Pod::detach);
}

/// Everything that two pods have to be able to do, in both families.
#[track_caller]
fn talk(network: &Network, a: &Pod<'_>, b: &Pod<'_>) {
    for family in Family::ALL {
        let done = probe::settle(a, b, family).and_then(|()| probe::exchange(a, b, family, Wire::Clean));
        if let Err(error) = done {
            panic!("{family}: {error}\n{}", network.tell_all());
        }
    }
}

/// How many bytes a node has sent into a port of the wire.
fn sent(network: &Network, port: &str) -> u64 {
    let shown: Value = serde_json::from_str(&network.wire.sh(&format!("ip -s -j link show dev {port}"))).unwrap();
    shown[0]["stats64"]["rx"]["bytes"].as_u64().unwrap()
}

/// What leaves the cluster has the address that its node has on the link by which it leaves.
fn masqueraded(network: &Network, pod: &Pod<'_>) {
    let everywhere = Outside::open(&network.wire);
    for (uplink, outside) in pod.node.spot.uplinks.iter().zip(OUTSIDE) {
        for (address, expected) in outside.iter().zip(uplink.addresses) {
            let seen = everywhere.hears(pod, address.parse().unwrap());
            assert_eq!(seen, expected.addr(), "{address} sees a pod by another address than that of {}", uplink.link);
        }
    }
}

/// An uplink of the first node that goes, and comes back.
struct Outage {
    what: &'static str,
    /// Which one.
    uplink: usize,
    cause: Cause,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Somebody sets it down, which takes routes and IPv6 addresses with it.
    SetDown,
    /// Its cable is pulled.
    Carrier,
}

const OUTAGES: [Outage; 4] = [
    Outage { what: "the second uplink is set down", uplink: 1, cause: Cause::SetDown },
    Outage { what: "the second uplink loses its carrier", uplink: 1, cause: Cause::Carrier },
    Outage { what: "the first uplink is set down", uplink: 0, cause: Cause::SetDown },
    Outage { what: "the first uplink loses its carrier", uplink: 0, cause: Cause::Carrier },
];

impl Outage {
    fn passes(&self, network: &Network, pods: &[Pod<'_>], transport: Transport) {
        let node = &network.nodes[0];
        let uplink = &node.spot.uplinks[self.uplink];
        for pod in &pods[1..] {
            talk(network, &pods[0], pod);
        }
        let before = kept(node);
        match self.cause {
            Cause::SetDown => node.ground.ip(&format!("link set {} down\n", uplink.link)),
            Cause::Carrier => network.wire.ip(&format!("link set {} down\n", uplink.port)),
        }
        if transport == Transport::Direct {
            self.wait_without_route(network);
        }
        if self.uplink == 1 {
            talk(network, &pods[0], &pods[1]);
            if self.cause == Cause::SetDown && transport.is_tunnel() {
                // The router leads there too.
                talk(network, &pods[0], &pods[2]);
            }
        }
        // Pods come and go all the same.
        node.attach("meanwhile").detach();
        match self.cause {
            Cause::SetDown => node.ground.ip(&restored(uplink, self.uplink == 0)),
            Cause::Carrier => network.wire.ip(&format!("link set {} up\n", uplink.port)),
        }
        node.ground.ip(BEYOND);
        for pod in &pods[1..] {
            talk(network, &pods[0], pod);
        }
        wait_for(
            &format!("{}: {} as it was", node.spot.name, self.what),
            || node.tell_all(),
            || match kept(node) {
                now if now == before => Ok(()),
                now => Err(format!("{now:#?}\nwas\n{before:#?}")),
            },
        );
    }

    /// Waits until no plain route leads to the peer behind the uplink, and all that the other one carries is there.
    fn wait_without_route(&self, network: &Network) {
        let [gone, stays] = if self.uplink == 1 { [2, 1] } else { [1, 2] }.map(|peer| &network.nodes[peer].spot);
        let node = &network.nodes[0];
        wait_for(
            &format!("{}: routes", self.what),
            || node.tell_all(),
            || {
                let seen = node.ground.sh("ip route show proto 117; ip -6 route show proto 117");
                let leads = |cidr: &ipnet::IpNet| seen.lines().any(|line| line.starts_with(&cidr.to_string()));
                let right = stays.pod_cidrs.iter().all(leads) && !gone.pod_cidrs.iter().any(leads);
                if right { Ok(()) } else { Err(seen) }
            },
        );
    }
}

/// What the network manager of a node does where a link comes up.
fn restored(uplink: &Uplink, leads_everywhere: bool) -> String {
    let Uplink { link, addresses: [_, address], .. } = uplink;
    let mut lines = format!("link set {link} up\naddress replace {address} dev {link} nodad\n");
    for gateway in uplink.gateways().iter().filter(|_| leads_everywhere) {
        writeln!(lines, "route replace default via {gateway} dev {link}").unwrap();
    }
    lines
}

/// All that Towpath has on a node, in no order.
fn kept(node: &Node) -> Vec<String> {
    let shown = node.ground.sh("ip route show proto 117; ip -6 route show proto 117; ip nexthop show proto 117; \
         for link in towvxlan4 towvxlan6; do ip -br link show dev $link; ip -br address show dev $link; \
         ip neighbour show dev $link nud permanent; ip -6 neighbour show dev $link nud permanent; \
         bridge fdb show dev $link; done 2>/dev/null; nft -s list table inet towpath");
    let mut lines: Vec<String> = shown.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}
