//! What an agent goes on from.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{Bundle, Delta, Peers, ProfileId, SetDelta, SetId};
use towpath_net::policy::digest::Digests;
use towpath_node_agent::policy::{Remembered, remembered};

use super::harness::*;

#[test]
fn an_agent_that_starts_again_writes_nothing_that_is_there_already() {
    isolated("starting::an_agent_that_starts_again_writes_nothing_that_is_there_already", || {
        node();
        Agent::restart(Some(told(bundle()))).stop();
        let (before, was) = (listed(), generation());
        assert!(has(&before, "10.9.9.9"), "{before:#?}");
        let agent = Agent::restart(Some(told(bundle())));
        agent.digests();
        assert_eq!(generation(), was + TAKEN_OVER, "the kernel was written to");
        agent.stop();
        // Nor one that remembers nothing, whatever it finds: nobody knows what is to be.
        let agent = Agent::start(None);
        agent.digests();
        assert_eq!((generation(), agent.is_enforced()), (was + TAKEN_OVER, None));
        // And told the same it finds all of it.
        let (answer, _) = agent.tell(Delta::between(&Bundle::default(), &bundle()));
        assert_eq!((answer, generation()), (Ok(()), was + 2 * TAKEN_OVER));
        wait_until("policies are in force", || agent.is_enforced() == Some(true));
        agent.stop();
        assert_eq!(listed(), before);
    });
}

#[test]
fn what_was_kept_and_is_damaged_is_not_used() {
    isolated("starting::what_was_kept_and_is_damaged_is_not_used", || {
        node();
        let agent = Agent::start(None);
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        wait_until("it is kept", || remembered(&paths()).is_some());
        agent.stop();
        assert_eq!(remembered(&paths()), Some(told(bundle())));
        let file = paths().policies();
        let whole = fs::read(&file).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        let was = generation();
        for damaged in [Vec::new(), b"something else".to_vec(), whole[..whole.len() - 1].to_vec(), flipped] {
            fs::write(&file, damaged).unwrap();
            let found = remembered(&paths());
            assert_eq!(found, None);
            let agent = Agent::start(found);
            agent.digests();
            // What is in the kernel stays in force until it is known again what is to be.
            assert_eq!(generation(), was);
            agent.stop();
        }
        fs::write(&file, whole).unwrap();
        Agent::restart(remembered(&paths())).stop();
        assert_eq!(generation(), was + TAKEN_OVER);
    });
}

#[test]
fn who_is_killed_goes_on_from_all_that_was_answered() {
    isolated("starting::who_is_killed_goes_on_from_all_that_was_answered", || {
        node();
        let agent = Agent::start(None);
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        let mut wanted = bundle();
        wait_until("it is kept", || remembered(&paths()).is_some());
        for number in 1..=40 {
            let change = coming(&format!("10.9.8.{number}"));
            wanted.apply(change.clone()).unwrap();
            assert_eq!(agent.tell(change).0, Ok(()));
            assert_eq!(remembered(&paths()), Some(told(wanted.clone())), "{number} changes");
        }
        agent.stop();
        // Nor is what comes to it lost on the agent that goes on.
        let agent = Agent::restart(remembered(&paths()));
        wanted.apply(coming("10.9.7.1")).unwrap();
        assert_eq!(agent.tell(coming("10.9.7.1")).0, Ok(()));
        assert_eq!(remembered(&paths()), Some(told(wanted)));
        agent.stop();
    });
}

#[test]
fn what_was_told_before_the_node_started_is_used_where_no_operator_tells_anything_in_time() {
    isolated(
        "starting::what_was_told_before_the_node_started_is_used_where_no_operator_tells_anything_in_time",
        || {
            node();
            fs::create_dir_all(paths().kept()).unwrap();
            let agent = Agent::start(None);
            assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
            // The last word of all is on disk when the agent has ended.
            assert_eq!(agent.tell(coming("10.9.9.8")).0, Ok(()));
            agent.stop();
            assert_eq!(fs::read(paths().lasting_policies()).unwrap(), fs::read(paths().policies()).unwrap());
            assert_eq!(fs::metadata(paths().lasting_policies()).unwrap().mode() & 0o777, 0o600);
            fs::remove_file(paths().policies()).unwrap();
            assert_eq!(remembered(&paths()), None, "pods may run: the kernel may have what is newer");
            sh(&format!("rm {STATE}/node.json; nft flush ruleset"));
            let mut old = remembered(&paths()).unwrap();
            assert_eq!(old.bundle.pods, bundle().pods);
            assert!(old.patience > Duration::ZERO);
            // An operator that is there is heard: it tells what is different now.
            old.patience = Duration::from_hours(1);
            let agent = Agent::start(Some(old.clone()));
            assert_eq!((agent.digests(), agent.is_enforced()), (Digests::of(&old.bundle), None));
            let (answer, listing) = agent.tell(agent.digests().delta_to(&bundle()));
            assert!(
                answer.is_ok() && has(&listing, "10.9.9.9") && !has(&listing, "10.9.9.8"),
                "{answer:?} {listing:#?}"
            );
            agent.stop();
            sh("nft flush ruleset");
            // One that is not is waited for.
            old.patience = Duration::from_millis(50);
            let agent = Agent::restart(Some(old));
            assert!(has(&listed(), "10.9.9.8"), "{:#?}", listed());
            agent.stop();
        },
    );
}

/// Of what is remembered nothing is as it is now: a pod, its profile and its set are gone, and others came.
fn other() -> Bundle {
    let mut other = bundle();
    let (mut pod, mut profile) = (other.pods["a"].clone(), other.profiles[&ProfileId(1)].clone());
    (pod.key.name, pod.profile) = ("gone".to_owned(), Some(ProfileId(9)));
    profile.ingress.isolated.as_mut().unwrap().allows[0].peers = Peers::In(vec![SetId(9)]);
    other.pods = BTreeMap::from([("gone".to_owned(), pod), ("b".to_owned(), other.pods["b"].clone())]);
    other.profiles = BTreeMap::from([(ProfileId(9), profile)]);
    other.sets = BTreeMap::from([(SetId(9), addresses(&["10.1.1.1"]))]);
    other
}

#[test]
fn what_is_told_by_the_digests_of_what_is_remembered_fits_before_and_behind_its_use() {
    isolated("starting::what_is_told_by_the_digests_of_what_is_remembered_fits_before_and_behind_its_use", || {
        node();
        let fresh = {
            let agent = Agent::restart(Some(told(bundle())));
            let listed = listed();
            agent.stop();
            listed
        };
        for patience in [Duration::from_millis(20), Duration::from_hours(1)] {
            sh("nft flush ruleset");
            let agent = Agent::start(Some(Remembered { bundle: other(), patience }));
            // A stream begins.
            let digests = agent.digests();
            assert_eq!(digests, Digests::of(&other()));
            if patience < DEADLINE {
                wait_until("what is remembered is in force", || agent.is_enforced() == Some(true));
            }
            assert_eq!(agent.tell(digests.delta_to(&bundle())).0, Ok(()));
            assert_eq!(agent.digests(), Digests::of(&bundle()));
            // What comes next as a change of what was told first.
            assert_eq!(agent.tell(coming("10.9.9.8")).0, Ok(()));
            let away = SetDelta::Change { add: addresses(&[]), remove: addresses(&["10.9.9.8"]) };
            let away = Delta { sets: BTreeMap::from([(FRIENDS, away)]), ..Delta::default() };
            assert_eq!(agent.tell(away), (Ok(()), fresh.clone()));
            agent.stop();
        }
    });
}

#[test]
fn nothing_is_in_force_before_anybody_told_what_is() {
    isolated("starting::nothing_is_in_force_before_anybody_told_what_is", || {
        node();
        for remembered in [None, Some(Remembered { bundle: bundle(), patience: Duration::from_hours(1) })] {
            let agent = Agent::start(remembered);
            // Another replica's nodes may know the pod before the one that is followed tells anything.
            agent.0.inbox.known("a".to_owned());
            agent.digests();
            assert_eq!(agent.is_enforced(), None);
            agent.stop();
        }
    });
}
