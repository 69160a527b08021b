//! Changes and repairs lead to what a load would have made.

use towpath_kernel::policy::{Error, Meanwhile, PolicyTable, Repair};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bind::LeaseChanges;
use towpath_net::policy::bundle::{Delta, Direction, Members, SetDelta, SetId};

use crate::bundles::{Case, address, allow, from_sets, isolated as isolation, representative, tcp};
use crate::golden::listed;
use crate::node::run;

fn load(case: &Case) -> PolicyTable {
    let mut table = PolicyTable::open().unwrap();
    table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
    table
}

/// What another agent would find.
#[track_caller]
fn assert_right(case: &Case, what: &str) {
    let found = PolicyTable::open().unwrap().repair(&case.bundle, &case.leases).unwrap();
    assert_eq!(found, Repair::Nothing, "{what}: {}", listed());
}

fn leases_between(from: &Case, to: &Case) -> LeaseChanges {
    let gone = from.leases.keys().filter(|uid| !to.leases.contains_key(*uid)).map(|uid| (uid.clone(), None));
    gone.chain(to.leases.iter().map(|(uid, addresses)| (uid.clone(), Some(addresses.clone())))).collect()
}

#[test]
fn every_case_leads_to_every_other_in_one_transaction_and_nothing_is_left_of_it() {
    isolated("changes::every_case_leads_to_every_other_in_one_transaction_and_nothing_is_left_of_it", || {
        let cases: Vec<_> =
            representative().into_iter().enumerate().map(|(at, (name, case))| (name, case.renumbered(at))).collect();
        for (from_name, from) in &cases {
            for (to_name, to) in &cases {
                let mut table = load(from);
                assert_right(from, from_name);
                let delta = Delta::between(&from.bundle, &to.bundle);
                let written = table.change(&from.bundle, &delta, &leases_between(from, to)).unwrap();
                assert!(written.transactions <= 1, "{from_name} to {to_name}: {written:?}");
                assert_eq!(from_name == to_name, written.transactions == 0);
                assert_right(to, &format!("{from_name} to {to_name}"));
            }
        }
    });
}

#[test]
fn whatever_somebody_does_to_the_table_is_undone_and_nothing_else_is_touched() {
    isolated("changes::whatever_somebody_does_to_the_table_is_undone_and_nothing_else_is_touched", || {
        let cases = representative();
        let case = &cases["two-pods-of-one-profile"];
        let mut table = load(case);
        let before = listed();
        let t = "inet towpath-policy";
        let tampering = [
            format!("nft flush chain {t} from-v4-f2077e4d00000001"),
            format!("nft add rule {t} ingress-v4-0123456789abcdef accept"),
            format!("nft insert rule {t} from-pod accept"),
            format!("nft flush set {t} peers-v4"),
            format!("nft add element {t} peers-v4 {{ 0xf2077e4d . 0x1 . 10.9.9.9 }}"),
            format!("nft delete element {t} ingress-v4 {{ 10.0.0.2 }}"),
            format!("nft add element {t} ingress-v4 {{ 10.0.0.77 : return }}"),
            format!("nft delete element {t} ingress-v4-0123456789abcdef {{ tcp . 80 }}"),
            format!("nft add set {t} strange {{ type ipv4_addr ; }}"),
            format!("nft add chain {t} strange"),
            format!("nft add chain {t} hooked {{ type filter hook forward priority -10 ; }}"),
        ];
        for line in tampering {
            run(&line);
            let mended = table.repair(&case.bundle, &case.leases).unwrap();
            assert!(matches!(mended, Repair::Mended(written) if written.transactions == 1), "{line}: {mended:?}");
            assert_eq!(listed(), before, "{line}");
            assert_right(case, &line);
        }
        run(&format!("nft delete table {t}"));
        assert!(matches!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Rebuilt(_)));
        assert_right(case, "deleted");
        run(&format!("nft delete table {t}"));
        run(&format!("nft add table {t}"));
        assert!(matches!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Rebuilt(_)));
        assert_right(case, "emptied");
    });
}

#[test]
fn blocks_that_are_altered_are_put_right() {
    isolated("changes::blocks_that_are_altered_are_put_right", || {
        let cases = representative();
        let case = &cases["blocks-and-ranges"];
        load(case);
        let before = listed();
        run("nft add element inet towpath-policy blocks-v4-b10c5b1000000004 { 10.7.0.0/16 }");
        let mended = PolicyTable::open().unwrap().repair(&case.bundle, &case.leases).unwrap();
        assert!(matches!(mended, Repair::Mended(_)), "{mended:?}");
        assert_eq!(listed(), before);
    });
}

#[test]
fn what_is_large_goes_in_by_short_transactions() {
    isolated("changes::what_is_large_goes_in_by_short_transactions", || {
        let before = Case::enforced().pod("a", None, &["10.0.0.2"]);
        let mut after = Case::enforced().pod("a", Some(1), &["10.0.0.2"]);
        let ingress = isolation(&["x/y"], vec![allow(tcp(80), from_sets(&[7]))]);
        after = after.profile(1, ingress, Direction::default());
        let members = (0..20_000_u32).map(|at| std::net::Ipv4Addr::from_bits(0x0b00_0000 + at).into()).collect();
        after.bundle.sets.insert(SetId(7), Members::Addresses(members));
        let mut table = load(&before);
        let delta = Delta::between(&before.bundle, &after.bundle);
        let written = table.change(&before.bundle, &delta, &LeaseChanges::new()).unwrap();
        assert!(written.largest < 1500 && written.transactions > 20, "{written:?}");
        assert_right(&after, "many members");
        let delta = Delta::between(&after.bundle, &before.bundle);
        let written = table.change(&after.bundle, &delta, &LeaseChanges::new()).unwrap();
        assert!(written.largest < 1500, "{written:?}");
        assert_right(&before, "no members");
    });
}

#[test]
fn a_change_that_does_not_fit_is_an_error_and_a_repair_leads_out_of_it() {
    isolated("changes::a_change_that_does_not_fit_is_an_error_and_a_repair_leads_out_of_it", || {
        let cases = representative();
        let case = &cases["frontend-and-dns"];
        let mut table = load(case);
        let none = LeaseChanges::new();
        let set = *case.bundle.sets.keys().next().unwrap();
        let gone = Delta { sets: [(set, SetDelta::Gone)].into(), ..Delta::default() };
        let error = table.change(&case.bundle, &gone, &none).unwrap_err();
        assert!(matches!(error, Error::Program(_)) && error.to_string().contains("still used"), "{error}");
        assert!(matches!(table.change(&case.bundle, &Delta::default(), &none), Err(Error::Unknown)));
        assert_eq!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing);
        // A member that is in the kernel already, by another's hand.
        run("nft add element inet towpath-policy peers-v4 { 0xf2077e4d . 0x1 . 10.9.9.9 }");
        let add = Members::Addresses([address("10.9.9.9")].into());
        let remove = Members::Addresses([address("10.0.1.5")].into());
        let delta =
            Delta { sets: [(SetId(0xf2077e4d00000001), SetDelta::Change { add, remove })].into(), ..Delta::default() };
        table.change(&case.bundle, &delta, &none).unwrap();
        run("nft delete element inet towpath-policy peers-v4 { 0xf2077e4d . 0x1 . 10.9.9.9 }");
        let mut after = case.bundle.clone();
        after.apply(delta).unwrap();
        let add = Members::Addresses([address("10.0.1.5")].into());
        let remove = Members::Addresses([address("10.9.9.9")].into());
        let back =
            Delta { sets: [(SetId(0xf2077e4d00000001), SetDelta::Change { add, remove })].into(), ..Delta::default() };
        let error = table.change(&after, &back, &none).unwrap_err();
        assert!(error.to_string().contains("f2077e4d00000001 in peers-v4 of table inet towpath-policy"), "{error}");
        assert!(matches!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Mended(_)));
        assert_right(case, "after errors");
    });
}
