//! The kernel's word that somebody altered the table, or the latch behind it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use towpath_net::policy::latch;
use towpath_net::policy::objects::TABLE;

use crate::events::{NFTABLES, drain};
use crate::netlink::{Error, Protocol, Socket, author};
use crate::nft;

/// A socket on which the kernel tells of changes of the table in its network namespace.
pub struct Events {
    socket: Socket,
    ours: u32,
}

impl Events {
    /// Listens in the current network namespace, from now on, to changes that the socket of this number does not make.
    pub fn open(ours: u32) -> Result<Self, Error> {
        let mut socket = Socket::open(Protocol::Netfilter)?;
        socket.join(NFTABLES)?;
        Ok(Self { socket, ours })
    }

    /// Takes all that there is; tells whether anything of it is about the table. Lost events always are.
    pub fn drain(&mut self) -> io::Result<bool> {
        let ours = self.ours;
        drain(&mut self.socket, |datagram| {
            datagram.is_none_or(|datagram| {
                author(datagram) != ours && [TABLE, latch::TABLE].iter().any(|table| nft::concerns(datagram, table))
            })
        })
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
