use k8s_openapi::api::core::v1::Node;
use serde_json::json;
use towpath_net::PerFamily;
use towpath_net::intent::{
    Allocation, Crossing, Draft, DraftIpam, DraftMtu, DraftNodeAddress, DraftPool, IpamMode, validate,
};
use towpath_net::state::{Attachment, CniConflict, MasqueradeMode};
use towpath_net::transport::Transport;

use super::*;

fn draft(range: &str) -> Draft {
    Draft {
        ipam: DraftIpam {
            allocation: Some(Allocation::Allocate),
            pod_cidrs: vec![range.to_owned()],
            node_mask_size: PerFamily::default(),
            ..DraftIpam::default()
        },
        service_cidrs: Vec::new(),
        node_cidrs: Vec::new(),
        attachment: Attachment::Routed,
        transport: Crossing::only(Transport::Direct).into(),
        node_address: DraftNodeAddress::default(),
        exceptions: Vec::new(),
        mtu: DraftMtu::Word("Auto".to_owned()),
        masquerade: MasqueradeMode::Off,
        excluded_cidrs: Vec::new(),
        cni_conflict: CniConflict::Report,
        policy: towpath_net::policy::settings::PolicySettings::default(),
    }
}

fn intent(range: &str) -> Intent {
    validate(&draft(range)).unwrap()
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

/// A network of one pool of blocks for five pods each.
fn of_blocks() -> Intent {
    let mut written = draft("10.244.0.0/16");
    let pool =
        DraftPool { name: "main".to_owned(), cidr: "10.244.0.0/24".to_owned(), block_size: 29, ..DraftPool::default() };
    written.ipam = DraftIpam { mode: IpamMode::Pools, pools: vec![pool], ..DraftIpam::default() };
    validate(&written).unwrap()
}

/// The part of `n1` with one block, in a certain version, and six pods that wait.
fn waiting(version: &str) -> Seen {
    let mut seen = seen(&["n1"]);
    let first = plan(&of_blocks(), &seen, &Pending::default(), &BTreeSet::new(), at(0));
    let mut part = NodeNetwork::clone(&part("n1", "uid-n1", &first.specs["n1"]));
    (part.metadata.resource_version, part.metadata.generation) = (Some(version.to_owned()), Some(1));
    let counts = json!({"family": "IPv4", "blocks": 1, "capacity": 5, "used": 5, "free": 0, "wanted": 6});
    let status = json!({"observedGeneration": 1, "addresses": [counts]});
    part.status = serde_json::from_value(status).unwrap();
    seen.node_networks.push(Arc::new(part));
    seen
}

fn cidrs(list: &[IpNet]) -> String {
    join(list)
}

#[test]
fn what_a_node_is_given_besides_is_promised_to_the_version_that_was_seen() {
    let plan = plan(&of_blocks(), &waiting("5"), &Pending::default(), &BTreeSet::new(), at(0));
    assert_eq!(cidrs(&plan.specs["n1"].pod_cidrs), "10.244.0.0/29,10.244.0.8/29,10.244.0.16/29");
    let promise = &plan.pending.0["n1"];
    assert_eq!((cidrs(&promise.cidrs).as_str(), promise.seen.as_deref()), ("10.244.0.8/29,10.244.0.16/29", Some("5")));
}

#[test]
fn a_promise_to_a_node_that_is_as_it_was_is_kept_and_nothing_given_besides() {
    let first = plan(&of_blocks(), &waiting("5"), &Pending::default(), &BTreeSet::new(), at(0));
    let again = plan(&of_blocks(), &waiting("5"), &first.pending, &BTreeSet::new(), at(9));
    assert_eq!((&again.specs, &again.pending), (&first.specs, &first.pending));
    let mut other = seen(&["n0"]);
    other.nodes.extend(waiting("5").nodes);
    other.node_networks = waiting("5").node_networks;
    assert_eq!(block(&plan(&of_blocks(), &other, &first.pending, &BTreeSet::new(), at(9)), "n0"), "10.244.0.24/29");
}

#[test]
fn a_promise_to_a_node_that_was_changed_since_is_void() {
    let first = plan(&of_blocks(), &waiting("5"), &Pending::default(), &BTreeSet::new(), at(0));
    let mut content = waiting("6");
    Arc::make_mut(&mut content.node_networks[0]).status = None;
    let later = plan(&of_blocks(), &content, &first.pending, &BTreeSet::new(), at(1));
    assert!(later.specs.is_empty() && later.pending.0.is_empty());
}

#[test]
fn who_was_tried_already_is_left_to_the_next_pass() {
    let tried = BTreeSet::from([NodeName::from("n1")]);
    let plan = plan(&of_blocks(), &waiting("5"), &Pending::default(), &tried, at(0));
    assert!(plan.specs.is_empty() && !plan.more);
}
