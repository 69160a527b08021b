//! CHECK: whether an attachment is as ADD left it. What plugins behind us added is none of our business.

use std::fmt;

use ipnet::IpNet;
use serde_json::Value;
use towpath_kernel::address::{self, Address};
use towpath_kernel::leases::Store;
use towpath_kernel::link::{self, Kind, Link, Mac};
use towpath_kernel::netlink::{self, Protocol, Socket};
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
}

impl View {
    fn read(side: Side, socket: &mut Socket, name: &str) -> Result<Self, netlink::Error> {
        let link = link::find(socket, name)?;
        Ok(Self { side, link, addresses: address::list(socket)?, routes: route::list(socket)? })
    }
}

/// What a side should have.
struct Expected {
    name: String,
    mtu: u32,
    mac: Mac,
    addresses: Vec<IpNet>,
}

/// Compares an attachment with its lease.
pub fn check(place: &Place, config: &Config) -> Result<(), Error> {
    let previous = config.previous.as_ref().ok_or(Error::NoPreviousResult)?;
    let namespace = enter(place)?;
    let held = Store::below(&config.state).hold(&place.attachment)?;
    let lease = held.ok_or_else(|| Error::NotAttached(place.attachment.clone()))?.lease;
    let mut differences = Vec::new();
    if lease.phase != Phase::Ready {
        differences.push(Mismatch::Phase(lease.phase));
    }
    let same = towpath_kernel::netns::Namespace::open(&lease.netns).is_ok_and(|own| own.is_same_as(&namespace));
    if !same {
        differences.push(Mismatch::Namespace(lease.netns.clone()));
    }
    let mut node = Socket::open(Protocol::Route)?;
    let mut pod = namespace.socket(Protocol::Route)??;
    let views =
        [View::read(Side::Node, &mut node, &lease.host_interface)?, View::read(Side::Pod, &mut pod, &lease.interface)?];
    compare(&lease, previous, &views, &mut differences);
    differences.extend(hostports::check(&lease)?);
    differences.extend(bandwidth::check(&mut node, &lease)?);
    if differences.is_empty() { Ok(()) } else { Err(Error::Mismatch(differences)) }
}

fn compare(lease: &Lease, previous: &Value, views: &[View; 2], differences: &mut Vec<Mismatch>) {
    let macs = lease.macs();
    let [node, pod] = views;
    let expected = Expected {
        name: lease.host_interface.clone(),
        mtu: lease.mtu,
        mac: macs.node,
        addresses: lease.node_addresses(),
    };
    compare_side(node, &expected, |link| wire::node_routes(lease, link), differences);
    let expected = Expected {
        name: lease.interface.clone(),
        mtu: lease.mtu,
        mac: returned_mac(previous, lease).unwrap_or(macs.pod),
        addresses: wire::pod_addresses(lease).collect(),
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
