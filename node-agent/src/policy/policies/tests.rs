use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use towpath_kernel::testing::isolated;
use towpath_net::policy::bundle::{
    Allow, Direction, Isolation, Members, Peers, PodPolicy, Ports, Profile, ProfileId, SetId,
};
use towpath_net::policy::input::Key;
use towpath_net::ranges::Range;

use super::super::Inbox;
use super::*;

type Told = Receiver<Result<(), String>>;

fn receipt() -> (Receipt, Told) {
    let (tell, told) = channel();
    (Receipt::telling(move |answer| tell.send(answer).unwrap()), told)
}

/// Pod `a` may be reached from these, and from nowhere else.
fn bundle(ranges: &[(&str, &str)]) -> Bundle {
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let ranges = ranges.iter().map(|(first, last)| Range { first: address(first), last: address(last) });
    let ranges: Vec<Range> = ranges.collect();
    let number = ranges.len() as u64;
    let allows = vec![Allow { ports: Ports::Any, peers: Peers::In(vec![SetId(number)]) }];
    let isolated = Some(Isolation { policies: Vec::new(), allows });
    let ingress = Direction { isolated, ..Direction::default() };
    let id = ProfileId(number);
    let key = Key { namespace: "x".into(), name: "a".into() };
    Bundle {
        is_enforced: true,
        pods: BTreeMap::from([("a".into(), PodPolicy { key, profile: Some(id), is_policed: true })]),
        profiles: BTreeMap::from([(id, Profile { ingress, egress: Direction::default() })]),
        sets: BTreeMap::from([(SetId(number), Members::Ranges(ranges))]),
    }
}

/// Policies that are in force.
fn in_force(bundle: Bundle) -> Policies {
    let paths = Paths {
        state: "/run/towpath".into(),
        lasting: "/run/lasting".into(),
        state_on_node: "/run/towpath".into(),
        cni_conf: "/run/net.d".into(),
        cni_bin: "/run/bin".into(),
        cni_binary: "/run/binary".into(),
        sysctls: "/proc/sys/net".into(),
    };
    let (table, cutter) = (PolicyTable::open().unwrap(), Cutter::start(Inbox::new().unwrap()).unwrap());
    let kept = Kept::start(&paths).unwrap();
    let remembered = Some(Remembered { bundle, patience: Duration::ZERO });
    let mut policies = Policies::new(table, cutter, (Handle::default(), kept), &paths, remembered);
    let key = Key { namespace: "x".into(), name: "a".into() };
    let pod = Leased { key, addresses: vec!["10.0.0.2".parse().unwrap()], is_joining: false };
    policies.leases.insert("a".into(), pod);
    policies.recall();
    policies.compare();
    assert!(policies.is_settled());
    policies
}

/// Tries again, as if that were later.
fn retry(policies: &mut Policies) {
    policies.failed = policies.failed.and_then(|at| at.checked_sub(RETRY));
    policies.compare();
}

#[test]
fn what_the_kernel_goes_on_refusing_is_refused_with_its_reason_and_then_what_undoes_it_is_taken() {
    isolated(
        "policy::policies::tests::what_the_kernel_goes_on_refusing_is_refused_with_its_reason_and_then_what_undoes_it_is_taken",
        || {
            let good = bundle(&[("10.9.0.0", "10.9.0.255")]);
            // No set of the kernel takes both.
            let bad = bundle(&[("10.9.0.0", "10.9.0.255"), ("10.9.0.128", "10.9.1.255")]);
            let mut policies = in_force(good.clone());
            // What was told, and what comes of the next opening, of which nothing is new.
            for delta in [Delta::between(&good, &bad), Delta::default()] {
                let (receipt, told) = receipt();
                policies.hear(vec![(delta, receipt)]);
                policies.compare();
                assert!(!policies.is_settled() && told.try_recv().is_err(), "it may pass");
                retry(&mut policies);
                let reason = told.try_recv().unwrap().unwrap_err();
                assert!(reason.contains("File exists") || reason.contains("not empty"), "{reason}");
                assert_eq!((policies.is_settled(), policies.digests()), (false, Digests::of(&bad)));
            }
            let (receipt, told) = receipt();
            policies.hear(vec![(Delta::between(&bad, &good), receipt)]);
            assert_eq!((policies.is_settled(), told.try_recv()), (true, Ok(Ok(()))));
        },
    );
}
