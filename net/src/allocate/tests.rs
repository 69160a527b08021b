mod life;
mod pools;

use proptest::prelude::*;

use super::*;
use crate::facts::HeldCidrs;
use crate::family::PerFamily;
use crate::intent::{Allocation, Crossing, Draft, DraftIpam, DraftMtu, DraftNodeAddress, validate};
use crate::state::{Attachment, CniConflict, MasqueradeMode};
use crate::transport::Transport;

fn draft(ipam: DraftIpam) -> Draft {
    Draft {
        ipam,
        service_cidrs: Vec::new(),
        node_cidrs: Vec::new(),
        attachment: Attachment::Routed,
        transport: Crossing::only(Transport::Direct).into(),
        node_address: DraftNodeAddress::default(),
        exceptions: Vec::new(),
        mtu: DraftMtu::Word("Auto".to_owned()),
        masquerade: MasqueradeMode::LeavingCluster,
        excluded_cidrs: Vec::new(),
        cni_conflict: CniConflict::Report,
        policy: crate::policy::settings::PolicySettings::default(),
    }
}

fn intent(allocation: Allocation, pods: &[&str], masks: PerFamily<Option<i64>>) -> Intent {
    let pod_cidrs = pods.iter().map(|&p| p.to_owned()).collect();
    let ipam = DraftIpam { allocation: Some(allocation), pod_cidrs, node_mask_size: masks, ..DraftIpam::default() };
    validate(&draft(ipam)).unwrap()
}

fn dual() -> Intent {
    intent(Allocation::Allocate, &["10.244.0.0/16", "fd00:10:244::/56"], PerFamily::default())
}

fn adopting(within: &[&str]) -> Intent {
    intent(Allocation::Adopt, within, PerFamily::default())
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|n| n.parse().unwrap()).collect()
}

fn facts(names: &[&str]) -> Facts {
    let nodes = names.iter().map(|&n| (n.into(), NodeFacts { uid: format!("uid-{n}"), ..NodeFacts::default() }));
    Facts { nodes: nodes.collect(), ..Facts::default() }
}

/// The next state of the cluster: what was given is now what nodes have.
fn publish(facts: &mut Facts, given: &Allocations) {
    for (name, blocks) in &given.blocks {
        facts.nodes.get_mut(name).unwrap().existing.clone_from(blocks);
    }
}

#[test]
fn nodes_get_the_lowest_blocks_of_each_family() {
    let given = allocate(&dual(), &facts(&["n1", "n2", "n3"]));
    assert_eq!(given.blocks["n1"], nets(&["10.244.0.0/24", "fd00:10:244::/64"]));
    assert_eq!(given.blocks["n3"], nets(&["10.244.2.0/24", "fd00:10:244:2::/64"]));
    assert_eq!(given.fresh.len(), 3);
}

#[test]
fn a_block_is_reused_once_nothing_holds_it() {
    let mut facts = facts(&["n1", "n2"]);
    let given = allocate(&dual(), &facts);
    publish(&mut facts, &given);
    let gone = facts.nodes.remove("n1").unwrap();
    facts.nodes.insert("n3".into(), NodeFacts::default());
    facts.held.push(HeldCidrs { by: "n1".into(), cidrs: gone.existing });
    assert_eq!(allocate(&dual(), &facts).blocks["n3"][0], nets(&["10.244.2.0/24"])[0]);
    facts.held.clear();
    assert_eq!(allocate(&dual(), &facts).blocks["n3"][0], nets(&["10.244.0.0/24"])[0]);
}

#[test]
fn a_node_gets_all_its_families_or_none() {
    let small =
        intent(Allocation::Allocate, &["10.244.0.0/16", "fd00:10:244::/64"], PerFamily { v4: Some(24), v6: Some(64) });
    let given = allocate(&small, &facts(&["n1", "n2"]));
    assert_eq!(given.blocks.len(), 1);
    let said = given.findings["n2"][0].to_string();
    assert!(said.starts_with(r#"spec.ipam.podCIDRs[1] "fd00:10:244::/64": has no /64 block left: all 1"#), "{said}");
    let mut more = facts(&["n1", "n2"]);
    more.nodes.insert("n0".into(), NodeFacts { existing: nets(&["10.244.1.0/24"]), ..NodeFacts::default() });
    assert_eq!(allocate(&small, &more).blocks["n1"][0], nets(&["10.244.0.0/24"])[0]);
}

#[test]
fn a_block_with_a_nodes_address_is_never_given() {
    let mut facts = facts(&["n1", "n2"]);
    facts.nodes.get_mut("n2").unwrap().addresses = vec!["10.244.0.9".parse().unwrap()];
    let given = allocate(&dual(), &facts);
    assert_eq!(given.blocks["n1"][0], nets(&["10.244.1.0/24"])[0]);
    let said = given.findings["n2"][0].to_string();
    assert!(said.contains(r#"Node.status.addresses "10.244.0.9": lies in the pod range 10.244.0.0/16"#), "{said}");
}

#[test]
fn adopting_takes_what_the_node_object_says() {
    let mut facts = facts(&["n1", "n2", "n3", "n4"]);
    for (name, cidrs) in [("n1", "10.244.7.0/24"), ("n3", "10.244.7.0/25"), ("n4", "10.9.0.0/24")] {
        facts.nodes.get_mut(name).unwrap().pod_cidrs = nets(&[cidrs]);
    }
    let given = allocate(&adopting(&["10.244.0.0/16"]), &facts);
    assert_eq!(given.blocks["n1"], nets(&["10.244.7.0/24"]));
    assert_eq!(given.findings["n2"][0].problem, Problem::NothingToAdopt);
    assert_eq!(given.findings["n3"][0].problem, Problem::TakenBy { node: "n1".into() });
    assert_eq!(given.findings["n4"][0].problem, Problem::OutsideRange { ranges: "10.244.0.0/16".to_owned() });
    assert!(allocate(&adopting(&[]), &facts).blocks.contains_key("n4"));
}

#[test]
fn what_a_node_has_is_kept_and_reported_when_it_fits_no_more() {
    let mut facts = facts(&["n1"]);
    facts.nodes.get_mut("n1").unwrap().existing = nets(&["10.99.0.0/24"]);
    let given = allocate(&dual(), &facts);
    assert_eq!(given.blocks["n1"], nets(&["10.99.0.0/24"]));
    assert!(given.fresh.is_empty());
    assert_eq!(given.findings["n1"].len(), 2, "outside the range, and no IPv6");
}

#[test]
fn the_last_block_of_the_address_space_does_not_overflow() {
    let all = intent(Allocation::Allocate, &["fc00::/7"], PerFamily { v4: None, v6: Some(8) });
    let given = allocate(&all, &facts(&["n1", "n2", "n3"]));
    assert_eq!(given.blocks.len(), 2);
    assert!(given.findings.contains_key("n3"));
}

/// What can happen to a cluster.
#[derive(Clone, Debug)]
enum Step {
    Come(u8),
    Go(u8),
    /// Gone, and its `NodeNetwork` not yet deleted.
    Linger(u8),
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_u8..24).prop_map(Step::Come),
        2 => (0_u8..24).prop_map(Step::Go),
        1 => (0_u8..24).prop_map(Step::Linger),
        1 => Just(Step::Forget),
    ];
    prop::collection::vec(step, 1..40)
}

fn take(facts: &mut Facts, step: &Step) {
    match step {
        Step::Come(n) => {
            facts.nodes.entry(NodeName(format!("n{n}"))).or_default();
        }
        Step::Go(n) => {
            facts.nodes.remove(format!("n{n}").as_str());
        }
        Step::Linger(n) => {
            let by = NodeName(format!("n{n}"));
            if let Some(node) = facts.nodes.remove(&by) {
                facts.held.push(HeldCidrs { by, cidrs: node.existing });
            }
        }
        Step::Forget => facts.held.clear(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocks_stay_disjoint_and_stable_whoever_comes_and_goes(steps in steps(), mask in 18_i64..22) {
        let intent = intent(
            Allocation::Allocate,
            &["10.244.0.0/16", "fd00:10:244::/56"],
            PerFamily { v4: Some(mask), v6: Some(64) },
        );
        let mut facts = Facts::default();
        for step in &steps {
            take(&mut facts, step);
            let given = allocate(&intent, &facts);
            for (name, node) in &facts.nodes {
                let has = given.blocks.get(name);
                prop_assert!(node.existing.is_empty() || has == Some(&node.existing), "{name} keeps what it has");
                prop_assert_eq!(has.is_none(), given.findings.contains_key(name));
            }
            let held = facts.held.iter().flat_map(|held| &held.cidrs);
            let all: Vec<&IpNet> = given.blocks.values().flatten().chain(held).collect();
            for (index, one) in all.iter().enumerate() {
                prop_assert!(all[..index].iter().all(|other| !overlap(one, other)), "{} is given twice", one);
            }
            publish(&mut facts, &given);
        }
    }

    #[test]
    fn the_order_in_which_things_are_listed_is_irrelevant(
        names in prop::collection::btree_set(0_u8..40, 1..20),
        seed in any::<u64>(),
    ) {
        let ordered: Vec<String> = names.iter().map(|n| format!("n{n}")).collect();
        let mut shuffled = ordered.clone();
        let rotate = usize::try_from(seed % 20).unwrap_or(0) % shuffled.len();
        shuffled.rotate_left(rotate);
        shuffled.reverse();
        let as_refs = |list: &[String]| facts(&list.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(allocate(&dual(), &as_refs(&ordered)), allocate(&dual(), &as_refs(&shuffled)));
    }

    #[test]
    fn a_range_gives_every_block_that_it_has(mask in 16_i64..20, extra in 1_usize..5) {
        let intent = intent(Allocation::Allocate, &["10.244.0.0/16"], PerFamily { v4: Some(mask), v6: None });
        let room = 1_usize << (mask - 16);
        let names: Vec<String> = (0..room + extra).map(|n| format!("n{n}")).collect();
        let given = allocate(&intent, &facts(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        prop_assert_eq!(given.blocks.len(), room);
        prop_assert_eq!(given.findings.len(), extra);
    }
}
