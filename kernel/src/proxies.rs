//! Pods that are not behind the bridge while others are, as when the attachment of new pods was changed.
//!
//! Pods behind the bridge look there for every pod of their subnet. For one that is not, the node answers: of IPv4 for
//! everybody that it has another way to (`proxy_arp`), of IPv6 for those alone that it is told of (`NTF_PROXY`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use towpath_net::device::BRIDGE;
use towpath_net::lease::{Lease, Phase};
use towpath_net::state::Attachment;

use crate::leases::Store;
use crate::link::{self, Index};
use crate::neighbour;
use crate::netlink::{Error, Socket};

/// Makes a pod that is joining and those that were there before find each other.
pub fn introduce(node: &mut Socket, store: &Store, lease: &Lease) -> Result<(), Error> {
    if !concerns(lease) {
        return Ok(());
    }
    let Some(bridge) = link::find(node, BRIDGE)? else { return Ok(()) };
    if lease.mode != Attachment::Bridge {
        return answer_for(node, bridge.index, addresses_of(lease));
    }
    // Nobody is behind the bridge yet: whoever was there before was attached otherwise.
    if bridge.running { Ok(()) } else { mend(node, &leases(store)) }
}

/// Makes the node answer for the pods of these leases that are not behind the bridge, and for nobody else.
pub fn mend(node: &mut Socket, leases: &[Lease]) -> Result<(), Error> {
    let Some(bridge) = link::find(node, BRIDGE)? else { return Ok(()) };
    let elsewhere = leases.iter().filter(|lease| lease.mode != Attachment::Bridge && lease.phase != Phase::Leaving);
    let wanted: BTreeSet<IpAddr> = elsewhere.flat_map(addresses_of).collect();
    let seen = neighbour::answered_for(node, bridge.index)?;
    forget(node, bridge.index, seen.difference(&wanted).copied())?;
    answer_for(node, bridge.index, wanted.difference(&seen).copied())
}

/// Forgets what the bridge has of a pod: which Ethernet address it has, or that the node answers for it.
pub fn forget_pod(node: &mut Socket, lease: &Lease) -> Result<(), Error> {
    if !concerns(lease) {
        return Ok(());
    }
    let Some(bridge) = link::find(node, BRIDGE)? else { return Ok(()) };
    if lease.mode != Attachment::Bridge {
        return forget(node, bridge.index, addresses_of(lease));
    }
    let addresses = lease.addresses.iter().map(|leased| leased.address.addr());
    addresses.map(|address| neighbour::deleting(bridge.index, address)).try_for_each(|request| {
        match node.execute(&request) {
            Err(error) if !error.is_missing() => Err(error),
            _ => Ok(()),
        }
    })
}

/// Whether the bridge may have anything of a pod.
fn concerns(lease: &Lease) -> bool {
    lease.mode == Attachment::Bridge || addresses_of(lease).next().is_some()
}

fn addresses_of(lease: &Lease) -> impl Iterator<Item = IpAddr> {
    lease.addresses.iter().map(|leased| leased.address.addr()).filter(IpAddr::is_ipv6)
}

fn answer_for(node: &mut Socket, bridge: Index, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Error> {
    let requests: Vec<_> = addresses.map(|address| neighbour::answering_for(bridge, address)).collect();
    match node.execute_all(&requests) {
        // The agent removed the bridge meanwhile: nobody is left to ask there.
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

fn forget(node: &mut Socket, bridge: Index, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Error> {
    for address in addresses {
        match node.execute(&neighbour::not_answering_for(bridge, address)) {
            Err(error) if !error.is_missing() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Where they cannot be read, a sweep that can sets right what is missing.
fn leases(store: &Store) -> Vec<Lease> {
    store.read_all().map(|listing| listing.leases).unwrap_or_default()
}
