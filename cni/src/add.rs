//! ADD: all of an attachment, or nothing of it.

use serde_json::Value;
use towpath_kernel::leases::{Held, Request, Store};
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::netns::Namespace;
use towpath_kernel::nft::Nft;
use towpath_kernel::{conntrack, release};
use towpath_net::lease::{Lease, Phase};

use crate::config::Config;
use crate::environment::Place;
use crate::error::Error;
use crate::{node, result, wire};

/// Attaches a pod. After an error there is nothing of it: no link, address, route, host port or lease.
pub fn add(place: &Place, config: &Config) -> Result<Value, Error> {
    let node_file = node::read(&config.state)?;
    let namespace = enter(place)?;
    let mut node = Socket::open(Protocol::Route)?;
    let mut held = Store::below(&config.state).create(Request {
        network: &config.name,
        attachment: place.attachment.clone(),
        netns: &place.netns,
        pod: place.pod.clone(),
        mtu: node_file.mtu,
        mac: None,
        host_ports: config.host_ports.clone(),
        loopback_ports: Vec::new(),
        bandwidth: config.bandwidth,
        pools: &node_file.pod_cidrs,
    })?;
    if let Err(cause) = wire::create(&mut node, &held.lease, &namespace) {
        return Err(undone(cause.into(), held.release().map_err(Error::from)));
    }
    match complete(&mut node, &mut held, &namespace) {
        Ok(()) => Ok(result::of_lease(config.version, config.previous.as_ref(), &held.lease)),
        Err(cause) => Err(undone(cause, release::release(held, &mut node).map_err(Error::from))),
    }
}

/// The namespace that a runtime names, which must not be the node's.
pub fn enter(place: &Place) -> Result<Namespace, Error> {
    let namespace = Namespace::open(&place.netns)?;
    if !place.may_be_own && namespace.is_same_as(&Namespace::current()?) {
        return Err(Error::OwnNamespace(place.netns.clone()));
    }
    Ok(namespace)
}

fn complete(node: &mut Socket, held: &mut Held, namespace: &Namespace) -> Result<(), Error> {
    wire::set_up(node, &held.lease, namespace)?;
    open_ports(&held.lease)?;
    Ok(held.advance(Phase::Ready)?)
}

fn open_ports(lease: &Lease) -> Result<(), Error> {
    if !lease.host_ports.is_empty() {
        Nft::open()?.open_ports(lease)?;
        // Packets that came before this pod began flows to nowhere.
        conntrack::forget_host_ports(lease)?;
    }
    Ok(())
}

fn undone(cause: Error, undo: Result<(), Error>) -> Error {
    match undo {
        Ok(()) => cause,
        Err(undo) => Error::NotUndone { cause: Box::new(cause), undo: Box::new(undo) },
    }
}
