//! CHECK: whether an attachment is as ADD left it. What plugins behind us added is none of our business.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;
use towpath_kernel::address::{self, Address};
use towpath_kernel::leases::{Holder, Store};
use towpath_kernel::link::{self, Kind, Link, Mac};
use towpath_kernel::neighbour::{self, Neighbour};
use towpath_kernel::netlink::{self, Protocol, Socket};
use towpath_kernel::netns::Namespace;
use towpath_kernel::route::{self, Route};
use towpath_kernel::shaping::Direction;
use towpath_net::lease::{Lease, Phase};
use towpath_net::observed::Sysctl;

use crate::add::enter;
use crate::config::Config;
use crate::environment::Place;
use crate::error::Error;
use crate::{bandwidth, hostports, wire};

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
    addresses: Vec<Address>,
    routes: Vec<Route>,
    neighbours: Vec<Neighbour>,
}

impl View {
    fn read(side: Side, socket: &mut Socket, name: &str) -> Result<Self, netlink::Error> {
        let link = link::find(socket, name)?;
        let (addresses, routes) = (address::list(socket)?, route::list(socket)?);
        Ok(Self { side, link, addresses, routes, neighbours: neighbour::list(socket)? })
    }
}

/// What a side should have.
struct Expected {
    name: String,
    mtu: u32,
    mac: Mac,
    addresses: Vec<IpNet>,
    /// Who is at the other end.
    neighbours: Vec<IpAddr>,
    /// By which Ethernet address.
    neighbours_mac: Mac,
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
    let views =
        [View::read(Side::Node, &mut node, &lease.host_interface)?, View::read(Side::Pod, &mut pod, &lease.interface)?];
    compare(&lease, previous, &views, &mut differences);
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
    let macs = lease.macs();
    let pods_mac = returned_mac(previous, lease).unwrap_or(macs.pod);
    let [node, pod] = views;
    let expected = Expected {
        name: lease.host_interface.clone(),
        mtu: lease.mtu,
        mac: macs.node,
        addresses: lease.node_addresses(),
        neighbours: lease.addresses.iter().map(|leased| leased.address.addr()).collect(),
        neighbours_mac: pods_mac,
    };
    compare_side(node, &expected, |link| wire::node_routes(lease, link), differences);
    let expected = Expected {
        name: lease.interface.clone(),
        mtu: lease.mtu,
        mac: pods_mac,
        addresses: wire::pod_addresses(lease).collect(),
        neighbours: lease.addresses.iter().map(|leased| leased.gateway).collect(),
        neighbours_mac: macs.node,
    };
    compare_side(pod, &expected, |link| wire::pod_routes(lease, link), differences);
    if let (Some(outer), Some(inner)) = (&node.link, &pod.link)
        && outer.peer.map(|peer| peer.index) != Some(inner.index)
    {
        differences.push(Mismatch::NotThePair(Side::Pod, inner.name.clone()));
    }
}

fn compare_side(
    view: &View,
    expected: &Expected,
    routes: impl Fn(link::Index) -> Vec<Route>,
    differences: &mut Vec<Mismatch>,
) {
    let (side, name) = (view.side, || expected.name.clone());
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
    if link.mtu != expected.mtu {
        differences.push(Mismatch::Mtu { side, link: name(), found: link.mtu, expected: expected.mtu });
    }
    if link.mac != Some(expected.mac) {
        differences.push(Mismatch::Mac(side, name(), expected.mac));
    }
    let has =
        |address: &IpNet| view.addresses.iter().any(|a| a.link == link.index && a.address == *address && a.usable);
    let missing = expected.addresses.iter().filter(|address| !has(address));
    differences.extend(missing.map(|address| Mismatch::Address(side, *address)));
    let known = view.neighbours.iter().filter(|n| n.link == link.index && expected.neighbours.contains(&n.address));
    let wrong = known.filter(|neighbour| neighbour.mac != expected.neighbours_mac);
    differences.extend(wrong.map(|neighbour| Mismatch::Neighbour(side, neighbour.address, neighbour.mac)));
    let missing = routes(link.index).into_iter().filter(|route| !view.routes.contains(route));
    differences.extend(missing.map(|route| Mismatch::Route(side, route.to_string())));
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
