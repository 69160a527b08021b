//! Things to say, of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use towpath_control::message::{Attached, FromAgent, Hello, Nonce, Purpose, Settled};
use towpath_control::update::{Holdings, State, Update};
use towpath_net::Family;
use towpath_net::lease::Protocol;
use towpath_net::policy::bundle::{
    AddressPort, Allow, Bundle, Delta, Direction, Isolation, Members, Ordered, Peers, PodPolicy, Ports, Profile,
    ProfileId, SetDelta, SetId,
};
use towpath_net::policy::digest::Digest;
use towpath_net::policy::input::{Action, Key};
use towpath_net::ranges::merge;
use towpath_net::state::{NodeName, Peer};
use towpath_net::transport::{Keys, PublicKey, Slot, Transport};

pub fn a_peer(number: u16) -> Peer {
    let [high, low] = number.to_be_bytes();
    Peer {
        addresses: vec![[192, 168, high, low].into(), "fd00::1".parse().unwrap()],
        pod_cidrs: vec![format!("10.{high}.{low}.0/24").parse().unwrap()],
        accepts: Transport::ALL.to_vec(),
        keys: None,
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-z]([a-z0-9-]{0,12}[a-z0-9])?"
}

fn node() -> impl Strategy<Value = NodeName> {
    (0..20_u8).prop_map(|number| NodeName(format!("n{number}")))
}

fn key() -> impl Strategy<Value = Key> {
    (name(), name()).prop_map(|(namespace, name)| Key { namespace, name })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    (any::<[u8; 4]>(), any::<[u8; 16]>(), 0..4_u8).prop_map(|(v4, v6, which)| {
        let both = [(1, IpAddr::from(v4)), (2, IpAddr::from(v6))];
        both.into_iter().filter(|(bit, _)| which & bit != 0).map(|(_, address)| address).collect()
    })
}

fn net() -> impl Strategy<Value = IpNet> {
    (address(), 0..=32_u8).prop_map(|(address, length)| IpNet::new(address, length).unwrap())
}

fn keys() -> impl Strategy<Value = Keys> {
    let public = || option::of(any::<[u8; 32]>().prop_map(PublicKey));
    (public(), public(), prop::sample::select(&Slot::ALL[..])).prop_map(|(first, second, active)| Keys {
        first,
        second,
        active,
    })
}

fn peer() -> impl Strategy<Value = Peer> {
    let accepts = prop::sample::subsequence(Transport::ALL.to_vec(), 0..=Transport::ALL.len());
    (addresses(), vec(net(), 0..3), accepts, option::of(keys()))
        .prop_map(|(addresses, pod_cidrs, accepts, keys)| Peer { addresses, pod_cidrs, accepts, keys })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop::sample::select(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp][..])
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![
        Just(Ports::Any),
        protocol().prop_map(Ports::All),
        (protocol(), any::<u16>(), any::<u16>()).prop_map(|(protocol, one, other)| Ports::Range(
            protocol,
            one.min(other),
            one.max(other)
        )),
        Just(Ports::OfPeer),
    ]
}

fn side() -> impl Strategy<Value = Peers> {
    prop_oneof![Just(Peers::Anyone), vec(any::<u64>().prop_map(SetId), 0..4).prop_map(Peers::In)]
}

fn ordered() -> impl Strategy<Value = Ordered> {
    let action = prop::sample::select(&[Action::Accept, Action::Deny, Action::Pass][..]);
    (name(), action, vec(ports(), 0..3), side()).prop_map(|(policy, action, ports, peers)| Ordered {
        policy,
        action,
        ports,
        peers,
    })
}

fn direction() -> impl Strategy<Value = Direction> {
    let allow = (ports(), side()).prop_map(|(ports, peers)| Allow { ports, peers });
    let isolation = (vec(key(), 0..3), vec(allow, 0..4)).prop_map(|(policies, allows)| Isolation { policies, allows });
    (vec(ordered(), 0..3), option::of(isolation), vec(ordered(), 0..3))
        .prop_map(|(admin, isolated, baseline)| Direction { admin, isolated, baseline })
}

fn profile() -> impl Strategy<Value = Profile> {
    (direction(), direction()).prop_map(|(ingress, egress)| Profile { ingress, egress })
}

fn pod() -> impl Strategy<Value = PodPolicy> {
    (key(), option::of(any::<u64>().prop_map(ProfileId)), any::<bool>())
        .prop_map(|(key, profile, is_policed)| PodPolicy { key, profile, is_policed })
}

fn address_port() -> impl Strategy<Value = AddressPort> {
    (address(), protocol(), any::<u16>()).prop_map(|(address, protocol, port)| AddressPort { address, protocol, port })
}

fn some_addresses() -> impl Strategy<Value = Members> {
    btree_set(address(), 0..20).prop_map(Members::Addresses)
}

fn some_ports() -> impl Strategy<Value = Members> {
    btree_set(address_port(), 0..20).prop_map(Members::Ports)
}

fn some_ranges() -> impl Strategy<Value = Members> {
    vec(net(), 0..5).prop_map(|nets| {
        let v4 = merge(Family::V4, &nets);
        let v6 = merge(Family::V6, &nets);
        Members::Ranges(v4.into_iter().chain(v6).collect())
    })
}

fn members() -> impl Strategy<Value = Members> {
    prop_oneof![some_addresses(), some_ports(), some_ranges()]
}

/// Who comes and who goes; nobody does both.
fn change() -> impl Strategy<Value = SetDelta> {
    fn apart<T: Ord + Clone>(add: &BTreeSet<T>, remove: BTreeSet<T>) -> BTreeSet<T> {
        remove.into_iter().filter(|member| !add.contains(member)).collect()
    }
    let of_addresses = (btree_set(address(), 0..9), btree_set(address(), 0..9)).prop_map(|(add, remove)| {
        let remove = Members::Addresses(apart(&add, remove));
        SetDelta::Change { add: Members::Addresses(add), remove }
    });
    let of_ports = (btree_set(address_port(), 0..9), btree_set(address_port(), 0..9)).prop_map(|(add, remove)| {
        let remove = Members::Ports(apart(&add, remove));
        SetDelta::Change { add: Members::Ports(add), remove }
    });
    prop_oneof![of_addresses, of_ports]
}

fn set_delta() -> impl Strategy<Value = SetDelta> {
    prop_oneof![members().prop_map(SetDelta::New), change(), Just(SetDelta::Gone)]
}

fn delta() -> impl Strategy<Value = Delta> {
    let sets = btree_map(any::<u64>().prop_map(SetId), set_delta(), 0..6);
    let profiles = btree_map(any::<u64>().prop_map(ProfileId), option::of(profile()), 0..4);
    (option::of(any::<bool>()), btree_map(name(), option::of(pod()), 0..6), profiles, sets)
        .prop_map(|(is_enforced, pods, profiles, sets)| Delta { is_enforced, pods, profiles, sets })
}

pub fn an_update() -> impl Strategy<Value = Update> {
    (btree_set(any::<u8>(), 0..9), btree_map(node(), option::of(peer()), 0..9), delta())
        .prop_map(|(buckets, peers, policy)| Update { buckets: buckets.into_iter().collect(), peers, policy })
}

/// Few different ones, so that two are alike now and then.
pub fn a_state() -> impl Strategy<Value = State> {
    let sets = btree_map((0..4_u64).prop_map(SetId), some_addresses(), 0..4);
    // A profile is named by its content.
    let profiles = btree_set(0..4_u64, 0..4)
        .prop_map(|ids| ids.into_iter().map(|id| (ProfileId(id), content(id))).collect::<BTreeMap<_, _>>());
    let pods = btree_map((0..4_u8).prop_map(|uid| format!("uid-{uid}")), pod(), 0..4);
    (btree_map(node(), (0..4_u16).prop_map(a_peer), 0..5), any::<bool>(), pods, profiles, sets).prop_map(
        |(peers, is_enforced, pods, profiles, sets)| State {
            peers,
            policy: Bundle { is_enforced, pods, profiles, sets },
        },
    )
}

fn content(id: u64) -> Profile {
    let allows = vec![Allow { ports: Ports::Any, peers: Peers::In(vec![SetId(id)]) }];
    let ingress = Direction { isolated: Some(Isolation { policies: Vec::new(), allows }), ..Direction::default() };
    Profile { ingress, egress: Direction::default() }
}

fn attached() -> impl Strategy<Value = Attached> {
    (
        name(),
        key(),
        // Of several attachments.
        vec(address(), 1..=8),
        any::<bool>(),
    )
        .prop_map(|(uid, key, addresses, is_waiting)| Attached { uid, key, addresses, is_waiting })
}

pub fn an_agent_says() -> impl Strategy<Value = FromAgent> {
    let hello = (node(), any::<u32>(), a_state(), vec(attached(), 0..4), any::<bool>()).prop_map(
        |(node, version, state, attached, follows)| {
            let purpose = if follows { Purpose::Follow } else { Purpose::Report };
            FromAgent::Hello(Box::new(Hello { node, version, holdings: Holdings::of(&state), attached, purpose }))
        },
    );
    prop_oneof![
        hello,
        any::<u64>().prop_map(|nonce| FromAgent::Ack(Nonce(nonce))),
        (any::<u64>(), "[a-z ]{1,40}").prop_map(|(nonce, reason)| FromAgent::Nack(Nonce(nonce), reason)),
        attached().prop_map(FromAgent::Attached),
        name().prop_map(FromAgent::Detached),
        (any::<u64>(), option::of("[a-z ]{1,40}"))
            .prop_map(|(pods, refusal)| FromAgent::Settled(Settled { pods: Digest(pods), refusal })),
        a_state().prop_map(|state| FromAgent::Holdings(Box::new(Holdings::of(&state)))),
    ]
}
