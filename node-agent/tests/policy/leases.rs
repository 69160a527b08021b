//! Pods that come and go.

use std::fs;
use std::net::IpAddr;

use towpath_kernel::leases::Store;
use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{Bundle, Delta};

use super::harness::*;

fn known(agent: &Agent, uid: &str) -> Vec<IpAddr> {
    agent.0.in_force.borrow().pods.get(uid).map(|standing| standing.addresses.clone()).unwrap_or_default()
}

/// The addresses that lead to the rules of pod `a`.
fn bound() -> Vec<String> {
    let map = |name: &str| sh(&format!("nft -s list map {TABLE} {name}"));
    let both = map("ingress-v4") + &map("ingress-v6");
    let elements = both.split(['{', ',', '}']).filter(|part| part.contains("0000000000000001"));
    elements.filter_map(|part| part.split_whitespace().next()).map(str::to_owned).collect()
}

#[test]
fn while_nothing_is_enforced_pods_come_and_go_and_nothing_is_written() {
    isolated("leases::while_nothing_is_enforced_pods_come_and_go_and_nothing_is_written", || {
        node();
        let agent = Agent::start(Some(told(Bundle { is_enforced: false, ..bundle() })));
        wait_until("it is known that nothing is enforced", || agent.is_enforced() == Some(false));
        let was = generation();
        attach("c");
        let known = || agent.0.in_force.borrow().pods.contains_key("c");
        wait_until("the pod is known", known);
        assert_eq!(agent.tell(coming("10.9.9.8")).0, Ok(()));
        // The binary writes what packets the pod may send, if there were a table for it: here there is none.
        assert_eq!(generation(), was, "the kernel was written to");
        let (answer, listing) = agent.tell(Delta { is_enforced: Some(true), ..Delta::default() });
        assert!(answer.is_ok() && has(&listing, "10.9.9.8"), "{answer:?} {listing:#?}");
        agent.stop();
    });
}

#[test]
fn a_pod_has_the_addresses_of_all_of_its_attachments() {
    isolated("leases::a_pod_has_the_addresses_of_all_of_its_attachments", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        wait_until("the pod is known", || known(&agent, "a").len() == 2);
        let first = bound();
        assert_eq!(first.len(), 2, "{first:?}");
        call("ADD", "a", "eth1");
        wait_until("both attachments are known", || known(&agent, "a").len() == 4);
        let both = bound();
        assert!(both.len() == 4 && first.iter().all(|address| both.contains(address)), "{both:?}");
        agent.stop();
        // One that starts reads the same.
        let agent = Agent::restart(Some(told(bundle())));
        assert_eq!((known(&agent, "a").len(), bound()), (4, both.clone()));
        call("DEL", "a", "eth0");
        wait_until("one attachment is known", || known(&agent, "a").len() == 2);
        let second = bound();
        assert!(second.len() == 2 && second.iter().all(|address| !first.contains(address)), "{second:?}");
        call("DEL", "a", "eth1");
        wait_until("the pod is gone", || known(&agent, "a").is_empty());
        assert_eq!(bound(), Vec::<String>::new());
        agent.stop();
    });
}

#[test]
fn pods_are_seen_where_the_folder_of_leases_is_another_one() {
    isolated("leases::pods_are_seen_where_the_folder_of_leases_is_another_one", || {
        node();
        let agent = Agent::restart(Some(told(bundle())));
        let folder = Store::below(&paths().state).records();
        wait_until("both are known", || !known(&agent, "a").is_empty() && !known(&agent, "b").is_empty());
        fs::remove_dir_all(&folder).unwrap();
        wait_until("their leases are gone", || known(&agent, "a").is_empty() && known(&agent, "b").is_empty());
        attach("c");
        wait_until("a pod is seen that comes then", || !known(&agent, "c").is_empty());
        fs::rename(&folder, "/run/away").unwrap();
        wait_until("its lease is gone", || known(&agent, "c").is_empty());
        attach("d");
        wait_until("a pod is seen that comes then", || !known(&agent, "d").is_empty());
        agent.stop();
    });
}
