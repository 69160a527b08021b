//! Transports and their options, how nodes' addresses are found, and exceptions.

use super::*;
use crate::transport::{Geneve, Vxlan, WireGuard};

fn tunnel(vni: i64, port: i64) -> DraftTunnel {
    DraftTunnel { vni: Some(vni), port: Some(port) }
}

/// A cluster of VXLAN with an exception for each other tunnel, and every option.
fn tunnels() -> Draft {
    let exception = |mode: Transport| DraftException {
        name: mode.to_string().to_lowercase(),
        transport: Some(Crossing::only(mode)),
        ..DraftException::default()
    };
    Draft {
        transport: DraftTransport {
            crossing: Crossing { mode: Transport::Vxlan, cross_subnet_only: true },
            vxlan: Some(tunnel(1, 8472)),
            geneve: Some(tunnel(0xff_ffff, 65535)),
            wire_guard: Some(DraftWireGuard { port: Some(65533), key_rotation: Some("24h".to_owned()) }),
        },
        exceptions: vec![exception(Transport::Geneve), exception(Transport::WireGuard)],
        ..draft()
    }
}

#[test]
fn tunnels_keep_what_was_written_and_are_as_usual_where_nothing_was() {
    let intent = validate(&tunnels()).unwrap();
    let expected = Tunnels {
        vxlan: Vxlan { vni: 1, port: 8472 },
        geneve: Geneve { vni: 0xff_ffff, port: 65535 },
        wire_guard: WireGuard { port: 65533, rotation_seconds: Some(86400) },
    };
    assert_eq!(intent.tunnels, expected);
    assert_eq!(intent.transport, Crossing { mode: Transport::Vxlan, cross_subnet_only: true });
    let mut bare = tunnels();
    (bare.transport.vxlan, bare.transport.geneve) = (Some(DraftTunnel::default()), None);
    bare.transport.wire_guard = Some(DraftWireGuard::default());
    assert_eq!(validate(&bare).unwrap().tunnels, Tunnels::default());
}

#[test]
fn what_is_usual_does_not_show_in_the_revision() {
    let written = serde_json::to_value(validate(&draft()).unwrap()).unwrap();
    let fields: Vec<_> = written.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = ["attachment", "ipam", "masquerade", "mtu", "node_cidrs", "service_cidrs", "transport"];
    assert_eq!((fields.as_slice(), &written["transport"]), (expected.as_slice(), &"Direct".into()));
    let revision = |draft: &Draft| validate(draft).unwrap().revision();
    let changes: [Change; 4] = [
        |d| d.transport.crossing.cross_subnet_only = false,
        |d| d.transport.vxlan = Some(tunnel(2, 8472)),
        |d| d.exceptions.truncate(1),
        |d| d.node_address = by_interface("eth1"),
    ];
    for change in changes {
        let mut other = tunnels();
        (other.transport.geneve, other.transport.wire_guard) = (None, None);
        let before = revision(&other);
        change(&mut other);
        assert_ne!(revision(&other), before);
    }
}

fn by_interface(pattern: &str) -> DraftNodeAddress {
    DraftNodeAddress { mode: AddressMode::Interface, interfaces: texts(&[pattern]), ..DraftNodeAddress::default() }
}

fn by_cidr(cidr: &str) -> DraftNodeAddress {
    DraftNodeAddress { mode: AddressMode::Cidr, cidrs: texts(&[cidr]), ..DraftNodeAddress::default() }
}

fn by_reach(addresses: &[&str]) -> DraftNodeAddress {
    DraftNodeAddress { mode: AddressMode::CanReach, can_reach: texts(addresses), ..DraftNodeAddress::default() }
}

#[test]
fn the_rule_for_addresses_is_the_one_of_the_mode() {
    let rule = |node_address: DraftNodeAddress| validate(&Draft { node_address, ..draft() }).unwrap().address_rule;
    assert_eq!(rule(DraftNodeAddress::default()), None);
    assert_eq!(rule(by_interface("bond*")), Some(AddressRule::Interfaces(texts(&["bond*"]))));
    assert_eq!(rule(by_cidr("172.16.0.0/12")), Some(AddressRule::Cidrs(vec!["172.16.0.0/12".parse().unwrap()])));
    let both = ["192.0.2.1", "2001:db8::1"];
    assert_eq!(rule(by_reach(&both)), Some(AddressRule::CanReach(both.map(|a| a.parse().unwrap()).to_vec())));
    // What nodes are may be said both to choose by, and to be left unmasqueraded.
    let mut twice = Draft { node_address: by_cidr("172.16.0.0/12"), ..draft() };
    twice.node_cidrs = texts(&["172.16.0.0/12"]);
    assert!(validate(&twice).is_ok());
}

#[test]
fn each_wrong_field_of_a_transport_is_named_with_its_value_and_a_remedy() {
    let cases: [(Change, &str); 13] = [
        (
            |d| d.transport.crossing.mode = Transport::Direct,
            r#"spec.transport.crossSubnetOnly "true": has no effect: mode Direct has no tunnel; remove it"#,
        ),
        (
            |d| d.exceptions[0].transport = Some(Crossing { mode: Transport::Direct, cross_subnet_only: true }),
            r#"spec.exceptions[0].transport.crossSubnetOnly "true": has no effect"#,
        ),
        (
            |d| d.transport.crossing.mode = Transport::Ipip,
            "spec.transport.vxlan: has no effect: neither the cluster nor an exception has mode VXLAN; remove it",
        ),
        (|d| drop(d.exceptions.remove(0)), "spec.transport.geneve: has no effect"),
        (|d| drop(d.exceptions.pop()), "spec.transport.wireGuard: has no effect"),
        (
            |d| d.transport.vxlan = Some(tunnel(0, 8472)),
            r#"spec.transport.vxlan.vni "0": is not a number from 1 to 16777215; write one, or leave the field out"#,
        ),
        (|d| d.transport.geneve = Some(tunnel(0x100_0000, 6081)), r#"spec.transport.geneve.vni "16777216": is not"#),
        (
            |d| d.transport.vxlan = Some(tunnel(1, 65536)),
            r#"spec.transport.vxlan.port "65536": is not a number from 1"#,
        ),
        (
            |d| d.transport.wire_guard = Some(DraftWireGuard { port: Some(65535), key_rotation: None }),
            r#"spec.transport.wireGuard.port "65535": is not a number from 1 to 65534"#,
        ),
        (
            |d| d.transport.geneve = Some(tunnel(1, 8472)),
            r#"spec.transport.geneve.port "8472": is a UDP port of VXLAN too; choose another port"#,
        ),
        (
            |d| d.transport.geneve = Some(tunnel(1, 65534)),
            r#"spec.transport.wireGuard.port "65534": is a UDP port of Geneve too"#,
        ),
        (|d| rotate(d, "59s"), r#"keyRotation "59s": is not a time from 1m to 8760h; write one as in 24h"#),
        (|d| rotate(d, "8761h"), r#"keyRotation "8761h": is not a time"#),
    ];
    refused(tunnels, &cases);
}

fn rotate(draft: &mut Draft, period: &str) {
    draft.transport.wire_guard = Some(DraftWireGuard { port: None, key_rotation: Some(period.to_owned()) });
}

fn refused(good: fn() -> Draft, cases: &[(Change, &str)]) {
    for (change, expected) in cases {
        let mut bad = good();
        change(&mut bad);
        let said = said(&bad);
        assert!(said.iter().any(|line| line.contains(expected)), "{expected:?} is not in {said:#?}");
    }
}

#[test]
fn a_tunnel_that_nobody_uses_may_have_the_port_of_another() {
    let mut draft = draft();
    draft.transport = DraftTransport { vxlan: Some(tunnel(1, 6081)), ..Crossing::only(Transport::Vxlan).into() };
    assert!(validate(&draft).is_ok());
}

#[test]
fn each_wrong_field_of_an_exception_is_named_with_its_value_and_a_remedy() {
    let cases: [(Change, &str); 7] = [
        (
            |d| d.exceptions[1].name = "geneve".to_owned(),
            r#"exceptions[1].name "geneve": is the name of an earlier one"#,
        ),
        (|d| d.exceptions[1].name = "No Name".to_owned(), "spec.exceptions[1].name \"No Name\": is not a name"),
        (
            |d| d.exceptions[0] = DraftException { name: "idle".to_owned(), ..DraftException::default() },
            r#"spec.exceptions[0] "idle": has neither attachment nor transport nor mtu; say what is other"#,
        ),
        (
            |d| d.exceptions[0].mtu = Some(DraftMtu::Bytes(1279)),
            r#"spec.exceptions[0].mtu "1279": is neither Auto nor a number from 1280 to 65535"#,
        ),
        (
            |d| drop(d.exceptions[0].selector.labels.insert("a b".to_owned(), String::new())),
            "spec.exceptions[0].nodeSelector.matchLabels \"a b=\": is no label that a node can have",
        ),
        (|d| d.exceptions = vec![d.exceptions[0].clone(); 17], r#"spec.exceptions "17": holds more than 16 entries"#),
        (
            |d| d.transport = Crossing::only(Transport::WireGuard).into(),
            r#"spec.exceptions[0].transport.mode "Geneve": would let packets be seen in clear"#,
        ),
    ];
    refused(tunnels, &cases);
}

#[test]
fn an_encrypted_cluster_has_no_way_around_encryption() {
    let around = |cluster: bool, exception: bool| {
        let crossing = |cross_subnet_only| Crossing { mode: Transport::WireGuard, cross_subnet_only };
        let mut draft = tunnels();
        draft.transport = crossing(cluster).into();
        draft.exceptions.remove(0);
        draft.exceptions[0].transport = Some(crossing(exception));
        draft
    };
    assert!(
        said(&around(false, true))[0].starts_with(r#"spec.exceptions[0].transport.crossSubnetOnly "true": would let"#)
    );
    for (cluster, exception) in [(false, false), (true, false), (true, true)] {
        assert!(validate(&around(cluster, exception)).is_ok());
    }
}

#[test]
fn each_wrong_field_of_a_rule_for_addresses_is_named_with_its_value_and_a_remedy() {
    let cases: [(Change, &str); 14] = [
        (
            |d| d.node_address.mode = AddressMode::Interface,
            "spec.nodeAddress.interfaces: is missing: mode Interface needs it; give at least one entry",
        ),
        (|d| d.node_address.mode = AddressMode::Cidr, "spec.nodeAddress.cidrs: is missing: mode CIDR needs it"),
        (|d| d.node_address.mode = AddressMode::CanReach, "spec.nodeAddress.canReach: is missing"),
        (
            |d| d.node_address.interfaces = texts(&["eth1"]),
            "spec.nodeAddress.interfaces: belongs to mode Interface, and this is mode InternalIP; remove it, or set \
             spec.nodeAddress.mode to Interface",
        ),
        (|d| d.node_address = by_interface("eth 1"), r#"interfaces[0] "eth 1": is not a pattern of interface names"#),
        (|d| d.node_address = by_interface("sixteen-letters-"), "write 1 to 15 characters"),
        (|d| d.node_address = by_interface(""), "spec.nodeAddress.interfaces[0]: is not a pattern"),
        (|d| d.node_address = by_cidr("172.16.0.1/12"), r#"spec.nodeAddress.cidrs[0] "172.16.0.1/12": has bits set"#),
        (|d| d.node_address = by_cidr("10.244.7.0/24"), "overlaps 10.244.0.0/16 of spec.ipam.podCIDRs[0]"),
        (|d| d.node_address = by_reach(&["router"]), r#"canReach[0] "router": is not an IP address; write one as in"#),
        (|d| d.node_address = by_reach(&["::ffff:192.0.2.1"]), "is not an IP address"),
        (|d| d.node_address = by_reach(&["127.0.0.1"]), "touches 127.0.0.0/8"),
        (|d| d.node_address = by_reach(&["10.244.0.1"]), "lies in 10.244.0.0/16, which is of the cluster itself"),
        (
            |d| d.node_address = by_reach(&["192.0.2.1", "192.0.2.2"]),
            r#"canReach[1] "192.0.2.2": is a second IPv4 address beside 192.0.2.1; leave one IPv4 address"#,
        ),
    ];
    refused(draft, &cases);
}
