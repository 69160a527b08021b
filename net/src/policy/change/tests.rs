use std::net::{IpAddr, Ipv4Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::lease::Protocol;
use crate::policy::bundle::{AddressPort, Allow, Direction, Isolation, Peers, PodPolicy, Ports, Profile, ProfileId};
use crate::policy::input::Key;
use crate::ranges::Range;

fn address() -> impl Strategy<Value = IpAddr> {
    (0..4_u8).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 244, 0, last)))
}

fn port() -> impl Strategy<Value = AddressPort> {
    (address(), 80..82_u16).prop_map(|(address, port)| AddressPort { address, protocol: Protocol::Tcp, port })
}

/// Of a kind that follows from the set's name: a set never changes its kind.
fn members(id: SetId) -> BoxedStrategy<Members> {
    match id.0 % 3 {
        0 => btree_set(address(), 0..4).prop_map(Members::Addresses).boxed(),
        1 => btree_set(port(), 0..4).prop_map(Members::Ports).boxed(),
        _ => Just(Members::Ranges(vec![Range { first: Ipv4Addr::LOCALHOST.into(), last: Ipv4Addr::LOCALHOST.into() }]))
            .boxed(),
    }
}

/// What a profile says follows from its name.
fn profile(id: ProfileId) -> Profile {
    let allow = Allow { ports: Ports::Any, peers: Peers::In(vec![SetId(id.0)]) };
    let isolated = Some(Isolation { policies: Vec::new(), allows: vec![allow] });
    Profile { ingress: Direction { isolated, ..Direction::default() }, egress: Direction::default() }
}

/// Bundles of few things, so that two of them often share some.
pub fn bundle() -> impl Strategy<Value = Bundle> {
    let pods = btree_map("[ab]", (0..3_u64, "[xy]"), 0..3);
    let sets = btree_set(0..6_u64, 0..5).prop_flat_map(|ids| {
        ids.into_iter().map(|id| members(SetId(id)).prop_map(move |m| (SetId(id), m))).collect::<Vec<_>>()
    });
    (any::<bool>(), pods, btree_set(0..4_u64, 0..4), sets).prop_map(|(is_enforced, pods, profiles, sets)| Bundle {
        is_enforced,
        pods: pods
            .into_iter()
            .map(|(uid, (id, name))| {
                let key = Key { namespace: "web".into(), name };
                (uid, PodPolicy { key, profile: (id > 0).then_some(ProfileId(id)), is_policed: id > 1 })
            })
            .collect(),
        profiles: profiles.into_iter().map(|id| (ProfileId(id), profile(ProfileId(id)))).collect(),
        sets: sets.into_iter().collect(),
    })
}

proptest! {
    #[test]
    fn what_is_between_two_bundles_leads_from_one_to_the_other(from in bundle(), to in bundle()) {
        let mut at = from.clone();
        let delta = Delta::between(&from, &to);
        prop_assert_eq!(delta.is_empty(), from == to);
        prop_assert_eq!(at.apply(delta.clone()), Ok(delta));
        prop_assert_eq!(at, to);
    }

    #[test]
    fn many_changes_put_together_do_what_they_do_one_after_the_other(all in vec(bundle(), 1..6)) {
        let mut merged = Delta::default();
        for pair in all.windows(2) {
            merged.merge(Delta::between(&pair[0], &pair[1])).unwrap();
        }
        let mut at = all[0].clone();
        let effect = at.apply(merged).unwrap();
        let last = &all[all.len() - 1];
        prop_assert_eq!(&at, last);
        prop_assert_eq!(effect, Delta::between(&all[0], last), "the effect is exact, whatever the way");
    }

    #[test]
    fn a_change_that_was_applied_before_changes_nothing(from in bundle(), to in bundle()) {
        let mut at = from.clone();
        let delta = Delta::between(&from, &to);
        at.apply(delta.clone()).unwrap();
        prop_assert!(at.apply(delta).unwrap().is_empty());
    }
}

#[test]
fn a_change_of_a_set_that_is_not_there_leaves_all_as_it_is() {
    let mut at = Bundle::default();
    let add = Members::Addresses(BTreeSet::from([Ipv4Addr::LOCALHOST.into()]));
    let change = SetDelta::Change { remove: add.none(), add };
    let delta = Delta { is_enforced: Some(true), sets: BTreeMap::from([(SetId(1), change)]), ..Delta::default() };
    assert_eq!(at.apply(delta), Err(Misfit::Missing(SetId(1))));
    assert_eq!(at, Bundle::default());
}

#[test]
fn members_of_another_kind_are_refused_applied_or_put_together() {
    let ports = Members::Ports(BTreeSet::new());
    let change = SetDelta::Change { add: ports.clone(), remove: ports };
    let set = SetDelta::New(Members::Addresses(BTreeSet::new()));
    let mut first = Delta { sets: BTreeMap::from([(SetId(1), set)]), ..Delta::default() };
    let second = Delta { sets: BTreeMap::from([(SetId(1), change)]), ..Delta::default() };
    let mut at = Bundle::default();
    at.apply(first.clone()).unwrap();
    assert_eq!(at.apply(second.clone()), Err(Misfit::Kind(SetId(1))));
    assert_eq!(first.merge(second), Err(Misfit::Kind(SetId(1))));
}
