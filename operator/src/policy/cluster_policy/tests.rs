#![allow(clippy::needless_pass_by_value, reason = "JSON is written where it is read")]

use serde_json::{Value, json};
use towpath_net::Family;
use towpath_net::lease::Protocol;
use towpath_net::policy::input::{Action, ClusterPeer, Port};

use super::*;

fn read(spec: Value) -> (Option<ClusterPolicy>, Vec<String>) {
    let object = json!({"metadata": {"name": "p"}, "spec": spec});
    let policy: api::ClusterNetworkPolicy = serde_json::from_value(object).unwrap();
    let (policy, findings) = cluster_policy("p".to_owned(), policy.spec);
    (policy, findings.iter().map(ToString::to_string).collect())
}

/// A policy of which all but these fields is as it should be.
fn with(fields: Value) -> Value {
    let mut spec = json!({"tier": "Admin", "priority": 7, "subject": {"namespaces": {}}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec
}

/// A policy in which nothing is wrong.
fn fine(fields: Value) -> ClusterPolicy {
    let (policy, findings) = read(with(fields));
    assert_eq!(findings, [""; 0]);
    policy.unwrap()
}

/// The rules for what goes out, and what is wrong with them.
fn egress_of(rules: &Value) -> (Vec<ClusterRule>, Vec<String>) {
    let (policy, findings) = read(with(json!({"egress": rules})));
    (policy.unwrap().egress, findings)
}

fn labels(key: &str, value: &str) -> Selector {
    Selector { labels: [(key.to_owned(), value.to_owned())].into(), expressions: Vec::new() }
}

fn network(text: &str) -> ClusterPeer {
    ClusterPeer::Network(text.parse().unwrap())
}

/// The rule that stands for one that is not understood.
fn denies_everything(name: &str) -> ClusterRule {
    let peers = vec![network("0.0.0.0/0"), network("::/0")];
    ClusterRule { name: name.to_owned(), action: Action::Deny, peers, ports: None }
}

#[test]
fn tier_priority_and_subject_are_read() {
    let policy = fine(json!({}));
    assert_eq!((policy.name.as_str(), policy.tier, policy.priority), ("p", Tier::Admin, 7));
    assert_eq!(policy.subject, Subject { namespaces: Selector::default(), pods: Selector::default() });
    assert_eq!((policy.ingress.len(), policy.egress.len()), (0, 0));
    assert_eq!(fine(json!({"tier": "Baseline"})).tier, Tier::Baseline);
    let pods =
        json!({"namespaceSelector": {"matchLabels": {"team": "x"}}, "podSelector": {"matchLabels": {"app": "w"}}});
    let subject = fine(json!({"subject": {"pods": pods}})).subject;
    assert_eq!(subject, Subject { namespaces: labels("team", "x"), pods: labels("app", "w") });
}

#[test]
fn rules_keep_their_order_names_and_actions() {
    let from = json!([{"namespaces": {}}]);
    let policy = fine(json!({"ingress": [
        {"name": "one", "action": "Pass", "from": from}, {"action": "Deny", "from": from},
        {"name": "three", "action": "Accept", "from": from},
    ]}));
    let said: Vec<(&str, Action)> = policy.ingress.iter().map(|rule| (rule.name.as_str(), rule.action)).collect();
    assert_eq!(said, [("one", Action::Pass), ("", Action::Deny), ("three", Action::Accept)]);
    assert!(policy.ingress.iter().all(|rule| rule.ports.is_none()));
}

#[test]
fn every_kind_of_peer_is_read() {
    let app = json!({"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "w"}}});
    let team = json!({"matchLabels": {"team": "x"}});
    let all = Selector::default();
    let of_pods =
        |namespaces: &Selector, pods: &Selector| Subject { namespaces: namespaces.clone(), pods: pods.clone() };
    let expected = vec![
        ClusterPeer::Pods(of_pods(&labels("team", "x"), &all)),
        ClusterPeer::Pods(of_pods(&all, &labels("app", "w"))),
    ];
    let policy = fine(json!({"ingress": [{"action": "Deny", "from": [{"namespaces": team}, {"pods": app}]}]}));
    assert_eq!(policy.ingress[0].peers, expected);
    let to = json!([
        {"namespaces": team}, {"pods": app}, {"nodes": {"matchLabels": {"zone": "z"}}},
        {"networks": ["10.0.0.0/8", "fd00::1/8"]},
    ]);
    let policy = fine(json!({"egress": [{"action": "Deny", "to": to}]}));
    let more = [ClusterPeer::Nodes(labels("zone", "z")), network("10.0.0.0/8"), network("fd00::/8")];
    assert_eq!(policy.egress[0].peers, [expected, more.into()].concat());
}

#[test]
fn every_kind_of_port_is_read() {
    let one = |number: i32| json!({"destinationPort": {"number": number}});
    let policy = fine(json!({"egress": [{"action": "Accept", "to": [{"namespaces": {}}], "protocols": [
        {"tcp": one(80)}, {"udp": one(53)}, {"sctp": {"destinationPort": {"range": {"start": 1, "end": 65535}}}},
        {"destinationNamedPort": "http"},
    ]}]}));
    let expected = vec![
        Port::Range(Protocol::Tcp, 80, 80),
        Port::Range(Protocol::Udp, 53, 53),
        Port::Range(Protocol::Sctp, 1, 65535),
        Port::NamedOfAny("http".to_owned()),
    ];
    assert_eq!(policy.egress[0].ports, Some(expected));
}

#[test]
fn a_rule_that_accepts_and_is_not_understood_is_left_out_and_others_deny_all() {
    let rule = |action: &str, to: Value| json!({"name": action, "action": action, "to": to});
    let good = json!([{"networks": ["10.0.0.0/8"]}]);
    for bad in [
        json!([{}]),
        json!([{"networks": ["10.0.0.0/8"]}, {"galaxies": {}}]),
        json!([]),
        json!([{"networks": []}]),
        json!([{"networks": ["10.0.0.0"]}]),
        json!([{"namespaces": {}, "networks": ["10.0.0.0/8"]}]),
        json!([{"nodes": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}]),
        json!([{"domainNames": ["example.org"]}]),
    ] {
        let (rules, findings) =
            egress_of(&json!([rule("Accept", bad.clone()), rule("Deny", bad.clone()), rule("Pass", bad.clone())]));
        assert_eq!(rules, [denies_everything("Deny"), denies_everything("Pass")], "{bad}");
        assert_eq!(findings.len(), 3, "{bad}: {findings:?}");
        let (rules, _) = egress_of(&json!([rule("Deny", bad.clone()), rule("Pass", good.clone())]));
        assert_eq!(rules[0], denies_everything("Deny"));
        assert_eq!(rules[1].peers, [network("10.0.0.0/8")]);
    }
}

#[test]
fn a_rule_of_ports_that_are_not_understood_is_not_understood() {
    let number = |number: i32| json!({"destinationPort": {"number": number}});
    let range = |start: i32, end: i32| json!({"destinationPort": {"range": {"start": start, "end": end}}});
    for bad in [
        json!([]),
        json!([{}]),
        json!([{"tcp": {}}]),
        json!([{"tcp": {"sourcePort": {"number": 1}}}]),
        json!([{"tcp": {"destinationPort": {}}}]),
        json!([{"icmp": {}}]),
        json!([{"tcp": number(80), "udp": number(80)}]),
        json!([{"tcp": number(80)}, {"tcp": number(0)}]),
        json!([{"udp": range(90, 80)}]),
        json!([{"udp": range(1, 65536)}]),
        json!([{"destinationNamedPort": ""}]),
    ] {
        let rule = |action: &str| json!({"action": action, "to": [{"namespaces": {}}], "protocols": bad});
        let (rules, findings) = egress_of(&json!([rule("Accept"), rule("Deny")]));
        assert_eq!(rules, [denies_everything("")], "{bad}");
        assert_eq!(findings.len(), 2, "{bad}: {findings:?}");
    }
}

#[test]
fn a_port_by_name_is_of_pods_only() {
    let rule = json!({"action": "Deny", "to": [{"namespaces": {}}, {"networks": ["10.0.0.0/8"]}],
        "protocols": [{"destinationNamedPort": "http"}]});
    let (rules, findings) = egress_of(&json!([rule]));
    assert_eq!(rules, [denies_everything("")]);
    let expected = "spec.egress[0].protocols \"http\": is a name that nodes and networks do not give to ports; \
                    give the port by its number, or give pods a rule of their own";
    assert_eq!(findings, [expected]);
}

#[test]
fn domain_names_are_told_to_be_experimental() {
    let (rules, findings) =
        egress_of(&json!([{"action": "Accept", "to": [{"domainNames": ["a.example", "*.b.example"]}]}]));
    assert_eq!(rules, []);
    let expected = "spec.egress[0].to[0].domainNames \"a.example, *.b.example\": is experimental, and not honoured; \
                    list networks instead";
    assert_eq!(findings, [expected]);
}

#[test]
fn a_rule_that_cannot_be_read_denies_all_in_its_place() {
    let good = json!({"action": "Pass", "to": [{"namespaces": {}}]});
    for bad in [
        json!({"action": "Log", "to": [{"namespaces": {}}]}),
        json!({"action": "Accept", "to": [{"namespaces": {}}], "schedule": "nights"}),
        json!({"action": "Accept"}),
        json!({"to": [{"namespaces": {}}]}),
        json!("accept"),
    ] {
        let (rules, findings) = egress_of(&json!([good, bad, good]));
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[1], denies_everything(""), "{bad}");
        assert_eq!(findings.len(), 1, "{bad}: {findings:?}");
        assert!(findings[0].starts_with("spec.egress[1]"), "{findings:?}");
    }
}

#[test]
fn a_policy_that_is_not_understood_as_a_whole_denies_all_where_it_has_rules() {
    let rule = json!([{"action": "Accept", "from": [{"namespaces": {}}]}]);
    for fields in [
        json!({"tier": "Emergency"}),
        json!({"tier": null}),
        json!({"priority": "high"}),
        json!({"priority": null}),
        json!({"from": "tomorrow"}),
    ] {
        let mut spec = with(fields.clone());
        spec["ingress"] = rule.clone();
        let (policy, findings) = read(spec);
        let policy = policy.unwrap();
        assert_eq!(policy.ingress, [denies_everything("")], "{fields}");
        assert_eq!(policy.egress, [], "{fields}");
        assert_eq!((policy.tier, findings.len()), (Tier::Admin, 1), "{fields}: {findings:?}");
    }
}

#[test]
fn a_subject_that_is_understood_in_part_is_for_more_pods_rather_than_for_fewer() {
    let pods = json!({
        "namespaceSelector": {"matchLabels": {"team": "x"}},
        "podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]},
    });
    let (policy, findings) = read(with(json!({"subject": {"pods": pods}})));
    assert_eq!(policy.unwrap().subject, Subject { namespaces: labels("team", "x"), pods: Selector::default() });
    let at = "spec.subject.pods.podSelector.matchExpressions[0].operator";
    assert_eq!(
        findings,
        [format!("{at} \"Like\": is not an operator of a selector; write In, NotIn, Exists or DoesNotExist")]
    );
}

#[test]
fn a_policy_with_a_subject_that_is_none_is_for_nobody() {
    for subject in [json!({}), json!({"nodes": {}}), json!(null), json!({"namespaces": {}, "pods": {}})] {
        let (policy, findings) = read(with(json!({"subject": subject})));
        assert_eq!(policy, None, "{subject}");
        assert_eq!(findings.len(), 1, "{subject}: {findings:?}");
        assert!(findings[0].starts_with("spec.subject"), "{findings:?}");
    }
    let (policy, findings) = read(json!("everything"));
    assert_eq!((policy, findings.len()), (None, 1));
}

#[test]
fn what_denies_all_is_of_both_families() {
    let nets = Family::ALL.map(|family| ClusterPeer::Network(family.everything()));
    assert_eq!(deny_all(String::new()).peers, nets);
}
