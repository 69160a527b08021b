//! What the kernel tells of packets that are denied.

use std::collections::BTreeSet;
use std::time::Instant;

use towpath_kernel::nflog::{Log, Told};
use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair};
use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{Direction, Peers, Ports};
use towpath_net::policy::input::Action;
use towpath_net::policy::objects::Way;
use towpath_net::policy::settings::LogDenied;
use towpath_net::policy::skeleton::{DENIED_GROUP, DENIED_LENGTH, Denial};

use crate::bundles::{Case, isolated as isolation, ordered, tcp};
use crate::golden::listed;
use crate::node::{PATIENCE, Packet, addresses_of, arrives, make};

/// Pod `a`, which nobody may reach; `b`, which nobody selects; and `c`, which is not known.
fn case() -> Case {
    let with = |case: Case, pod: &str, profile| {
        let addresses = addresses_of(pod).map(|address| address.to_string());
        case.pod(pod, profile, &addresses.each_ref().map(String::as_str))
    };
    let case = Case::enforced().profile(1, isolation(&["x/deny"], Vec::new()), Direction::default());
    with(with(case, "a", Some(1)), "b", None)
}

fn wait_for(log: &mut Log, is_all: impl Fn(&[Told]) -> bool) -> Vec<Told> {
    let (mut all, end) = (Vec::new(), Instant::now() + PATIENCE);
    while !is_all(&all) {
        assert!(Instant::now() < end, "{all:#?}");
        log.drain(|told| all.push(told)).unwrap();
        std::thread::yield_now();
    }
    all
}

#[test]
fn packets_that_are_denied_are_told_of_with_who_sends_what_to_whom() {
    isolated("log::packets_that_are_denied_are_told_of_with_who_sends_what_to_whom", || {
        make(&["a", "b", "c"]);
        let (mut table, case) = (PolicyTable::open().unwrap(), case());
        table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
        let without = listed();
        let mut log = Log::open(DENIED_GROUP, DENIED_LENGTH).unwrap();
        assert!(Log::open(DENIED_GROUP, DENIED_LENGTH).is_err(), "a second one listens");
        assert_eq!(table.log(LogDenied::Flows).unwrap().transactions, 1);
        assert_eq!(table.repair(&case.bundle, &case.leases).unwrap(), Repair::Nothing, "{}", listed());
        for to in addresses_of("a") {
            assert!(!arrives("b", "a", to, Packet::Udp(53)));
            assert!(!arrives("c", "a", to, Packet::Tcp(80)));
        }
        let seen = |all: &[Told]| -> BTreeSet<(bool, Way, bool, u8, Option<u16>)> {
            let one = |told: &Told| {
                let Denial { way, is_known } = Denial::of(&told.word)?;
                let packet = told.packet;
                let from = addresses_of(if is_known { "b" } else { "c" });
                // What else a pod sends by itself is no matter here.
                let is_ours = from.contains(&packet.source) && addresses_of("a").contains(&packet.destination);
                (is_ours && told.source_port.is_some()).then_some((
                    packet.source.is_ipv4(),
                    way,
                    is_known,
                    packet.protocol,
                    packet.port,
                ))
            };
            all.iter().filter_map(one).collect()
        };
        let wanted: BTreeSet<_> = [true, false]
            .into_iter()
            .flat_map(|v4| [(v4, Way::Ingress, true, 17, Some(53)), (v4, Way::Egress, false, 6, Some(80))])
            .collect();
        wait_for(&mut log, |all| seen(all) == wanted);
        assert_eq!(table.log(LogDenied::None).unwrap().transactions, 1);
        assert_eq!(listed(), without);
    });
}

#[test]
fn rules_of_cluster_network_policies_count_what_they_decide() {
    isolated("log::rules_of_cluster_network_policies_count_what_they_decide", || {
        make(&["a", "b"]);
        let admin = vec![
            ordered("let-80", Action::Accept, &[tcp(80)], Peers::Anyone),
            ordered("deny-rest", Action::Deny, &[Ports::Any], Peers::Anyone),
        ];
        let case = case().profile(1, Direction { admin, ..Direction::default() }, Direction::default());
        let mut table = PolicyTable::open().unwrap();
        table.load(&case.bundle, &case.leases, Meanwhile::Closed).unwrap();
        let [to, _] = addresses_of("a");
        assert!(arrives("b", "a", to, Packet::Tcp(80)));
        assert!(!arrives("b", "a", to, Packet::Udp(80)));
        let counts = table.rule_counts("ingress-v4-0000000000000001").unwrap();
        let all: Vec<(&str, bool, u64)> =
            counts.iter().map(|count| (count.policy.as_str(), count.passes, count.packets)).collect();
        assert_eq!(all, [("let-80", true, 1), ("deny-rest", false, 1)], "{}", listed());
        assert_eq!(table.rule_counts("nothing").unwrap(), []);
        let counted = table.counts().unwrap()[&to];
        assert_eq!((counted.ingress, counted.denied_ingress), (2, 1));
    });
}
