//! How one node reaches another: everything on the node that is there for one peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::vantage::{Underlay, Vantage, tunnel_address};
use super::{Nexthops, Obstacle};
use crate::device::{GENEVE, IPIP, VXLAN, tunnel_gateway, tunnel_mac, wireguard};
use crate::family::{Family, host_net};
use crate::mac::Mac;
use crate::observed::{CipherPeer, Desired, Encapsulation, Forwarding, Neighbour, Nexthop, NexthopId, Station, Target};
use crate::state::{NodeName, Peer};
use crate::transport::{PublicKey, Slot, Transport};

/// What a node has on behalf of its peers, in the order in which they are told: where two contend, the last has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerObjects {
    /// To its pods.
    pub routes: Vec<(IpNet, Target)>,
    /// That stand for it on tunnel devices.
    pub neighbours: Vec<(Neighbour, Mac)>,
    /// Its place behind a VXLAN device.
    pub stations: Vec<(Station, Forwarding)>,
    /// Its part of the WireGuard devices, by device and key.
    pub ciphers: BTreeMap<(&'static str, PublicKey), CipherPeer>,
    /// What cannot be.
    pub obstacles: BTreeSet<Obstacle>,
}

impl PeerObjects {
    /// Puts these objects beside what there is, all at once.
    pub fn enter(self, desired: &mut Desired) {
        desired.routes.append(&mut self.routes.into_iter().collect());
        desired.neighbours.append(&mut self.neighbours.into_iter().collect());
        desired.stations.append(&mut self.stations.into_iter().collect());
        for ((link, key), peer) in self.ciphers {
            if let Some(cipher) = desired.ciphers.get_mut(link) {
                cipher.peers.insert(key, peer);
            }
        }
    }
}

/// Renders what a node has on behalf of one peer, and adds it to that of others: a function of the two alone, but for the
/// number of a nexthop object where two ways would have the same.
pub fn add_peer(own: &Vantage<'_>, name: &NodeName, peer: &Peer, objects: &mut PeerObjects, nexthops: &mut Nexthops) {
    for family in Family::ALL {
        let mut cidrs = peer.pod_cidrs.iter().filter(|cidr| Family::of_net(cidr) == family).peekable();
        if cidrs.peek().is_none() {
            continue;
        }
        let target = target_toward(own, name, peer, family, objects, nexthops);
        let target = target.map_err(|obstacle| objects.obstacles.insert(obstacle)).ok().flatten();
        // What must not be in clear goes nowhere, rather than by a route that somebody else has.
        let target = target.or_else(|| own.spec.transport.is_encrypted().then_some(Target::Blackhole));
        if let Some(target) = target {
            objects.routes.extend(cidrs.map(|cidr| (*cidr, target)));
        }
    }
    if own.uses(Transport::WireGuard) {
        objects.ciphers.extend(cipher_peers(own, peer));
    }
}

fn target_toward(
    own: &Vantage<'_>,
    name: &NodeName,
    peer: &Peer,
    family: Family,
    objects: &mut PeerObjects,
    nexthops: &mut Nexthops,
) -> Result<Option<Target>, Obstacle> {
    let (transport, underlay) = own.way(name, peer, family)?;
    let Underlay { source, destination } = underlay;
    let outer = underlay.family();
    if transport.is_tunnel() && !own.outer(transport).get(outer) {
        // Without pods of a family the node has no tunnel for it, and nothing to send.
        return Ok(None);
    }
    let encapsulated = |vni| Some(Encapsulation { vni, source, destination });
    let mut via = |gateway, link: &str, on_link, encapsulation| {
        nexthops.target(Nexthop { id: NexthopId(0), gateway, link: link.into(), on_link, encapsulation })
    };
    let target = match transport {
        Transport::Direct => {
            let not_near = || Obstacle::PeerNotOnLink { peer: name.clone(), address: destination };
            let link = &own.around.reach(destination).ok_or_else(not_near)?.link;
            via(destination, link, false, None)
        }
        Transport::Ipip => match outer {
            Family::V4 => via(destination, IPIP.v4, true, None),
            Family::V6 => via(tunnel_gateway(name).into(), IPIP.v6, true, encapsulated(0)),
        },
        Transport::Vxlan => {
            let (device, gateway, mac) = (*VXLAN.get(outer), gateway(name, peer, family), tunnel_mac(name));
            let link = device.into();
            objects.neighbours.push((Neighbour { link, address: gateway }, mac));
            objects.stations.push((Station { link, mac }, Forwarding::To(destination)));
            via(gateway, device, true, None)
        }
        Transport::Geneve => {
            let gateway = gateway(name, peer, family);
            objects.neighbours.push((Neighbour { link: GENEVE.into(), address: gateway }, tunnel_mac(name)));
            via(gateway, GENEVE, true, encapsulated(own.spec.transport.tunnels.geneve.vni))
        }
        Transport::WireGuard => {
            let slot = sending_slot(own, name, peer)?;
            Target::Link { link: wireguard(slot).into() }
        }
    };
    Ok(Some(target))
}

/// The address that stands for a node on tunnels with Ethernet inside.
fn gateway(name: &NodeName, peer: &Peer, family: Family) -> IpAddr {
    let address = tunnel_address(&peer.pod_cidrs, family).filter(|_| family == Family::V4);
    address.unwrap_or_else(|| tunnel_gateway(name).into())
}

/// The WireGuard device by which the peer is sent to.
fn sending_slot(own: &Vantage<'_>, name: &NodeName, peer: &Peer) -> Result<Slot, Obstacle> {
    let ours = own.keys.ok_or(Obstacle::NoKey)?;
    let theirs = peer.keys.and_then(|theirs| ours.toward(&theirs));
    theirs.ok_or_else(|| Obstacle::PeerWithoutKey { peer: name.clone() })
}

/// The peer on each WireGuard device: that of one slot here and that of the same slot there talk to each other.
fn cipher_peers(own: &Vantage<'_>, peer: &Peer) -> BTreeMap<(&'static str, PublicKey), CipherPeer> {
    let underlay = Family::ALL.into_iter().find_map(|family| own.underlay(peer, family, false));
    let port = |slot| own.spec.transport.tunnels.wire_guard.port_of(slot);
    let on = |slot: Slot| {
        let key = peer.keys.and_then(|keys| keys.of(slot))?;
        let endpoint = underlay.map(|underlay| SocketAddr::new(underlay.destination, port(slot)));
        // The node itself too: its answers to pods of others are from its own address.
        let itself = peer.addresses.iter().copied().map(host_net);
        let allowed = peer.pod_cidrs.iter().map(IpNet::trunc).chain(itself).collect();
        Some(((wireguard(slot), key), CipherPeer { endpoint, allowed }))
    };
    Slot::ALL.into_iter().filter_map(on).collect()
}
