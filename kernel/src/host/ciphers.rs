//! The WireGuard devices among the node's own links.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use towpath_net::observed::{Cipher, CipherPeer};
use towpath_net::ops::Op;
use towpath_net::transport::PublicKey;

use super::HostKernel;
use super::write::Outcome;
use crate::kernel::KernelError;
use crate::wireguard::{Device, Error, KeyRing, WireGuard};

/// How long a session lasts (`REJECT_AFTER_TIME`).
const SESSION: Duration = Duration::from_secs(180);

/// A socket for them, and the private keys that they may be given.
pub(super) struct Ciphers {
    socket: WireGuard,
    keys: KeyRing,
    /// Where peers of each device were said to be.
    said: BTreeMap<String, BTreeMap<PublicKey, SocketAddr>>,
    /// How many peers had how old a handshake when each device was last read.
    counts: BTreeMap<String, Handshakes>,
}

/// How many peers of a device had a handshake when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// Recently: there is a session.
    pub recent: u64,
    /// Some time ago.
    pub older: u64,
    /// Never.
    pub never: u64,
}

/// Whether an operation is about a WireGuard device besides the link.
pub(super) const fn is_cipher(op: &Op) -> bool {
    matches!(op, Op::SetCipher { .. } | Op::SetCipherPeer { .. } | Op::DeleteCipherPeer { .. })
}

impl Ciphers {
    /// In the calling thread's network namespace.
    pub fn open() -> Result<Self, KernelError> {
        Ok(Self {
            socket: WireGuard::open()?,
            keys: KeyRing::default(),
            said: BTreeMap::new(),
            counts: BTreeMap::new(),
        })
    }

    /// How many requests that change something were sent.
    pub const fn writes(&self) -> u64 {
        self.socket.writes()
    }

    /// Reads devices; one that went meanwhile is left out.
    pub fn read<'a>(
        &mut self,
        links: impl IntoIterator<Item = &'a str>,
    ) -> Result<BTreeMap<String, Cipher>, KernelError> {
        let mut found = BTreeMap::new();
        self.counts.clear();
        for link in links {
            match self.socket.device(link) {
                Ok(device) => _ = found.insert(link.to_owned(), self.judge(link, device)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(found)
    }

    /// What matters of a device. The kernel follows a peer that has a session to wherever its packets come from, which
    /// nobody has to put right: it counts as being where it was said to be.
    fn judge(&mut self, link: &str, mut device: Device) -> Cipher {
        let said = self.said.get(link);
        let mut counts = Handshakes::default();
        for (key, peer) in &mut device.peers {
            let age = peer.handshake.map(|at| at.elapsed().unwrap_or_default());
            match age {
                Some(age) if age <= SESSION => {
                    counts.recent += 1;
                    let said = said.and_then(|said| said.get(key)).copied();
                    peer.peer.endpoint = said.or(peer.peer.endpoint);
                }
                Some(_) => counts.older += 1,
                None => counts.never += 1,
            }
        }
        self.counts.insert(link.to_owned(), counts);
        device.into()
    }

    fn note(&mut self, link: &str, peers: impl Iterator<Item = (PublicKey, Option<SocketAddr>)>) {
        let said = self.said.entry(link.to_owned()).or_default();
        for (key, endpoint) in peers {
            match endpoint {
                Some(endpoint) => _ = said.insert(key, endpoint),
                None => _ = said.remove(&key),
            }
        }
    }

    /// Does operations of [`is_cipher`], and tells what became of each: those of many peers in few system calls.
    pub fn execute(&mut self, ops: &[Op], outcomes: &mut Vec<Outcome>) {
        let mut rest = ops;
        while let Some((first, others)) = rest.split_first() {
            let Some(link) = added_to(first) else {
                outcomes.push(self.execute_one(first));
                rest = others;
                continue;
            };
            let (these, others) = rest.split_at(rest.iter().take_while(|op| added_to(op) == Some(link)).count());
            let set = self.socket.set_peers(link, these.iter().filter_map(added));
            match set {
                Ok(()) => {
                    self.note(link, these.iter().filter_map(added).map(|(key, peer)| (key, peer.endpoint)));
                    outcomes.extend(these.iter().map(|_| Ok(())));
                }
                // Which of them it was shows when each goes alone.
                Err(_) if these.len() > 1 => outcomes.extend(these.iter().map(|op| self.execute_one(op))),
                Err(error) => outcomes.push(Err(error.into())),
            }
            rest = others;
        }
    }

    fn execute_one(&mut self, op: &Op) -> Outcome {
        match op {
            Op::SetCipher { link, key, port } => {
                let unknown = || Error::NoPrivateKey { link: link.clone(), key: *key };
                let private = self.keys.get(key).ok_or_else(unknown)?;
                self.socket.set_key(link, private, *port)?;
            }
            Op::SetCipherPeer { link, key, peer } => {
                self.socket.set_peers(link, [(*key, peer)])?;
                self.note(link, [(*key, peer.endpoint)].into_iter());
            }
            Op::DeleteCipherPeer { link, key } => {
                self.note(link, [(*key, None)].into_iter());
                self.socket.remove_peer(link, *key)?;
            }
            other => return Err(KernelError::Gone(other.object())),
        }
        Ok(())
    }
}

/// The device that an operation adds a peer to.
fn added_to(op: &Op) -> Option<&str> {
    match op {
        Op::SetCipherPeer { link, .. } => Some(link),
        _ => None,
    }
}

/// The peer that it adds.
const fn added(op: &Op) -> Option<(PublicKey, &CipherPeer)> {
    match op {
        Op::SetCipherPeer { key, peer, .. } => Some((*key, peer)),
        _ => None,
    }
}

impl HostKernel {
    /// Takes the private keys that operations may name by their public halves, in place of all that it had.
    pub fn hold_keys(&mut self, keys: KeyRing) {
        self.ciphers.keys = keys;
    }

    /// How many peers of a WireGuard device had how old a handshake when it was last observed; nothing where it was not there.
    pub fn handshakes(&self, link: &str) -> Option<Handshakes> {
        self.ciphers.counts.get(link).copied()
    }

    /// A WireGuard device with all that the kernel tells of its peers; nothing while it is not there.
    pub fn sessions(&mut self, link: &str) -> Result<Option<Device>, KernelError> {
        match self.ciphers.socket.device(link) {
            Ok(device) => Ok(Some(device)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Invites peers of a WireGuard device to a session before there is anything to send.
    pub fn greet(&mut self, link: &str, peers: &[PublicKey]) -> Result<(), KernelError> {
        Ok(self.ciphers.socket.greet(link, peers)?)
    }
}
