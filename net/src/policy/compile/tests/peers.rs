//! Who is selected, and by whom.

use std::collections::BTreeSet;

use super::super::Change;
use super::support::{compiler, expression, far, from, ingress, namespace, near, pod, selector, shown};
use crate::policy::input::{Block, NetworkPolicy, Operator, Peer, Rule, Selector};

fn cluster() -> Vec<Change> {
    vec![
        Change::Namespace(namespace("web", "team=red")),
        Change::Namespace(namespace("shop", "team=blue,tier=back")),
        Change::Pod(pod("web", "front", "app=front", &["10.0.0.1", "fd00::1"])),
        Change::Pod(pod("web", "api", "app=api,canary=", &["10.0.0.2"])),
        Change::Pod(pod("shop", "front", "app=front", &["10.0.0.3"])),
        Change::Pod(pod("shop", "db", "app=db", &["10.0.0.4"])),
    ]
}

/// What the policy lets into the pod `front` of `web`.
fn into_front(rules: Vec<Rule>) -> Vec<String> {
    let policy = Change::Policy(ingress("web", "p", "app=front", rules));
    shown(&mut compiler(cluster().into_iter().chain([policy])), "web-front")
}

fn peer(selector: Selector) -> Vec<Rule> {
    vec![from(vec![Peer::Pods { namespaces: Some(Selector::default()), pods: selector }])]
}

#[test]
fn a_pod_that_no_policy_selects_has_no_profile() {
    assert_eq!(shown(&mut compiler(cluster()), "web-front"), ["no profile"]);
    let policy = Change::Policy(ingress("shop", "p", "", Vec::new()));
    let mut compiler = compiler(cluster().into_iter().chain([policy]));
    assert_eq!(shown(&mut compiler, "web-front"), ["no profile"], "a policy is for pods of its own namespace");
    assert_eq!(shown(&mut compiler, "shop-front"), ["in closed by p"]);
}

#[test]
fn an_empty_list_of_rules_isolates_and_a_missing_one_does_not() {
    let policy = |ingress, egress| {
        let key = super::support::key("web", "p");
        let policy = Change::Policy(NetworkPolicy { key, pods: Selector::default(), ingress, egress });
        shown(&mut compiler(cluster().into_iter().chain([policy])), "web-front")
    };
    assert_eq!(policy(Some(Vec::new()), None), ["in closed by p"]);
    assert_eq!(policy(None, Some(Vec::new())), ["out closed by p"]);
    assert_eq!(policy(Some(Vec::new()), Some(Vec::new())), ["in closed by p", "out closed by p"]);
    assert!(policy(None, None).is_empty(), "selected, and nothing is closed");
}

#[test]
fn a_rule_without_peers_is_for_everyone_and_one_with_an_empty_selector_for_pods() {
    assert_eq!(into_front(vec![Rule { peers: None, ports: None }]), ["in closed by p", "in any: anyone"]);
    assert_eq!(into_front(vec![from(vec![near("")])]), ["in closed by p", "in any: 10.0.0.1 10.0.0.2 fd00::1"]);
    let all = "in any: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 fd00::1";
    assert_eq!(into_front(vec![from(vec![far("", "")])]), ["in closed by p", all]);
    assert_eq!(into_front(vec![from(Vec::new())]), ["in closed by p"], "no peer is nobody");
}

#[test]
fn both_selectors_of_one_peer_must_match_and_either_of_two_peers() {
    assert_eq!(into_front(vec![from(vec![far("team=blue", "app=front")])])[1], "in any: 10.0.0.3");
    let two = into_front(vec![from(vec![far("team=blue", ""), near("app=api")])]);
    assert_eq!(two[1], "in any: 10.0.0.2 10.0.0.3 10.0.0.4");
    let rules = into_front(vec![from(vec![far("team=blue", "")]), from(vec![near("app=api")])]);
    assert_eq!(rules, two, "and either of two rules");
}

#[test]
fn expressions_mean_what_the_api_says() {
    let values = |all: &[&str]| all.iter().map(|value| (*value).to_owned()).collect::<BTreeSet<String>>();
    let with = |key: &str, operator| into_front(peer(expression(key, operator)))[1].clone();
    assert_eq!(with("app", Operator::In(values(&["api", "db"]))), "in any: 10.0.0.2 10.0.0.4");
    assert_eq!(with("canary", Operator::In(values(&[""]))), "in any: 10.0.0.2");
    assert_eq!(with("app", Operator::NotIn(values(&["front", "db"]))), "in any: 10.0.0.2");
    assert_eq!(
        with("canary", Operator::NotIn(values(&["yes"]))),
        "in any: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 fd00::1"
    );
    assert_eq!(with("canary", Operator::Exists), "in any: 10.0.0.2");
    assert_eq!(with("canary", Operator::DoesNotExist), "in any: 10.0.0.1 10.0.0.3 10.0.0.4 fd00::1");
    assert_eq!(with("app", Operator::In(BTreeSet::new())), "in any: nobody yet");
}

#[test]
fn selectors_that_say_the_same_are_one_set_however_they_are_written() {
    let one = into_front(peer(selector("app=db")));
    let same = peer(expression("app", Operator::In(BTreeSet::from(["db".to_owned()]))));
    let policies = [ingress("web", "p", "app=front", peer(selector("app=db"))), ingress("web", "q", "app=api", same)];
    let mut compiler = compiler(cluster().into_iter().chain(policies.map(Change::Policy)));
    assert_eq!(shown(&mut compiler, "web-front"), one);
    assert_eq!(compiler.bundle(&"a".into()).sets.len(), 1);
}

#[test]
fn blocks_of_a_group_are_one_set_of_ranges_beside_the_pods() {
    let block = |cidr: &str, except: &[&str]| {
        Peer::Block(Block { cidr: cidr.parse().unwrap(), except: except.iter().map(|e| e.parse().unwrap()).collect() })
    };
    let except = ["10.1.0.0/17", "10.1.0.0/24", "10.1.255.0/24", "10.9.0.0/16"];
    let rules = vec![from(vec![block("10.1.0.0/16", &except), near("app=api")]), from(vec![block("10.2.0.0/16", &[])])];
    let lines = ["in closed by p", "in any: 10.0.0.2 + 10.1.128.0-10.1.254.255 10.2.0.0-10.2.255.255"];
    assert_eq!(into_front(rules), lines);
    let nobody = vec![from(vec![block("10.1.0.0/16", &["10.0.0.0/8"])])];
    assert_eq!(into_front(nobody), ["in closed by p"]);
}

#[test]
fn who_is_in_another_set_of_all_pods_is_not_named_again() {
    let rules = vec![from(vec![far("team=blue", "app=db"), far("", ""), near("app=api")])];
    let all = "in any: 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 fd00::1";
    assert_eq!(into_front(rules)[1], all);
}

#[test]
fn a_namespace_that_is_not_known_is_chosen_by_nothing_but_its_own_policies_hold() {
    let pods =
        || vec![Change::Pod(pod("web", "front", "", &["10.0.0.1"])), Change::Pod(pod("web", "api", "", &["10.0.0.2"]))];
    let policies =
        [ingress("web", "p", "", vec![from(vec![far("", "")])]), ingress("web", "q", "", vec![from(vec![near("")])])];
    let mut compiler = compiler(pods().into_iter().chain([Change::Policy(policies[0].clone())]));
    assert_eq!(shown(&mut compiler, "web-front"), ["in closed by p", "in any: nobody yet"]);
    compiler.apply(Change::Namespace(namespace("web", "")));
    assert_eq!(shown(&mut compiler, "web-front")[1], "in any: 10.0.0.1 10.0.0.2");
    compiler.apply(Change::NamespaceGone("web".into()));
    compiler.apply(Change::PolicyGone(policies[0].key.clone()));
    compiler.apply(Change::Policy(policies[1].clone()));
    assert_eq!(shown(&mut compiler, "web-front"), ["in closed by q", "in any: 10.0.0.1 10.0.0.2"]);
}

#[test]
fn pods_of_the_hosts_network_and_ended_ones_are_neither_selected_nor_members() {
    let mut host = pod("web", "proxy", "app=api", &["172.16.0.1"]);
    host.is_host_network = true;
    let mut ended = pod("web", "job", "app=api", &["10.0.0.9"]);
    ended.is_ended = true;
    let policy = ingress("web", "p", "", vec![from(vec![near("app=api")])]);
    let more = [Change::Pod(host), Change::Pod(ended), Change::Policy(policy)];
    let mut compiler = compiler(cluster().into_iter().chain(more));
    assert_eq!(shown(&mut compiler, "web-front"), ["in closed by p", "in any: 10.0.0.2"]);
    let bundle = compiler.bundle(&"a".into());
    assert_eq!(bundle.pods.keys().collect::<Vec<_>>(), ["shop-db", "shop-front", "web-api", "web-front"]);
}

#[test]
fn a_pod_without_an_address_has_its_profile_already() {
    let policy = ingress("web", "p", "", vec![from(vec![near("")])]);
    let mut compiler = compiler([Change::Pod(pod("web", "new", "", &[])), Change::Policy(policy)]);
    assert_eq!(shown(&mut compiler, "web-new"), ["in closed by p", "in any: nobody yet"]);
}
