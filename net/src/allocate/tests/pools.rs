//! Mode `Pools`, by examples.

use super::*;
use crate::facts::{Count, Report};
use crate::family::Family;
use crate::intent::{DraftPool, IpamMode, Selector};

/// A pool in one line: name, range, block size, and the zone that it is for, if any.
pub(super) fn pool(name: &str, cidr: &str, block_size: i64, zone: Option<&str>) -> DraftPool {
    let labels = zone.map(|zone| ("zone".to_owned(), zone.to_owned())).into_iter().collect();
    DraftPool {
        name: name.to_owned(),
        cidr: cidr.to_owned(),
        block_size,
        selector: Selector { labels, ..Selector::default() },
        ..DraftPool::default()
    }
}

pub(super) fn of_pools(pools: Vec<DraftPool>) -> Intent {
    validate(&draft(DraftIpam { mode: IpamMode::Pools, pools, ..DraftIpam::default() })).unwrap()
}

fn dual() -> Intent {
    of_pools(vec![pool("main", "10.244.0.0/22", 26, None), pool("main6", "fd00:10:244::/112", 122, None)])
}

/// A node that has these blocks, so many free addresses of IPv4, and pods that wait.
fn node(blocks: &[&str], free: u64, wanted: u64) -> NodeFacts {
    let mut node = NodeFacts { existing: nets(blocks), ..NodeFacts::default() };
    let capacity = 61 * u64::try_from(blocks.iter().filter(|b| !b.contains(':')).count()).unwrap();
    node.report = Report { current: true, ..Report::default() };
    *node.report.counts.get_mut(Family::V4) = Some(Count { capacity, free, wanted });
    *node.report.counts.get_mut(Family::V6) = Some(Count { capacity: 62, free: 60, wanted: 0 });
    node
}

fn with(list: Vec<(&str, NodeFacts)>) -> Facts {
    Facts { nodes: list.into_iter().map(|(name, node)| (name.into(), node)).collect(), ..Facts::default() }
}

const ONE: [&str; 2] = ["10.244.0.0/26", "fd00:10:244::/122"];
const TWO: [&str; 3] = ["10.244.0.0/26", "fd00:10:244::/122", "10.244.0.64/26"];

/// What is allocated to the only node `n1`.
fn given(intent: &Intent, node: NodeFacts) -> (Vec<IpNet>, Addressing) {
    let mut all = allocate(intent, &with(vec![("n1", node)]));
    (all.blocks.remove("n1").unwrap_or_default(), all.addressing.remove("n1").unwrap_or_default())
}

#[test]
fn a_new_node_gets_one_block_of_each_family_or_nothing() {
    let all = allocate(&dual(), &facts(&["n1", "n2"]));
    assert_eq!(all.blocks["n1"], nets(&["10.244.0.0/26", "fd00:10:244::/122"]));
    assert_eq!(all.blocks["n2"], nets(&["10.244.0.64/26", "fd00:10:244::40/122"]));
    assert_eq!(all.addressing["n1"].grace_seconds, Some(600));
    assert!(all.addressing["n1"].growing && all.addressing["n1"].draining.is_empty());
    let small = of_pools(vec![pool("main", "10.244.0.0/24", 26, None), pool("main6", "fd00::/122", 122, None)]);
    let all = allocate(&small, &facts(&["n1", "n2"]));
    assert_eq!(all.blocks.len(), 1);
    let said = all.findings["n2"][0].to_string();
    assert_eq!(
        said,
        r#"spec.ipam.pools "main6": no IPv6 block is left: all 1 are in use; add a pool to spec.ipam.pools, or remove Nodes that are no more"#
    );
}

#[test]
fn a_node_grows_before_it_is_empty_and_by_all_that_pods_wait_for() {
    let blocks = |node| given(&dual(), node).0.len();
    assert_eq!(blocks(node(&ONE, 16, 0)), 2, "a fourth of a block is free");
    assert_eq!(blocks(node(&ONE, 15, 0)), 3, "less is free");
    assert_eq!(blocks(node(&ONE, 0, 139)), 5, "139 and a fourth of a block more are 155: three blocks of 61");
    let mut told = node(&TWO, 0, 100);
    told.report.current = false;
    *told.report.counts.get_mut(Family::V4) = Some(Count { capacity: 61, free: 0, wanted: 40 });
    assert_eq!(given(&dual(), told).0, nets(&TWO), "what it was given since is enough");
}

#[test]
fn pools_are_tried_in_their_order_and_only_those_that_select_the_node() {
    let zones = of_pools(vec![
        pool("a", "10.1.0.0/26", 26, Some("a")),
        pool("b", "10.2.0.0/16", 26, Some("b")),
        pool("rest", "10.3.0.0/16", 26, None),
    ]);
    let in_zone =
        |zone: &str| NodeFacts { labels: [("zone".to_owned(), zone.to_owned())].into(), ..NodeFacts::default() };
    let facts = with(vec![("n1", in_zone("a")), ("n2", in_zone("a")), ("n3", in_zone("b")), ("n4", in_zone("c"))]);
    let all = allocate(&zones, &facts);
    let firsts: Vec<String> = all.blocks.values().map(|blocks| join(blocks)).collect();
    assert_eq!(firsts, ["10.1.0.0/26", "10.3.0.0/26", "10.2.0.0/26", "10.3.0.64/26"]);
}

#[test]
fn a_node_that_no_pool_selects_keeps_what_it_has_and_is_told_of_and_so_is_the_pool() {
    let nowhere = of_pools(vec![pool("main", "10.244.0.0/22", 26, Some("nowhere"))]);
    let all = allocate(&nowhere, &with(vec![("n1", node(&ONE, 60, 0)), ("n2", NodeFacts::default())]));
    assert_eq!(all.blocks["n1"], nets(&ONE));
    assert!(all.addressing["n1"].draining.is_empty() && !all.addressing["n1"].growing);
    assert!(!all.blocks.contains_key("n2"));
    let said = all.findings["n2"][0].to_string();
    assert!(said.starts_with("spec.ipam.pools: none that is enabled selects the node; add a pool"), "{said}");
    let said = all.remarks[0].to_string();
    assert!(said.starts_with(r#"spec.ipam.pools[0] "main": selects no node"#), "{said}");
}

#[test]
fn an_idle_block_drains_where_enough_stays_free_and_goes_once_it_is_drained() {
    let mut idle = node(&TWO, 61 + 31, 0);
    idle.report.idle = nets(&["10.244.0.64/26"]);
    assert_eq!(given(&dual(), idle.clone()).1.draining, [], "31 would be free: less than half a block");
    *idle.report.counts.get_mut(Family::V4) = Some(Count { capacity: 122, free: 61 + 32, wanted: 0 });
    assert_eq!(given(&dual(), idle.clone()).1.draining, nets(&["10.244.0.64/26"]));
    idle.report.idle = nets(&TWO);
    assert_eq!(given(&dual(), idle.clone()).1.draining, nets(&["10.244.0.64/26"]), "never the last of a family");
    idle.draining = nets(&["10.244.0.64/26"]);
    idle.report.drained = nets(&["10.244.0.64/26"]);
    *idle.report.counts.get_mut(Family::V4) = Some(Count { capacity: 61, free: 32, wanted: 0 });
    assert_eq!(
        given(&dual(), idle.clone()),
        (nets(&ONE), Addressing { draining: vec![], ..given(&dual(), idle.clone()).1 })
    );
    idle.report.current = false;
    assert_eq!(given(&dual(), idle).0, nets(&TWO), "the report is about another spec");
}

#[test]
fn a_short_node_takes_back_what_drains_rather_than_another_block() {
    let mut short = node(&TWO, 3, 0);
    short.draining = nets(&["10.244.0.64/26"]);
    let (blocks, addressing) = given(&dual(), short);
    assert_eq!((blocks, addressing.draining), (nets(&TWO), vec![]));
}

#[test]
fn a_block_that_was_taken_is_nobodys_until_its_node_has_seen_that() {
    let mut was = node(&ONE, 60, 0);
    was.report.current = false;
    was.report.drained = nets(&["10.244.0.64/26"]);
    let mut facts = with(vec![("n1", was), ("n2", NodeFacts::default())]);
    assert_eq!(allocate(&dual(), &facts).blocks["n2"][0], nets(&["10.244.0.128/26"])[0]);
    facts.nodes.get_mut("n1").unwrap().report.drained.clear();
    assert_eq!(allocate(&dual(), &facts).blocks["n2"][0], nets(&["10.244.0.64/26"])[0]);
}

#[test]
fn a_disabled_pool_drains_once_its_nodes_have_something_else() {
    let pools = |disabled| {
        let mut old = pool("old", "10.1.0.0/24", 26, None);
        old.disabled = disabled;
        vec![old, pool("new", "10.2.0.0/24", 26, None)]
    };
    let mut facts = with(vec![("n1", node(&["10.1.0.0/26"], 60, 0))]);
    let first = allocate(&of_pools(pools(true)), &facts);
    assert_eq!(first.blocks["n1"], nets(&["10.1.0.0/26", "10.2.0.0/26"]));
    assert_eq!(first.addressing["n1"].draining, []);
    facts.nodes.get_mut("n1").unwrap().existing = nets(&["10.1.0.0/26", "10.2.0.0/26"]);
    let second = allocate(&of_pools(pools(true)), &facts);
    assert_eq!(second.addressing["n1"].draining, nets(&["10.1.0.0/26"]));
    let only = of_pools(pools(true).drain(..1).collect());
    facts.nodes.get_mut("n1").unwrap().existing = nets(&["10.1.0.0/26"]);
    let none = allocate(&only, &facts);
    assert_eq!(none.addressing["n1"].draining, nets(&["10.1.0.0/26"]), "it was asked for");
    assert_eq!(none.findings["n1"][0].problem, Problem::NoPoolSelects);
}

#[test]
fn what_no_pool_cuts_any_more_is_replaced() {
    let other = of_pools(vec![pool("main", "10.244.0.0/16", 24, None), pool("main6", "fd00:10:244::/112", 122, None)]);
    let (blocks, addressing) = given(&other, node(&ONE, 60, 0));
    assert_eq!(blocks, nets(&["10.244.0.0/26", "fd00:10:244::/122", "10.244.1.0/24"]), "and not where the old one is");
    assert_eq!(addressing.draining, []);
}

#[test]
fn reserved_addresses_are_told_and_a_block_of_nothing_else_is_not_given() {
    let mut main = pool("main", "10.244.0.0/24", 26, None);
    main.reserved = ["10.244.0.0/26", "10.244.0.70"].map(str::to_owned).to_vec();
    let (blocks, addressing) = given(&of_pools(vec![main]), NodeFacts::default());
    assert_eq!(blocks, nets(&["10.244.0.64/26"]));
    assert_eq!(addressing.reserved, nets(&["10.244.0.70/32"]));
}

#[test]
fn a_node_has_so_many_blocks_and_no_more() {
    let many = of_pools(vec![pool("main", "10.0.0.0/16", 30, None)]);
    let blocks: Vec<IpNet> = (0..MOST_BLOCKS).map(|n| format!("10.0.0.{}/30", n * 4).parse().unwrap()).collect();
    let mut full = node(&[], 0, 1);
    full.existing = blocks;
    let all = allocate(&many, &with(vec![("n1", full)]));
    assert_eq!(all.blocks["n1"].len(), MOST_BLOCKS);
    assert_eq!(all.findings["n1"][0].problem, Problem::NodeFull { family: Family::V4, most: MOST_BLOCKS });
}

#[test]
fn who_has_nothing_comes_before_who_waits_and_who_waits_before_who_runs_short() {
    let last = of_pools(vec![pool("main", "10.244.0.0/24", 26, None)]);
    let three = |names: [&'static str; 3]| {
        let [short, waits, new] = names;
        with(vec![
            (short, node(&["10.244.0.0/26"], 1, 0)),
            (waits, node(&["10.244.0.64/26"], 0, 9)),
            (new, NodeFacts::default()),
        ])
    };
    for names in [["n1", "n2", "n3"], ["n3", "n2", "n1"]] {
        let all = allocate(&last, &three(names));
        let counts = names.map(|name| all.blocks[name].len());
        assert_eq!(counts, [1, 2, 1]);
    }
}

#[test]
fn a_pool_declared_over_the_address_of_a_running_node_is_told_of_and_takes_nothing_from_it() {
    let pools = vec![pool("main", "10.244.0.0/22", 26, None), pool("other", "172.30.0.0/24", 26, None)];
    let mut running = node(&["10.244.0.0/26"], 50, 0);
    running.addresses = vec!["172.30.0.11".parse().unwrap()];
    let all = allocate(&of_pools(pools), &with(vec![("n1", running)]));
    assert_eq!(all.blocks["n1"], nets(&["10.244.0.0/26"]));
    let problem = Problem::AddressOfPods { range: "172.30.0.0/24".parse().unwrap() };
    assert_eq!(all.findings["n1"].iter().map(|finding| &finding.problem).collect::<Vec<_>>(), [&problem]);
}
