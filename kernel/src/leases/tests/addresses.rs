//! Several blocks, addresses that rest, pods that wait, and addresses that pods ask for.

use std::thread;

use towpath_net::usage::BlockUsage;

use super::*;

const LONG: Duration = Duration::from_secs(20);

fn refusal(fixture: &Fixture, asked: &str) -> String {
    fixture.create_with("z", &Extra { asked: &[asked], ..Extra::default() }).unwrap_err().to_string()
}

#[test]
fn all_blocks_of_a_family_are_used_but_for_those_that_drain_and_what_is_reserved() {
    let mut fixture = Fixture::new(&["10.244.1.0/30", "fd00::/64", "10.244.2.0/29", "10.244.3.0/29"]);
    fixture.change(|node| {
        node.addressing.draining = nets(&["10.244.2.0/29"]);
        node.addressing.reserved = nets(&["10.244.3.3/32", "fd00::/120"]);
    });
    let given: Vec<Vec<String>> = (0..4).map(|n| addresses(&fixture.create(&format!("c{n}")).unwrap())).collect();
    let v4: Vec<&str> = given.iter().map(|pair| pair[0].as_str()).collect();
    assert_eq!(v4, ["10.244.1.2/30", "10.244.3.2/29", "10.244.3.4/29", "10.244.3.5/29"]);
    assert_eq!(given[0][1], "fd00::100/64");
    fixture.create("c4").unwrap();
    let refused = fixture.create("c5").unwrap_err().to_string();
    assert!(refused.contains("10.244.1.0/30, 10.244.2.0/29, 10.244.3.0/29 are taken"), "{refused}");
    assert!(!refused.contains("fd00"), "{refused}");
    let held = fixture.store().hold(&id("c2")).unwrap().unwrap();
    assert_eq!(held.lease.addresses[0].gateway, ip("10.244.3.1"));
}

#[test]
fn pods_with_a_gateway_that_is_the_same_everywhere_have_the_first_address_and_no_subnet() {
    let mut fixture = Fixture::new(&["10.244.205.192/26", "fd00::/122"]);
    fixture.change(|node| node.attachment = Attachment::LinkLocal);
    let held = fixture.create("a").unwrap();
    assert_eq!(addresses(&held), ["10.244.205.193/32", "fd00::1/128"]);
    let gateways: Vec<_> = held.lease.addresses.iter().map(|leased| leased.gateway).collect();
    assert_eq!(gateways, [ip("169.254.1.1"), ip("fe80::1")]);
    assert_eq!(held.lease.mode, Attachment::LinkLocal);
    assert!(refusal(&fixture, "10.244.205.192").contains("network address"));
    assert!(refusal(&fixture, "10.244.205.193").contains("taken by"));
    let usage = fixture.store().usage(&fixture.node.pod_cidrs, fixture.node.attachment, &Addressing::default());
    let counts: Vec<_> = usage.unwrap().iter().map(|u| (u.capacity, u.free)).collect();
    assert_eq!(counts, [(62, 61), (63, 62)]);
}

#[test]
fn no_pod_gets_the_gateway_of_pods_that_were_attached_before_and_none_has_a_pod_for_its_gateway() {
    let mut fixture = Fixture::new(&["10.244.1.0/29"]);
    drop(fixture.create("routed").unwrap());
    fixture.change(|node| node.attachment = Attachment::LinkLocal);
    assert_eq!(addresses(&fixture.create("a").unwrap()), ["10.244.1.3/32"]);
    assert!(refusal(&fixture, "10.244.1.1").contains("gateway"));
    fixture.store().hold(&id("routed")).unwrap().unwrap().release().unwrap();
    for (container, address) in [("b", "4"), ("c", "5"), ("d", "6"), ("e", "1")] {
        assert_eq!(addresses(&fixture.create(container).unwrap()), [format!("10.244.1.{address}/32")]);
    }
    for mode in [Attachment::Routed, Attachment::Bridge] {
        fixture.change(|node| node.attachment = mode);
        let held = fixture.create("late").unwrap();
        let gateway = held.lease.addresses[0].gateway;
        assert_eq!((gateway, held.lease.mode), (ip("169.254.1.1"), Attachment::Routed), "{mode}");
        assert_eq!(addresses(&held), ["10.244.1.2/29"]);
        held.discard().unwrap();
    }
    fixture.store().hold(&id("e")).unwrap().unwrap().release().unwrap();
    let held = fixture.create("later").unwrap();
    assert_eq!((held.lease.addresses[0].gateway, held.lease.mode), (ip("10.244.1.1"), Attachment::Bridge));
}

#[test]
fn a_pod_gets_addresses_of_all_families_or_none() {
    let fixture = Fixture::new(&["10.244.1.0/24", "fd00::/126"]);
    drop(fixture.create("a").unwrap());
    drop(fixture.create("b").unwrap());
    assert!(fixture.create("c").is_err());
    assert_eq!(fixture.names(), ["10.244.1.2", "10.244.1.3", "a:eth0", "b:eth0", "fd00::2", "fd00::3"]);
}

#[test]
fn a_freed_address_rests_and_one_that_was_never_used_does_not() {
    let mut fixture = Fixture::new(&["10.244.1.0/29"]);
    fixture.change(|node| node.quarantine = 1000);
    fixture.create("a").unwrap().release().unwrap();
    fixture.create("b").unwrap().discard().unwrap();
    for container in ["c", "d", "e"] {
        drop(fixture.create(container).unwrap());
    }
    assert_eq!(addresses(&fixture.create("f").unwrap()), ["10.244.1.3/29"]);
    let refused = fixture.create("g").unwrap_err().to_string();
    assert!(refused.contains("were freed just now: the next is given in 1000 s"), "{refused}");
    fixture.store().vacancy().unwrap();
    fixture.store().tidy(|_| false).unwrap();
    fixture.age("10.244.1.2", Duration::from_secs(999));
    assert!(fixture.create("g").is_err());
    fixture.age("10.244.1.2", Duration::from_secs(1000));
    assert_eq!(addresses(&fixture.create("g").unwrap()), ["10.244.1.2/29"]);
}

#[test]
fn an_address_freed_in_the_future_counts_as_freed_now() {
    let mut fixture = Fixture::new(&["10.244.1.0/30"]);
    fixture.change(|node| node.quarantine = 1000);
    fixture.create("a").unwrap().release().unwrap();
    let freed = fixture.store().freed().join("10.244.1.2");
    freed::stamp(&freed, Duration::from_secs(u32::MAX.into())).unwrap();
    let refused = fixture.create("b").unwrap_err().to_string();
    assert!(refused.contains("given in 1000 s") || refused.contains("given in 1001 s"), "{refused}");
    assert!(freed::age(&freed).unwrap().unwrap() < LONG);
}

#[test]
fn a_pod_waits_for_an_address_that_rests_almost_long_enough() {
    let mut fixture = Fixture::new(&["10.244.1.0/30", "fd00::/64"]);
    fixture.change(|node| node.quarantine = 1000);
    fixture.create("a").unwrap().release().unwrap();
    fixture.age("10.244.1.2", Duration::from_millis(999_900));
    let held = fixture.create_with("b", &Extra { patience: LONG, ..Extra::default() }).unwrap();
    assert_eq!(addresses(&held)[0], "10.244.1.2/30");
    assert_eq!(fixture.store().waiting().unwrap(), PerFamily::default());
}

#[test]
fn a_pod_waits_for_another_block_and_the_agent_sees_it_wait() {
    let mut fixture = Fixture::new(&["10.244.1.0/30", "fd00::/64"]);
    fixture.change(|node| node.addressing.growing = true);
    drop(fixture.create("a").unwrap());
    let store = fixture.store();
    store.vacancy().unwrap();
    let patient = Extra { patience: LONG, ..Extra::default() };
    let given = Mutex::new(BTreeSet::new());
    thread::scope(|scope| {
        for number in 0..4 {
            let (store, given) = (fixture.store(), &given);
            let request = request(&format!("w{number}"), &patient);
            scope.spawn(move || {
                let held = store.create(&request).unwrap();
                given.lock().unwrap().insert(addresses(&held)[0].clone());
            });
        }
        let end = Instant::now() + LONG;
        while store.waiting().unwrap() != (PerFamily { v4: 4, v6: 0 }) {
            assert!(Instant::now() < end, "{:?}", store.waiting());
            thread::yield_now();
        }
        fixture.change(|node| node.pod_cidrs.extend(nets(&["10.244.9.0/29"])));
    });
    let given = given.into_inner().unwrap();
    let expected = ["10.244.9.2/29", "10.244.9.3/29", "10.244.9.4/29", "10.244.9.5/29"];
    assert_eq!(given, expected.map(str::to_owned).into());
    assert_eq!(store.waiting().unwrap(), PerFamily::default());
    assert_eq!(fs::read_dir(store.waiters()).unwrap().count(), 0);
}

#[test]
fn a_wait_in_vain_says_what_it_waited_for() {
    let mut fixture = Fixture::new(&["10.244.1.0/30"]);
    fixture.change(|node| node.addressing.growing = true);
    drop(fixture.create("a").unwrap());
    let patience = Duration::from_millis(30);
    let refused = fixture.create_with("b", &Extra { patience, ..Extra::default() }).unwrap_err().to_string();
    assert!(refused.contains("10.244.1.0/30 are taken on this node, and it was given no further block"), "{refused}");
    assert_eq!(fixture.names(), ["10.244.1.2", "a:eth0"]);
}

#[test]
fn a_process_that_died_while_it_waited_is_not_counted_and_tidied() {
    let fixture = Fixture::new(&["10.244.1.0/30"]);
    let store = fixture.store();
    store.make_folders().unwrap();
    fs::write(store.waiters().join("dead:eth0"), "IPv4\n").unwrap();
    assert_eq!(store.waiting().unwrap(), PerFamily::default());
    store.tidy(|_| false).unwrap();
    assert_eq!(fs::read_dir(store.waiters()).unwrap().count(), 0);
}

#[test]
fn a_pod_gets_the_address_that_it_asks_for_and_any_of_the_other_family() {
    let mut fixture = Fixture::new(&["10.244.1.0/24", "fd00::/64", "10.244.2.0/24"]);
    fixture.change(|node| {
        node.addressing.reserved = nets(&["10.244.2.0/28"]);
        node.quarantine = 1000;
    });
    let asking = |asked| Extra { asked, ..Extra::default() };
    let held = fixture.create_with("a", &asking(&["10.244.2.7"])).unwrap();
    assert_eq!(addresses(&held), ["10.244.2.7/24", "fd00::2/64"]);
    assert_eq!(held.lease.addresses[0].gateway, ip("10.244.2.1"));
    assert_eq!(
        refusal(&fixture, "10.244.2.7"),
        "the pod cannot have 10.244.2.7, the address that it asked for: it is taken by pod shop/a (a/eth0)"
    );
    held.release().unwrap();
    // To have it again at once is what is asked for; others go on where they were.
    let again = fixture.create_with("a", &asking(&["10.244.2.7", "fd00::77"])).unwrap();
    assert_eq!(addresses(&again), ["10.244.2.7/24", "fd00::77/64"]);
    assert_eq!(addresses(&fixture.create("b").unwrap()), ["10.244.1.2/24", "fd00::3/64"]);
}

#[test]
fn an_address_that_no_pod_can_have_is_refused_with_the_reason() {
    let mut fixture = Fixture::new(&["10.244.1.0/24", "10.244.2.0/24"]);
    fixture.change(|node| node.addressing.draining = nets(&["10.244.2.0/24"]));
    for (asked, reason) in [
        ("10.9.0.1", "this node's pods have addresses of 10.244.1.0/24, 10.244.2.0/24"),
        ("fd00::2", "pods of this node have no IPv6"),
        ("10.244.1.0", "it is the network address of 10.244.1.0/24"),
        ("10.244.1.1", "it is the gateway of 10.244.1.0/24"),
        ("10.244.1.255", "it is the broadcast address of 10.244.1.0/24"),
        ("10.244.2.7", "its block 10.244.2.0/24 is being taken from this node"),
    ] {
        let refused = refusal(&fixture, asked);
        assert!(refused.ends_with(reason), "{asked}: {refused}");
    }
    let used = Extra { asked: &["10.244.1.9"], in_use: &["10.244.1.9"], ..Extra::default() };
    let refused = fixture.create_with("z", &used).unwrap_err().to_string();
    assert!(refused.ends_with("a route of this node leads to it already"), "{refused}");
    assert!(fixture.names().is_empty());
}

#[test]
fn addresses_that_the_node_uses_are_passed_over() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let extra = Extra { in_use: &["10.244.1.2", "10.244.1.3"], ..Extra::default() };
    assert_eq!(addresses(&fixture.create_with("a", &extra).unwrap()), ["10.244.1.4/24"]);
}

#[test]
fn usage_tells_what_is_taken_rests_and_is_free() {
    let mut fixture = Fixture::new(&["10.244.1.0/29", "10.244.2.0/29"]);
    fixture.change(|node| node.quarantine = 1000);
    drop(fixture.create("a").unwrap());
    fixture.create("b").unwrap().release().unwrap();
    let store = fixture.store();
    let usage = || store.usage(&fixture.node.pod_cidrs, fixture.node.attachment, &fixture.node.addressing).unwrap();
    let shown = |u: &BlockUsage| (u.capacity, u.used, u.free, u.resting);
    assert_eq!(usage().iter().map(shown).collect::<Vec<_>>(), [(5, 1, 3, 1), (5, 0, 5, 0)]);
    fixture.age("10.244.1.3", Duration::from_secs(3000));
    store.tidy(|_| false).unwrap();
    assert_eq!(usage().iter().map(shown).collect::<Vec<_>>(), [(5, 1, 4, 0), (5, 0, 5, 0)]);
    assert_eq!(usage()[0].last_used.unwrap().as_secs(), 3000, "the last of a block is remembered");
    assert_eq!(usage()[1].last_used, None);
}

#[test]
fn a_block_is_drained_when_it_is_not_offered_and_nothing_of_it_is_taken_or_rests() {
    let mut fixture = Fixture::new(&["10.244.1.0/29", "10.244.2.0/29"]);
    let block: IpNet = "10.244.1.0/29".parse().unwrap();
    let drained = |fixture: &Fixture| fixture.store().drained(&block).unwrap();
    assert!(!drained(&fixture), "it is offered");
    let held = fixture.create("a").unwrap();
    fixture.change(|node| {
        node.addressing.draining = vec![block];
        node.quarantine = 1000;
    });
    assert!(!drained(&fixture), "a pod has an address of it");
    held.release().unwrap();
    assert!(!drained(&fixture), "an address of it rests");
    fixture.age("10.244.1.2", Duration::from_secs(1000));
    assert!(drained(&fixture));
    assert_eq!(addresses(&fixture.create("b").unwrap()), ["10.244.2.2/29"]);
    fixture.change(|node| node.pod_cidrs = nets(&["10.244.2.0/29"]));
    assert!(drained(&fixture));
}

#[test]
fn claims_that_a_complete_record_lost_are_put_back() {
    let fixture = Fixture::new(&["10.244.1.0/24", "fd00::/64"]);
    let mut held = fixture.create_with("a", &Extra { ports: &[("", 8080)], ..Extra::default() }).unwrap();
    held.advance(Phase::Ready).unwrap();
    let before = fixture.names();
    fixture.store().all_claims().unwrap().iter().for_each(|claim| fs::remove_file(claim).unwrap());
    fixture.store().tidy(|_| true).unwrap();
    assert_eq!(fixture.names(), before);
    held.release().unwrap();
    assert!(fixture.names().is_empty());
}

#[test]
fn a_lease_is_made_anew_once_and_takes_no_address_from_another() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    drop(fixture.create("a").unwrap());
    let leased = |address: &str| LeasedAddress { address: address.parse().unwrap(), gateway: ip("10.244.1.1") };
    let found = vec![leased("10.244.1.2/24"), leased("10.244.1.9/24")];
    let found = Lease { addresses: found, mtu: 1400, ..Lease::unknown(&id("lost")) };
    let held = fixture.store().adopt(found.clone()).unwrap().unwrap();
    assert_eq!((addresses(&held), held.lease.mtu), (vec!["10.244.1.9/24".to_owned()], 1400));
    assert!(fixture.store().adopt(found).unwrap().is_none());
    assert_eq!(fixture.names(), ["10.244.1.2", "10.244.1.9", "a:eth0", "lost:eth0"]);
}

#[test]
fn the_agents_file_that_is_missing_or_unusable_is_named() {
    let fixture = Fixture::new(&["10.244.1.0/24"]);
    let path = fixture.folder.path().join("node.json");
    fs::write(&path, r#"{"version": 7}"#).unwrap();
    let refused = fixture.create("a").unwrap_err().to_string();
    assert!(refused.contains("node.json is unusable: its format is 7, and this plugin reads 1"), "{refused}");
    fs::remove_file(&path).unwrap();
    assert!(matches!(fixture.create("a"), Err(Error::Node(NodeError::Missing(_)))));
    assert!(fixture.names().is_empty());
}
