use std::net::Ipv4Addr;

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::lease::Protocol;
use crate::policy::bundle::{AddressPort, Delta, Isolation, PodPolicy};
use crate::policy::input::Key;
use crate::policy::program::Program;
use crate::ranges::Range;

const PODS: [&str; 3] = ["a", "b", "c"];
const SETS: u64 = 6;

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, last).into()
}

/// The addresses of pods, of which any may have any, and two that are elsewhere.
fn addresses() -> impl Iterator<Item = IpAddr> + Clone {
    (0..6).map(address)
}

fn some<T>(rng: &mut Rng, all: impl Iterator<Item = T>) -> Vec<T> {
    all.filter(|_| rng.bool()).collect()
}

/// Of a kind that follows from the set's name; so do all of its members where it holds networks.
fn members(rng: &mut Rng, id: SetId) -> Members {
    match id.0 % 3 {
        0 => Members::Addresses(some(rng, addresses()).into_iter().collect()),
        1 => {
            let ports = addresses()
                .flat_map(|address| [80, 81].map(|port| AddressPort { address, protocol: Protocol::Tcp, port }));
            Members::Ports(some(rng, ports).into_iter().collect())
        }
        _ => Members::Ranges(vec![Range { first: address(1), last: address(if id.0 == 2 { 2 } else { 4 }) }]),
    }
}

/// Rules that follow from a number.
fn direction_of(rng: &mut Rng, way: Way) -> Direction {
    let ports = |rng: &mut Rng| match rng.u8(0..4) {
        0 => Ports::Any,
        1 => Ports::All(Protocol::Tcp),
        2 => Ports::Range(Protocol::Tcp, 80, 80),
        _ => Ports::Range(Protocol::Udp, 80, 90),
    };
    let peers = |rng: &mut Rng| {
        let named: Vec<SetId> = some(rng, (0..SETS).map(SetId).filter(|id| id.0 % 3 != 1));
        if rng.u8(0..4) == 0 { Peers::Anyone } else { Peers::In(named) }
    };
    let allow = |rng: &mut Rng| {
        if way == Way::Egress && rng.u8(0..4) == 0 {
            Allow { ports: Ports::OfPeer, peers: Peers::In(vec![SetId(1)]) }
        } else {
            Allow { ports: ports(rng), peers: peers(rng) }
        }
    };
    let rules = |rng: &mut Rng| -> Vec<Ordered> {
        let action = |rng: &mut Rng| *rng.choice(&[Action::Accept, Action::Deny, Action::Pass]).unwrap();
        let count = if rng.bool() { 0 } else { rng.u8(0..3) };
        (0..count)
            .map(|at| Ordered {
                policy: at.to_string(),
                action: action(rng),
                ports: vec![ports(rng)],
                peers: peers(rng),
            })
            .collect()
    };
    let admin = rules(rng);
    if rng.bool() {
        let allows = (0..rng.u8(0..4)).map(|_| allow(rng)).collect();
        return Direction { admin, isolated: Some(Isolation { policies: Vec::new(), allows }), baseline: Vec::new() };
    }
    Direction { admin, isolated: None, baseline: rules(rng) }
}

fn profile_of(id: ProfileId) -> Profile {
    let mut rng = Rng::with_seed(id.0);
    Profile { ingress: direction_of(&mut rng, Way::Ingress), egress: direction_of(&mut rng, Way::Egress) }
}

/// One more state of a node, which has much in common with the one before.
fn next(rng: &mut Rng, bundle: &Bundle, leases: &Leases) -> (Bundle, Leases) {
    let (mut bundle, mut leases) = (bundle.clone(), leases.clone());
    for _ in 0..rng.u8(1..3) {
        let uid = (*rng.choice(PODS).unwrap()).to_owned();
        match rng.u8(0..8) {
            0 => bundle.is_enforced = !bundle.is_enforced,
            1 => _ = bundle.pods.remove(&uid),
            2 => _ = leases.remove(&uid),
            3 => {
                let taken: Vec<IpAddr> = leases.values().flatten().copied().collect();
                let free: Vec<IpAddr> = addresses().take(4).filter(|address| !taken.contains(address)).collect();
                if let Some(free) = rng.choice(free) {
                    leases.insert(uid, vec![free]);
                }
            }
            4 | 5 => {
                let id = SetId(rng.u64(0..SETS));
                let members = members(rng, id);
                bundle.sets.insert(id, members);
            }
            _ => {
                let profile = (rng.u8(0..4) > 0).then(|| ProfileId(rng.u64(0..40)));
                bundle.pods.insert(uid.clone(), pod(profile));
            }
        }
    }
    bundle.profiles = bundle.pods.values().filter_map(|pod| pod.profile).map(|id| (id, profile_of(id))).collect();
    (bundle, leases)
}

fn packets() -> impl Iterator<Item = Packet> {
    let ends = addresses().flat_map(|source| addresses().map(move |destination| (source, destination)));
    ends.flat_map(|(source, destination)| {
        [(6, Some(80)), (6, Some(81)), (17, Some(80)), (1, None)].map(|(protocol, port)| Packet {
            source,
            destination,
            protocol,
            port,
        })
    })
}

fn lease_changes(from: &Leases, to: &Leases) -> LeaseChanges {
    let gone = from.keys().filter(|uid| !to.contains_key(*uid)).map(|uid| (uid.clone(), None));
    let now = to.iter().filter(|(uid, addresses)| from.get(*uid) != Some(addresses));
    gone.chain(now.map(|(uid, addresses)| (uid.clone(), Some(addresses.clone())))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Connections begin wherever they may, at each step; a look at the end finds all that could not begin any more.
    #[test]
    fn exactly_what_is_forbidden_is_found_among_what_is_looked_at(seed in any::<u64>()) {
        let mut rng = Rng::with_seed(seed);
        let mut bundle = Bundle { is_enforced: rng.bool(), ..Bundle::default() };
        bundle.sets = (0..SETS).map(SetId).map(|id| (id, members(&mut rng, id))).collect();
        let mut leases = Leases::new();
        for _ in 0..4 {
            (bundle, leases) = next(&mut rng, &bundle, &leases);
        }
        let mut program = Program::of(&bundle, &leases).unwrap().0;
        let (mut suspicion, mut begun, mut gone) = (Suspicion::default(), BTreeSet::new(), BTreeSet::new());
        let mut strange = BTreeSet::new();
        for step in 0..=rng.u8(1..4) {
            if step > 0 {
                let (after, later) = next(&mut rng, &bundle, &leases);
                let (delta, changes) = (Delta::between(&bundle, &after), lease_changes(&leases, &later));
                let view = View { before: &bundle, delta: &delta };
                suspicion.change(view, program.bound(), &changes);
                gone.extend(program.bound().keys().copied().filter(|_| bundle.is_enforced));
                strange.extend(leases.values().flatten().copied());
                program.advance(view, &changes).unwrap();
                if !after.is_enforced {
                    gone.clear();
                }
                (bundle, leases) = (after, later);
            }
            // Who is not known is in no connection that begins.
            let ends: Suspects = leases.values().flatten().flat_map(|address| Way::ALL.map(|way| (*address, way))).collect();
            begun.extend(packets().filter(|packet| !is_forbidden(&bundle, program.bound(), &ends, packet)));
        }
        let suspects = suspicion.suspects(&bundle, program.bound(), &leases);
        let ends: Suspects = leases.values().flatten().chain(&gone).flat_map(|a| Way::ALL.map(|way| (*a, way))).collect();
        // Whose pods were never known, and are not any more: nothing of theirs ever began.
        let is_strange = |address| strange.contains(&address) && !ends.contains(&(address, Way::Egress));
        for packet in begun {
            if is_strange(packet.source) || is_strange(packet.destination) {
                continue;
            }
            let is_cut = concerns(&suspects, &packet) && is_forbidden(&bundle, program.bound(), &suspects, &packet);
            let is_to_end = is_forbidden(&bundle, program.bound(), &ends, &packet);
            prop_assert_eq!(is_cut, is_to_end, "{:?} {:?}", packet, suspects);
        }
    }
}

fn isolated(allows: &[(Ports, &[u64])]) -> Direction {
    let peers = |sets: &[u64]| Peers::In(sets.iter().copied().map(SetId).collect());
    let allows = allows.iter().map(|(ports, sets)| Allow { ports: *ports, peers: peers(sets) }).collect();
    Direction { isolated: Some(Isolation { policies: Vec::new(), allows }), ..Direction::default() }
}

/// A pod with this ingress, and sets of these addresses.
fn node(ingress: Direction, sets: &[(u64, &[u8])]) -> (Bundle, Leases) {
    let id = ProfileId(crate::policy::digest::Digest::of_pod(&format!("{ingress:?}"), &pod(None)).0);
    let members = |all: &[u8]| Members::Addresses(all.iter().copied().map(address).collect());
    let bundle = Bundle {
        is_enforced: true,
        pods: BTreeMap::from([("a".to_owned(), pod(Some(id)))]),
        profiles: BTreeMap::from([(id, Profile { ingress, egress: Direction::default() })]),
        sets: sets.iter().map(|(id, all)| (SetId(*id), members(all))).collect(),
    };
    (bundle, Leases::from([("a".to_owned(), vec![address(9)])]))
}

fn pod(profile: Option<ProfileId>) -> PodPolicy {
    PodPolicy { key: Key { namespace: "x".into(), name: "a".into() }, profile, is_policed: true }
}

fn suspects_between((before, leases): &(Bundle, Leases), (after, later): &(Bundle, Leases)) -> Suspects {
    let (delta, changes) = (Delta::between(before, after), lease_changes(leases, later));
    let mut program = Program::of(before, leases).unwrap().0;
    let view = View { before, delta: &delta };
    let mut suspicion = Suspicion::default();
    suspicion.change(view, program.bound(), &changes);
    program.advance(view, &changes).unwrap();
    suspicion.suspects(after, program.bound(), later)
}

#[test]
fn whoever_only_gains_is_not_looked_at() {
    let (tcp, udp) = (Ports::Range(Protocol::Tcp, 80, 80), Ports::Range(Protocol::Udp, 53, 53));
    let before = node(isolated(&[(tcp, &[0])]), &[(0, &[1, 2])]);
    let more: [(&str, (Bundle, Leases)); 6] = [
        ("a member", node(isolated(&[(tcp, &[0])]), &[(0, &[1, 2, 3])])),
        ("a port", node(isolated(&[(tcp, &[0]), (udp, &[0])]), &[(0, &[1, 2])])),
        ("a wider port", node(isolated(&[(Ports::All(Protocol::Tcp), &[0])]), &[(0, &[1, 2])])),
        ("one more set", node(isolated(&[(tcp, &[0, 3])]), &[(0, &[1, 2]), (3, &[4])])),
        ("a wider set", node(isolated(&[(tcp, &[3])]), &[(3, &[1, 2, 4])])),
        ("no policy", node(Direction::default(), &[])),
    ];
    for (what, after) in &more {
        assert_eq!(suspects_between(&before, after), Suspects::new(), "{what}");
        let lost = suspects_between(after, &before);
        assert_eq!(lost, Suspects::from([(address(9), Way::Ingress)]), "without {what}");
    }
}

#[test]
fn who_takes_the_address_of_another_finds_nothing_of_its_connections() {
    let before = node(isolated(&[(Ports::Any, &[0])]), &[(0, &[1])]);
    let mut after = before.clone();
    let policy = after.0.pods.remove("a").unwrap();
    after.0.pods.insert("b".into(), policy);
    let addresses = after.1.remove("a").unwrap();
    let nobody = after.clone();
    assert_eq!(suspects_between(&before, &nobody).len(), 2);
    after.1.insert("b".into(), addresses);
    assert!(suspects_between(&before, &after).contains(&(address(9), Way::Ingress)));
    assert!(suspects_between(&nobody, &after).contains(&(address(9), Way::Ingress)));
}
