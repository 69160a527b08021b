//! CHECK: whether an attachment is as ADD left it. What plugins behind us added is none of our business.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use towpath_kernel::address::{self, Address};
use towpath_kernel::leases::{Holder, Store};
use towpath_kernel::link::{self, Index, Kind, Link, Mac, port};
use towpath_kernel::neighbour::{self, Neighbour};
use towpath_kernel::netlink::{self, Protocol, Socket};
use towpath_kernel::netns::Namespace;
use towpath_kernel::nft::Nft;
use towpath_kernel::route::{self, Route};
use towpath_kernel::shaping::Direction;
use towpath_kernel::sysctl::{self, Sysctls};
use towpath_net::Family;
use towpath_net::lease::{Lease, Phase};
use towpath_net::observed::Sysctl;
use towpath_net::render::sender_elements;

use crate::add::enter;
use crate::config::Config;
use crate::environment::Place;
use crate::error::Error;
use crate::wire::{End, Known, Wiring};
use crate::{bandwidth, hostports};

/// Where something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the node.
    Node,
    /// In the pod.
    Pod,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "on the node",
            Self::Pod => "in the pod",
        })
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// ADD did not end.
    #[error("the lease is {0:?}, not complete")]
    Phase(Phase),
    /// The lease is of another namespace.
    #[error("the lease is of another network namespace ({0})")]
    Namespace(String),
    /// A link is not there.
    #[error("{0}: link {1} is missing")]
    LinkMissing(Side, String),
    /// A link is not the end of the pair.
    #[error("{0}: link {1} is not the end of the pod's pair")]
    NotThePair(Side, String),
    /// A link is down.
    #[error("{0}: link {1} is down")]
    LinkDown(Side, String),
    /// A link has another MTU.
    #[error("{side}: link {link} has MTU {found}, not {expected}")]
    Mtu {
        /// Where.
        side: Side,
        /// Its name.
        link: String,
        /// What it has, in bytes.
        found: u32,
        /// What it should have, in bytes.
        expected: u32,
    },
    /// A link has another Ethernet address.
    #[error("{0}: link {1} has not the Ethernet address {2}")]
    Mac(Side, String, Mac),
    /// An address is not there, or may not be used.
    #[error("{0}: address {1} is missing")]
    Address(Side, IpNet),
    /// The node's end is not a port of the bridge, or not as such ports are.
    #[error(
        "on the node: link {0} is no port of the bridge as those of pods are (hairpin, locked, neither learning nor flooded)"
    )]
    Port(String),
    /// The bridge does not have the pod behind its port.
    #[error("on the node: the bridge does not have {1} behind its port {0}: it takes no frame of the pod's")]
    Behind(String, Mac),
    /// An end answers for addresses of others where it should not, or the other way round.
    #[error("{0}: link {1} has proxy_arp {found}", found = u8::from(*.2))]
    Answers(Side, String, bool),
    /// A neighbour is believed to have another Ethernet address than it has.
    #[error("{0}: neighbour {1} is believed to be {2}, which it is not")]
    Neighbour(Side, IpAddr, Mac),
    /// An address is not the lease's.
    #[error("the lease has lost its address {0} ({holder})", holder = .1.as_ref().map_or_else(
        || "nobody has it now".to_owned(), |holder| format!("it is now that of {holder}")))]
    Owner(IpAddr, Option<Holder>),
    /// A route is not there.
    #[error("{0}: route {1} is missing")]
    Route(Side, String),
    /// A host port is not open.
    #[error("on the node: an element of set {0} is missing, so a host port does not lead to the pod")]
    HostPort(&'static str),
    /// Packets of the pod are taken for somebody else's.
    #[error("on the node: an element of set {0} is missing, so the pod's packets do not pass")]
    Sender(&'static str),
    /// The pod does not answer on the node's loopback.
    #[error("on the node: setting {0} is not 1, so the host ports on the loopback do not lead to the pod")]
    Loopback(Sysctl),
    /// A limit of the pod's traffic is not set as it was asked for.
    #[error("on the node: the limit of what {0} the pod is missing or another")]
    Bandwidth(Direction),
}

/// One side, as the kernel has it.
struct View {
    side: Side,
    link: Option<Link>,
    /// By which packets to the other side leave: the same, or the bridge.
    leaving: Option<Index>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

impl View {
    fn read(side: Side, socket: &mut Socket, name: &str, leaving: &str) -> Result<Self, netlink::Error> {
        let link = link::find(socket, name)?;
        let leaving = if leaving == name { link.clone() } else { link::find(socket, leaving)? };
        let leaving = leaving.map(|link| link.index);
        let (addresses, routes) = (address::list(socket)?, route::list(socket)?);
        Ok(Self { side, link, leaving, addresses, routes, neighbours: neighbour::list(socket)? })
    }
}

/// Compares an attachment with its lease.
pub fn check(place: &Place, config: &Config) -> Result<(), Error> {
    let previous = config.previous.as_ref().ok_or(Error::NoPreviousResult)?;
    let namespace = enter(place)?;
    let store = Store::below(&config.state);
    let held = store.hold(&place.attachment)?;
    let lease = held.ok_or_else(|| Error::NotAttached(place.attachment.clone()))?.lease;
    let mut differences = Vec::new();
    compare_lease(&store, &lease, &namespace, &mut differences);
    let mut node = Socket::open(Protocol::Route)?;
    let mut pod = namespace.socket(Protocol::Route)??;
    let outside = View::read(Side::Node, &mut node, &lease.host_interface, lease.node_link())?;
    let inside = View::read(Side::Pod, &mut pod, &lease.interface, &lease.interface)?;
    compare(&lease, previous, &[outside, inside], &mut differences);
    compare_settings(&mut node, &lease, &mut differences)?;
    compare_senders(&lease, &mut differences)?;
    differences.extend(hostports::check(&lease)?);
    differences.extend(bandwidth::check(&mut node, &lease)?);
    if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch(differences)) }
}

fn compare_lease(store: &Store, lease: &Lease, namespace: &Namespace, differences: &mut Vec<Mismatch>) {
    if lease.phase != Phase::Ready {
        differences.push(Mismatch::Phase(lease.phase));
    }
    // A lease that was lost and made anew names none.
    let same = || Namespace::open(&lease.netns).is_ok_and(|own| own.is_same_as(namespace));
    if !lease.netns.is_empty() && !same() {
        differences.push(Mismatch::Namespace(lease.netns.clone()));
    }
    for address in lease.addresses.iter().map(|leased| leased.address.addr()) {
        let owner = store.owner(address);
        if owner.as_ref().is_none_or(|owner| owner.attachment != Some(lease.attachment())) {
            differences.push(Mismatch::Owner(address, owner));
        }
    }
}

fn compare(lease: &Lease, previous: &Value, views: &[View; 2], differences: &mut Vec<Mismatch>) {
    let mut wiring = Wiring::of(lease);
    if let Some(mac) = returned_mac(previous, lease) {
        wiring.pod.mac = mac;
        wiring.node.neighbours.iter_mut().for_each(|pod| pod.mac = mac);
    }
    let [node, pod] = views;
    compare_side(node, &lease.host_interface, lease.mtu, &wiring.node, differences);
    compare_routes(node, |link| wiring.node_routes(link), differences);
    compare_side(pod, &lease.interface, lease.mtu, &wiring.pod, differences);
    compare_routes(pod, |link| wiring.pod_routes(link), differences);
    if let (Some(outer), Some(inner)) = (&node.link, &pod.link)
        && outer.peer.map(|peer| peer.index) != Some(inner.index)
    {
        differences.push(Mismatch::NotThePair(Side::Pod, inner.name.clone()));
    }
    if let (Some(link), Some(port)) = (&node.link, wiring.node.port)
        && (link.port != Some(port) || link.master != node.leaving)
    {
        differences.push(Mismatch::Port(link.name.clone()));
    }
}

fn compare_side(view: &View, name: &str, mtu: u32, expected: &End, differences: &mut Vec<Mismatch>) {
    let (side, name) = (view.side, || name.to_owned());
    let Some(link) = &view.link else {
        differences.push(Mismatch::LinkMissing(side, name()));
        return;
    };
    if link.kind != Kind::Veth {
        differences.push(Mismatch::NotThePair(side, name()));
    }
    if !link.up {
        differences.push(Mismatch::LinkDown(side, name()));
    }
    if link.mtu != mtu {
        differences.push(Mismatch::Mtu { side, link: name(), found: link.mtu, expected: mtu });
    }
    if link.mac != Some(expected.mac) {
        differences.push(Mismatch::Mac(side, name(), expected.mac));
    }
    let over = |link| view.leaving == Some(link);
    let has = |address: &IpNet| view.addresses.iter().any(|a| over(a.link) && a.address == *address && a.usable);
    let missing = expected.addresses.iter().filter(|address| !has(address));
    differences.extend(missing.map(|address| Mismatch::Address(side, *address)));
    for seen in view.neighbours.iter().filter(|seen| over(seen.link)) {
        let wrong = |known: &&Known| known.address == seen.address && known.mac != seen.mac;
        differences
            .extend(expected.neighbours.iter().find(wrong).map(|_| Mismatch::Neighbour(side, seen.address, seen.mac)));
    }
}

fn compare_routes(view: &View, routes: impl Fn(Index) -> Vec<Route>, differences: &mut Vec<Mismatch>) {
    let expected = view.leaving.map(routes).unwrap_or_default();
    let missing = expected.into_iter().filter(|route| !view.routes.contains(route));
    differences.extend(missing.map(|route| Mismatch::Route(view.side, route.to_string())));
}

/// Compares what of the node's end has to be asked for one by one.
fn compare_settings(node: &mut Socket, lease: &Lease, differences: &mut Vec<Mismatch>) -> Result<(), Error> {
    let (wiring, name) = (Wiring::of(lease), lease.host_interface.as_str());
    let Some(link) = link::find(node, name)? else { return Ok(()) };
    let key = Sysctl::of_link(Family::V4, name, "proxy_arp");
    let answers = Sysctls::below(sysctl::ROOT).read(&key)?.as_deref() == Some("1");
    if answers != wiring.node.answers_for_others {
        differences.push(Mismatch::Answers(Side::Node, name.to_owned(), answers));
    }
    if link.port.is_some() && wiring.node.port.is_some() && !port::is_behind(node, link.index, wiring.pod.mac)? {
        differences.push(Mismatch::Behind(name.to_owned(), wiring.pod.mac));
    }
    Ok(())
}

/// A table without such sets lets all packets pass.
fn compare_senders(lease: &Lease, differences: &mut Vec<Mismatch>) -> Result<(), Error> {
    let (mut table, mut sets) = (Nft::open()?, BTreeMap::new());
    for (name, element) in sender_elements(lease) {
        let set = match sets.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(table.read_set(name)?),
        };
        if set.as_ref().is_some_and(|set| !set.elements.contains(&element)) {
            differences.push(Mismatch::Sender(name));
        }
    }
    Ok(())
}

/// The Ethernet address that the chain's result has for the pod's interface: a plugin behind us may have set another.
fn returned_mac(previous: &Value, lease: &Lease) -> Option<Mac> {
    let interfaces = previous.get("interfaces")?.as_array()?;
    let is_ours = |interface: &&Value| {
        let text = |key: &str| interface.get(key).and_then(Value::as_str).unwrap_or_default();
        text("name") == lease.interface && !text("sandbox").is_empty()
    };
    interfaces.iter().find(is_ours)?.get("mac")?.as_str()?.parse().ok()
}
