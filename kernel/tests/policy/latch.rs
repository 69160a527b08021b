//! The latch keeps pods closed where somebody took the table of policies away.

use std::net::SocketAddr;
use std::process::Command;

use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::LeaseChanges;
use towpath_net::policy::bundle::{Delta, Direction};

use crate::bundles::{Case, allow, from_sets, isolated as isolation, tcp};
use crate::node::{Packet, addresses_of, arrives, connects, make, run, talks};

const LATCH: &str = "inet towpath-latch";

/// Pod `a` gets what `b` sends to one port, and nothing else; of `b` nothing is said.
fn case() -> Case {
    let addresses = |pod: &str| addresses_of(pod).map(|address| address.to_string());
    let (a, b) = (addresses("a"), addresses("b"));
    let [a, b] = [&a, &b].map(|all| all.each_ref().map(String::as_str));
    let ingress = isolation(&["x/y"], vec![allow(tcp(80), from_sets(&[5]))]);
    let case = Case::enforced().set(5, &b).profile(1, ingress, Direction::default());
    case.pod("a", Some(1), &a).pod("b", None, &b)
}

fn load(case: &Case, meanwhile: Meanwhile) -> PolicyTable {
    let mut table = PolicyTable::open().unwrap();
    table.load(&case.bundle, &case.leases, meanwhile).unwrap();
    table
}

fn is_there(table: &str) -> bool {
    run("nft list tables").lines().any(|line| line == format!("table {table}"))
}

/// Whether tables can belong to somebody, and outlive that: since Linux 6.9.
fn knows_owners() -> bool {
    let release = run("uname -r");
    let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (6, 9)
}

fn can_delete(table: &str) -> bool {
    Command::new("nft").args(["delete", "table"]).args(table.split(' ')).output().unwrap().status.success()
}

#[test]
fn nothing_begins_without_the_table_of_policies_and_what_began_goes_on() {
    isolated("latch::nothing_begins_without_the_table_of_policies_and_what_began_goes_on", || {
        make(&["a", "b"]);
        let case = case();
        for meanwhile in [Meanwhile::Open, Meanwhile::Closed] {
            let mut table = load(&case, meanwhile);
            let open: Vec<_> = addresses_of("a").map(|to| connects("b", "a", SocketAddr::new(to, 80)).unwrap()).into();
            run("nft delete table inet towpath-policy");
            for to in addresses_of("a") {
                for packet in [Packet::Tcp(80), Packet::Tcp(81), Packet::Udp(81), Packet::Bare(253), Packet::Echo] {
                    assert!(!arrives("b", "a", to, packet), "{packet:?} of b to a ({to})");
                }
            }
            assert!(!arrives("outside", "b", addresses_of("b")[0], Packet::Tcp(80)));
            for mut connection in open {
                assert!(talks(&mut connection));
            }
            // Neighbours are still found.
            run("ip neighbour flush all");
            run("ip -n a neighbour flush all");
            let repaired = table.repair(&case.bundle, &case.leases).unwrap();
            assert!(matches!(repaired, Repair::Rebuilt(_)), "{repaired:?}");
            for to in addresses_of("a") {
                assert!(arrives("b", "a", to, Packet::Tcp(80)) && !arrives("b", "a", to, Packet::Tcp(81)));
            }
            table.remove().unwrap();
        }
    });
}

#[test]
fn packets_keep_no_mark_but_those_that_others_gave_them() {
    isolated("latch::packets_keep_no_mark_but_those_that_others_gave_them", || {
        make(&["a", "b"]);
        let _table = load(&case(), Meanwhile::Closed);
        run("nft add table inet others");
        run("nft add chain inet others before { type filter hook prerouting priority 0 ; }");
        run("nft add rule inet others before meta mark set 0x4007");
        run("nft add chain inet others behind { type filter hook postrouting priority 0 ; }");
        run("nft add rule inet others behind oifname tow00000000000a meta mark 0x4007 counter");
        run("nft add rule inet others behind oifname tow00000000000a meta mark & 0x1000 != 0 counter");
        for to in addresses_of("a") {
            assert!(arrives("b", "a", to, Packet::Tcp(80)));
        }
        let counted = run("nft list chain inet others behind");
        let counts: Vec<&str> = counted.lines().filter(|line| line.contains("counter")).collect();
        assert!(!counts[0].contains("packets 0 ") && counts[1].contains("packets 0 "), "{counted}");
    });
}

#[test]
fn the_latch_belongs_to_who_made_it_and_outlives_it() {
    isolated("latch::the_latch_belongs_to_who_made_it_and_outlives_it", || {
        let (case, owned) = (case(), knows_owners());
        let mut table = load(&case, Meanwhile::Closed);
        assert_eq!(can_delete(LATCH), !owned);
        run("nft flush ruleset");
        assert!(is_there(LATCH) == owned && !is_there("inet towpath-policy"));
        assert!(matches!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Rebuilt(_)));
        drop(table);
        assert!(is_there(LATCH));
        // The next one takes it over.
        let mut next = PolicyTable::open().unwrap();
        assert_eq!(next.repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing);
        assert_eq!(can_delete(LATCH), !owned);
        next.repair(&case.bundle, &case.leases).unwrap();
        assert_eq!(next.repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing);
        drop(next);
        // Now anybody may.
        assert!(can_delete(LATCH));
        let mut last = PolicyTable::open().unwrap();
        assert!(matches!(last.repair(&case.bundle, &case.leases).unwrap(), Repair::Mended(_)));
        assert!(is_there(LATCH));
        let off = Delta { is_enforced: Some(false), ..Delta::default() };
        last.change(&case.bundle, &off, &LeaseChanges::new()).unwrap();
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
fn a_latch_that_was_altered_is_put_right() {
    isolated("latch::a_latch_that_was_altered_is_put_right", || {
        let case = case();
        drop(load(&case, Meanwhile::Closed));
        let right = run(&format!("nft -s list table {LATCH}"));
        for alteration in [
            format!("nft flush chain {LATCH} forward"),
            format!("nft insert rule {LATCH} input accept"),
            format!("nft add chain {LATCH} another"),
            format!("nft delete chain {LATCH} forward"),
        ] {
            run(&alteration);
            let mut table = PolicyTable::open().unwrap();
            assert!(matches!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Mended(_)), "{alteration}");
            assert_eq!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing);
            drop(table);
            assert_eq!(run(&format!("nft -s list table {LATCH}")), right, "{alteration}");
        }
    });
}
