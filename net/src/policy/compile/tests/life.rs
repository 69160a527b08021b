//! What becomes of what was told when things change.

use std::collections::BTreeSet;

use super::super::{Change, Compiler, PolicyName};
use super::support::{cluster_policy, compiler, far, from, ingress, key, namespace, near, pod, shown_members, subject};
use crate::policy::bundle::{Delta, SetDelta};
use crate::policy::input::{Pod, Tier};
use crate::state::NodeName;

/// A node `a` whose pod lets in what has `app=api`, and one of that on node `b`.
fn cluster() -> Compiler {
    let policy = ingress("web", "p", "app=front", vec![from(vec![far("team=red", "app=api")])]);
    let mut compiler = compiler([
        Change::Namespace(namespace("web", "team=red")),
        Change::Pod(pod("web", "front", "app=front", &["10.0.0.1"])),
        Change::Pod(api("10.0.1.1")),
        Change::Policy(policy),
    ]);
    compiler.subscribe(&"a".into());
    compiler.subscribe(&"b".into());
    compiler
}

fn api(address: &str) -> Pod {
    Pod { node: Some("b".into()), ..pod("web", "api", "app=api", &[address]) }
}

/// What is told to a node by a change, each in a line.
fn told(compiler: &mut Compiler, change: Change) -> Vec<String> {
    compiler.apply(change);
    let deltas = compiler.deltas();
    deltas.iter().flat_map(|(node, delta)| lines(node, delta)).collect()
}

fn lines(node: &NodeName, delta: &Delta) -> Vec<String> {
    let enforced = delta.is_enforced.map(|is| format!("{node}: enforced {is}"));
    let pods = delta.pods.iter().map(|(uid, pod)| match pod {
        Some(pod) => format!("{node}: pod {uid} {}", if pod.profile.is_some() { "with a profile" } else { "without" }),
        None => format!("{node}: pod {uid} gone"),
    });
    let profiles = delta.profiles.values().map(|profile| match profile {
        Some(_) => format!("{node}: profile"),
        None => format!("{node}: profile gone"),
    });
    let sets = delta.sets.values().map(|set| match set {
        SetDelta::New(members) => format!("{node}: set {}", shown_members(members)),
        SetDelta::Change { add, remove } => {
            format!("{node}: set with {}, without {}", shown_members(add), shown_members(remove))
        }
        SetDelta::Gone => format!("{node}: set gone"),
    });
    enforced.into_iter().chain(pods).chain(profiles).chain(sets).collect()
}

#[test]
fn what_is_known_already_is_told_to_nobody() {
    let mut compiler = cluster();
    assert!(told(&mut compiler, Change::Pod(api("10.0.1.1"))).is_empty());
    assert!(told(&mut compiler, Change::Namespace(namespace("web", "team=red"))).is_empty());
    let policy = ingress("web", "p", "app=front", vec![from(vec![far("team=red", "app=api")])]);
    assert!(told(&mut compiler, Change::Policy(policy)).is_empty());
    assert!(told(&mut compiler, Change::PodGone(key("web", "none"))).is_empty());
    assert!(told(&mut compiler, Change::PolicyGone(key("none", "none"))).is_empty());
    assert!(told(&mut compiler, Change::NodeGone("none".into())).is_empty());
}

#[test]
fn what_changes_and_changes_back_is_told_to_nobody() {
    let mut compiler = cluster();
    compiler.apply(Change::Pod(api("10.0.1.2")));
    compiler.apply(Change::PolicyGone(key("web", "p")));
    compiler.apply(Change::Policy(ingress("web", "p", "app=front", vec![from(vec![far("team=red", "app=api")])])));
    assert!(told(&mut compiler, Change::Pod(api("10.0.1.1"))).is_empty());
}

#[test]
fn another_address_is_told_to_the_nodes_that_let_it_in_and_to_no_other() {
    let mut compiler = cluster();
    let change = Change::Pod(api("10.0.1.2"));
    assert_eq!(told(&mut compiler, change), ["a: set with 10.0.1.2, without 10.0.1.1"]);
    assert_eq!(compiler.holders(&key("web", "api")), ["a".into()]);
    assert!(compiler.holders(&key("web", "front")).is_empty());
}

#[test]
fn another_uid_of_one_name_is_another_pod() {
    let mut compiler = cluster();
    let again = Pod { uid: "again".into(), ..api("10.0.1.1") };
    assert_eq!(told(&mut compiler, Change::Pod(again)), ["b: pod again without", "b: pod web-api gone"]);
}

#[test]
fn a_pod_that_moves_leaves_the_one_node_and_comes_to_the_other_with_all_it_needs() {
    let mut compiler = cluster();
    let front = Pod { node: Some("b".into()), ..pod("web", "front", "app=front", &["10.0.0.1"]) };
    let lines = [
        "a: pod web-front gone",
        "a: profile gone",
        "a: set gone",
        "b: pod web-front with a profile",
        "b: profile",
        "b: set 10.0.1.1",
    ];
    assert_eq!(told(&mut compiler, Change::Pod(front)), lines);
}

#[test]
fn an_address_that_two_pods_have_stays_until_both_have_gone() {
    let mut compiler = cluster();
    let late = Pod { node: Some("b".into()), ..pod("web", "late", "app=api", &["10.0.1.1"]) };
    assert_eq!(told(&mut compiler, Change::Pod(late)), ["b: pod web-late without"]);
    assert_eq!(told(&mut compiler, Change::PodGone(key("web", "api"))), ["b: pod web-api gone"]);
    let lines = ["a: set with nobody yet, without 10.0.1.1", "b: pod web-late gone"];
    assert_eq!(told(&mut compiler, Change::PodGone(key("web", "late"))), lines);
}

#[test]
fn labels_of_pods_and_namespaces_make_members_come_and_go() {
    let mut compiler = cluster();
    let gone = "a: set with nobody yet, without 10.0.1.1";
    let back = "a: set with 10.0.1.1, without nobody yet";
    let other = Pod { labels: [("app".into(), "db".into())].into(), ..api("10.0.1.1") };
    assert_eq!(told(&mut compiler, Change::Pod(other)), [gone]);
    assert_eq!(told(&mut compiler, Change::Pod(api("10.0.1.1"))), [back]);
    assert_eq!(told(&mut compiler, Change::Namespace(namespace("web", "team=blue"))), [gone]);
    assert_eq!(told(&mut compiler, Change::Namespace(namespace("web", "team=red"))), [back]);
    assert_eq!(told(&mut compiler, Change::NamespaceGone("web".into())), [gone]);
}

#[test]
fn the_first_policy_has_all_nodes_enforce_and_the_last_one_stop() {
    let mut compiler = cluster();
    let policy = cluster_policy("none", Tier::Admin, 0, subject("team=none", ""));
    let lines = [
        "a: enforced false",
        "a: pod web-front without",
        "a: profile gone",
        "a: set gone",
        "b: enforced false",
        "b: pod web-api without",
    ];
    assert_eq!(told(&mut compiler, Change::PolicyGone(key("web", "p"))), lines);
    let change = Change::ClusterPolicy(policy);
    assert_eq!(told(&mut compiler, change), ["a: enforced true", "b: enforced true"]);
}

#[test]
fn who_subscribes_between_two_rounds_is_told_nothing_twice_and_others_nothing_less() {
    let mut compiler = cluster();
    compiler.apply(Change::Pod(api("10.0.1.2")));
    let bundle = compiler.subscribe(&"b".into());
    assert_eq!(bundle, compiler.bundle(&"b".into()));
    assert_eq!(
        told(&mut compiler, Change::Pod(api("10.0.1.3"))),
        ["a: set with 10.0.1.2, without 10.0.1.1", "a: set with 10.0.1.3, without 10.0.1.2",]
    );
    compiler.unsubscribe(&"a".into());
    assert!(told(&mut compiler, Change::Pod(api("10.0.1.4"))).is_empty());
}

#[test]
fn where_a_policy_holds_and_whom_it_may_concern_is_known() {
    let mut compiler = cluster();
    let (policy, all) = (key("web", "p"), cluster_policy("all", Tier::Baseline, 0, subject("team=red", "")));
    compiler.apply(Change::ClusterPolicy(all));
    compiler.apply(Change::Namespace(namespace("shop", "team=blue")));
    assert!(compiler.is_selected(&key("web", "front")));
    assert_eq!(compiler.pods_of_policy(PolicyName::Namespaced(&policy)), 1);
    assert_eq!(compiler.nodes_of_policy(PolicyName::Namespaced(&policy)).collect::<Vec<_>>(), ["a".into()]);
    assert_eq!(compiler.pods_of_policy(PolicyName::Cluster("all")), 2);
    let nodes: BTreeSet<NodeName> = compiler.nodes_of_policy(PolicyName::Cluster("all")).collect();
    assert_eq!(nodes, BTreeSet::from(["a".into(), "b".into()]));
    assert!(compiler.is_policed("web"));
    assert!(!compiler.is_policed("shop"), "no policy chooses it");
    assert!(!compiler.is_policed("unknown"));
    compiler.apply(Change::ClusterPolicyGone("all".into()));
    assert!(!compiler.is_selected(&key("web", "api")));
}

#[test]
fn names_of_sets_and_profiles_are_the_same_in_every_process_and_release() {
    let policies = [
        ingress("web", "p", "app=front", vec![from(vec![far("team=red", "app=api"), near("")])]),
        ingress("web", "q", "app=front", Vec::new()),
    ];
    let mut compiler = compiler(
        [Change::Pod(pod("web", "front", "app=front", &["10.0.0.1"]))].into_iter().chain(policies.map(Change::Policy)),
    );
    let bundle = compiler.bundle(&"a".into());
    let sets = bundle.sets.keys().map(ToString::to_string);
    let names: Vec<String> = sets.chain(bundle.profiles.keys().map(ToString::to_string)).collect();
    assert_eq!(names, ["7bd131abc4f0673a", "2acf67480c9d6fc3"]);
}

#[test]
fn a_pod_is_told_anew_when_policies_begin_or_cease_to_concern_its_namespace_and_no_other_is() {
    let mut compiler = cluster();
    compiler.apply(Change::Namespace(namespace("shop", "team=blue")));
    compiler.apply(Change::Pod(Pod { node: Some("b".into()), ..pod("shop", "till", "", &["10.0.2.1"]) }));
    compiler.deltas();
    let is_policed = |compiler: &mut Compiler| compiler.bundle(&"b".into()).pods["shop-till"].is_policed;
    assert!(!is_policed(&mut compiler));
    let of_nobody = || Change::ClusterPolicy(cluster_policy("all", Tier::Admin, 0, subject("team=blue", "app=none")));
    assert_eq!(told(&mut compiler, of_nobody()), ["b: pod shop-till without"]);
    assert!(is_policed(&mut compiler));
    let relabelled = Change::Namespace(namespace("shop", "team=green"));
    assert_eq!(told(&mut compiler, relabelled), ["b: pod shop-till without"]);
    assert!(!is_policed(&mut compiler));
    let back = Change::Namespace(namespace("shop", "team=blue"));
    assert_eq!(told(&mut compiler, back), ["b: pod shop-till without"]);
    let gone = Change::ClusterPolicyGone("all".into());
    assert_eq!(told(&mut compiler, gone), ["b: pod shop-till without"]);
    assert!(!is_policed(&mut compiler));
}
