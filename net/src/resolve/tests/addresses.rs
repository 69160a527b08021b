//! By which addresses nodes are reached, and what is other on some.

use super::*;
use crate::intent::{AddressMode, DraftException, DraftNodeAddress, DraftTransport, DraftTunnel, Selector};
use crate::state::{AddressRule, Mtu};

fn parsed(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|a| a.parse().unwrap()).collect()
}

fn by_interface() -> Draft {
    let interfaces = vec!["eth1".to_owned()];
    Draft { node_address: DraftNodeAddress { mode: AddressMode::Interface, interfaces, ..<_>::default() }, ..draft() }
}

#[test]
fn a_node_that_finds_its_address_itself_has_none_until_it_tells_and_follows_it_then() {
    let mut facts = facts(&[("n1", &["172.16.30.3", "fd00:172::3"])]);
    let told = |facts: &Facts| {
        let mut out = resolved(&by_interface(), facts);
        (out.specs.remove("n1").unwrap(), out.findings)
    };
    let (spec, findings) = told(&facts);
    assert_eq!(spec.address_rule, Some(AddressRule::Interfaces(vec!["eth1".to_owned()])));
    assert_eq!((spec.addresses, spec.pod_cidrs.len(), findings.len()), (vec![], 2, 0));
    for found in [["192.168.7.3", "fd07::3"], ["192.168.7.4", "fd07::3"]] {
        let node = facts.nodes.get_mut("n1").unwrap();
        (node.reported, node.published) = (parsed(&found), parsed(&["172.16.30.3", "fd00:172::3"]));
        assert_eq!(told(&facts).0.addresses, parsed(&found));
    }
    // What it was told before stays until it has looked.
    facts.nodes.get_mut("n1").unwrap().reported.clear();
    assert_eq!(told(&facts).0.addresses, parsed(&["172.16.30.3", "fd00:172::3"]));
}

#[test]
fn what_a_node_found_is_judged_as_what_its_node_says() {
    let mut facts = facts(&[("n1", &["172.16.30.3"])]);
    let said = |facts: &Facts, reported: &[&str]| {
        let mut facts = facts.clone();
        facts.nodes.get_mut("n1").unwrap().reported = parsed(reported);
        resolved(&by_interface(), &facts).findings.remove("n1").unwrap_or_default()
    };
    facts.nodes.get_mut("n1").unwrap().existing =
        ["10.244.0.0/24", "fd00:10:244::/64"].map(|c| c.parse().unwrap()).to_vec();
    let lacks = said(&facts, &["192.168.7.3"])[0].to_string();
    assert!(
        lacks.starts_with(r#"NodeNetwork.status.nodeAddresses "192.168.7.3": holds no IPv6 address; give"#),
        "{lacks}"
    );
    let inside = said(&facts, &["10.244.9.9", "fd07::3"])[0].to_string();
    assert!(inside.contains(r#"nodeAddresses "10.244.9.9": lies in the pod range 10.244.0.0/16"#), "{inside}");
    assert_eq!(said(&facts, &["192.168.7.3", "fd07::3"]), []);
}

#[test]
fn a_tunnel_that_takes_both_families_needs_an_address_of_one() {
    let facts = facts(&[("n1", &["172.16.30.3"]), ("n2", &["fd00:172::4"]), ("n3", &[])]);
    let bypassed = Crossing { cross_subnet_only: true, ..Crossing::only(Transport::Geneve) };
    let [vxlan, wire_guard, ipip] = [Transport::Vxlan, Transport::WireGuard, Transport::Ipip].map(Crossing::only);
    for (crossing, mixes) in [(vxlan, true), (wire_guard, true), (bypassed, true), (ipip, false)] {
        let mode = crossing.mode;
        let out = resolved(&Draft { transport: crossing.into(), ..draft() }, &facts);
        assert_eq!(out.specs["n1"].addresses, parsed(&["172.16.30.3"]));
        assert_eq!(out.specs["n2"].addresses, parsed(&["fd00:172::4"]));
        assert_eq!(out.findings.contains_key("n1"), !mixes, "{mode}");
        assert!(out.findings["n3"].len() == 2 && !out.specs.contains_key("n3"));
    }
    let mut of_one_family = Draft { transport: Crossing::only(Transport::Geneve).into(), ..draft() };
    of_one_family.ipam.pod_cidrs.truncate(1);
    let out = resolved(&of_one_family, &facts);
    assert_eq!(out.specs["n1"].addresses, parsed(&["172.16.30.3"]));
    assert_eq!(out.specs["n2"].addresses, parsed(&["fd00:172::4"]));
}

#[test]
fn an_exception_changes_what_it_says_on_the_nodes_that_it_selects_first() {
    let labels = |value: &str| [("pool".to_owned(), value.to_owned())].into();
    let selector = |value: &str| Selector { labels: labels(value), ..Selector::default() };
    let exception = |name: &str, selector| DraftException { name: name.to_owned(), selector, ..<_>::default() };
    let draft = Draft {
        exceptions: vec![
            DraftException {
                attachment: Some(Attachment::Bridge),
                mtu: Some(DraftMtu::Bytes(1300)),
                ..exception("old", selector("old"))
            },
            DraftException { transport: Some(Crossing::only(Transport::Vxlan)), ..exception("late", selector("old")) },
        ],
        transport: DraftTransport {
            vxlan: Some(DraftTunnel { vni: Some(7), port: None }),
            ..Crossing::only(Transport::Direct).into()
        },
        ..draft()
    };
    let mut facts = facts(&[("n1", &["172.16.30.3", "fd00:172::3"]), ("n2", &["172.16.30.4", "fd00:172::4"])]);
    facts.nodes.get_mut("n2").unwrap().labels = labels("old");
    let out = resolved(&draft, &facts);
    let (one, two) = (&out.specs["n1"], &out.specs["n2"]);
    assert_eq!((one.attachment, one.mtu), (Attachment::Routed, Mtu::Auto));
    assert_eq!((two.attachment, two.mtu), (Attachment::Bridge, Mtu::Bytes(1300)));
    assert_eq!((&one.transport, one.transport.tunnels.vxlan.vni), (&two.transport, 7));
    let said: Vec<String> = out.unused.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with(r#"spec.exceptions[1] "late": selects no node; correct its nodeSelector"#), "{said:?}");
}
