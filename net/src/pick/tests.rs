use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn nets(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|net| net.parse().unwrap()).collect()
}

fn pick_of(blocks: &[&str], reserved: &[&str], last: Option<&str>, taken: &[&str]) -> Option<IpAddr> {
    let taken: Vec<IpAddr> = taken.iter().map(|t| ip(t)).collect();
    next(&nets(blocks), Attachment::Routed, &nets(reserved), last.map(ip), |address| taken.contains(&address))
}

fn pick(block: &str, last: Option<&str>, taken: &[&str]) -> Option<IpAddr> {
    pick_of(&[block], &[], last, taken)
}

#[test]
fn the_first_pod_gets_the_second_address_after_the_networks_own() {
    assert_eq!(pick("10.244.1.0/24", None, &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("fd00:1::/64", None, &[]), Some(ip("fd00:1::2")));
    assert_eq!(gateway(&"10.244.1.0/24".parse().unwrap()), ip("10.244.1.1"));
    assert_eq!(gateway(&"fd00:1::/64".parse().unwrap()), ip("fd00:1::1"));
}

#[test]
fn an_address_just_freed_is_not_the_next_one() {
    assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &[]), Some(ip("10.244.1.6")));
    assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &["10.244.1.6", "10.244.1.7"]), Some(ip("10.244.1.8")));
}

#[test]
fn behind_the_end_it_begins_anew_and_leaves_out_the_broadcast_address() {
    assert_eq!(pick("10.244.1.0/24", Some("10.244.1.254"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("fd00::/126", Some("fd00::2"), &[]), Some(ip("fd00::3")));
    assert_eq!(pick("fd00::/126", Some("fd00::3"), &[]), Some(ip("fd00::2")));
}

#[test]
fn a_last_address_of_no_block_does_not_count() {
    assert_eq!(pick("10.244.1.0/24", Some("10.9.0.7"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("10.244.1.0/24", Some("fd00::7"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("10.244.1.0/24", Some("10.244.1.255"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("10.244.1.0/24", Some("10.244.1.0"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", Some("::"), &[]).unwrap().to_string().len(), 39);
}

#[test]
fn a_full_block_and_one_without_room_give_nothing() {
    assert_eq!(pick("10.244.1.0/30", None, &["10.244.1.2"]), None);
    assert_eq!(pick("10.244.1.0/31", None, &[]), None);
    assert_eq!(pick("fd00::/128", None, &[]), None);
    assert_eq!(pick("10.244.1.0/30", Some("10.244.1.2"), &[]), Some(ip("10.244.1.2")));
    assert_eq!(pick_of(&[], &[], None, &[]), None);
}

#[test]
fn every_block_is_gone_through_before_an_address_is_given_again() {
    let blocks = ["10.244.9.0/29", "10.244.1.0/30", "10.244.2.0/31", "10.244.3.0/29"];
    let mut last: Option<String> = Some("10.244.9.4".to_owned());
    let mut given = Vec::new();
    for _ in 0..12 {
        let next = pick_of(&blocks, &[], last.as_deref(), &["10.244.3.4"]).unwrap().to_string();
        given.push(next.trim_start_matches("10.244.").to_owned());
        last = Some(next);
    }
    let round = ["9.5", "9.6", "1.2", "3.2", "3.3", "3.5", "3.6", "9.2", "9.3", "9.4", "9.5", "9.6"];
    assert_eq!(given, round);
    let all = ["10.244.9.2", "10.244.9.3", "10.244.9.4", "10.244.9.6", "10.244.1.2"];
    assert_eq!(pick_of(&blocks[..2], &[], Some("10.244.9.5"), &all), Some(ip("10.244.9.5")));
}

#[test]
fn reserved_addresses_are_never_picked_and_passed_over_at_once() {
    let reserved = ["10.244.1.0/29", "10.244.1.12/32", "fd00::/65"];
    assert_eq!(pick_of(&["10.244.1.0/24"], &reserved, None, &[]), Some(ip("10.244.1.8")));
    assert_eq!(pick_of(&["10.244.1.0/24"], &reserved, Some("10.244.1.11"), &[]), Some(ip("10.244.1.13")));
    assert_eq!(pick_of(&["fd00::/64"], &reserved, None, &[]), Some(ip("fd00::8000:0:0:0")));
    assert_eq!(pick_of(&["fd00::/64"], &["::/0"], None, &[]), None);
}

#[test]
fn what_is_for_no_pod_has_a_role() {
    let role_in =
        |mode, block: &str, address| role(&block.parse().unwrap(), mode, ip(address)).map(|role| role.to_string());
    let role = |block, address| role_in(Attachment::Bridge, block, address);
    assert_eq!(role("10.244.1.0/24", "10.244.1.0").as_deref(), Some("network address"));
    assert_eq!(role("10.244.1.0/24", "10.244.1.1").as_deref(), Some("gateway"));
    assert_eq!(role("10.244.1.0/24", "10.244.1.255").as_deref(), Some("broadcast address"));
    assert_eq!(role("10.244.1.0/24", "10.244.1.2"), None);
    assert_eq!(role("fd00::/126", "fd00::3"), None);
    assert_eq!(role("fd00::/126", "fd00::").as_deref(), Some("network address"));
    let role = |block, address| role_in(Attachment::LinkLocal, block, address);
    assert_eq!(role("10.244.205.192/26", "10.244.205.193"), None);
    assert_eq!(role("10.244.205.192/26", "10.244.205.192").as_deref(), Some("network address"));
    assert_eq!(role("fd00::/126", "fd00::1"), None);
}

#[test]
fn without_a_gateway_in_the_block_the_first_pod_gets_the_first_address_after_the_networks_own() {
    let pick =
        |block: &str, last: Option<&str>| next(&nets(&[block]), Attachment::LinkLocal, &[], last.map(ip), |_| false);
    assert_eq!(pick("10.244.205.192/26", None), Some(ip("10.244.205.193")));
    assert_eq!(pick("10.244.205.192/26", Some("10.244.205.254")), Some(ip("10.244.205.193")));
    assert_eq!(pick("fd00::/122", None), Some(ip("fd00::1")));
    assert_eq!(pick("10.244.1.0/31", None), None);
}

fn a_mode() -> impl Strategy<Value = Attachment> {
    prop::sample::select(vec![Attachment::Routed, Attachment::LinkLocal, Attachment::Bridge])
}

proptest! {
    #[test]
    fn an_address_is_found_wherever_there_is_one_that_may_be_given(
        blocks in prop::collection::vec((0u8..8, 26u8..=32), 1..5),
        reserved in prop::collection::vec((any::<u8>(), 27u8..=32), 0..4),
        taken in prop::collection::btree_set(any::<u8>(), 0..250),
        last in any::<u8>(),
        mode in a_mode(),
    ) {
        // Blocks of 10.244.0.0/24 that do not overlap, in any order.
        let mut seen = BTreeSet::new();
        let blocks = blocks.into_iter().filter(|(place, _)| seen.insert(*place));
        let net = |last: u8, length: u8| IpNet::new([10, 244, 0, last].into(), length).unwrap().trunc();
        let blocks: Vec<IpNet> = blocks.map(|(place, length)| net(place * 32, length.max(27))).collect();
        let reserved: Vec<IpNet> = reserved.into_iter().map(|(last, length)| net(last, length)).collect();
        let taken: BTreeSet<IpAddr> = taken.into_iter().map(|last| [10, 244, 0, last].into()).collect();
        let may_be_given = |address: &IpAddr| {
            let block = blocks.iter().find(|block| block.contains(address));
            block.is_some_and(|block| role(block, mode, *address).is_none())
                && !taken.contains(address)
                && !reserved.iter().any(|reserved| reserved.contains(address))
        };
        let all = || (0..=255u8).map(|last| IpAddr::from([10, 244, 0, last]));
        let found = next(&blocks, mode, &reserved, Some([10, 244, 0, last].into()), |address| taken.contains(&address));
        prop_assert_eq!(found.is_some(), all().any(|address| may_be_given(&address)));
        prop_assert!(found.is_none_or(|address| may_be_given(&address)), "{:?}", found);
    }

    #[test]
    fn an_address_given_is_not_given_again_before_every_other_free_one(
        blocks in prop::sample::subsequence(vec!["10.244.0.0/29", "10.244.1.0/30", "10.244.2.0/28"], 1..=3).prop_shuffle(),
        taken in prop::collection::btree_set(0u8..14, 0..10),
        mode in a_mode(),
    ) {
        let blocks = nets(&blocks);
        let taken: BTreeSet<IpAddr> = taken.into_iter().map(|last| [10, 244, 2, last].into()).collect();
        let mut last = None;
        let mut given = Vec::new();
        while let Some(address) = next(&blocks, mode, &[], last, |address| taken.contains(&address)) {
            if given.contains(&address) {
                prop_assert_eq!(given[0], address, "the round begins anew where it began");
                break;
            }
            given.push(address);
            last = Some(address);
        }
        let usable = blocks.iter().filter_map(|block| usable(block, mode)).map(|(first, end)| (first..=end).count()).sum::<usize>();
        let lost = taken.iter().filter(|address| {
            blocks.iter().any(|block| block.contains(*address) && role(block, mode, **address).is_none())
        });
        prop_assert_eq!(given.len(), usable - lost.count());
    }
}
