//! The table on the real kernel: whatever can be rendered is taken, read back the same, and means what `nft` says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::process::Command;

use ipnet::IpNet;
use towpath_kernel::nft::{Nft, NftError};
use towpath_kernel::testing::isolated;
use towpath_net::nft::{Element, Table, Value};
use towpath_net::observed::Surroundings;
use towpath_net::render::render;
use towpath_net::state::{Attachment, Masquerade, MasqueradeMode, NodeName, NodeSpec, NodeState, Peer};
use towpath_net::transport::{Transport, Transports};

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

/// A node with two peers, whose CIDRs are of several lengths, and one of which has an IPv6 address alone.
fn state(transports: Transports) -> NodeState {
    let masquerade =
        Masquerade { mode: MasqueradeMode::LeavingCluster, excluded: nets(&["192.168.0.0/16", "fd00:99::/48"]) };
    let peer = |addresses: &[&str], pod_cidrs: &[&str]| Peer {
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        pod_cidrs: nets(pod_cidrs),
        accepts: transports.accepts.clone(),
        keys: None,
    };
    let peers = [
        ("n4", peer(&["172.16.30.4", "fd00:30::4"], &["10.244.4.0/24", "10.244.99.0/27", "fd00:244:0:4::/64"])),
        ("n5", peer(&["fd00:30::5"], &["10.244.5.0/24", "fd00:244:0:500::/56"])),
    ];
    let spec = NodeSpec {
        masquerade,
        pod_ranges: nets(&["10.244.0.0/18"]),
        transport: transports,
        ..NodeSpec::plain(
            vec!["172.16.30.3".parse().unwrap(), "fd00:30::3".parse().unwrap()],
            nets(&["10.244.3.0/24", "fd00:244:0:3::/64"]),
        )
    };
    let peers: BTreeMap<NodeName, Peer> = peers.into_iter().map(|(name, peer)| (name.into(), peer)).collect();
    NodeState { node: "n3".into(), spec, peers }
}

fn table(transports: Transports) -> Table {
    render(&state(transports), &[], &Surroundings::default(), None).desired.table.unwrap()
}

/// Every transport at once, but for WireGuard.
fn tunnels() -> Transports {
    let all = vec![Transport::Vxlan, Transport::Geneve, Transport::Ipip, Transport::Direct];
    Transports { prefers: all.clone(), accepts: all, ..Transports::only(Transport::Direct) }
}

fn list(family: &str, chain: &str) -> String {
    let output = Command::new("nft").args(["-n", "list", "chain", family, "towpath", chain]).output().unwrap();
    assert!(output.status.success(), "{chain}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The rules of a chain as `nft` shows them, without their comments.
fn rules(chain: &str) -> Vec<String> {
    rules_in("inet", chain)
}

fn rules_in(family: &str, chain: &str) -> Vec<String> {
    let text = list(family, chain);
    let lines = text.lines().filter_map(|line| line.trim().split_once(" comment ")).map(|(rule, _)| rule.to_owned());
    lines.collect()
}

/// Also by `nft` itself, which must not fail over anything of ours: others list all there is.
fn put(table: &Table) {
    let mut nft = Nft::open().unwrap();
    nft.replace(table).unwrap();
    assert_eq!(nft.read().unwrap().as_ref(), Some(table));
    for arguments in
        [&["list", "ruleset"][..], &["-j", "list", "ruleset"], &["-n", "-a", "list", "table", "inet", "towpath"]]
    {
        let listed = Command::new("nft").args(arguments).output().unwrap();
        assert!(listed.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&listed.stderr));
    }
}

#[test]
fn every_table_that_can_be_rendered_is_taken_and_read_back_the_same() {
    isolated("every_table_that_can_be_rendered_is_taken_and_read_back_the_same", || {
        for transport in Transport::ALL {
            put(&table(Transports::only(transport)));
        }
        put(&table(tunnels()));
    });
}

/// The rules of a chain, with what their comments do not say.
#[track_caller]
fn assert_rules(chain: &str, expected: &[&str]) {
    assert_eq!(rules(chain), expected, "{chain}");
}

#[test]
fn a_tunnel_takes_packets_of_known_nodes_with_their_own_pods_inside() {
    isolated("a_tunnel_takes_packets_of_known_nodes_with_their_own_pods_inside", || {
        put(&table(tunnels()));
        let arriving = rules("input");
        assert_eq!(arriving.len(), 17, "{arriving:#?}");
        for expected in [
            "udp dport 4789 @th,96,32 & 0xffffff00 == 0x100000 ip daddr 172.16.30.3 jump from-vxlan-v4",
            "udp dport 4789 @th,96,32 & 0xffffff00 == 0x100000 meta nfproto 2 drop",
            "udp dport 6081 ip6 daddr fd00:30::3 jump from-geneve-v6",
            "meta l4proto 41 ip6 daddr fd00:30::3 jump from-ipip-v6",
            "meta nfproto 10 meta l4proto 4 drop",
        ] {
            assert!(arriving.iter().any(|rule| rule == expected), "{expected}: {arriving:#?}");
        }
        assert_rules(
            "from-vxlan-v6",
            &[
                "@th,224,16 0x800 ip6 saddr . @th,336,32 & 0xffffff00 @tunnels-v6-v4-24 accept",
                "@th,224,16 0x86dd ip6 saddr . @th,304,128 & 0xffffffffffffff000000000000000000 @tunnels-v6-v6-56 accept",
                "@th,224,16 0x86dd ip6 saddr . @th,304,128 & 0xffffffffffffffff0000000000000000 @tunnels-v6-v6-64 accept",
                "@th,224,16 0x86dd ip6 saddr . @th,304,128 @tunnels-v6-v6-128 accept",
                "meta nfproto 10 drop",
            ],
        );
        assert_rules(
            "from-geneve-v4",
            &[
                "meta nfproto 2 @th,64,8 & 0x3f != 0x0 drop",
                "meta nfproto 2 @th,96,32 & 0xffffff00 != 0x100000 drop",
                "@th,224,16 0x800 ip saddr . @th,336,32 & 0xffffff00 @tunnels-v4-v4-24 accept",
                "@th,224,16 0x800 ip saddr . @th,336,32 & 0xffffffe0 @tunnels-v4-v4-27 accept",
                "@th,224,16 0x800 ip saddr . @th,336,32 @tunnels-v4-v4-32 accept",
                "meta nfproto 2 drop",
            ],
        );
        assert_rules(
            "from-ipip-v4",
            &[
                "ip saddr . @th,96,32 & 0xffffff00 @tunnels-v4-v4-24 accept",
                "ip saddr . @th,96,32 & 0xffffffe0 @tunnels-v4-v4-27 accept",
                "ip saddr . @th,96,32 @tunnels-v4-v4-32 accept",
                "meta nfproto 2 drop",
            ],
        );
    });
}

#[test]
fn pods_reach_no_tunnel_and_begin_connections_that_fit() {
    isolated("pods_reach_no_tunnel_and_begin_connections_that_fit", || {
        put(&table(Transports::only(Transport::WireGuard)));
        let ports = Command::new("nft").args(["list", "set", "inet", "towpath", "tunnel-ports"]).output().unwrap();
        assert!(String::from_utf8_lossy(&ports.stdout).contains("51820, 51821"));
        assert_rules("input", &["iifname \"tow*\" udp dport @tunnel-ports drop"]);
        assert_rules(
            "forward",
            &[
                "@th,96,32 & 0x60000 == 0x20000 meta l4proto 6 iifname \"tow*\" tcp option maxseg size set rt mtu",
                "udp dport @tunnel-ports iifname \"tow*\" jump to-tunnels",
            ],
        );
        assert_rules("to-tunnels", &["ip daddr @nodes-v4 drop", "ip6 daddr @nodes-v6 drop"]);
        assert_rules(
            "encrypted",
            &[
                "oifname \"towwg*\" accept",
                "oifname \"tow*\" oifname != \"towip*\" oifname != \"towvx*\" oifname != \"towge*\" accept",
                "oifname \"lo\" accept",
                "ip daddr @encrypted-v4 drop",
                "ip6 daddr @encrypted-v6 drop",
            ],
        );
    });
}

#[test]
fn what_leaves_the_cluster_goes_to_no_range_of_pods_and_to_no_network_of_another_node() {
    isolated("what_leaves_the_cluster_goes_to_no_range_of_pods_and_to_no_network_of_another_node", || {
        put(&table(Transports::only(Transport::Vxlan)));
        let leaving: Vec<String> = rules("postrouting").into_iter().filter(|rule| rule.contains("near")).collect();
        let expected = [
            "ip saddr @pods-v4 ip daddr != @cluster-v4 ip daddr != @near-v4 ip daddr & 255.255.255.224 != \
             @cluster-v4-27 masquerade fully-random",
            "ip6 saddr @pods-v6 ip6 daddr != @cluster-v6 ip6 daddr != @near-v6 ip6 daddr & ffff:ffff:ffff:ff00:: != \
             @cluster-v6-56 ip6 daddr & ffff:ffff:ffff:ffff:: != @cluster-v6-64 masquerade fully-random",
        ];
        assert_eq!(leaving, expected);
    });
}

/// Only between this node's own address and those of nodes.
#[test]
fn packets_between_nodes_with_a_tunnel_in_them_are_not_tracked() {
    isolated("packets_between_nodes_with_a_tunnel_in_them_are_not_tracked", || {
        put(&table(Transports::only(Transport::Vxlan)));
        let arriving = [
            "th dport 4789 meta l4proto 17 ip daddr 172.16.30.3 notrack accept",
            "th dport 4789 meta l4proto 17 ip6 daddr fd00:30::3 notrack accept",
        ];
        assert_eq!(rules("guard")[..2], arriving);
        assert_rules(
            "untracked",
            &[
                "th dport 4789 meta l4proto 17 ip saddr 172.16.30.3 ip daddr @nodes-v4 notrack",
                "th dport 4789 meta l4proto 17 ip6 saddr fd00:30::3 ip6 daddr @nodes-v6 notrack",
            ],
        );
    });
}

/// What most packets are comes first, and each needs one look into a set.
#[test]
fn pods_send_from_their_own_addresses_not_to_the_loopback_and_are_no_routers() {
    isolated("pods_send_from_their_own_addresses_not_to_the_loopback_and_are_no_routers", || {
        let mut bridged = state(Transports::only(Transport::Direct));
        bridged.spec.attachment = Attachment::Bridge;
        put(&render(&bridged, &[], &Surroundings::default(), None).desired.table.unwrap());
        assert_rules("guard", &["iifname \"tow0*\"-\"towf*\" goto from-pods"]);
        assert_rules(
            "from-pods",
            &[
                "@nh,128,8 0x7f ip daddr @loopback-v4 drop",
                "iifname . @ll,48,48 . ip saddr @senders-v4 accept",
                "@nh,288,32 0x1 ip6 daddr @loopback-v6 drop",
                "@th,0,8 0x86 meta l4proto 58 meta nfproto 10 drop",
                "@th,0,8 0x88 meta l4proto 58 meta nfproto 10 jump neighbours",
                "iifname . @ll,48,48 . ip6 saddr @senders-v6 accept",
                "ip6 saddr :: meta l4proto 58 jump nameless",
                "counter packets 0 bytes 0 drop",
            ],
        );
        assert_rules(
            "neighbours",
            &["meta nfproto 10 iifname . @ll,48,48 . @th,64,128 @senders-v6 return", "counter packets 0 bytes 0 drop"],
        );
        assert_rules(
            "nameless",
            &[
                "@th,0,8 0x87 meta l4proto 58 meta nfproto 10 iifname . @ll,48,48 . @th,64,128 @senders-v6 accept",
                "@th,0,8 0x8f meta l4proto 58 accept",
                "counter packets 0 bytes 0 drop",
            ],
        );
        let pods = "iifname \"tow0*\"-\"towf*\"";
        let frames = [
            "ether type 0x0800 accept".to_owned(),
            "ether type 0x86dd accept".to_owned(),
            format!("{pods} ether saddr . arp saddr ether . arp saddr ip @bridged-senders accept"),
            format!("{pods} arp saddr ip 0.0.0.0 ether saddr . arp saddr ether . arp daddr ip @bridged-senders accept"),
            format!("{pods} counter packets 0 bytes 0 drop"),
        ];
        assert_eq!(rules_in("bridge", "bridged-frames"), frames);
    });
}

#[test]
fn what_is_added_to_a_set_that_is_not_there_names_that_set() {
    isolated("what_is_added_to_a_set_that_is_not_there_names_that_set", || {
        let mut nft = Nft::open().unwrap();
        let element = [Element::Key { key: vec![Value::Port(80)], data: Vec::new() }];
        for _ in 0..2 {
            let refused = nft.change([("nobodys", &element[..], &[][..])]).unwrap_err();
            assert!(matches!(&refused, NftError::NoSet(set) if set == "nobodys"), "{refused}");
            nft.replace(&table(Transports::only(Transport::Vxlan))).unwrap();
        }
    });
}
