//! A table that goes, or is made anew, goes piece by piece, and lets nothing through meanwhile that it should not.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair, Written};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::LeaseChanges;
use towpath_net::policy::bundle::{Delta, Direction};

use crate::bundles::{Case, allow, from_sets, isolated as isolation, tcp};
use crate::golden::listed;
use crate::node::{addresses_of, connects, inside, make, run, talks};

/// How many operations a transaction has at most.
const MOST: usize = 1024;
const TABLE: &str = "inet towpath-policy";

/// Pods of which each has rules of its own.
fn many(mut case: Case) -> Case {
    for number in 0..800_u16 {
        let [high, low] = number.to_be_bytes();
        let ports = (0..4).map(|more| allow(tcp(1000 + number + more), from_sets(&[u64::from(number)]))).collect();
        case = case
            .set(u64::from(number), &[&format!("10.7.{high}.{low}")])
            .profile(0x1_0000 + u64::from(number), isolation(&["x/y"], ports), Direction::default())
            .pod(&format!("many-{number}"), Some(0x1_0000 + u64::from(number)), &[&format!("10.8.{high}.{low}")]);
    }
    case
}

fn load(case: &Case) -> PolicyTable {
    let mut table = PolicyTable::open().unwrap();
    table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
    table
}

#[track_caller]
fn assert_short(written: Written) {
    assert!(written.transactions > 8 && written.largest <= MOST, "{written:?}");
}

#[test]
fn a_large_table_goes_in_many_short_transactions() {
    isolated("apart::a_large_table_goes_in_many_short_transactions", || {
        let case = many(Case::enforced());
        let mut table = load(&case);
        let before = listed();
        assert_short(table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap());
        assert_eq!(listed(), before);
        let off = Delta { is_enforced: Some(false), ..Delta::default() };
        assert_short(table.change(&case.bundle, &off, &LeaseChanges::new()).unwrap());
        assert!(!table.exists().unwrap());
        load(&case);
        assert_short(table.remove().unwrap());
        assert!(!table.exists().unwrap());
        // Whoever was stopped in the midst of it left a table that is taken for none of ours.
        load(&case);
        run(&format!("nft delete chain {TABLE} forward"));
        run(&format!("nft delete chain {TABLE} input"));
        let Repair::Rebuilt(written) = table.repair(&case.bundle, &case.leases).unwrap() else { panic!("not rebuilt") };
        assert_short(written);
        assert_eq!(listed(), before);
    });
}

#[test]
fn nothing_begins_that_is_forbidden_while_a_table_is_made_anew_and_what_began_goes_on() {
    isolated("apart::nothing_begins_that_is_forbidden_while_a_table_is_made_anew_and_what_began_goes_on", || {
        make(&["a", "b"]);
        let [own, _] = addresses_of("a");
        let addresses = |pod: &str| addresses_of(pod).map(|address| address.to_string());
        let ingress = isolation(&["x/y"], vec![allow(tcp(80), from_sets(&[5]))]);
        let [peer4, peer6] = addresses("b");
        let case = Case::enforced().set(5, &[&peer4, &peer6]).profile(1, ingress, Direction::default());
        let case = many(case.pod("a", Some(1), &addresses("a").each_ref().map(String::as_str)));
        let case = case.pod("b", None, &[&peer4, &peer6]).set(5, &[&peer4, &peer6]);
        let mut table = load(&case);
        let mut connection = connects("b", "a", SocketAddr::new(own, 80)).unwrap();
        let listener = inside("a", || UdpSocket::bind((own, 81)).unwrap());
        listener.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let flooder = inside("b", || UdpSocket::bind("0.0.0.0:0").unwrap());
        let (done, heard) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    _ = flooder.send_to(b"forbidden", (own, 81));
                    if listener.recv(&mut [0; 16]).is_ok() {
                        heard.store(true, Ordering::Relaxed);
                    }
                }
            });
            for _ in 0..3 {
                // Of the other family: what is asked of this one stays in force.
                run(&format!("nft flush chain {TABLE} denied-ingress-v6"));
                run(&format!("nft flush chain {TABLE} denied-egress-v6"));
                run(&format!("nft delete set {TABLE} self-v6"));
                let repaired = table.repair(&case.bundle, &case.leases).unwrap();
                assert!(matches!(repaired, Repair::Rebuilt(_)), "{repaired:?}");
                assert!(talks(&mut connection));
            }
            done.store(true, Ordering::Relaxed);
        });
        assert!(!heard.load(Ordering::Relaxed));
        // It is heard where there is no table: otherwise the above says nothing.
        table.remove().unwrap();
        listener.set_read_timeout(Some(crate::node::PATIENCE)).unwrap();
        flooder.send_to(b"let through", (own, 81)).unwrap();
        listener.recv(&mut [0; 16]).unwrap();
    });
}
