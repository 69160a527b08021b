//! WireGuard devices: their keys and peers, by generic netlink. The link itself is made like every other.

mod message;
mod private;

use std::collections::BTreeMap;
use std::time::SystemTime;

use towpath_net::observed::{Cipher, CipherPeer};
use towpath_net::transport::PublicKey;

use crate::netlink::attributes::Attributes;
use crate::netlink::generic::{FamilyId, Generic};
use crate::netlink::{self, Cause, Operation};

use message::Change;
pub use private::{KeyRing, NotAPrivateKey, PrivateKey};

/// The name of the family (`WG_GENL_NAME`).
const FAMILY: &str = "wireguard";
/// How often a device is read anew because it changed under the reading.
const READS: usize = 16;

/// Why a WireGuard device cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no WireGuard.
    #[error("this kernel has no WireGuard (module wireguard)")]
    Unsupported,
    /// A public key was named whose private key is not here.
    #[error("wireguard {link}: the private key of {key} is not on this node")]
    NoPrivateKey {
        /// The device.
        link: String,
        /// The public key.
        key: PublicKey,
    },
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
}

impl Error {
    /// Whether the device is not there (any more).
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Netlink(error) if error.is_missing())
    }
}

/// A WireGuard device as the kernel has it, but for its private key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Its public key; nothing while it has none.
    pub public_key: Option<PublicKey>,
    /// Its UDP port.
    pub port: u16,
    /// Its peers.
    pub peers: BTreeMap<PublicKey, Peer>,
}

/// A peer as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it is, and what it may send from.
    pub peer: CipherPeer,
    /// How often it is written to at least, in seconds; 0 where it is not without need.
    pub keepalive: u16,
    /// When the two last agreed on a session; nothing where they never did.
    pub handshake: Option<SystemTime>,
    /// Bytes that came from it.
    pub received: u64,
    /// Bytes that went to it.
    pub sent: u64,
}

impl Default for Peer {
    fn default() -> Self {
        let peer = CipherPeer { endpoint: None, allowed: std::collections::BTreeSet::new() };
        Self { peer, keepalive: 0, handshake: None, received: 0, sent: 0 }
    }
}

impl From<Device> for Cipher {
    fn from(device: Device) -> Self {
        let peers = device.peers.into_iter().map(|(key, peer)| (key, peer.peer)).collect();
        Self { public_key: device.public_key, port: device.port, peers }
    }
}

/// The WireGuard devices of the network namespace that it was opened in.
pub struct WireGuard {
    socket: Generic,
    /// Asked for when it is first needed: many nodes have no WireGuard, and need none.
    family: Option<FamilyId>,
}

impl WireGuard {
    /// Opens a socket in the calling thread's network namespace; that the kernel has no WireGuard shows later.
    pub fn open() -> Result<Self, netlink::Error> {
        Ok(Self { socket: Generic::open()?, family: None })
    }

    /// How many requests that change something were sent.
    pub const fn writes(&self) -> u64 {
        self.socket.writes()
    }

    /// Reads a device.
    pub fn device(&mut self, link: &str) -> Result<Device, Error> {
        let family = self.family()?;
        let failed = |cause| netlink::Error::new(Operation::List, format!("wireguard {link}"), cause).into();
        for _ in 0..READS {
            let mut device = Device::default();
            match self.socket.dump(family, message::get(link), |content| message::merge(&mut device, content)) {
                Ok(()) => return Ok(device),
                Err(Cause::Torn) => {}
                Err(cause) => return Err(failed(cause)),
            }
        }
        Err(failed(Cause::Torn))
    }

    /// Gives a device a key and a port. Sessions by its former key end.
    pub fn set_key(&mut self, link: &str, key: &PrivateKey, port: u16) -> Result<(), Error> {
        self.send(Operation::Change, link, "", message::set_key(link, key, port))
    }

    /// Adds peers to a device, or changes them. A range that another peer of the device has moves from that one to this.
    pub fn set_peers<'a>(
        &mut self,
        link: &str,
        peers: impl IntoIterator<Item = (PublicKey, &'a CipherPeer)>,
    ) -> Result<(), Error> {
        let changes: Vec<_> = peers.into_iter().map(|(key, peer)| (key, Change::Set(peer))).collect();
        self.change_peers(Operation::Replace, link, &changes)
    }

    /// Removes a peer of a device; that there is none does no harm.
    pub fn remove_peer(&mut self, link: &str, key: PublicKey) -> Result<(), Error> {
        self.change_peers(Operation::Delete, link, &[(key, Change::Remove)])
    }

    /// Invites peers of a device to a session before there is anything to send. The kernel tries for a while.
    pub fn greet(&mut self, link: &str, peers: &[PublicKey]) -> Result<(), Error> {
        // It writes to a peer at once when it is told to do so every so often, and it is not to go on.
        for seconds in [1, 0] {
            let changes: Vec<_> = peers.iter().map(|key| (*key, Change::KeepAlive(seconds))).collect();
            self.change_peers(Operation::Change, link, &changes)?;
        }
        Ok(())
    }

    fn change_peers(
        &mut self,
        operation: Operation,
        link: &str,
        changes: &[(PublicKey, Change<'_>)],
    ) -> Result<(), Error> {
        let about = match changes {
            [(key, _)] => format!(" peer {key}"),
            _ => format!(" {} peers", changes.len()),
        };
        let mut requests = message::set_peers(link, changes).into_iter();
        requests.try_for_each(|request| self.send(operation, link, &about, request))
    }

    fn send(&mut self, operation: Operation, link: &str, about: &str, request: Attributes) -> Result<(), Error> {
        let family = self.family()?;
        let sent = self.socket.write(family, request);
        sent.map_err(|cause| netlink::Error::new(operation, format!("wireguard {link}{about}"), cause).into())
    }

    fn family(&mut self) -> Result<FamilyId, Error> {
        if let Some(family) = self.family {
            return Ok(family);
        }
        let found = self
            .socket
            .family(FAMILY)
            .map_err(|error| if error.is_missing() { Error::Unsupported } else { error.into() })?;
        Ok(*self.family.insert(found))
    }
}
