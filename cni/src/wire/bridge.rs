//! Attachment `Bridge`.
//!
//! ```text
//! node                                       pod
//! towbr0  GATEWAY/24 (the agent's)           eth0  POD/24
//! tow...  port of towbr0: locked, hairpin    10.42.X.0/24 dev eth0 scope link src POD
//!         POD's MAC behind it, static        default via GATEWAY dev eth0
//! POD lladdr MAC dev towbr0 PERMANENT
//! ```
//!
//! The bridge takes frames from a port only from its pod's Ethernet address, which it has by an entry of its own and does
//! not learn: a pod can neither speak with another's address nor draw its frames. The node knows its pods for good: what
//! another pod says about whose address is whose does not reach it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_kernel::link::port::Port;
use towpath_kernel::link::{self, Index, Kind};
use towpath_kernel::netlink::{self, Socket};
use towpath_kernel::{neighbour, route};
use towpath_net::device::BRIDGE;
use towpath_net::lease::{Lease, LeasedAddress};

use super::{Error, Known, Way, Wiring, default, wiring};

/// What both ends have.
pub(super) fn of(lease: &Lease) -> Wiring {
    let mut wiring = wiring(lease);
    wiring.node.port = Some(Port::OF_POD);
    wiring.node.neighbours = wiring.node.neighbours.into_iter().map(|pod| Known { for_good: true, ..pod }).collect();
    // It is the bridge that is at the other end.
    wiring.pod.neighbours = Vec::new();
    let in_pod = |leased: &LeasedAddress| {
        let subnet = Way { source: Some(leased.address.addr()), ..Way::on_link(leased.address.trunc()) };
        [subnet, default(leased)]
    };
    wiring.pod.routes = lease.addresses.iter().flat_map(in_pod).collect();
    wiring
}

/// The bridge, where the agent has made it.
pub fn find(node: &mut Socket) -> Result<Option<Index>, netlink::Error> {
    let found = link::find(node, BRIDGE)?;
    Ok(found.filter(|link| link.up && link.kind == Kind::Other("bridge".to_owned())).map(|link| link.index))
}

/// The bridge, ready to have a pod: it has the pod's gateways, and the pod's addresses are nobody's.
pub(super) fn ready(node: &mut Socket, lease: &Lease) -> Result<Index, Error> {
    let bridge = find(node).map_err(Error::Node)?.ok_or(Error::NoBridge)?;
    for leased in &lease.addresses {
        if !route::is_local(node, bridge, leased.gateway).map_err(Error::Node)? {
            return Err(Error::NoGateway(leased.gateway));
        }
        let address = leased.address.addr();
        let known = neighbour::find(node, bridge, address).map_err(Error::Node)?;
        if known.is_some_and(|known| known.permanent) {
            return Err(Error::AddressTaken(address));
        }
    }
    Ok(bridge)
}

/// The addresses of pods that are ports of the bridge, whatever the leases say.
pub fn addresses_in_use(node: &mut Socket) -> Result<BTreeSet<IpAddr>, netlink::Error> {
    let Some(bridge) = find(node)? else { return Ok(BTreeSet::new()) };
    let known = neighbour::list(node)?.into_iter();
    Ok(known.filter(|known| known.link == bridge && known.permanent).map(|known| known.address).collect())
}
