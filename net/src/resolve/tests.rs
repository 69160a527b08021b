mod addresses;
mod transports;

use std::net::IpAddr;

use super::*;
use crate::PerFamily;
use crate::allocate::allocate;
use crate::facts::ServiceRange;
use crate::intent::{Allocation, Crossing, Draft, DraftIpam, DraftMtu, DraftNodeAddress, validate};
use crate::state::{Attachment, CniConflict, MasqueradeMode};
use crate::transport::{Transport, Transports};

fn draft() -> Draft {
    Draft {
        ipam: DraftIpam {
            allocation: Some(Allocation::Allocate),
            pod_cidrs: vec!["10.244.0.0/16".to_owned(), "fd00:10:244::/56".to_owned()],
            node_mask_size: PerFamily::default(),
            ..DraftIpam::default()
        },
        service_cidrs: Vec::new(),
        node_cidrs: Vec::new(),
        attachment: Attachment::Routed,
        transport: Crossing::only(Transport::Direct).into(),
        node_address: DraftNodeAddress::default(),
        exceptions: Vec::new(),
        mtu: DraftMtu::Word("Auto".to_owned()),
        masquerade: MasqueradeMode::LeavingCluster,
        excluded_cidrs: vec!["192.168.0.0/16".to_owned()],
        cni_conflict: CniConflict::Report,
        policy: crate::policy::settings::PolicySettings::default(),
    }
}

fn facts(nodes: &[(&str, &[&str])]) -> Facts {
    let parsed = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect();
    let nodes =
        nodes.iter().map(|&(name, list)| (name.into(), NodeFacts { addresses: parsed(list), ..NodeFacts::default() }));
    Facts { nodes: nodes.collect(), ..Facts::default() }
}

fn resolved(draft: &Draft, facts: &Facts) -> Resolved {
    let intent = validate(draft).unwrap();
    resolve(&intent, facts, &allocate(&intent, facts))
}

#[test]
fn a_node_is_told_its_own_part_and_nothing_of_others() {
    let out =
        resolved(&draft(), &facts(&[("n1", &["172.16.30.3", "fd00:172::3"]), ("n2", &["172.16.30.4", "fd00:172::4"])]));
    assert!(out.findings.is_empty());
    let spec = &out.specs["n2"];
    assert_eq!(spec.addresses, ["172.16.30.4", "fd00:172::4"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_eq!(join(&spec.pod_cidrs), "10.244.1.0/24,fd00:10:244:1::/64");
    assert_eq!(join(&spec.masquerade.excluded), "10.244.0.0/16,192.168.0.0/16,fd00:10:244::/56");
    assert_eq!(spec.transport, Transports::only(Transport::Direct));
}

#[test]
fn node_ranges_choose_among_a_nodes_addresses() {
    let mut draft = draft();
    draft.node_cidrs = vec!["172.16.30.0/24".to_owned()];
    let facts = facts(&[("n1", &["10.0.0.9", "172.16.30.3", "fd00:172::3"])]);
    let out = resolved(&draft, &facts);
    assert_eq!(out.specs["n1"].addresses, ["172.16.30.3", "fd00:172::3"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_eq!(conflicts(&validate(&draft).unwrap(), &facts), []);
    draft.node_cidrs = vec!["172.16.31.0/24".to_owned()];
    let said = conflicts(&validate(&draft).unwrap(), &facts)[0].to_string();
    assert!(
        said.contains("holds the IPv4 InternalIP of no node; write ranges that hold the nodes' addresses"),
        "{said}"
    );
    let said = resolved(&draft, &facts).findings["n1"][0].to_string();
    assert!(
        said.contains("holds no IPv4 InternalIP that can be used; give the node an address in 172.16.31.0/24"),
        "{said}"
    );
}

#[test]
fn a_node_without_one_family_has_the_other_and_one_without_any_has_nothing() {
    let out = resolved(&draft(), &facts(&[("n1", &["172.16.30.3"]), ("n2", &[]), ("n3", &["fe80::1"])]));
    assert_eq!(out.specs.keys().collect::<Vec<_>>(), [&NodeName::from("n1")]);
    let said = out.findings["n1"][0].to_string();
    assert!(said.contains("holds no IPv6 InternalIP that can be used; give the kubelet an IPv6 --node-ip"), "{said}");
    assert_eq!(out.findings["n2"].len(), 2);
    assert_eq!(out.findings["n3"].len(), 2);
}

#[test]
fn the_clusters_own_service_ranges_are_respected() {
    let mut draft = draft();
    let mut facts = Facts::default();
    facts
        .service_ranges
        .push(ServiceRange { object: "kubernetes".to_owned(), cidr: "10.244.96.0/20".parse().unwrap() });
    let said = conflicts(&validate(&draft).unwrap(), &facts)[0].to_string();
    assert!(
        said.starts_with(r#"spec.ipam.podCIDRs[0] "10.244.0.0/16": overlaps 10.244.96.0/20 of ServiceCIDR kubernetes"#),
        "{said}"
    );
    draft.service_cidrs = vec!["10.96.0.0/16".to_owned()];
    facts.service_ranges[0].cidr = "10.97.0.0/16".parse().unwrap();
    let said = conflicts(&validate(&draft).unwrap(), &facts)[0].to_string();
    assert!(said.contains("does not hold 10.97.0.0/16 of ServiceCIDR kubernetes"), "{said}");
}

#[test]
fn what_a_node_was_told_stays_where_nothing_better_is_known() {
    let mut facts = facts(&[("n1", &["172.16.30.9"])]);
    facts.nodes.get_mut("n1").unwrap().published = ["172.16.30.3", "fd00:172::3"].map(|a| a.parse().unwrap()).to_vec();
    let out = resolved(&draft(), &facts);
    assert_eq!(out.specs["n1"].addresses, ["172.16.30.9", "fd00:172::3"].map(|a| a.parse::<IpAddr>().unwrap()));
    assert_eq!(out.findings["n1"].len(), 1);
    facts.nodes.get_mut("n1").unwrap().addresses = vec!["fd00:172::9".parse().unwrap()];
    let out = resolved(&draft(), &facts);
    assert_eq!(out.specs["n1"].addresses, ["172.16.30.3", "fd00:172::9"].map(|a| a.parse::<IpAddr>().unwrap()));
}
