//! From what is written to what becomes of packets: what is not understood lets nothing through.

use std::net::IpAddr;

use serde_json::{Value, json};
use towpath_crds::cluster_policy::ClusterNetworkPolicy;
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::evaluate::Packet;
use towpath_net::policy::input::{Key, Namespace, Pod};
use towpath_net::policy::objects::Way;

use super::cluster_policy::cluster_policy;
use super::network_policy::network_policy;
use super::objects::{ApiNamespace, ApiPod};

const FRIEND: &str = "10.0.0.2";
const STRANGER: &str = "192.0.2.1";

/// A namespace with two pods, of which a policy is for the first.
fn compiler() -> Compiler {
    let mut compiler = Compiler::default();
    let namespace = json!({"metadata": {"name": "a", "labels": {"team": "x"}}});
    let namespace: ApiNamespace = serde_json::from_value(namespace).unwrap();
    compiler.apply(Change::Namespace(Namespace::from(namespace)));
    for (name, address, address6) in [("web", "10.0.0.1", "fd00::1"), ("friend", FRIEND, "fd00::2")] {
        let pod: ApiPod = serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": name}},
            "spec": {"nodeName": "n1"}, "status": {"podIPs": [{"ip": address}, {"ip": address6}]},
        }))
        .unwrap();
        compiler.apply(Change::Pod(Pod::from(pod)));
    }
    compiler
}

/// What a node knows with a policy for the first pod.
fn with_policy(spec: &Value) -> Bundle {
    let mut spec = spec.clone();
    spec["podSelector"] = json!({"matchLabels": {"app": "web"}});
    let key = Key { namespace: "a".to_owned(), name: "p".to_owned() };
    let (policy, findings) = network_policy(key, serde_json::from_value(spec).unwrap());
    assert_ne!(findings, []);
    let mut compiler = compiler();
    compiler.apply(Change::Policy(policy));
    compiler.subscribe(&"n1".into())
}

/// What a node knows with a policy of the cluster for the first pod.
fn with_cluster_policy(tier: &str, rules: &Value) -> Bundle {
    let web = json!({"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}});
    let mut spec = json!({"tier": tier, "priority": 1, "subject": web});
    spec.as_object_mut().unwrap().extend(rules.as_object().unwrap().clone());
    let object = json!({"metadata": {"name": "p"}, "spec": spec});
    let object: ClusterNetworkPolicy = serde_json::from_value(object).unwrap();
    let (policy, findings) = cluster_policy("p".to_owned(), object.spec);
    assert_ne!(findings, []);
    let mut compiler = compiler();
    compiler.apply(Change::ClusterPolicy(policy.unwrap()));
    compiler.subscribe(&"n1".into())
}

/// Whether the first pod is reached from an address, or reaches it.
fn passes(bundle: &Bundle, way: Way, other: &str, protocol: u8, port: Option<u16>) -> bool {
    let other: IpAddr = other.parse().unwrap();
    let web: IpAddr = if other.is_ipv4() { "10.0.0.1" } else { "fd00::1" }.parse().unwrap();
    let (source, destination) = if way == Way::Ingress { (other, web) } else { (web, other) };
    bundle.judge_pod("web", way, &Packet { source, destination, protocol, port }).passes()
}

/// Whether nothing at all passes, of either family.
fn is_closed(bundle: &Bundle, way: Way) -> bool {
    let all = [FRIEND, STRANGER, "fd00::2", "2001:db8::1", "172.30.0.1"];
    !all.iter().any(|other| {
        passes(bundle, way, other, 6, Some(80))
            || passes(bundle, way, other, 17, Some(53))
            || passes(bundle, way, other, 132, Some(1))
            || passes(bundle, way, other, 1, None)
            || passes(bundle, way, other, 47, None)
    })
}

#[test]
fn a_network_policy_lets_through_what_of_it_is_understood_and_nothing_else() {
    let friend = json!({"podSelector": {"matchLabels": {"app": "friend"}}});
    let bundle = with_policy(&json!({"ingress": [{"from": [friend, {"ipBlock": {"cidr": "everyone"}}]}]}));
    assert!(passes(&bundle, Way::Ingress, FRIEND, 6, Some(80)));
    assert!(!passes(&bundle, Way::Ingress, STRANGER, 6, Some(80)));
    assert!(passes(&bundle, Way::Egress, STRANGER, 6, Some(80)));
}

#[test]
fn a_network_policy_of_which_nothing_is_understood_isolates() {
    for rule in [
        json!({"from": [{"ipBlock": {"cidr": "everyone"}}]}),
        json!({"from": [{}]}),
        json!({"ports": [{"protocol": "ICMP"}]}),
        json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["nobody"]}}]}),
    ] {
        let bundle = with_policy(&json!({"ingress": [rule]}));
        assert!(is_closed(&bundle, Way::Ingress), "{rule}");
        assert!(passes(&bundle, Way::Egress, STRANGER, 6, Some(80)), "{rule}");
    }
    let bundle = with_policy(&json!({"policyTypes": ["Sideways"]}));
    assert!(is_closed(&bundle, Way::Ingress) && is_closed(&bundle, Way::Egress));
}

#[test]
fn a_rule_of_a_cluster_policy_that_is_not_understood_closes_its_direction_and_no_other() {
    let bad = json!({"galaxies": {}});
    for tier in ["Admin", "Baseline"] {
        for action in ["Deny", "Pass", "Log"] {
            let ingress = json!({"ingress": [{"action": action, "from": [bad]}]});
            let bundle = with_cluster_policy(tier, &ingress);
            assert!(is_closed(&bundle, Way::Ingress), "{tier} {action}");
            assert!(passes(&bundle, Way::Egress, STRANGER, 6, Some(80)), "{tier} {action}");
            let egress = json!({"egress": [{"action": action, "to": [bad]}]});
            let bundle = with_cluster_policy(tier, &egress);
            assert!(is_closed(&bundle, Way::Egress), "{tier} {action}");
            assert!(passes(&bundle, Way::Ingress, STRANGER, 6, Some(80)), "{tier} {action}");
        }
    }
}

#[test]
fn a_rule_that_accepts_and_is_not_understood_leaves_the_decision_to_those_behind_it() {
    let bundle = with_cluster_policy(
        "Admin",
        &json!({"egress": [
            {"action": "Accept", "to": [{"domainNames": ["example.org"]}]},
            {"action": "Accept", "to": [{"networks": ["10.0.0.0/8"]}]},
            {"action": "Deny", "to": [{"networks": ["0.0.0.0/0"]}]},
        ]}),
    );
    assert!(passes(&bundle, Way::Egress, FRIEND, 6, Some(80)));
    assert!(!passes(&bundle, Way::Egress, STRANGER, 6, Some(80)));
}

#[test]
fn a_tier_that_is_not_understood_closes_before_everything() {
    let bundle =
        with_cluster_policy("Emergency", &json!({"ingress": [{"action": "Accept", "from": [{"namespaces": {}}]}]}));
    assert!(is_closed(&bundle, Way::Ingress));
    assert!(passes(&bundle, Way::Egress, STRANGER, 6, Some(80)));
}
