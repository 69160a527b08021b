//! Who gets packets into the node by its tunnels: real ones, forged in every way.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lan;
mod packets;
#[path = "../support/mod.rs"]
mod support;
mod tracking;

use towpath_kernel::testing::isolated;
use towpath_net::transport::{Transport, Transports};

use lan::{Forged, Listener, STRANGER};
use packets::Wrapping;
use support::{OTHER, run};

const OURS: Wrapping = Wrapping::Vxlan { vni: 4096 };

/// Gives the node its table.
fn close(transports: Vec<Transport>) {
    let accepts = transports.clone();
    support::close(Transports { accepts, prefers: transports, ..Transports::only(Transport::Vxlan) }, &[]);
}

fn forged(what: &'static str, place: &'static str, outer: &'static str, inner: &'static str) -> Forged {
    Forged { what, place, outer, inner, wrapping: OURS }
}

#[test]
fn a_tunnel_takes_what_a_node_sends_from_its_own_pods_and_nothing_else() {
    isolated("a_tunnel_takes_what_a_node_sends_from_its_own_pods_and_nothing_else", || {
        lan::make();
        let listener = Listener::open();
        let right = [
            forged("IPv4 of a node", "other", OTHER.v4, "10.244.4.2"),
            forged("IPv4 of a node's tunnel", "other", OTHER.v4, "10.244.4.0"),
            forged("IPv4 of a node itself", "other", OTHER.v4, OTHER.v4),
            forged("IPv6 of a node", "other", OTHER.v6, "fd00:244:0:4::2"),
        ];
        let wrong = [
            forged("IPv4 of a stranger", "stranger", STRANGER.v4, "10.244.4.2"),
            forged("IPv4 of a node, from another's pod", "other", OTHER.v4, "10.244.5.2"),
            forged("IPv4 of a node, from a pod here", "other", OTHER.v4, "10.244.3.2"),
            forged("IPv4 of a node, from anywhere", "other", OTHER.v4, "192.0.2.1"),
            forged("IPv4 of a pod", "pod", "10.244.3.2", "10.244.4.2"),
            forged("IPv4 of a pod that says it is a node", "pod", OTHER.v4, "10.244.4.2"),
            forged("IPv6 of a stranger", "stranger", STRANGER.v6, "fd00:244:0:4::2"),
            forged("IPv6 of a node, from another's pod", "other", OTHER.v6, "fd00:244:0:5::2"),
            forged("IPv6 of a node, by the other family", "other", OTHER.v4, "fd00:244:0:4::2"),
            forged("IPv6 of a pod", "pod", "fd00:244:0:3::2", "fd00:244:0:4::2"),
            forged("IPv6 of a pod that says it is a node", "pod", OTHER.v6, "fd00:244:0:4::2"),
        ];
        for packet in right.iter().chain(&wrong) {
            assert!(listener.arrives(packet), "{} does not even arrive where nobody looks", packet.what);
        }
        close(vec![Transport::Vxlan]);
        for packet in &right {
            assert!(listener.arrives(packet), "{} is not taken", packet.what);
        }
        for packet in &wrong {
            assert!(!listener.arrives(packet), "{} is taken", packet.what);
        }
        run("ip address add 10.244.3.0/32 dev foreign");
        let theirs = Forged {
            wrapping: Wrapping::Vxlan { vni: 77 },
            ..forged("IPv4 of somebody else's tunnel", "stranger", STRANGER.v4, "192.0.2.1")
        };
        assert!(listener.arrives(&theirs), "a tunnel of somebody else, on the same port, is in the way");
    });
}

/// To where a tunnel is not meant to be reached, but is.
#[test]
fn a_tunnel_takes_nothing_by_a_detour() {
    isolated("a_tunnel_takes_nothing_by_a_detour", || {
        lan::make();
        let listener = Listener::open();
        run("ip address add 172.16.30.33/24 dev eth0");
        run("nft add table ip detour");
        run("nft add chain ip detour pre { type nat hook prerouting priority -100 ; }");
        run("nft add rule ip detour pre udp dport 30789 dnat to 172.16.30.3:4789");
        let by = |what, to: &'static str| (forged(what, "stranger", STRANGER.v4, "10.244.4.2"), to.parse().unwrap());
        let detours = [
            by("what a rule of somebody else leads there", "172.16.30.3:30789"),
            by("what is for everybody on the wire", "172.16.30.255:4789"),
            by("what is for another address of the node", "172.16.30.33:4789"),
        ];
        for (packet, to) in &detours {
            assert!(listener.arrives_when(packet, |packet| packet.send_to(*to)), "{} does not arrive", packet.what);
        }
        close(vec![Transport::Vxlan]);
        for (packet, to) in &detours {
            assert!(!listener.arrives_when(packet, |packet| packet.send_to(*to)), "{} is taken", packet.what);
        }
    });
}

/// How many packets have come past the table.
fn passed() -> u64 {
    let listed = run("nft list counter inet probe tunnelled");
    let words: Vec<&str> = listed.split_whitespace().collect();
    let at = words.iter().rposition(|word| *word == "packets").unwrap();
    words[at + 1].parse().unwrap()
}

/// For tunnels that this kernel has no device of: what comes past the table would be taken.
#[test]
fn packets_of_geneve_and_ipip_come_past_the_table_only_from_a_nodes_own_pods() {
    isolated("packets_of_geneve_and_ipip_come_past_the_table_only_from_a_nodes_own_pods", || {
        lan::make();
        let listener = Listener::open();
        close(vec![Transport::Vxlan, Transport::Geneve, Transport::Ipip]);
        run("nft add table inet probe");
        run("nft add chain inet probe seen { type filter hook input priority 10 ; }");
        run("nft add counter inet probe tunnelled");
        for packets in ["udp dport 6081", "ip protocol 4", "ip6 nexthdr 41"] {
            run(&format!("nft add rule inet probe seen {packets} counter name tunnelled"));
        }
        let geneve = Wrapping::Geneve { vni: 4096, options: false };
        let from = |what, wrapping, (place, outer, inner): (&'static str, &'static str, &'static str)| Forged {
            wrapping,
            ..forged(what, place, outer, inner)
        };
        let own = [("other", OTHER.v4, "10.244.4.2"), ("other", OTHER.v6, "fd00:244:0:4::2")];
        let foreign = [
            ("other", OTHER.v4, "10.244.5.2"),
            ("other", OTHER.v6, "fd00:244:0:5::2"),
            ("stranger", STRANGER.v4, "10.244.4.2"),
            ("stranger", STRANGER.v6, "fd00:244:0:4::2"),
            ("pod", "10.244.3.2", "10.244.4.2"),
        ];
        let mut cases: Vec<(Forged, bool)> = Vec::new();
        for (wrapping, name) in [(geneve, "Geneve"), (Wrapping::Ipip, "IPIP")] {
            cases.extend(own.map(|case| (from(name, wrapping, case), true)));
            cases.extend(foreign.map(|case| (from(name, wrapping, case), false)));
        }
        let options = Wrapping::Geneve { vni: 4096, options: true };
        cases.push((from("Geneve with options", options, own[0]), false));
        let other = Wrapping::Geneve { vni: 77, options: false };
        cases.push((from("Geneve of another network", other, own[0]), false));
        for (packet, taken) in cases {
            let before = passed();
            // What is not counted always arrives behind what may be.
            listener.arrives(&packet);
            assert_eq!(passed() > before, taken, "{} from {} by {}", packet.what, packet.inner, packet.outer);
        }
    });
}
