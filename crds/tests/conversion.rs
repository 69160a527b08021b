//! What a node is told is the same on both sides of the API, whatever it is, and small.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;
use towpath_crds::NodeNetworkSpec;
use towpath_net::Family;
use towpath_net::policy::settings::{Established, FlowLog, LogDenied, PolicySettings, Startup};
use towpath_net::state::{
    AddressRule, Addressing, Attachment, CniConflict, Masquerade, MasqueradeMode, Mtu, NodeSpec, Revision,
};
use towpath_net::transport::{Geneve, Transport, Transports, Tunnels, Vxlan, WireGuard};

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())), any::<u128>().prop_map(unmapped)]
}

/// No address that is an IPv4 address in disguise: the API takes none.
fn unmapped(bits: u128) -> IpAddr {
    IpAddr::V6((bits | 1 << 127).into())
}

fn cidr() -> impl Strategy<Value = IpNet> {
    (address(), 8..=32_u8).prop_map(|(address, length)| IpNet::new(address, length).unwrap().trunc())
}

fn rule() -> impl Strategy<Value = AddressRule> {
    prop_oneof![
        vec("[a-z0-9*]{1,15}", 1..4).prop_map(AddressRule::Interfaces),
        vec(cidr(), 1..4).prop_map(AddressRule::Cidrs),
        vec(address(), 1..3).prop_map(AddressRule::CanReach),
    ]
}

fn modes() -> impl Strategy<Value = Vec<Transport>> {
    subsequence(Transport::ALL.to_vec(), 1..=5).prop_shuffle()
}

fn tunnels() -> impl Strategy<Value = Tunnels> {
    let tunnel = || (1..1_u32 << 24, 1..=u16::MAX);
    let rotation = option::of(60..31_536_000_u32);
    let written = (tunnel(), tunnel(), (1..u16::MAX, rotation)).prop_map(|(vxlan, geneve, wire_guard)| Tunnels {
        vxlan: Vxlan { vni: vxlan.0, port: vxlan.1 },
        geneve: Geneve { vni: geneve.0, port: geneve.1 },
        wire_guard: WireGuard { port: wire_guard.0, rotation_seconds: wire_guard.1 },
    });
    prop_oneof![Just(Tunnels::default()), written]
}

fn addressing() -> impl Strategy<Value = Addressing> {
    let grace_seconds = option::of(1..604_801_u32);
    (vec(cidr(), 0..3), vec(cidr(), 0..3), any::<bool>(), grace_seconds).prop_map(
        |(draining, reserved, growing, grace_seconds)| Addressing { draining, reserved, growing, grace_seconds },
    )
}

fn transports() -> impl Strategy<Value = Transports> {
    (modes(), modes(), any::<bool>(), tunnels()).prop_map(|(prefers, accepts, cross_subnet_only, tunnels)| Transports {
        prefers,
        accepts,
        cross_subnet_only,
        tunnels,
    })
}

fn policy() -> impl Strategy<Value = PolicySettings> {
    let startup = select(vec![Startup::Wait, Startup::Strict, Startup::Async]);
    let log = (select(vec![LogDenied::None, LogDenied::Flows]), 1..=1000_u16)
        .prop_map(|(denied, per_second)| FlowLog { denied, per_second });
    (startup, select(vec![Established::Cut, Established::Keep]), log)
        .prop_map(|(startup, established, log)| PolicySettings { startup, established, log })
}

fn spec() -> impl Strategy<Value = NodeSpec> {
    let mtu = prop_oneof![Just(Mtu::Auto), (1280..65536_u32).prop_map(Mtu::Bytes)];
    let masquerade = (select(vec![MasqueradeMode::LeavingCluster, MasqueradeMode::Off]), vec(cidr(), 0..4));
    let address = (vec(address(), 0..3), option::of(rule()));
    let pods = (vec(cidr(), 0..4), vec(cidr(), 0..4), addressing());
    let how = (select(Attachment::ALL.to_vec()), transports(), mtu);
    let rest = (any::<bool>(), policy());
    (address, pods, how, masquerade, rest).prop_map(|(address, pods, how, masquerade, (rename, policy))| NodeSpec {
        revision: Revision("7f3a91c".to_owned()),
        addresses: address.0,
        address_rule: address.1,
        pod_ranges: pods.0,
        pod_cidrs: pods.1,
        addressing: pods.2,
        attachment: how.0,
        transport: how.1,
        mtu: how.2,
        masquerade: Masquerade { mode: masquerade.0, excluded: masquerade.1 },
        cni_conflict: if rename { CniConflict::Rename } else { CniConflict::Report },
        policy,
    })
}

proptest! {
    #[test]
    fn what_a_node_is_told_survives_the_way_through_the_api(spec in spec()) {
        let part = NodeNetworkSpec::from(&spec);
        let read: NodeNetworkSpec = serde_json::from_str(&serde_json::to_string(&part).unwrap()).unwrap();
        prop_assert_eq!(&read, &part);
        prop_assert_eq!(NodeSpec::try_from(&read).unwrap(), spec.clone());
        // The file source takes what the API shows.
        let shown: NodeSpec = serde_json::from_value(serde_json::to_value(&part).unwrap()).unwrap();
        prop_assert_eq!(shown, spec);
    }
}

#[test]
fn a_part_of_a_node_is_small_whatever_it_says_of_transports() {
    let net = |text: String| text.parse::<IpNet>().unwrap();
    let blocks = |family: Family| {
        (0..32_u8).map(move |n| {
            net(match family {
                Family::V4 => format!("10.244.{n}.192/26"),
                Family::V6 => format!("fd00:10:244::{n:x}00/122"),
            })
        })
    };
    let pod_ranges: Vec<IpNet> = (0..8).map(|n| net(format!("10.{}.0.0/16", 100 + n))).collect();
    let spec = NodeSpec {
        address_rule: Some(AddressRule::Interfaces(vec!["interface-name*".to_owned(); 16])),
        pod_ranges: pod_ranges.clone(),
        transport: Transports {
            prefers: Transport::ALL.to_vec(),
            accepts: Transport::ALL.to_vec(),
            cross_subnet_only: true,
            tunnels: Tunnels::default(),
        },
        masquerade: Masquerade { mode: MasqueradeMode::LeavingCluster, excluded: pod_ranges },
        ..NodeSpec::plain(
            ["172.30.0.1", "fd00:172:30::1"].map(|a| a.parse().unwrap()).to_vec(),
            Family::ALL.into_iter().flat_map(blocks).collect(),
        )
    };
    let size = serde_json::to_string(&NodeNetworkSpec::from(&spec)).unwrap().len();
    assert!(size < 4096, "{size} bytes");
}

#[test]
fn a_rule_that_no_operator_wrote_is_refused_with_the_field() {
    let good = json!({
        "revision": "1", "addresses": [], "podCIDRs": [], "attachment": "Routed", "mtu": "Auto",
        "transport": {"prefers": ["Direct"], "accepts": ["Direct"]}, "masquerade": {"mode": "Off"},
    });
    let cases = [
        ("addressRule", json!({}), "spec.addressRule has not just one of interfaces, cidrs and canReach"),
        ("addressRule", json!({"canReach": ["x"]}), "spec.addressRule.canReach \"x\" is not an IP address"),
        (
            "transport",
            json!({"prefers": [], "accepts": [], "tunnels": {"vxlan": {"vni": 1, "port": 65536}}}),
            "spec.transport.tunnels.vxlan.port 65536 is out of range",
        ),
    ];
    for (field, value, expected) in cases {
        let mut bad = good.clone();
        bad[field] = value;
        let part: NodeNetworkSpec = serde_json::from_value(bad).unwrap();
        assert_eq!(NodeSpec::try_from(&part).unwrap_err().to_string(), expected);
    }
}
