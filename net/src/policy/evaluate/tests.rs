use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::policy::bundle::{PodPolicy, ProfileId};
use crate::policy::input::Key;
use crate::ranges::Range;

const POD: &str = "10.0.0.5";
const NAMED: SetId = SetId(1);
const FRIENDS: SetId = SetId(2);
const OUTSIDE: SetId = SetId(3);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn to_pod(source: &str, protocol: u8, port: Option<u16>) -> Packet {
    Packet { source: address(source), destination: address(POD), protocol, port }
}

fn from_pod(destination: &str, protocol: u8, port: Option<u16>) -> Packet {
    Packet { source: address(POD), destination: address(destination), protocol, port }
}

fn range(first: &str, last: &str) -> Range {
    Range { first: address(first), last: address(last) }
}

fn sets() -> BTreeMap<SetId, Members> {
    let named = AddressPort { address: address("10.0.1.7"), protocol: Protocol::Udp, port: 53 };
    BTreeMap::from([
        (NAMED, Members::Ports(BTreeSet::from([named]))),
        (FRIENDS, Members::Addresses(BTreeSet::from([address("10.0.1.7"), address("fd00::7")]))),
        (
            OUTSIDE,
            Members::Ranges(vec![
                range("192.0.2.0", "192.0.2.9"),
                range("192.0.2.11", "192.0.2.255"),
                range("2001:db8::", "2001:db8::ff"),
            ]),
        ),
    ])
}

fn bundle(ingress: Direction, egress: Direction) -> Bundle {
    let key = Key { namespace: "web".into(), name: "shop".into() };
    Bundle {
        is_enforced: true,
        pods: BTreeMap::from([
            ("shop".into(), PodPolicy { key: key.clone(), profile: Some(ProfileId(7)), is_policed: true }),
            ("free".into(), PodPolicy { key: key.clone(), profile: None, is_policed: false }),
            ("odd".into(), PodPolicy { key, profile: Some(ProfileId(8)), is_policed: true }),
        ]),
        profiles: BTreeMap::from([(ProfileId(7), Profile { ingress, egress })]),
        sets: sets(),
    }
}

fn isolated(allows: &[(Ports, Peers)]) -> Direction {
    let allows = allows.iter().map(|(ports, peers)| Allow { ports: *ports, peers: peers.clone() }).collect();
    Direction { isolated: Some(Isolation { policies: Vec::new(), allows }), ..Direction::default() }
}

fn rule(action: Action, ports: &[Ports], peers: Peers) -> Ordered {
    Ordered { policy: format!("{action:?}"), action, ports: ports.to_vec(), peers }
}

fn passes(bundle: &Bundle, way: Way, packet: Packet) -> bool {
    bundle.judge_pod("shop", way, &packet).passes()
}

#[test]
fn without_a_policy_in_the_cluster_everything_passes() {
    let bundle = Bundle::default();
    assert_eq!(bundle.judge_pod("whoever", Way::Ingress, &to_pod("10.0.1.7", 6, Some(80))), Verdict::NotEnforced);
}

#[test]
fn a_pod_that_is_not_known_gets_nothing_through_and_one_without_a_policy_everything() {
    let bundle = bundle(Direction::default(), Direction::default());
    let packet = to_pod("10.0.1.7", 6, Some(80));
    assert_eq!(bundle.judge_pod("stranger", Way::Ingress, &packet), Verdict::Unknown);
    assert_eq!(bundle.judge_pod("odd", Way::Ingress, &packet), Verdict::Unknown);
    assert_eq!(bundle.judge_pod("free", Way::Ingress, &packet), Verdict::Undecided);
}

#[test]
fn a_pod_reaches_itself_whatever_isolates_it() {
    let bundle = bundle(isolated(&[]), isolated(&[]));
    assert!(passes(&bundle, Way::Egress, from_pod(POD, 6, Some(80))));
    assert!(passes(&bundle, Way::Ingress, from_pod(POD, 6, Some(80))));
    assert!(!passes(&bundle, Way::Ingress, to_pod("10.0.0.6", 6, Some(80))));
}

#[test]
fn isolation_denies_every_protocol_that_is_not_allowed() {
    let bundle =
        bundle(isolated(&[(Ports::All(Protocol::Tcp), Peers::Anyone)]), isolated(&[(Ports::Any, Peers::Anyone)]));
    for protocol in 0..=u8::MAX {
        assert_eq!(passes(&bundle, Way::Ingress, to_pod("10.0.1.7", protocol, None)), protocol == 6);
        assert!(passes(&bundle, Way::Egress, from_pod("10.0.1.7", protocol, None)));
    }
}

#[test]
fn ranges_of_ports_hold_both_of_their_ends_and_no_other_protocol() {
    let ports = Ports::Range(Protocol::Udp, 100, 200);
    for (protocol, port, held) in [
        (17, Some(99), false),
        (17, Some(100), true),
        (17, Some(200), true),
        (17, Some(201), false),
        (6, Some(150), false),
        (17, None, false),
    ] {
        assert_eq!(ports.hold(protocol, port), held, "{protocol} {port:?}");
    }
}

#[test]
fn members_are_found_by_address_in_both_families() {
    let sets = sets();
    for (set, text, held) in [
        (FRIENDS, "10.0.1.7", true),
        (FRIENDS, "fd00::7", true),
        (FRIENDS, "::a00:107", false),
        (OUTSIDE, "192.0.1.255", false),
        (OUTSIDE, "192.0.2.0", true),
        (OUTSIDE, "192.0.2.9", true),
        (OUTSIDE, "192.0.2.10", false),
        (OUTSIDE, "192.0.2.11", true),
        (OUTSIDE, "192.0.3.0", false),
        (OUTSIDE, "2001:db8::ff", true),
        (OUTSIDE, "2001:db8::100", false),
        (NAMED, "10.0.1.7", false),
    ] {
        assert_eq!(sets[&set].holds(address(text)), held, "{set} {text}");
    }
}

#[test]
fn named_ports_belong_to_the_pods_that_packets_go_to() {
    let peers = Peers::In(vec![NAMED]);
    let bundle = bundle(isolated(&[(Ports::OfPeer, peers.clone())]), isolated(&[(Ports::OfPeer, peers)]));
    assert!(passes(&bundle, Way::Egress, from_pod("10.0.1.7", 17, Some(53))));
    assert!(!passes(&bundle, Way::Egress, from_pod("10.0.1.7", 6, Some(53))));
    assert!(!passes(&bundle, Way::Egress, from_pod("10.0.1.7", 17, Some(54))));
    assert!(!passes(&bundle, Way::Egress, from_pod("10.0.1.8", 17, Some(53))));
    assert!(!passes(&bundle, Way::Ingress, to_pod("10.0.1.7", 17, Some(53))));
}

#[test]
fn the_admin_tier_comes_first_and_the_baseline_last() {
    let friends = Peers::In(vec![FRIENDS]);
    let outside = Peers::In(vec![OUTSIDE]);
    let mut ingress = isolated(&[(Ports::Any, friends.clone())]);
    ingress.admin = vec![
        rule(Action::Pass, &[Ports::All(Protocol::Udp)], friends),
        rule(Action::Deny, &[Ports::Any], Peers::In(vec![FRIENDS])),
        rule(Action::Accept, &[Ports::Any], outside.clone()),
    ];
    let egress = Direction { baseline: vec![rule(Action::Deny, &[Ports::Any], outside)], ..Direction::default() };
    let bundle = bundle(ingress, egress);
    assert!(passes(&bundle, Way::Ingress, to_pod("10.0.1.7", 17, Some(53))));
    assert!(!passes(&bundle, Way::Ingress, to_pod("10.0.1.7", 6, Some(53))));
    assert!(passes(&bundle, Way::Ingress, to_pod("192.0.2.1", 6, Some(53))));
    assert!(!passes(&bundle, Way::Ingress, to_pod("192.0.3.1", 6, Some(53))));
    assert!(!passes(&bundle, Way::Egress, from_pod("192.0.2.1", 6, Some(53))));
    assert!(passes(&bundle, Way::Egress, from_pod("192.0.3.1", 6, Some(53))));
}

#[test]
fn a_rule_without_peers_matches_nobody() {
    let ingress = Direction {
        admin: vec![rule(Action::Deny, &[Ports::Any], Peers::In(Vec::new()))],
        baseline: vec![rule(Action::Deny, &[], Peers::Anyone)],
        ..Direction::default()
    };
    assert!(passes(&bundle(ingress, Direction::default()), Way::Ingress, to_pod("10.0.1.7", 6, Some(80))));
}

#[test]
fn the_verdict_tells_the_rule_that_decided() {
    let deny = rule(Action::Deny, &[Ports::Any], Peers::Anyone);
    let ingress = Direction { admin: vec![deny.clone()], ..Direction::default() };
    let allow = Allow { ports: Ports::Any, peers: Peers::In(vec![FRIENDS]) };
    let egress = isolated(&[(allow.ports, allow.peers.clone())]);
    let isolation = egress.isolated.clone().unwrap();
    let bundle = bundle(ingress, egress);
    let packet = from_pod("10.0.1.7", 6, Some(80));
    assert_eq!(bundle.judge_pod("shop", Way::Ingress, &packet), Verdict::Ruled(Tier::Admin, &deny));
    assert_eq!(bundle.judge_pod("shop", Way::Egress, &packet), Verdict::Allowed(&isolation, &allow));
    let packet = from_pod("10.0.1.8", 6, Some(80));
    assert_eq!(bundle.judge_pod("shop", Way::Egress, &packet), Verdict::Isolated(&isolation));
}

#[test]
fn a_node_judges_the_pods_at_both_ends_that_are_its_own() {
    let bundle = bundle(isolated(&[]), Direction::default());
    let place = |at: IpAddr| match at.to_string().as_str() {
        POD => Place::Pod("shop"),
        "10.0.0.6" => Place::Pod("free"),
        "192.168.0.1" => Place::Node,
        _ => Place::Elsewhere,
    };
    let judge = |packet| bundle.judge(&packet, place);
    let between = judge(to_pod("10.0.0.6", 6, Some(80)));
    assert!(!between.passes());
    assert_eq!(between.egress, Verdict::Undecided);
    assert_eq!(judge(to_pod("192.168.0.1", 6, Some(80))).ingress, Verdict::FromNode);
    assert!(!judge(to_pod("192.168.0.2", 6, Some(80))).passes());
    assert!(judge(from_pod("192.168.0.1", 6, Some(80))).passes());
    let away = judge(from_pod("192.168.0.2", 6, Some(80)));
    assert_eq!((away.egress, away.ingress), (Verdict::Undecided, Verdict::NotHere));
}
