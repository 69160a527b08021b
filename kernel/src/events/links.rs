//! Which links are Towpath's: what is told of neighbours and forwarding entries concerns it on those alone.

use std::collections::BTreeMap;

use towpath_net::device::{BRIDGE, is_device, transport_of};
use towpath_net::lease::is_host_interface;
use towpath_net::transport::Transport;

use crate::link::{self, Index};
use crate::neighbour::{self, Told};
use crate::netlink::{Error, Message, Protocol, Socket};

/// What can be on a link that matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Forwarding entries and neighbours, none of which the kernel finds by itself.
    Tunnel,
    /// Neighbours that the kernel finds by itself: pods.
    Bridge,
    /// Forwarding entries: it may be a port of the bridge.
    Port,
}

impl Sort {
    fn of(name: &str) -> Option<Self> {
        match name {
            BRIDGE => Some(Self::Bridge),
            name if is_host_interface(name) => Some(Self::Port),
            // Others send by what routes say alone.
            name if is_device(name) => {
                matches!(transport_of(name), Some(Transport::Vxlan | Transport::Geneve)).then_some(Self::Tunnel)
            }
            _ => None,
        }
    }
}

/// Towpath's links by their numbers.
#[derive(Default)]
pub(super) struct Links(BTreeMap<Index, Sort>);

impl Links {
    /// Those of the current network namespace.
    pub fn read() -> Result<Self, Error> {
        let mut links = Self::default();
        for seen in link::list(&mut Socket::open(Protocol::Route)?)? {
            links.take(seen.index, &seen.name);
        }
        Ok(links)
    }

    fn take(&mut self, index: Index, name: &str) {
        match Sort::of(name) {
            Some(sort) => _ = self.0.insert(index, sort),
            None => _ = self.0.remove(&index),
        }
    }

    /// Takes note of what an event tells of a link.
    pub fn hear(&mut self, event: &Message) {
        match link::told(event) {
            Some((index, Some(name))) => self.take(index, &name),
            Some((index, None)) => _ = self.0.remove(&index),
            None => {}
        }
    }

    /// Whether an event about a neighbour or a forwarding entry can concern Towpath; nothing where it is about something
    /// else.
    pub fn concern(&self, event: &Message) -> Option<bool> {
        let told = neighbour::told(event)?;
        Some(match (self.0.get(&told.link), told) {
            (None | Some(Sort::Port), Told { entry: false, .. }) | (None, _) => false,
            (Some(_), Told { entry: true, .. }) => true,
            (Some(Sort::Bridge), told) => told.lasting,
            // The kernel comes and goes with those of groups as it likes.
            (Some(_), told) => !told.group,
        })
    }
}
