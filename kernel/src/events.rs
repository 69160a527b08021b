//! The kernel's word that something changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::netlink::{Error, Message, Protocol, Socket, Wait, messages};
use crate::{nexthop, nft};

/// Multicast groups of `NETLINK_ROUTE` (`enum rtnetlink_groups`, `linux/rtnetlink.h`).
mod group {
    pub const LINK: u32 = 1;
    pub const IPV4_ADDRESS: u32 = 5;
    pub const IPV4_ROUTE: u32 = 7;
    pub const IPV6_ADDRESS: u32 = 9;
    pub const IPV6_ROUTE: u32 = 11;
    pub const IPV4_SETTINGS: u32 = 24;
    pub const IPV6_SETTINGS: u32 = 25;
    pub const NEXTHOP: u32 = 32;
    /// `NFNLGRP_NFTABLES` of `NETLINK_NETFILTER`.
    pub const NFTABLES: u32 = 7;
}

/// Two sockets on which the kernel tells of changes in their network namespace.
pub struct Events {
    routes: Socket,
    nftables: Socket,
}

impl Events {
    /// Listens in the current network namespace, from now on.
    pub fn open() -> Result<Self, Error> {
        let mut routes = Socket::open(Protocol::Route)?;
        for group in [
            group::LINK,
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
        nftables.join(group::NFTABLES)?;
        Ok(Self { routes, nftables })
    }

    /// What to wait on: readable when there is something to drain.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.routes.as_fd(), self.nftables.as_fd()]
    }

    /// Takes all that there is; tells whether anything of it can concern Towpath.
    ///
    /// Lost events concern it always.
    pub fn drain(&mut self) -> io::Result<bool> {
        let routes = drain(&mut self.routes, |datagram| messages(datagram).any(|event| concerns(&event)))?;
        let nftables = drain(&mut self.nftables, nft::concerns)?;
        Ok(routes || nftables)
    }
}

fn concerns(event: &Message) -> bool {
    !nexthop::is_event(event) || nexthop::concerns(event)
}

fn drain(socket: &mut Socket, concerns: impl Fn(&[u8]) -> bool) -> io::Result<bool> {
    let mut found = false;
    loop {
        match socket.receive(Wait::Poll) {
            Ok(None) => return Ok(found),
            Ok(Some(datagram)) => found |= concerns(datagram),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => found = true,
            Err(error) => return Err(error),
        }
    }
}
