//! The kernel's word that something changed.

mod links;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use towpath_net::render::TABLE;

use crate::link::Mac;
use crate::netlink::{Error, Message, Protocol, Socket, Wait, author, messages};
use crate::{fdb, nexthop, nft};
use links::Links;

/// Multicast groups of `NETLINK_ROUTE` (`enum rtnetlink_groups`, `linux/rtnetlink.h`).
mod group {
    pub const LINK: u32 = 1;
    pub const NEIGHBOUR: u32 = 3;
    pub const IPV4_ADDRESS: u32 = 5;
    pub const IPV4_ROUTE: u32 = 7;
    pub const IPV6_ADDRESS: u32 = 9;
    pub const IPV6_ROUTE: u32 = 11;
    pub const IPV4_SETTINGS: u32 = 24;
    pub const IPV6_SETTINGS: u32 = 25;
    pub const NEXTHOP: u32 = 32;
}

/// `NFNLGRP_NFTABLES` of `NETLINK_NETFILTER` (`linux/netfilter/nfnetlink.h`).
pub(crate) const NFTABLES: u32 = 7;

/// Two sockets on which the kernel tells of changes in their network namespace.
pub struct Events {
    routes: Socket,
    nftables: Socket,
    /// Who makes changes that are of no interest, on each of them.
    ours: [u32; 2],
    /// The Ethernet addresses of forwarding entries of which the next word is of no interest.
    stations: BTreeSet<Mac>,
    links: Links,
}

impl Events {
    /// Listens in the current network namespace, from now on, to changes that are not made by the sockets of these
    /// numbers, of `NETLINK_ROUTE` and of `NETLINK_NETFILTER`; 0 is nobody's.
    pub fn open(ours: [u32; 2]) -> Result<Self, Error> {
        let mut routes = Socket::open(Protocol::Route)?;
        for group in [
            group::LINK,
            group::NEIGHBOUR,
            group::IPV4_ADDRESS,
            group::IPV4_ROUTE,
            group::IPV6_ADDRESS,
            group::IPV6_ROUTE,
            group::IPV4_SETTINGS,
            group::IPV6_SETTINGS,
            group::NEXTHOP,
        ] {
            routes.join(group)?;
        }
        let mut nftables = Socket::open(Protocol::Netfilter)?;
        nftables.join(NFTABLES)?;
        Ok(Self { routes, nftables, ours, stations: BTreeSet::new(), links: Links::read()? })
    }

    /// What to wait on: readable when there is something to drain.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.routes.as_fd(), self.nftables.as_fd()]
    }

    /// Takes all that there is; tells whether anything of it can concern Towpath.
    ///
    /// Lost events concern it always.
    pub fn drain(&mut self) -> io::Result<bool> {
        let [ours, ours_too] = self.ours;
        let stations = std::mem::take(&mut self.stations);
        let (links, mut lost) = (&mut self.links, false);
        let routes = drain(&mut self.routes, |datagram| {
            let Some(datagram) = datagram else {
                lost = true;
                return true;
            };
            let foreign = author(datagram) != ours || ours == 0;
            let mut found = false;
            for event in messages(datagram) {
                links.hear(&event);
                found |= foreign && concerns(links, &event) && !fdb::is_about(&event, &stations);
            }
            found
        })?;
        if lost {
            self.links = Links::read().map_err(io::Error::other)?;
        }
        let nftables = drain(&mut self.nftables, |datagram| {
            datagram.is_none_or(|datagram| {
                (author(datagram) != ours_too || ours_too == 0) && nft::concerns(datagram, TABLE)
            })
        })?;
        Ok(routes || nftables)
    }

    /// What there is by now of forwarding entries for these Ethernet addresses is of no interest: the kernel does not
    /// tell by whom they were set.
    pub fn overlook(&mut self, stations: &[Mac]) {
        self.stations.extend(stations);
    }
}

fn concerns(links: &Links, event: &Message) -> bool {
    if nexthop::is_event(event) { nexthop::concerns(event) } else { links.concern(event).unwrap_or(true) }
}

/// Takes all that there is; `concerns` is asked of each datagram, and of nothing where some were lost.
pub(crate) fn drain(socket: &mut Socket, mut concerns: impl FnMut(Option<&[u8]>) -> bool) -> io::Result<bool> {
    let mut found = false;
    loop {
        match socket.receive(Wait::Poll) {
            Ok(None) => return Ok(found),
            Ok(Some(datagram)) => found |= concerns(Some(datagram)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                found |= concerns(None);
            }
            Err(error) => return Err(error),
        }
    }
}
