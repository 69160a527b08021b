//! What is asked of pools, and which nodes they select.

use std::collections::BTreeMap;

use super::*;

fn pool(name: &str, cidr: &str, block_size: i64) -> DraftPool {
    DraftPool { name: name.to_owned(), cidr: cidr.to_owned(), block_size, ..DraftPool::default() }
}

fn pools() -> Draft {
    let pools = vec![pool("main", "10.244.0.0/16", 26), pool("main6", "fd00:10:244::/112", 122)];
    Draft { ipam: DraftIpam { mode: IpamMode::Pools, pools, ..DraftIpam::default() }, ..draft() }
}

#[test]
fn good_pools_keep_everything_that_was_written() {
    let mut written = pools();
    written.ipam.pools[0].reserved = texts(&["10.244.0.9", "10.244.1.0/24"]);
    written.ipam.block_grace_period = Some("1h30m".to_owned());
    let intent = validate(&written).unwrap();
    let Ipam::Pools { pools, grace } = &intent.ipam else { panic!("has pools") };
    assert_eq!((pools.iter().map(|p| p.range.blocks()).collect::<Vec<_>>(), *grace), (vec![1024, 1024], 5400));
    assert_eq!(join(&pools[0].reserved), "10.244.0.9/32,10.244.1.0/24");
    assert_eq!(join(&intent.pod_ranges()), "10.244.0.0/16,fd00:10:244::/112");
}

#[test]
fn each_wrong_field_of_a_pool_is_named_with_its_value_and_a_remedy() {
    let cases: [(Change, &str); 15] = [
        (|d| d.ipam.pools.clear(), "spec.ipam.pools: is missing: there are no addresses to give; give at least one"),
        (|d| d.ipam.allocation = Some(Allocation::Adopt), "spec.ipam.allocation: belongs to mode NodeCIDR"),
        (|d| d.ipam.pod_cidrs = texts(&["10.9.0.0/16"]), "spec.ipam.podCIDRs: belongs to mode NodeCIDR"),
        (|d| d.ipam.node_mask_size.v4 = Some(24), "spec.ipam.nodeMaskSize: belongs to mode NodeCIDR"),
        (|d| d.ipam.mode = IpamMode::NodeCidr, "spec.ipam.pools: belongs to mode Pools"),
        (|d| d.ipam.pools[1].name = "main".to_owned(), r#"pools[1].name "main": is the name of an earlier one"#),
        (|d| d.ipam.pools[1].name = "Main".to_owned(), "is not a name of small letters"),
        (|d| d.ipam.pools[1].cidr = "10.244.1.0/24".to_owned(), "overlaps 10.244.0.0/16 of spec.ipam.pools[0].cidr"),
        (|d| d.ipam.pools[0].cidr = "10.244.0.1/16".to_owned(), "write 10.244.0.0/16"),
        (
            |d| d.ipam.pools[0].block_size = 31,
            r#"pools[0].blockSize "31": does not fit the range 10.244.0.0/16: 16 to 30"#,
        ),
        (|d| d.ipam.pools[0].reserved = texts(&["10.245.0.1"]), "is not an address or CIDR of the pool 10.244.0.0/16"),
        (|d| d.ipam.block_grace_period = Some("0s".to_owned()), "is not a time from 1s to 168h; write one as in 10m"),
        (|d| d.service_cidrs = texts(&["10.244.128.0/20"]), "overlaps 10.244.0.0/16 of spec.ipam.pools[0].cidr"),
        (
            |d| drop(d.ipam.pools[0].selector.labels.insert("a b".to_owned(), String::new())),
            r#"nodeSelector.matchLabels "a b=": is no label"#,
        ),
        (
            |d| {
                let (key, values) = ("zone".to_owned(), Vec::new());
                d.ipam.pools[0].selector.expressions.push(Requirement { key, operator: Operator::In, values });
            },
            "nodeSelector.matchExpressions[0] \"zone\": has values where its operator takes none",
        ),
    ];
    for (change, expected) in cases {
        let mut bad = pools();
        change(&mut bad);
        let said = said(&bad);
        assert!(said.iter().any(|line| line.contains(expected)), "{expected:?} is not in {said:#?}");
    }
}

#[test]
fn a_selector_is_judged_as_kubernetes_judges_it() {
    let labels = |list: &[(&str, &str)]| -> BTreeMap<String, String> {
        list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let requirement = |operator, values: &[&str]| Selector {
        expressions: vec![Requirement { key: "zone".to_owned(), operator, values: texts(values) }],
        ..Selector::default()
    };
    let (here, nowhere) = (labels(&[("zone", "a")]), labels(&[]));
    let cases = [
        (Selector::default(), true, true),
        (Selector { labels: here.clone(), ..Selector::default() }, true, false),
        (requirement(Operator::In, &["a", "b"]), true, false),
        (requirement(Operator::NotIn, &["a"]), false, true),
        (requirement(Operator::Exists, &[]), true, false),
        (requirement(Operator::DoesNotExist, &[]), false, true),
    ];
    for (selector, with, without) in cases {
        assert_eq!((selector.selects(&here), selector.selects(&nowhere)), (with, without), "{selector:?}");
    }
    for (key, good) in
        [("zone", true), ("example.com/zone", true), ("Example.com/zone", false), ("-a", false), ("/a", false)]
    {
        assert_eq!(is_label_key(key), good, "{key}");
    }
}

#[test]
fn times_are_read_as_they_are_written() {
    for (text, expected) in [("10m", Some(600)), ("90s", Some(90)), ("1h30m", Some(5400)), ("168h", Some(604_800))] {
        assert_eq!(seconds(text), expected, "{text}");
    }
    for text in ["", "10", "m", "0s", "169h", "1.5h", "10 m", "9999999s", "1ä"] {
        assert_eq!(seconds(text), None, "{text}");
    }
}

#[test]
fn a_blocks_room_is_what_pods_find_without_asking() {
    let Ipam::Pools { pools, .. } = validate(&pools()).unwrap().ipam else { panic!("has pools") };
    let room = |pool: &BlockPool, block: &str, reserved: &[&str]| {
        let reserved = reserved.iter().map(|r| r.parse().unwrap()).collect();
        BlockPool { reserved, ..pool.clone() }.room(&block.parse().unwrap())
    };
    assert_eq!(room(&pools[0], "10.244.0.0/26", &[]), 61);
    assert_eq!(room(&pools[1], "fd00:10:244::/122", &[]), 62);
    assert_eq!(room(&pools[0], "10.244.0.0/30", &[]), 1);
    assert_eq!(room(&pools[0], "10.244.0.0/26", &["10.244.0.0/28", "10.244.0.9/32", "10.244.9.0/24"]), 61 - 14);
    assert_eq!(room(&pools[0], "10.244.0.0/26", &["10.244.0.0/24"]), 0);
    assert_eq!(room(&pools[1], "fd00::/8", &[]), u64::MAX);
}

#[test]
fn a_list_that_is_too_long_says_how_many_more_there_are() {
    let cidrs = ["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24"].map(|c| c.parse::<IpNet>().unwrap());
    assert_eq!(abridge(&cidrs, 35), "10.0.0.0/24,10.0.1.0/24,10.0.2.0/24");
    assert_eq!(abridge(&cidrs, 34), "10.0.0.0/24,10.0.1.0/24 and 1 more");
    assert_eq!(abridge(&cidrs, 25), "10.0.0.0/24 and 2 more");
    assert_eq!(abridge(&cidrs, 10), "and 3 more");
}
