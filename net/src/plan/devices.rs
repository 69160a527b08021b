//! The node's own links, and what is kept on them: neighbours, forwarding entries, and peers of WireGuard.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::compare::side_by_side;
use super::{Plan, has_link};
use crate::device::is_device;
use crate::observed::{Cipher, Desired, Observed};
use crate::ops::Op;

/// Plans the devices and what is on them; returns what is left of `observed` once devices that are of another kind than
/// they should be are made anew: with them goes all that was on them.
pub(super) fn plan<'a>(desired: &Desired, observed: &'a Observed, plan: &mut Plan) -> Cow<'a, Observed> {
    let (mut remade, mut readdressed) = (BTreeSet::new(), BTreeSet::new());
    for (name, device) in &desired.devices {
        let (name, device) = (name.clone(), device.clone());
        match observed.devices.get(&name) {
            Some(seen) if *seen == device => {}
            Some(seen) if seen.kind == device.kind => {
                if seen.mac != device.mac {
                    readdressed.insert(name.clone());
                }
                plan.ops.push(Op::SetDevice { name, device });
            }
            Some(_) => {
                remade.insert(name.clone());
                plan.ops.push(Op::MakeDevice { name, device, anew: true });
            }
            None => plan.ops.push(Op::MakeDevice { name, device, anew: false }),
        }
    }
    let unwanted = observed.devices.keys().filter(|name| !desired.devices.contains_key(*name));
    plan.ops.extend(unwanted.cloned().map(Op::DeleteDevice));
    let observed = if remade.is_empty() { Cow::Borrowed(observed) } else { Cow::Owned(without(observed, &remade)) };
    plan_neighbours(desired, &observed, &readdressed, plan);
    plan_stations(desired, &observed, plan);
    plan_ciphers(desired, &observed, plan);
    observed
}

/// What is left when some devices go.
fn without(observed: &Observed, gone: &BTreeSet<String>) -> Observed {
    let mut left = observed.clone();
    let stays = |link: &str| !gone.contains(link);
    left.devices.retain(|name, _| stays(name));
    left.addresses.retain(|address| stays(&address.link));
    left.neighbours.retain(|neighbour, _| stays(&neighbour.link));
    left.stations.retain(|station, _| stays(&station.link));
    left.ciphers.retain(|name, _| stays(name));
    left.nexthops.retain(|_, nexthop| stays(&nexthop.link));
    left.routes.retain(|route| route.target.link().is_none_or(stays));
    left.sysctls.retain(|key, _| key.link().is_none_or(stays));
    if gone.contains(crate::device::BRIDGE) {
        left.links.values_mut().for_each(|link| link.bridged = false);
        left.stations.retain(|station, _| is_device(&station.link));
    }
    left
}

/// What is on a device that goes goes with it. The kernel forgets the neighbours of a device whose address changes
/// (`neigh_changeaddr`).
fn plan_neighbours(desired: &Desired, observed: &Observed, readdressed: &BTreeSet<String>, plan: &mut Plan) {
    let forgotten = |link: &str| readdressed.contains(link);
    for (neighbour, wanted, seen) in side_by_side(&desired.neighbours, &observed.neighbours) {
        let link = &*neighbour.link;
        match wanted {
            Some(mac) if wanted != seen || forgotten(link) => {
                if has_link(desired, observed, link) {
                    plan.ops.push(Op::SetNeighbour { neighbour: *neighbour, mac: *mac });
                }
            }
            None if desired.devices.contains_key(link) && !forgotten(link) => {
                plan.ops.push(Op::DeleteNeighbour(*neighbour));
            }
            Some(_) | None => {}
        }
    }
}

fn plan_stations(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    // What is behind a port goes with the port.
    let stays =
        |link: &str| desired.devices.contains_key(link) || desired.links.get(link).is_some_and(|link| link.bridged);
    for (station, wanted, seen) in side_by_side(&desired.stations, &observed.stations) {
        match (wanted, seen) {
            (Some(to), seen) if seen != Some(to) && has_link(desired, observed, &station.link) => {
                plan.ops.push(Op::SetStation { station: *station, to: *to });
            }
            (None, Some(to)) if stays(&station.link) => {
                plan.ops.push(Op::DeleteStation { station: *station, to: *to });
            }
            _ => {}
        }
    }
}

fn plan_ciphers(desired: &Desired, observed: &Observed, plan: &mut Plan) {
    let none = Cipher::default();
    for (link, wanted) in &desired.ciphers {
        let seen = observed.ciphers.get(link).unwrap_or(&none);
        if let Some(key) = wanted.public_key
            && (seen.public_key, seen.port) != (wanted.public_key, wanted.port)
        {
            plan.ops.push(Op::SetCipher { link: link.clone(), key, port: wanted.port });
        }
        for (key, peer) in wanted.peers.iter().filter(|(key, peer)| seen.peers.get(key) != Some(peer)) {
            plan.ops.push(Op::SetCipherPeer { link: link.clone(), key: *key, peer: peer.clone() });
        }
        let surplus = seen.peers.keys().filter(|key| !wanted.peers.contains_key(key));
        plan.ops.extend(surplus.map(|key| Op::DeleteCipherPeer { link: link.clone(), key: *key }));
    }
}
