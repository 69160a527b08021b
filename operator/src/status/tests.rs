use std::sync::Arc;

use serde_json::{Value, json};
use towpath_net::intent::{Draft, validate};

use super::*;
use crate::events::news;

fn network() -> ClusterNetwork {
    let value = json!({
        "apiVersion": "towpath.dev/v1alpha1", "kind": "ClusterNetwork",
        "metadata": {"name": "default", "generation": 7},
        "spec": {
            "ipam": {"mode": "NodeCIDR", "allocation": "Allocate", "podCIDRs": ["10.244.0.0/16"]},
            "attachment": {"mode": "Routed"}, "transport": {"mode": "Direct"}, "masquerade": {"mode": "Off"},
        },
    });
    serde_json::from_value(value).unwrap()
}

fn accepted() -> Judgement {
    let intent = validate(&Draft::from(&network().spec)).unwrap();
    Judgement::Accepted { intent: Box::new(intent), findings: BTreeMap::new(), unused: Vec::new(), remarks: Vec::new() }
}

fn revision() -> String {
    validate(&Draft::from(&network().spec)).unwrap().revision().0
}

/// A cluster of so many nodes, whose agents report this.
fn seen(nodes: usize, status: &Value) -> Seen {
    let node =
        |n: usize| serde_json::from_value(json!({"metadata": {"name": format!("n{n:02}"), "uid": n.to_string()}}));
    let part = |n: usize| {
        serde_json::from_value(json!({
            "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": format!("n{n:02}")},
            "spec": {
                "revision": revision(), "addresses": ["172.30.0.1"], "podCIDRs": [], "attachment": "Routed", "mtu": "Auto",
                "transport": {"prefers": ["Direct"], "accepts": ["Direct"]}, "masquerade": {"mode": "Off"},
            },
            "status": status,
        }))
    };
    Seen {
        nodes: (0..nodes).map(|n| Arc::new(node(n).unwrap())).collect(),
        node_networks: (0..nodes).map(|n| Arc::new(part(n).unwrap())).collect(),
        ..Seen::default()
    }
}

fn condition(type_: &str, status: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "Test", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

fn report(revision: &str, conditions: &[Value]) -> Value {
    json!({"observedRevision": revision, "transport": "Direct", "mtu": 1500, "conditions": conditions})
}

/// The three that kstatus looks at, and what is said.
fn verdict(status: &ClusterNetworkStatus) -> (bool, bool, bool, String) {
    let so = |about| is_true(&status.conditions, about);
    let ready = find(&status.conditions, ConditionType::Ready).unwrap();
    let said = format!("{}: {}", ready.reason, ready.message);
    (so(ConditionType::Ready), so(ConditionType::Reconciling), so(ConditionType::Stalled), said)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000_000).unwrap()
}

#[test]
fn a_network_is_ready_when_every_node_is() {
    let seen = seen(3, &report(&revision(), &[condition("Ready", "True", "")]));
    let status = assess(&network(), &accepted(), &seen, now());
    let said = format!("NetworkReady: 3 of 3 nodes are on revision {} and ready", revision());
    assert_eq!(verdict(&status), (true, false, false, said));
    assert_eq!((status.mtu, status.observed_generation), (Some(1500), Some(7)));
    assert_eq!(status.nodes.unwrap(), NodeCounts::new(3, 3, 3));
    assert!(status.conditions.iter().all(|condition| condition.observed_generation == Some(7)));
}

#[test]
fn saying_the_same_again_changes_nothing() {
    let seen = seen(3, &report(&revision(), &[condition("Ready", "True", "")]));
    let mut network = network();
    let status = assess(&network, &accepted(), &seen, now());
    network.status = Some(status.clone());
    assert_eq!(assess(&network, &accepted(), &seen, Timestamp::from_second(2_000_000_000).unwrap()), status);
    assert_eq!(news(Some(&status), &status), []);
}

#[test]
fn nodes_that_are_on_their_way_are_named_up_to_ten() {
    let status = assess(&network(), &accepted(), &seen(13, &report("0000000", &[])), now());
    let (ready, reconciling, stalled, said) = verdict(&status);
    assert_eq!((ready, reconciling, stalled), (false, true, false));
    assert!(said.ends_with("n00, n01, n02, n03, n04, n05, n06, n07, n08, n09 and 3 more"), "{said}");
    let status = assess(&network(), &accepted(), &Seen::default(), now());
    assert_eq!(verdict(&status).3, "NoNodes: the cluster has no Nodes yet");
}

#[test]
fn what_agents_say_is_passed_on_once_for_all() {
    let late = seen(2, &report(&revision(), &[condition("Ready", "False", "the uplink is gone")]));
    let status = assess(&network(), &accepted(), &late, now());
    let said = "NodesNotReady: waiting for nodes to be ready: n00, n01: the uplink is gone".to_owned();
    assert_eq!(verdict(&status), (false, true, false, said));
    let stuck = condition("Stalled", "True", "the kernel has no nftables");
    let status = assess(&network(), &accepted(), &seen(2, &report(&revision(), &[stuck])), now());
    let said = "NodesStalled: node n00, n01: the kernel has no nftables".to_owned();
    assert_eq!(verdict(&status), (false, false, true, said));
}

#[test]
fn a_refused_spec_keeps_the_revision_that_runs() {
    let seen = seen(1, &report(&revision(), &[condition("Ready", "True", "")]));
    let mut network = network();
    let before = assess(&network, &accepted(), &seen, now());
    network.status = Some(before.clone());
    let finding = Finding::new("spec.mtu", "1", Problem::Mtu);
    let after = assess(&network, &Judgement::Refused(vec![finding]), &seen, now());
    assert_eq!((after.revision.as_ref(), after.pod_cidrs.as_ref()), (Some(&revision()), before.pod_cidrs.as_ref()));
    let (ready, reconciling, stalled, said) = verdict(&after);
    assert_eq!((ready, reconciling, stalled), (false, false, true));
    assert!(said.starts_with(r#"Invalid: spec.mtu "1": is neither Auto"#), "{said}");
    let news = news(Some(&before), &after);
    assert_eq!(news.iter().map(|n| (n.bad, n.reason.as_str())).collect::<Vec<_>>(), [(true, "Invalid")]);
}

#[test]
fn the_same_finding_about_many_nodes_is_said_once() {
    let Judgement::Accepted { intent, .. } = accepted() else { panic!("accepted") };
    let exhausted =
        || vec![Finding::new("spec.ipam.podCIDRs[0]", "10.244.0.0/16", Problem::Exhausted { mask: 24, blocks: 256 })];
    let findings = [("n7", exhausted()), ("n8", exhausted())].map(|(name, list)| (NodeName::from(name), list));
    let judgement = Judgement::Accepted { intent, findings: findings.into(), unused: Vec::new(), remarks: Vec::new() };
    let status = assess(&network(), &judgement, &Seen::default(), now());
    let (.., stalled, said) = verdict(&status);
    assert!(stalled);
    assert!(
        said.starts_with(r#"RangeExhausted: node n7, n8: spec.ipam.podCIDRs[0] "10.244.0.0/16": has no /24"#),
        "{said}"
    );
    assert_eq!(news(None, &status).iter().filter(|news| news.bad).count(), 1);
}

#[test]
fn nodes_where_another_network_takes_pods_are_named() {
    let contested = condition("CNIUncontested", "False", "87-podman-bridge.conflist comes first");
    let seen = seen(2, &report(&revision(), &[condition("Ready", "True", ""), contested]));
    let status = assess(&network(), &accepted(), &seen, now());
    let said = find(&status.conditions, ConditionType::CNIUncontested).unwrap();
    assert_eq!(said.status, "False");
    assert_eq!(said.message, "node n00, n01: 87-podman-bridge.conflist comes first");
}

#[test]
fn a_network_that_is_no_more_ready_because_it_was_changed_is_no_bad_news() {
    let ready = seen(2, &report(&revision(), &[condition("Ready", "True", "")]));
    let before = assess(&network(), &accepted(), &ready, now());
    let told = |seen: &Seen| {
        let after = assess(&network(), &accepted(), seen, now());
        news(Some(&before), &after).into_iter().map(|news| (news.bad, news.reason)).collect::<Vec<_>>()
    };
    assert_eq!(told(&seen(2, &report("0000000", &[condition("Ready", "False", "")]))), []);
    let broken = seen(2, &report(&revision(), &[condition("Ready", "False", "the uplink is gone")]));
    assert_eq!(told(&broken), [(true, "NotReady".to_owned())]);
}

/// A cluster whose nodes have a part each, with this spec and status on top.
fn differing(parts: &[(Value, Value)]) -> Seen {
    let mut seen = seen(parts.len(), &report(&revision(), &[condition("Ready", "True", "")]));
    for (part, (spec, status)) in seen.node_networks.iter_mut().zip(parts) {
        let mut value = serde_json::to_value(&**part).unwrap();
        for (name, top) in [("spec", spec), ("status", status)] {
            value[name].as_object_mut().unwrap().extend(top.as_object().unwrap().clone());
        }
        *part = Arc::new(serde_json::from_value(value).unwrap());
    }
    seen
}

#[test]
fn what_differs_from_node_to_node_is_listed_and_counts_as_what_it_comes_to() {
    let direct = (json!({"attachment": "Bridge"}), json!({"transport": "Direct", "encryption": "None", "mtu": 1500}));
    let mixed = (json!({}), json!({"transport": "Direct,WireGuard", "encryption": "Partial", "mtu": 1420}));
    let sealed = (json!({}), json!({"transport": "WireGuard", "encryption": "Full", "mtu": 1420}));
    let columns = |parts: &[(Value, Value)]| {
        let status = assess(&network(), &accepted(), &differing(parts), now());
        (status.transport.unwrap(), status.attachment.unwrap(), status.encryption.unwrap(), status.mtu.unwrap())
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        columns(&[sealed.clone(), mixed, direct.clone()]),
        (text("Direct,WireGuard"), text("Routed,Bridge"), Encryption::Partial, 1420)
    );
    assert_eq!(
        columns(&[sealed.clone(), direct.clone()]),
        (text("Direct,WireGuard"), text("Routed,Bridge"), Encryption::Partial, 1420)
    );
    assert_eq!(columns(&[sealed.clone(), sealed]), (text("WireGuard"), text("Routed"), Encryption::Full, 1420));
    assert_eq!(columns(&[direct.clone(), direct]), (text("Direct"), text("Bridge"), Encryption::None, 1500));
}

#[test]
fn nodes_that_look_for_their_address_are_waited_for() {
    let rule = json!({"addresses": [], "addressRule": {"interfaces": ["eth1"]}});
    let status = assess(&network(), &accepted(), &differing(&[(rule, json!({}))]), now());
    let said = "NodesAddressing: waiting for nodes to find their address by spec.nodeAddress: n00".to_owned();
    assert_eq!(verdict(&status), (false, true, false, said));
    let allocated = find(&status.conditions, ConditionType::CIDRsAllocated).unwrap();
    assert_eq!((allocated.status.as_str(), allocated.reason.as_str()), ("False", "Addressing"));
}

#[test]
fn exceptions_that_no_node_is_under_are_told_of_and_hold_nothing_up() {
    let Judgement::Accepted { intent, .. } = accepted() else { panic!("accepted") };
    let unused = vec![Finding::new("spec.exceptions[0]", "old", Problem::SelectsNoNode)];
    let judgement = Judgement::Accepted { intent, findings: BTreeMap::new(), unused, remarks: Vec::new() };
    let seen = seen(1, &report(&revision(), &[condition("Ready", "True", "")]));
    let status = assess(&network(), &judgement, &seen, now());
    let accepted = find(&status.conditions, ConditionType::Accepted).unwrap();
    assert!(accepted.status == "True" && is_true(&status.conditions, ConditionType::Ready));
    assert!(accepted.message.ends_with(
        r#"spec.exceptions[0] "old": selects no node; correct its nodeSelector, unless its nodes are still to come"#
    ));
}
