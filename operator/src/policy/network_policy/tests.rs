#![allow(clippy::needless_pass_by_value, reason = "JSON is written where it is read")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use towpath_net::policy::input::{Operator, Requirement};

use super::*;

fn read(spec: Value) -> (NetworkPolicy, Vec<String>) {
    let key = Key { namespace: "a".to_owned(), name: "p".to_owned() };
    let (policy, findings) = network_policy(key, serde_json::from_value(spec).unwrap());
    (policy, findings.iter().map(ToString::to_string).collect())
}

/// A policy in which nothing is wrong.
fn fine(spec: Value) -> NetworkPolicy {
    let (policy, findings) = read(spec);
    assert_eq!(findings, [""; 0]);
    policy
}

/// The only rule of a policy for ingress in which nothing is wrong.
fn rule(rule: Value) -> Rule {
    let mut rules = fine(json!({"ingress": [rule]})).ingress.unwrap();
    assert_eq!(rules.len(), 1);
    rules.remove(0)
}

/// What remains of the only rule for ingress, and what is wrong with it.
fn broken(rule: Value) -> (Vec<Rule>, Vec<String>) {
    let (policy, findings) = read(json!({"ingress": [rule]}));
    (policy.ingress.unwrap(), findings)
}

fn labels(key: &str, value: &str) -> Selector {
    Selector { labels: [(key.to_owned(), value.to_owned())].into(), expressions: Vec::new() }
}

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

#[test]
fn without_policy_types_ingress_is_isolated_and_egress_where_it_has_rules() {
    let ways = |spec: Value| {
        let policy = fine(spec);
        (policy.ingress.is_some(), policy.egress.is_some())
    };
    assert_eq!(ways(json!({})), (true, false));
    assert_eq!(ways(json!({"ingress": [{}]})), (true, false));
    assert_eq!(ways(json!({"egress": []})), (true, false));
    assert_eq!(ways(json!({"egress": [{}]})), (true, true));
    assert_eq!(ways(json!({"policyTypes": [], "egress": [{}]})), (true, true));
    assert_eq!(ways(json!({"policyTypes": ["Egress"]})), (false, true));
    assert_eq!(ways(json!({"policyTypes": ["Egress"], "ingress": [{}]})), (false, true));
    assert_eq!(ways(json!({"policyTypes": ["Ingress"], "egress": [{}]})), (true, false));
    assert_eq!(ways(json!({"policyTypes": ["Ingress", "Egress"]})), (true, true));
}

#[test]
fn a_policy_type_that_is_none_isolates_both_ways() {
    let (policy, findings) = read(json!({"policyTypes": ["Ingress", "Sideways"], "ingress": [{}]}));
    assert_eq!(policy.ingress.unwrap().len(), 1);
    assert_eq!(policy.egress, Some(Vec::new()));
    assert_eq!(findings, ["spec.policyTypes[1] \"Sideways\": is not a policy type; write Ingress or Egress"]);
}

#[test]
fn a_missing_or_empty_pod_selector_is_for_every_pod() {
    assert_eq!(fine(json!({})).pods, Selector::default());
    assert_eq!(fine(json!({"podSelector": {}})).pods, Selector::default());
    assert_eq!(fine(json!({"podSelector": {"matchLabels": {"app": "web"}}})).pods, labels("app", "web"));
}

#[test]
fn missing_rules_allow_nothing_and_an_empty_one_everything() {
    assert_eq!(fine(json!({"policyTypes": ["Ingress"]})).ingress, Some(Vec::new()));
    assert_eq!(fine(json!({"ingress": []})).ingress, Some(Vec::new()));
    assert_eq!(fine(json!({"ingress": [{}]})).ingress, Some(vec![Rule { peers: None, ports: None }]));
    assert_eq!(
        fine(json!({"egress": [{"to": [], "ports": []}]})).egress,
        Some(vec![Rule { peers: None, ports: None }])
    );
}

#[test]
fn every_operator_of_a_selector_is_read() {
    let values = BTreeSet::from(["x".to_owned(), "y".to_owned()]);
    let policy = fine(json!({"podSelector": {"matchExpressions": [
        {"key": "a", "operator": "In", "values": ["x", "y"]}, {"key": "b", "operator": "NotIn", "values": ["x", "y"]},
        {"key": "c", "operator": "Exists"}, {"key": "d", "operator": "DoesNotExist", "values": []},
    ]}}));
    let expected = [
        ("a", Operator::In(values.clone())),
        ("b", Operator::NotIn(values)),
        ("c", Operator::Exists),
        ("d", Operator::DoesNotExist),
    ];
    let expected = expected.map(|(key, operator)| Requirement { key: key.to_owned(), operator });
    assert_eq!(policy.pods.expressions, expected);
}

#[test]
fn requirements_of_the_pod_selector_that_are_not_understood_select_more_pods_rather_than_fewer() {
    let (policy, findings) = read(json!({"podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [
        {"key": "a", "operator": "Like", "values": ["x"]}, {"key": "b", "operator": "In"},
        {"key": "c", "operator": "NotIn", "values": []}, {"key": "d", "operator": "Exists", "values": ["x"]},
    ]}}));
    assert_eq!(policy.pods, labels("app", "web"));
    assert_eq!(policy.ingress, Some(Vec::new()));
    let at = |index: usize, rest: &str| format!("spec.podSelector.matchExpressions[{index}].operator {rest}");
    let expected = [
        at(0, "\"Like\": is not an operator of a selector; write In, NotIn, Exists or DoesNotExist"),
        at(1, "\"In\": has no values; list values, or write Exists or DoesNotExist"),
        at(2, "\"NotIn\": has no values; list values, or write Exists or DoesNotExist"),
        at(3, "\"Exists\": has values, and asks only for the label; leave the values out, or write In or NotIn"),
    ];
    assert_eq!(findings, expected);
}

#[test]
fn peers_are_pods_of_here_or_of_namespaces_or_blocks() {
    let app = json!({"matchLabels": {"app": "web"}});
    let team = json!({"matchLabels": {"team": "x"}});
    let rule = rule(json!({"from": [
        {"podSelector": app}, {"namespaceSelector": team}, {"namespaceSelector": team, "podSelector": app},
        {"namespaceSelector": {}}, {"podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "10.1.2.0/24"]}}, {"ipBlock": {"cidr": "fd00::/8"}},
    ]}));
    let (web, x, all) = (labels("app", "web"), labels("team", "x"), Selector::default());
    let pods = |namespaces: Option<&Selector>, pods: &Selector| Peer::Pods {
        namespaces: namespaces.cloned(),
        pods: pods.clone(),
    };
    let except = vec![net("10.1.0.0/16"), net("10.1.2.0/24")];
    let expected = vec![
        pods(None, &web),
        pods(Some(&x), &all),
        pods(Some(&x), &web),
        pods(Some(&all), &all),
        pods(None, &all),
        Peer::Block(Block { cidr: net("10.0.0.0/8"), except }),
        Peer::Block(Block { cidr: net("fd00::/8"), except: Vec::new() }),
    ];
    assert_eq!(rule.peers, Some(expected));
    assert_eq!(rule.ports, None);
}

#[test]
fn peers_that_are_not_understood_are_left_out_and_never_become_everyone() {
    let (rules, findings) = broken(json!({"from": [
        {}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}},
        {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}},
        {"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}, "podSelector": {}},
    ]}));
    assert_eq!(rules, []);
    let starts: Vec<&str> = findings.iter().map(|said| said.split([':', ' ']).next().unwrap()).collect();
    let expected = [
        "spec.ingress[0].from[0]",
        "spec.ingress[0].from[1]",
        "spec.ingress[0].from[2].podSelector.matchExpressions[0].operator",
        "spec.ingress[0].from[3].namespaceSelector.matchExpressions[0].operator",
    ];
    assert_eq!(starts, expected);

    let (rules, findings) = broken(json!({"from": [{}, {"ipBlock": {"cidr": "10.0.0.0/8"}}]}));
    let block = Block { cidr: net("10.0.0.0/8"), except: Vec::new() };
    assert_eq!(rules, [Rule { peers: Some(vec![Peer::Block(block)]), ports: None }]);
    assert_eq!(
        findings,
        ["spec.ingress[0].from[0]: has not just one kind of peer; give each kind an entry of its own"]
    );
}

#[test]
fn blocks_that_are_not_understood_are_left_out() {
    let said = |block: Value| {
        let (rules, findings) = broken(json!({"from": [{"ipBlock": block}]}));
        assert_eq!(rules, []);
        findings.join("\n")
    };
    let cidr = "spec.ingress[0].from[0].ipBlock.cidr";
    assert!(said(json!({"cidr": "10.0.0.1"})).starts_with(&format!("{cidr} \"10.0.0.1\": is not a CIDR; write it")));
    assert!(said(json!({"cidr": "10.0.0.0/33"})).starts_with(cidr));
    assert!(said(json!({"cidr": ""})).starts_with(&format!("{cidr}: is not a CIDR")));
    assert!(
        said(json!({"cidr": "::ffff:10.0.0.0/104"})).contains("is an IPv4 network written as IPv6; write it as IPv4")
    );
    let except = |list: &[&str]| said(json!({"cidr": "10.0.0.0/16", "except": list}));
    assert_eq!(
        except(&["10.0.1.0/24", "10.1.0.0/24"]),
        "spec.ingress[0].from[0].ipBlock.except[1] \"10.1.0.0/24\": is not a part of the CIDR that it is an exception of; \
         write a smaller CIDR that is within it"
    );
    for wrong in ["10.0.0.0/16", "10.0.0.0/8", "fd00::/64", "all"] {
        assert!(except(&[wrong]).contains("except[0]"), "{wrong}");
    }
}

#[test]
fn bits_beyond_the_prefix_and_leading_zeros_do_not_count() {
    let peers = rule(json!({"from": [{"ipBlock": {"cidr": "010.0.0.5/8", "except": ["10.1.2.3/16"]}}]})).peers;
    let block = Block { cidr: net("10.0.0.0/8"), except: vec![net("10.1.0.0/16")] };
    assert_eq!(peers, Some(vec![Peer::Block(block)]));
}

#[test]
fn ports_are_of_tcp_where_nothing_else_is_said() {
    let ports = rule(json!({"ports": [
        {}, {"protocol": "UDP"}, {"port": 80}, {"port": 80, "endPort": 90, "protocol": "SCTP"}, {"port": "http"},
        {"port": "dns", "protocol": "UDP"}, {"port": 65535, "endPort": 65535}, {"port": 1},
    ]}))
    .ports;
    let expected = vec![
        Port::All(Protocol::Tcp),
        Port::All(Protocol::Udp),
        Port::Range(Protocol::Tcp, 80, 80),
        Port::Range(Protocol::Sctp, 80, 90),
        Port::Named(Protocol::Tcp, "http".to_owned()),
        Port::Named(Protocol::Udp, "dns".to_owned()),
        Port::Range(Protocol::Tcp, 65535, 65535),
        Port::Range(Protocol::Tcp, 1, 1),
    ];
    assert_eq!(ports, Some(expected));
}

#[test]
fn ports_that_are_not_understood_are_left_out_and_never_become_all() {
    let said = |port: Value| {
        let (rules, findings) = broken(json!({"ports": [port]}));
        assert_eq!(rules, []);
        findings.join("\n")
    };
    let at = "spec.ingress[0].ports[0]";
    let below = "is below the port that the range begins with; write a number that is not below it";
    let unknown = "is not a protocol that policies know; write TCP, UDP or SCTP";
    assert_eq!(said(json!({"protocol": "ICMP"})), format!("{at}.protocol \"ICMP\": {unknown}"));
    assert_eq!(said(json!({"protocol": "tcp"})), format!("{at}.protocol \"tcp\": {unknown}"));
    for number in [0, -1, 65536] {
        let expected = format!("{at}.port \"{number}\": is not a port; write a number from 1 to 65535");
        assert_eq!(said(json!({"port": number})), expected);
    }
    assert_eq!(said(json!({"port": 80, "endPort": 79})), format!("{at}.endPort \"79\": {below}"));
    assert!(said(json!({"port": 80, "endPort": 65536})).starts_with(&format!("{at}.endPort \"65536\": is not a port")));
    let alone = "needs a port that is a number; give the first port by its number";
    assert_eq!(said(json!({"endPort": 90})), format!("{at}.endPort \"90\": {alone}"));
    assert_eq!(said(json!({"port": "http", "endPort": 90})), format!("{at}.endPort \"90\": {alone}"));
    assert!(said(json!({"port": "80"})).starts_with(&format!("{at}.port \"80\": is not a name of a port")));
}

#[test]
fn rules_are_told_apart_in_what_is_found() {
    let (policy, findings) =
        read(json!({"egress": [{}, {"to": [{"podSelector": {}}, {}]}], "policyTypes": ["Egress"]}));
    assert_eq!(policy.egress.unwrap().len(), 2);
    assert!(findings[0].starts_with("spec.egress[1].to[1]: "), "{findings:?}");
}
