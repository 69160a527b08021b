//! `ClusterNetworkPolicy`: tiers, priorities, subjects, peers.

use super::super::Change;
use super::support::{cluster_policy, compiler, ingress, namespace, node, pod, port, shown, subject};
use crate::lease::Protocol::{Tcp, Udp};
use crate::policy::input::{Action, ClusterPeer, ClusterPolicy, ClusterRule, Port, Selector, Tier};

fn cluster() -> Vec<Change> {
    let mut web = pod("web", "web", "app=web", &["10.0.0.1"]);
    web.ports = vec![port("http", Tcp, 8080)];
    vec![
        Change::Namespace(namespace("web", "team=red")),
        Change::Namespace(namespace("shop", "team=blue")),
        Change::Node(node("a", "zone=1", &["172.16.0.1", "fd00:30::1"])),
        Change::Node(node("b", "zone=2", &["172.16.0.2"])),
        Change::Pod(web),
        Change::Pod(pod("shop", "db", "app=db", &["10.0.0.2"])),
    ]
}

fn rule(action: Action, peers: Vec<ClusterPeer>, ports: Option<Vec<Port>>) -> ClusterRule {
    ClusterRule { name: String::new(), action, peers, ports }
}

fn pods(namespaces: &str, pods: &str) -> ClusterPeer {
    ClusterPeer::Pods(subject(namespaces, pods))
}

fn with(policies: impl IntoIterator<Item = ClusterPolicy>) -> Vec<String> {
    shown(&mut compiler(cluster().into_iter().chain(policies.into_iter().map(Change::ClusterPolicy))), "web-web")
}

fn denying(name: &str, tier: Tier, priority: i32) -> ClusterPolicy {
    let ingress = vec![rule(Action::Deny, vec![pods("", "app=db")], None)];
    ClusterPolicy { ingress, ..cluster_policy(name, tier, priority, subject("", "")) }
}

#[test]
fn policies_are_looked_at_by_priority_and_then_by_name() {
    let all = [("b", 0), ("a", 0), ("z", i32::MIN), ("c", i32::MAX), ("d", -1)];
    let lines = with(all.map(|(name, priority)| denying(name, Tier::Admin, priority)));
    let names: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(2)).collect();
    assert_eq!(names, ["z", "d", "a", "b", "c"]);
    assert_eq!(lines[0], "in admin z deny any: 10.0.0.2");
}

#[test]
fn rules_keep_their_order_and_their_actions() {
    let ingress = vec![
        rule(Action::Accept, vec![pods("team=blue", "app=db")], Some(vec![Port::Range(Tcp, 80, 80), Port::All(Udp)])),
        rule(Action::Pass, vec![pods("team=blue", "")], None),
        rule(Action::Deny, vec![pods("", "")], None),
    ];
    let policy = ClusterPolicy { ingress, ..cluster_policy("p", Tier::Admin, 5, subject("team=red", "app=web")) };
    let lines = [
        "in admin p accept udp, tcp 80: 10.0.0.2",
        "in admin p pass any: 10.0.0.2",
        "in admin p deny any: 10.0.0.1 10.0.0.2",
    ];
    assert_eq!(with([policy]), lines);
}

#[test]
fn the_baseline_is_only_for_what_no_policy_isolates() {
    let baseline = denying("base", Tier::Baseline, 0);
    assert_eq!(with([baseline.clone()]), ["in baseline base deny any: 10.0.0.2"]);
    let isolating = Change::Policy(ingress("web", "p", "", Vec::new()));
    let admin = denying("admin", Tier::Admin, 0);
    let changes = [Change::ClusterPolicy(baseline), Change::ClusterPolicy(admin), isolating];
    let lines = shown(&mut compiler(cluster().into_iter().chain(changes)), "web-web");
    assert_eq!(lines, ["in admin admin deny any: 10.0.0.2", "in closed by p"]);
}

#[test]
fn a_subject_is_for_pods_of_chosen_namespaces_alone() {
    let policy =
        |namespaces, pods| ClusterPolicy { subject: subject(namespaces, pods), ..denying("p", Tier::Admin, 0) };
    assert_eq!(with([policy("team=blue", "")]), ["no profile"]);
    assert_eq!(with([policy("team=red", "app=db")]), ["no profile"]);
    assert_eq!(with([policy("team=red", "")]).len(), 1);
}

#[test]
fn nodes_and_networks_are_peers_of_what_goes_out() {
    let zone = Selector { labels: [("zone".into(), "1".into())].into(), expressions: Vec::new() };
    let network = |net: &str| ClusterPeer::Network(net.parse().unwrap());
    let egress = vec![rule(
        Action::Deny,
        vec![ClusterPeer::Nodes(zone), network("10.1.0.0/16"), network("10.1.0.0/24"), network("fd00:9::/64")],
        None,
    )];
    let policy = ClusterPolicy { egress, ..cluster_policy("p", Tier::Admin, 0, subject("", "")) };
    let nets = "10.1.0.0-10.1.255.255 fd00:9::-fd00:9::ffff:ffff:ffff:ffff";
    assert_eq!(with([policy]), [format!("out admin p deny any: {nets} + 172.16.0.1 fd00:30::1")]);
}

#[test]
fn a_rule_that_matches_nobody_or_no_port_is_left_out() {
    let nobody = rule(Action::Accept, Vec::new(), None);
    let no_port = rule(Action::Deny, vec![pods("", "")], Some(vec![Port::NamedOfAny("none".into())]));
    let policy = ClusterPolicy { ingress: vec![nobody, no_port], ..denying("p", Tier::Admin, 0) };
    assert!(with([policy]).is_empty());
}

#[test]
fn named_ports_and_numbers_of_one_rule_stand_side_by_side() {
    let ports = Some(vec![Port::Range(Tcp, 80, 80), Port::NamedOfAny("http".into())]);
    let rules = vec![rule(Action::Deny, vec![pods("", "")], ports)];
    let policy = ClusterPolicy { ingress: rules.clone(), egress: rules, ..denying("p", Tier::Admin, 0) };
    let lines = [
        "in admin p deny tcp 80, tcp 8080: 10.0.0.1 10.0.0.2",
        "out admin p deny tcp 80: 10.0.0.1 10.0.0.2",
        "out admin p deny named: 10.0.0.1 tcp 8080",
    ];
    assert_eq!(with([policy]), lines);
}
