mod nodes;
mod pools;

use super::*;

/// The dual-stack network of the samples.
fn draft() -> Draft {
    Draft {
        ipam: DraftIpam {
            allocation: Some(Allocation::Allocate),
            pod_cidrs: texts(&["10.244.0.0/16", "fd00:10:244::/56"]),
            node_mask_size: PerFamily { v4: Some(24), v6: Some(64) },
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
        excluded_cidrs: Vec::new(),
        cni_conflict: CniConflict::Report,
        policy: crate::policy::settings::PolicySettings::default(),
    }
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&t| t.to_owned()).collect()
}

#[test]
fn what_is_excluded_from_no_masquerading_at_all_is_refused() {
    let mut bad = draft();
    (bad.masquerade, bad.excluded_cidrs) = (MasqueradeMode::Off, texts(&["192.168.0.0/16"]));
    assert!(said(&bad)[0].starts_with(r#"spec.masquerade.excludedCIDRs "192.168.0.0/16": has no effect"#));
}

/// Makes a good draft bad.
type Change = fn(&mut Draft);

/// What is said about a draft, one finding a line.
fn said(draft: &Draft) -> Vec<String> {
    validate(draft).unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_draft_keeps_everything_that_was_written() {
    let mut written = draft();
    written.excluded_cidrs = texts(&["192.168.0.0/16"]);
    written.mtu = DraftMtu::Bytes(1400);
    let intent = validate(&written).unwrap();
    let Ipam::Allocate { pools } = &intent.ipam else { panic!("allocates") };
    assert_eq!(pools.iter().map(|p| p.node_mask).collect::<Vec<_>>(), [24, 64]);
    assert_eq!(pools.iter().map(Range::blocks).collect::<Vec<_>>(), [256, 256]);
    assert_eq!(intent.mtu, Mtu::Bytes(1400));
    assert_eq!(join(&intent.masquerade.excluded), "192.168.0.0/16");
}

#[test]
fn a_node_mask_that_is_not_given_is_the_usual_one() {
    let mut written = draft();
    written.ipam.node_mask_size = PerFamily::default();
    assert_eq!(validate(&written), validate(&draft()));
}

#[test]
fn each_wrong_field_is_named_with_its_value_and_a_remedy() {
    let cases: [(Change, &str); 12] = [
        (
            |d| d.ipam.pod_cidrs[0] = "10.244.0.0/33".to_owned(),
            r#"spec.ipam.podCIDRs[0] "10.244.0.0/33": is not a CIDR; write an address"#,
        ),
        (
            |d| d.ipam.pod_cidrs[0] = "10.244.0.1/16".to_owned(),
            r#"spec.ipam.podCIDRs[0] "10.244.0.1/16": has bits set beyond its prefix length; write 10.244.0.0/16"#,
        ),
        (|d| d.ipam.pod_cidrs[1] = "::ffff:10.0.0.0/104".to_owned(), "is not a CIDR"),
        (|d| d.ipam.pod_cidrs[1] = "fe80::/64".to_owned(), "touches fe80::/10"),
        (|d| d.ipam.pod_cidrs[1] = "10.0.0.0/16".to_owned(), "is a second IPv4 range beside 10.244.0.0/16"),
        (|d| d.ipam.pod_cidrs.clear(), "spec.ipam.podCIDRs: is missing"),
        (
            |d| d.ipam.node_mask_size.v4 = Some(8),
            r#"spec.ipam.nodeMaskSize.ipv4 "8": does not fit the range 10.244.0.0/16"#,
        ),
        (|d| d.ipam.node_mask_size.v6 = Some(80), "56 to 72 would"),
        (|d| d.ipam.node_mask_size.v4 = Some(32), "16 to 30 would"),
        (|d| d.service_cidrs = texts(&["10.244.128.0/20"]), "overlaps 10.244.0.0/16 of spec.ipam.podCIDRs[0]"),
        (|d| d.node_cidrs = texts(&["172.16.0.0/12", "172.30.0.0/16"]), "overlaps 172.16.0.0/12 of spec.nodeCIDRs[0]"),
        (|d| d.mtu = DraftMtu::Bytes(1279), r#"spec.mtu "1279": is neither Auto nor a number from 1280 to 65535"#),
    ];
    for (change, expected) in cases {
        let mut bad = draft();
        change(&mut bad);
        let said = said(&bad);
        assert!(said.iter().any(|line| line.contains(expected)), "{expected:?} is not in {said:#?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let mut bad = draft();
    bad.ipam.pod_cidrs[0] = "nonsense".to_owned();
    bad.mtu = DraftMtu::Word("auto".to_owned());
    bad.excluded_cidrs = texts(&["::1/64"]);
    assert_eq!(said(&bad).len(), 4, "{:#?}", said(&bad));
}

#[test]
fn a_node_mask_without_a_range_of_its_family_is_refused() {
    let mut bad = draft();
    bad.ipam.pod_cidrs.truncate(1);
    assert!(said(&bad)[0].starts_with(r#"spec.ipam.nodeMaskSize.ipv6 "64": has no effect here"#));
    bad.ipam.allocation = Some(Allocation::Adopt);
    assert_eq!(said(&bad).len(), 2);
}

#[test]
fn the_revision_is_short_and_changes_with_the_intent_only() {
    let intent = validate(&draft()).unwrap();
    assert_eq!(intent.revision(), validate(&draft()).unwrap().revision());
    assert_eq!(intent.revision().0.len(), 7);
    let mut other = draft();
    other.mtu = DraftMtu::Bytes(1400);
    assert_ne!(intent.revision(), validate(&other).unwrap().revision());
}

#[test]
fn what_is_taken_stays_disjoint_whatever_the_order() {
    let nets = ["10.0.1.0/24", "10.0.0.0/16", "10.0.2.0/24"].map(|n| n.parse::<IpNet>().unwrap());
    for order in [[0, 1, 2], [1, 0, 2], [2, 0, 1]] {
        let mut taken = Taken::default();
        for index in order {
            taken.take(&nets[index], &"a".into());
        }
        assert_eq!(taken.holder(&"10.0.200.0/24".parse().unwrap()), Some(&"a".into()));
        assert_eq!(taken.holder(&"10.1.0.0/24".parse().unwrap()), None);
        assert_eq!(taken.holder(&"10.0.0.0/8".parse().unwrap()), Some(&"a".into()));
    }
}
