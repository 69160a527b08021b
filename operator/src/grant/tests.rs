use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use towpath_net::PerFamily;
use towpath_net::intent::{Allocation, Draft, DraftIpam, DraftMtu, validate};
use towpath_net::state::{Attachment, CniConflict, MasqueradeMode, Transport};

use super::*;

fn intent(range: &str) -> Intent {
    let draft = Draft {
        ipam: DraftIpam {
            allocation: Some(Allocation::Allocate),
            pod_cidrs: vec![range.to_owned()],
            node_mask_size: PerFamily::default(),
            ..DraftIpam::default()
        },
        service_cidrs: Vec::new(),
        node_cidrs: Vec::new(),
        attachment: Attachment::Routed,
        transport: Transport::Direct,
        mtu: DraftMtu::Word("Auto".to_owned()),
        masquerade: MasqueradeMode::Off,
        excluded_cidrs: Vec::new(),
        cni_conflict: CniConflict::Report,
    };
    validate(&draft).unwrap()
}

fn node(name: &str) -> Arc<Node> {
    let addresses = [json!({"type": "InternalIP", "address": "172.30.0.1"})];
    let node = json!({"metadata": {"name": name, "uid": format!("uid-{name}")}, "status": {"addresses": addresses}});
    Arc::new(serde_json::from_value(node).unwrap())
}

fn part(name: &str, uid: &str, spec: &NodeSpec) -> Arc<NodeNetwork> {
    let owner = json!({"apiVersion": "v1", "kind": "Node", "name": name, "uid": uid});
    let part = json!({
        "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork",
        "metadata": {"name": name, "ownerReferences": [owner]}, "spec": NodeNetworkSpec::from(spec),
    });
    Arc::new(serde_json::from_value(part).unwrap())
}

fn seen(names: &[&str]) -> Seen {
    Seen { nodes: names.iter().map(|name| node(name)).collect(), ..Seen::default() }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn block(plan: &Plan, name: &str) -> String {
    plan.specs[name].pod_cidrs[0].to_string()
}

#[test]
fn what_is_planned_is_promised() {
    let plan = plan(&intent("10.244.0.0/16"), &seen(&["n1", "n2"]), &Pending::default(), &BTreeSet::new(), at(0));
    assert_eq!((block(&plan, "n1"), block(&plan, "n2")), ("10.244.0.0/24".to_owned(), "10.244.1.0/24".to_owned()));
    for (name, spec) in &plan.specs {
        assert_eq!(plan.pending.0[name].cidrs, spec.pod_cidrs);
        assert_eq!(plan.pending.0[name].uid, format!("uid-{name}"));
    }
    assert!(!plan.more);
}

#[test]
fn a_promise_of_one_who_died_is_kept_for_that_very_node() {
    let first = plan(&intent("10.244.0.0/16"), &seen(&["n5"]), &Pending::default(), &BTreeSet::new(), at(0));
    let second = plan(&intent("10.244.0.0/16"), &seen(&["n1", "n5"]), &first.pending, &BTreeSet::new(), at(9));
    assert_eq!((block(&second, "n5"), block(&second, "n1")), ("10.244.0.0/24".to_owned(), "10.244.1.0/24".to_owned()));
}

#[test]
fn a_promise_to_a_node_that_is_gone_keeps_its_block_out_of_use_for_a_while() {
    let intent = intent("10.244.0.0/16");
    let first = plan(&intent, &seen(&["n5"]), &Pending::default(), &BTreeSet::new(), at(0));
    let soon = plan(&intent, &seen(&["n1"]), &first.pending, &BTreeSet::new(), at(QUARANTINE.as_secs() - 1));
    assert_eq!(block(&soon, "n1"), "10.244.1.0/24");
    let late = plan(&intent, &seen(&["n1"]), &first.pending, &BTreeSet::new(), at(QUARANTINE.as_secs()));
    assert_eq!(block(&late, "n1"), "10.244.0.0/24");
    assert_eq!(late.pending.0.len(), 1);
}

#[test]
fn what_is_published_is_not_promised_any_more() {
    let intent = intent("10.244.0.0/16");
    let first = plan(&intent, &seen(&["n1"]), &Pending::default(), &BTreeSet::new(), at(0));
    let mut seen = seen(&["n1", "n2"]);
    seen.node_networks.push(part("n1", "uid-n1", &first.specs["n1"]));
    let second = plan(&intent, &seen, &first.pending, &BTreeSet::new(), at(1));
    assert_eq!(second.specs.len(), 1);
    assert_eq!(block(&second, "n2"), "10.244.1.0/24");
    assert!(!second.pending.0.contains_key("n1"));
}

#[test]
fn a_node_made_again_waits_until_the_part_of_the_old_one_is_gone() {
    let intent = intent("10.244.0.0/16");
    let first = plan(&intent, &seen(&["n1"]), &Pending::default(), &BTreeSet::new(), at(0));
    let mut seen = seen(&["n1", "n2"]);
    seen.node_networks.push(part("n1", "uid-before", &first.specs["n1"]));
    let second = plan(&intent, &seen, &Pending::default(), &BTreeSet::new(), at(1));
    assert_eq!(second.specs.keys().map(|n| n.0.as_str()).collect::<Vec<_>>(), ["n2"]);
    assert_eq!(block(&second, "n2"), "10.244.1.0/24", "clear of what the old one holds");
}

#[test]
fn many_nodes_are_given_theirs_in_turns() {
    let names: Vec<String> = (0..=BATCH).map(|n| format!("n{n}")).collect();
    let seen = seen(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let plan = plan(&intent("10.244.0.0/16"), &seen, &Pending::default(), &BTreeSet::new(), at(0));
    assert_eq!((plan.specs.len(), plan.more), (BATCH, true));
    assert!(serde_json::to_string(&plan.pending).unwrap().len() < 12_288);
}
