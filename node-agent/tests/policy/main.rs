//! The thread that owns the table of policies, on the real kernel: what it leaves alone, puts right, answers and refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod denied;
mod harness;
mod leases;
mod starting;

use std::collections::BTreeMap;

use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{Bundle, Delta, ProfileId, SetDelta, SetId};
use towpath_net::policy::digest::Digests;
use towpath_node_agent::worker::End;

use harness::*;

#[test]
fn what_somebody_alters_by_hand_comes_back_at_once() {
    isolated("what_somebody_alters_by_hand_comes_back_at_once", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let before = listed();
        let profile = "ingress-v4-0000000000000001";
        for alteration in [
            format!("nft delete element {TABLE} peers-v4 '{{ 0x12345678 . 0x00000005 . 10.9.9.9 }}'"),
            format!("nft add element {TABLE} peers-v4 '{{ 0x12345678 . 0x00000005 . 10.1.1.1 }}'"),
            format!("nft delete element {TABLE} ingress-v4 '{{ 10.244.1.2 }}'"),
            format!("nft flush map {TABLE} egress-v6"),
            format!("nft flush chain {TABLE} {profile}"),
            format!("nft insert rule {TABLE} {profile} accept"),
            format!("nft insert rule {TABLE} forward accept"),
            format!("nft add chain {TABLE} strange"),
            format!("nft delete chain {TABLE} forward"),
            format!("nft delete table {TABLE}"),
            "nft flush ruleset".to_owned(),
        ] {
            sh(&alteration);
            wait_until(&format!("it is as before: {alteration}"), || listed() == before);
        }
        agent.stop();
    });
}

#[test]
fn an_update_is_answered_when_it_is_in_the_kernel_and_nobody_has_to_do_anything_for_it() {
    isolated("an_update_is_answered_when_it_is_in_the_kernel_and_nobody_has_to_do_anything_for_it", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let (answer, listing) = agent.tell(coming("10.9.9.8"));
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        let (held, answers) = agent.put(coming("10.9.9.7"));
        // As the thread does that owns the rest of the kernel.
        wait_until("it is in the kernel", || has(&listed(), "10.9.9.7"));
        agent.digests();
        assert!(answers.try_recv().is_err(), "it was answered too early");
        held.done();
        let (answer, listing) = answers.recv_timeout(DEADLINE).unwrap();
        assert!(answer.is_ok() && has(&listing, "10.9.9.7"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}

#[test]
fn an_update_that_cannot_be_brought_about_is_refused_and_leaves_nothing() {
    isolated("an_update_that_cannot_be_brought_about_is_refused_and_leaves_nothing", || {
        node();
        let missing = SetDelta::Change { add: addresses(&["10.1.1.1"]), remove: addresses(&[]) };
        let missing = Delta { sets: BTreeMap::from([(SetId(77), missing)]), ..Delta::default() };
        let lacking = {
            let mut after = bundle();
            after.pods.get_mut("b").unwrap().profile = Some(ProfileId(99));
            after
        };
        // As the first that it is told.
        let agent = Agent::start(None);
        let (answer, listing) = agent.tell(Delta::between(&Bundle::default(), &lacking));
        assert!(answer.unwrap_err().contains("which the bundle lacks"));
        assert_eq!((listing, agent.is_enforced()), (vec![String::new()], None));
        assert_eq!(agent.digests(), Digests::of(&Bundle::default()));
        assert_eq!(agent.tell(Delta::between(&Bundle::default(), &bundle())).0, Ok(()));
        let (before, was) = (listed(), generation());
        for (delta, why) in [
            (missing, "ask for the whole state"),
            (Delta::between(&bundle(), &lacking), "which the bundle lacks"),
            (Delta { sets: BTreeMap::from([(FRIENDS, SetDelta::Gone)]), ..Delta::default() }, "still used"),
        ] {
            let (answer, listing) = agent.tell(delta);
            assert!(answer.as_ref().is_err_and(|reason| reason.contains(why)), "{answer:?}");
            assert_eq!((listing, generation(), agent.digests()), (before.clone(), was, Digests::of(&bundle())));
        }
        let (answer, listing) = agent.tell(coming("10.9.9.8"));
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}

#[test]
fn an_update_that_comes_when_the_thread_has_ended_is_not_answered() {
    isolated("an_update_that_comes_when_the_thread_has_ended_is_not_answered", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let inbox = agent.0.inbox.clone();
        let (held, answers) = agent.put(coming("10.9.9.8"));
        held.done();
        assert!(answers.recv_timeout(DEADLINE).unwrap().0.is_ok());
        inbox.end(End::Stop);
        let (held, answers) = agent.put(coming("10.9.9.7"));
        held.done();
        agent.stop();
        drop(inbox);
        let answered = answers.recv();
        assert!(answered.is_err() && !has(&listed(), "10.9.9.7"), "{answered:?}");
    });
}
