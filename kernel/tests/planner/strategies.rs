//! What a node may be wanted to have, and what it may have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::collection::{btree_map, btree_set};
use proptest::prelude::*;
use proptest::sample::select;
use towpath_net::Family;
use towpath_net::device::{Device, DeviceKind};
use towpath_net::mac::Mac;
use towpath_net::nft::build::{RuleBuilder, Side, nat_chain};
use towpath_net::nft::{Element, FieldType, Hook, Set, Table, Value};
use towpath_net::observed::{
    Address, Cipher, CipherPeer, Desired, Forwarding, Link, Neighbour, Nexthop, NexthopId, Observed, Route, Station,
    Sysctl, Target,
};
use towpath_net::transport::PublicKey;

const LINKS: [&str; 4] = ["tow000000000000", "tow000000000001", "tow000000000002", "tow00000000000f"];
const BRIDGE: &str = "towbr0";
const TUNNEL: &str = "towvxlan4";
const CIPHER: &str = "towwg0";
const SETTINGS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/towvxlan4/rp_filter"];

fn net() -> impl Strategy<Value = IpNet> {
    (0..6u8, any::<bool>()).prop_map(|(n, v6)| {
        let text = if v6 { format!("fd00:244:0:{n}::/64") } else { format!("10.244.{n}.0/24") };
        text.parse().unwrap()
    })
}

fn link_name() -> impl Strategy<Value = String> {
    select(&LINKS[..]).prop_map(str::to_owned)
}

/// A way to another node: its number is a function of the rest, unless somebody altered it.
fn way(node: u8, tunnel: bool, altered: bool) -> Nexthop {
    let link = if tunnel { TUNNEL } else { "eth0" }.into();
    let gateway = [172, 16, if altered { 99 } else { 30 }, node].into();
    let id = NexthopId(NexthopId::FIRST + u32::from(node) + if tunnel { 100 } else { 0 });
    Nexthop { id, gateway, link, on_link: tunnel, encapsulation: None }
}

fn target() -> impl Strategy<Value = Target> {
    prop_oneof![
        Just(Target::Blackhole),
        link_name().prop_map(|link| Target::Link { link: link.as_str().into() }),
        Just(Target::Link { link: CIPHER.into() }),
        (1..4u8, any::<bool>()).prop_map(|(node, tunnel)| Target::Via(way(node, tunnel, false))),
    ]
}

fn seen_target() -> impl Strategy<Value = Target> {
    prop_oneof![4 => target(), 1 => Just(Target::Other)]
}

fn link() -> impl Strategy<Value = Link> {
    let parts = (any::<bool>(), select(vec![1400u32, 1500]), any::<bool>());
    parts.prop_map(|(up, mtu, bridged)| Link { up, mtu, bridged })
}

fn mac() -> impl Strategy<Value = Mac> {
    (0..3u8).prop_map(|n| Mac([2, 0, 0, 0, 0, n]))
}

fn node() -> impl Strategy<Value = IpAddr> {
    (1..4u8).prop_map(|n| [172, 16, 30, n].into())
}

/// Any of a node's own links; which of them are there, and whether they are what they should be.
fn devices(wanted: bool) -> impl Strategy<Value = BTreeMap<String, Device>> {
    let one = (select(vec![BRIDGE, TUNNEL, CIPHER]), 0..4u32, mac(), select(vec![1400, 1450]), any::<bool>());
    proptest::collection::vec(one, 0..4).prop_map(move |all| {
        let made = all.into_iter().map(|(name, variant, mac, mtu, up)| {
            let kind = match (name, variant) {
                (_, 3) if !wanted => DeviceKind::Other,
                (BRIDGE, _) => DeviceKind::Bridge,
                (TUNNEL, _) => DeviceKind::Vxlan { vni: variant.min(1), port: 4789, local: [172, 16, 30, 3].into() },
                _ => DeviceKind::WireGuard,
            };
            (name.to_owned(), Device { kind, mac: (name != CIPHER).then_some(mac), mtu, up: up || wanted })
        });
        made.collect()
    })
}

fn address() -> impl Strategy<Value = Address> {
    let name = prop_oneof![link_name(), Just(TUNNEL.to_owned()), Just(BRIDGE.to_owned())];
    (name, 0..3u8).prop_map(|(link, n)| Address {
        link: link.as_str().into(),
        address: IpNet::from(IpAddr::from([10, 244, n, 1])),
    })
}

fn neighbours() -> impl Strategy<Value = BTreeMap<Neighbour, Mac>> {
    btree_map(node().prop_map(|address| Neighbour { link: TUNNEL.into(), address }), mac(), 0..4)
}

/// Entries of the tunnel, and of the ports of the bridge.
fn stations(wanted: bool) -> impl Strategy<Value = BTreeMap<Station, Forwarding>> {
    let spread = if wanted { 0..1u8 } else { 0..4u8 };
    let to = (node(), spread).prop_map(|(node, n)| if n < 3 { Forwarding::To(node) } else { Forwarding::Port });
    let tunnel = (mac().prop_map(|mac| Station { link: TUNNEL.into(), mac }), to);
    let port =
        (link_name(), mac()).prop_map(|(link, mac)| (Station { link: link.as_str().into(), mac }, Forwarding::Port));
    proptest::collection::vec(prop_oneof![tunnel, port], 0..5).prop_map(|all| all.into_iter().collect())
}

fn cipher() -> impl Strategy<Value = Cipher> {
    let key = || (0..3u8).prop_map(|n| PublicKey([n; 32]));
    let peers = btree_map(key(), proptest::option::of(0..3u16), 0..3);
    (proptest::option::of(key()), select(vec![51820u16, 51821]), peers).prop_map(|(public_key, port, peers)| Cipher {
        public_key,
        port: if public_key.is_some() { port } else { 0 },
        peers: peers
            .into_iter()
            .map(|(key, port)| {
                let endpoint = port.map(|port| (IpAddr::from([172, 16, 30, 4]), port).into());
                let allowed = BTreeSet::from([IpNet::from(IpAddr::from([10, 9, 0, key.0[0]]))]);
                (key, CipherPeer { endpoint, allowed })
            })
            .collect(),
    })
}

pub fn element() -> impl Strategy<Value = Element> {
    (1..8u16).prop_map(|port| Element::Key { key: vec![Value::Port(port)], data: Vec::new() })
}

pub fn table() -> impl Strategy<Value = Table> {
    let sets = btree_map(select(vec!["a".to_owned(), "b".to_owned()]), btree_set(element(), 0..6), 0..3);
    (sets, any::<bool>()).prop_map(|(sets, masquerades)| {
        let rule = RuleBuilder::new(Family::V4, "test").address_in(Side::Source, "a", false).masquerade().done();
        let rules = if masquerades { vec![rule] } else { Vec::new() };
        Table {
            flags: 0,
            sets: sets
                .into_iter()
                .map(|(name, elements)| (name, Set { elements, ..Set::new(&[FieldType::Port], &[]) }))
                .collect(),
            chains: BTreeMap::from([("postrouting".to_owned(), nat_chain(Hook::Postrouting, 100, rules))]),
        }
    })
}

pub fn settings() -> impl Strategy<Value = BTreeMap<Sysctl, String>> {
    btree_map(
        select(&SETTINGS[..]).prop_map(|key| Sysctl(key.to_owned())),
        select(vec!["0", "1"]).prop_map(str::to_owned),
        0..4,
    )
}

/// Settings of the node itself: those that it gets back when it is left.
pub fn own_settings() -> impl Strategy<Value = BTreeMap<Sysctl, String>> {
    settings().prop_map(|mut settings| {
        settings.retain(|key, _| key.link().is_none());
        settings
    })
}

/// What a node should have: all that is on a link only where the link is wanted as well.
pub fn desired() -> impl Strategy<Value = Desired> {
    let parts = (settings(), btree_map(link_name(), link(), 0..4), devices(true), btree_set(address(), 0..4));
    let more = (neighbours(), stations(true), cipher(), btree_map(net(), target(), 0..8));
    let table =
        (proptest::option::of(table()), btree_set((select(vec!["a".to_owned(), "b".to_owned()]), element()), 0..3));
    let all = (parts, more, table);
    all.prop_map(
        |((sysctls, mut links, devices, addresses), (neighbours, stations, cipher, routes), (table, tolerated))| {
            for link in links.values_mut() {
                link.bridged &= devices.contains_key(BRIDGE);
            }
            let has = |name: &str| links.contains_key(name) || devices.contains_key(name);
            let leads = |target: &Target| target.link().is_none_or(|link| link == "eth0" || has(link));
            let holds = |station: &Station| {
                devices.contains_key(&*station.link) || links.get(&*station.link).is_some_and(|link| link.bridged)
            };
            Desired {
                sysctls: sysctls.into_iter().filter(|(key, _)| key.link().is_none_or(has)).collect(),
                addresses: addresses.into_iter().filter(|address| has(&address.link)).collect(),
                neighbours: neighbours.into_iter().filter(|(neighbour, _)| has(&neighbour.link)).collect(),
                stations: stations.into_iter().filter(|(station, _)| holds(station)).collect(),
                ciphers: has(CIPHER).then(|| (CIPHER.to_owned(), cipher)).into_iter().collect(),
                routes: routes.into_iter().filter(|(_, target)| leads(target)).collect(),
                links,
                devices,
                table,
                tolerated,
                ..Desired::default()
            }
        },
    )
}

/// What a node has: whatever an earlier agent, a person or chance left there.
pub fn observed() -> impl Strategy<Value = Observed> {
    let parts = (settings(), btree_map(link_name(), link(), 0..5), devices(false), btree_set(address(), 0..5));
    let ways = btree_map((1..4u8, any::<bool>()), any::<bool>(), 0..5);
    let more = (neighbours(), stations(false), cipher(), btree_set((net(), seen_target()), 0..10), ways);
    let rest = (btree_set(net(), 0..3), proptest::option::of(table()));
    (parts, more, rest).prop_map(|((sysctls, links, devices, addresses), more, (foreign, table))| {
        let (neighbours, stations, cipher, routes, ways) = more;
        let ways = ways.into_iter().map(|((node, tunnel), altered)| way(node, tunnel, altered));
        possible(Observed {
            sysctls,
            links,
            devices,
            addresses,
            neighbours,
            stations,
            ciphers: BTreeMap::from([(CIPHER.to_owned(), cipher)]),
            nexthops: ways.map(|way| (way.id, way)).collect(),
            routes: routes.into_iter().map(|(destination, target)| Route { destination, target }).collect(),
            foreign_routes: foreign,
            table,
            ..Observed::default()
        })
    })
}

/// Less what no kernel has: nothing is on a link that is not there, and nothing leads to one that is down.
fn possible(mut state: Observed) -> Observed {
    let is_bridge = state.devices.get(BRIDGE).is_some_and(|device| device.kind == DeviceKind::Bridge);
    state.links.values_mut().for_each(|link| link.bridged &= is_bridge);
    let (links, devices) = (&state.links, &state.devices);
    let has = |name: &str| links.contains_key(name) || devices.contains_key(name);
    let is = |name: &str, kind: &DeviceKind| devices.get(name).is_some_and(|device| device.kind == *kind);
    let leads = |name: &str| name == "eth0" || links.contains_key(name) || devices.get(name).is_some_and(|d| d.up);
    let is_tunnel = devices.get(TUNNEL).is_some_and(|device| matches!(device.kind, DeviceKind::Vxlan { .. }));
    state.sysctls.retain(|key, _| key.link().is_none_or(has));
    state.addresses.retain(|address| has(&address.link));
    state.neighbours.retain(|neighbour, _| leads(&neighbour.link));
    state.stations.retain(|station, to| match station.link.as_str() {
        TUNNEL => is_tunnel,
        link => *to == Forwarding::Port && links.get(link).is_some_and(|link| link.bridged),
    });
    state.ciphers.retain(|name, _| is(name, &DeviceKind::WireGuard));
    state.nexthops.retain(|_, nexthop| leads(&nexthop.link));
    let nexthops = &state.nexthops;
    let routes = std::mem::take(&mut state.routes).into_iter().filter_map(|route| {
        let target = match route.target {
            Target::Via(way) => Target::Via(*nexthops.get(&way.id)?),
            Target::Link { link } => leads(&link).then_some(Target::Link { link })?,
            other => other,
        };
        Some(Route { target, ..route })
    });
    state.routes = routes.collect();
    state.foreign_routes.retain(|net| state.routes.iter().all(|route| route.destination != *net));
    state
}
