//! Links of the made-up kernel, and what is on them.

use towpath_net::device::{BRIDGE, Device, DeviceKind, is_device};
use towpath_net::mac::Mac;
use towpath_net::observed::{Cipher, CipherPeer, Forwarding, Link, Neighbour, Station};
use towpath_net::transport::PublicKey;

use super::{FakeKernel, Outcome};
use crate::kernel::KernelError;

impl FakeKernel {
    pub(super) fn make_device(&mut self, name: &str, device: &Device, anew: bool) -> Outcome {
        if anew && !self.remove_link(name) {
            return Err(KernelError::Gone(format!("link {name}")));
        }
        if self.state.devices.contains_key(name) {
            return Err(KernelError::Exists(format!("link {name}")));
        }
        if device.kind == DeviceKind::WireGuard {
            self.state.ciphers.insert(name.to_owned(), Cipher::default());
        }
        self.state.devices.insert(name.to_owned(), device.clone());
        Ok(())
    }

    /// The neighbours of a device are forgotten when its address changes, and everything that leads to it when it goes
    /// down.
    pub(super) fn set_device(&mut self, name: &str, device: &Device) -> Outcome {
        let gone = || KernelError::Gone(format!("link {name}"));
        let seen = self.state.devices.get_mut(name).ok_or_else(gone)?;
        let changed = seen.mac != device.mac || !device.up;
        (seen.mac, seen.mtu, seen.up) = (device.mac, device.mtu, device.up);
        if changed {
            self.state.neighbours.retain(|neighbour, _| neighbour.link != name);
        }
        if !device.up {
            self.remove_routes_of(name);
        }
        Ok(())
    }

    pub(super) fn set_link(&mut self, name: &str, link: Link) -> Outcome {
        self.link_exists(name)?;
        if link.bridged {
            self.link_exists(BRIDGE)?;
        } else {
            self.state.stations.retain(|station, _| station.link != name);
        }
        self.state.links.insert(name.to_owned(), link);
        Ok(())
    }

    /// With a link goes all that is on it and leads to it.
    pub(super) fn remove_link(&mut self, name: &str) -> bool {
        let state = &mut self.state;
        state.addresses.retain(|address| address.link != name);
        state.neighbours.retain(|neighbour, _| neighbour.link != name);
        state.stations.retain(|station, _| station.link != name);
        state.sysctls.retain(|key, _| key.link() != Some(name));
        state.ciphers.remove(name);
        if name == BRIDGE {
            state.stations.retain(|station, _| is_device(&station.link));
            state.links.values_mut().for_each(|link| link.bridged = false);
        }
        self.remove_routes_of(name);
        self.state.links.remove(name).is_some() || self.state.devices.remove(name).is_some()
    }

    pub(super) fn set_neighbour(&mut self, neighbour: &Neighbour, mac: Mac) -> Outcome {
        self.link_exists(&neighbour.link)?;
        self.state.neighbours.insert(*neighbour, mac);
        Ok(())
    }

    pub(super) fn set_station(&mut self, station: &Station, to: Forwarding) -> Outcome {
        self.link_exists(&station.link)?;
        let is_port = self.state.links.get(&*station.link).is_some_and(|link| link.bridged);
        let fits = match to {
            Forwarding::To(_) => is_device(&station.link),
            Forwarding::Port => is_port,
        };
        if !fits {
            return Err(KernelError::Gone(format!("the forwarding table of {}", station.link)));
        }
        self.state.stations.insert(*station, to);
        Ok(())
    }

    pub(super) fn set_cipher(&mut self, link: &str, key: PublicKey, port: u16) -> Outcome {
        let cipher = self.cipher(link)?;
        (cipher.public_key, cipher.port) = (Some(key), port);
        Ok(())
    }

    pub(super) fn set_cipher_peer(&mut self, link: &str, key: PublicKey, peer: &CipherPeer) -> Outcome {
        let cipher = self.cipher(link)?;
        // What one peer may send from, no other may.
        for (_, other) in cipher.peers.iter_mut().filter(|(other, _)| **other != key) {
            other.allowed.retain(|net| !peer.allowed.contains(net));
        }
        cipher.peers.insert(key, peer.clone());
        Ok(())
    }

    pub(super) fn remove_cipher_peer(&mut self, link: &str, key: PublicKey) -> bool {
        self.cipher(link).is_ok_and(|cipher| cipher.peers.remove(&key).is_some())
    }

    fn cipher(&mut self, link: &str) -> Result<&mut Cipher, KernelError> {
        self.state.ciphers.get_mut(link).ok_or_else(|| KernelError::Gone(format!("wireguard {link}")))
    }
}
