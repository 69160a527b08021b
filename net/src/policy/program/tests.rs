//! What is made and dropped as bundles and leases change.

use super::*;
use crate::policy::bundle::{Allow, Direction, Isolation, Members, Peers, PodPolicy, Ports, Profile};
use crate::policy::input::Key;

const A: &str = "10.0.0.2";
const B: &str = "10.0.0.3";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn leases(list: &[(&str, &[&str])]) -> Leases {
    list.iter().map(|(uid, all)| ((*uid).to_owned(), all.iter().map(|one| address(one)).collect())).collect()
}

/// Everything from the set.
fn profile(set: u64) -> Profile {
    let allows = vec![Allow { ports: Ports::Any, peers: Peers::In(vec![SetId(set)]) }];
    let isolated = Some(Isolation { policies: Vec::new(), allows });
    Profile { ingress: Direction { isolated, ..Direction::default() }, egress: Direction::default() }
}

/// Pods with the profile of the set of the same number.
fn bundle(pods: &[(&str, u64)]) -> Bundle {
    let mut bundle = Bundle { is_enforced: true, ..Bundle::default() };
    for (uid, number) in pods {
        let key = Key { namespace: "x".into(), name: (*uid).into() };
        bundle.pods.insert((*uid).into(), PodPolicy { key, profile: Some(ProfileId(*number)), is_policed: true });
        bundle.profiles.insert(ProfileId(*number), profile(*number));
        bundle.sets.insert(SetId(*number), Members::Addresses([address("10.1.1.1")].into()));
    }
    bundle
}

fn names(objects: &[Object]) -> Vec<String> {
    objects.iter().map(ToString::to_string).collect()
}

fn advance(program: &mut Program, before: &Bundle, after: &Bundle, changes: &LeaseChanges) -> Change {
    let delta = Delta::between(before, after);
    program.advance(View { before, delta: &delta }, changes).unwrap()
}

#[test]
fn what_two_pods_use_is_made_once_and_dropped_with_the_second() {
    let before = bundle(&[("a", 1), ("b", 1)]);
    let (mut program, made) = Program::of(&before, &leases(&[("a", &[A]), ("b", &[B])])).unwrap();
    assert_eq!(names(&made.make), ["0000000000000001 in peers-v4", "ingress-v4-0000000000000001"]);
    let none = LeaseChanges::new();
    let one = bundle(&[("b", 1)]);
    let change = advance(&mut program, &before, &one, &none);
    assert_eq!((change.unbind.as_slice(), change.drop.len(), change.make.len()), (&[address(A)][..], 0, 0));
    let change = advance(&mut program, &one, &bundle(&[]), &none);
    let dropped: Vec<String> = change.drop.iter().map(|(object, _)| object.to_string()).collect();
    assert_eq!(dropped, ["ingress-v4-0000000000000001", "0000000000000001 in peers-v4"]);
    assert!(program.objects().is_empty() && program.bound().is_empty());
}

#[test]
fn each_family_is_made_for_pods_that_have_it_alone() {
    let (program, made) = Program::of(&bundle(&[("a", 1)]), &leases(&[("a", &["fd00::2"])])).unwrap();
    assert_eq!(names(&made.make), ["0000000000000001 in peers-v6", "ingress-v6-0000000000000001"]);
    let [binding] = program.bindings().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((binding.egress, binding.ingress), (None, Some(ProfileId(1))));
}

#[test]
fn a_pod_is_known_by_its_lease_and_the_bundle_together_in_either_order() {
    let (empty, full) = (bundle(&[]), bundle(&[("a", 1)]));
    let lease: LeaseChanges = [("a".to_owned(), Some(vec![address(A)]))].into();
    let (mut program, _) = Program::of(&empty, &Leases::new()).unwrap();
    assert_eq!(advance(&mut program, &empty, &empty, &lease), Change::default());
    assert_eq!(advance(&mut program, &empty, &full, &LeaseChanges::new()).bind.len(), 1);
    let (mut program, _) = Program::of(&full, &Leases::new()).unwrap();
    assert_eq!(advance(&mut program, &full, &full, &lease).bind.len(), 1);
    // Told again it is no news.
    assert_eq!(advance(&mut program, &full, &full, &lease), Change::default());
}

#[test]
fn an_address_that_another_pod_gets_leads_to_the_other_pods_profile() {
    let both = bundle(&[("a", 1), ("b", 2)]);
    let (mut program, _) = Program::of(&both, &leases(&[("a", &[A])])).unwrap();
    let moved = [("a".to_owned(), None), ("b".to_owned(), Some(vec![address(A)]))].into();
    let change = advance(&mut program, &both, &both, &moved);
    assert_eq!(change.unbind, [address(A)]);
    assert_eq!(change.bind, [Binding { address: address(A), egress: None, ingress: Some(ProfileId(2)) }]);
    // The one that goes is told of late: the address stays the other's.
    let (mut program, _) = Program::of(&both, &leases(&[("a", &[A])])).unwrap();
    advance(&mut program, &both, &both, &[("b".to_owned(), Some(vec![address(A)]))].into());
    let change = advance(&mut program, &both, &both, &[("a".to_owned(), None)].into());
    assert_eq!(change, Change::default());
    assert_eq!(program.bound().get(&address(A)).map(|bound| bound.uid.as_str()), Some("b"));
}

#[test]
fn only_members_of_sets_that_are_used_change() {
    let before = bundle(&[("a", 1), ("b", 2)]);
    let (mut program, _) = Program::of(&before, &leases(&[("a", &[A])])).unwrap();
    let mut after = before.clone();
    for members in after.sets.values_mut() {
        *members = Members::Addresses([address("10.1.1.2")].into());
    }
    let change = advance(&mut program, &before, &after, &LeaseChanges::new());
    assert_eq!(names(&change.members), ["0000000000000001 in peers-v4"]);
    assert_eq!(Change { members: Vec::new(), ..change }, Change::default());
}

#[test]
fn a_bundle_that_lacks_what_it_names_is_refused_by_name() {
    let all = leases(&[("a", &[A])]);
    let mut lacking = bundle(&[("a", 1)]);
    lacking.sets.clear();
    let error = Program::of(&lacking, &all).unwrap_err();
    assert_eq!(
        error.to_string(),
        "ingress-v4-0000000000000001 looks into SetId(0000000000000001), which the bundle lacks"
    );
    lacking.profiles.clear();
    let error = Program::of(&lacking, &all).unwrap_err();
    assert_eq!(error, Error::NoProfile { pod: "a".into(), profile: ProfileId(1) });
    let mut other = bundle(&[("a", 1)]);
    other.sets.insert(SetId(1), Members::Ports(BTreeSet::new()));
    assert!(matches!(Program::of(&other, &all), Err(Error::WrongKind { kind: Kind::Ports, .. })));
}
