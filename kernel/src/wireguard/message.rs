//! WireGuard's messages (`linux/wireguard.h`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::observed::CipherPeer;
use towpath_net::transport::PublicKey;

use super::{Device, Peer, PrivateKey};
use crate::address::address_family;
use crate::netlink::attributes::Attributes;
use crate::netlink::{Attribute, Content, generic};

/// Commands.
const WG_CMD_GET_DEVICE: u8 = 0;
const WG_CMD_SET_DEVICE: u8 = 1;
/// Attributes of a device.
const WGDEVICE_A_IFNAME: u16 = 2;
const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_FWMARK: u16 = 7;
const WGDEVICE_A_PEERS: u16 = 8;
/// Attributes of a peer.
const WGPEER_A_PUBLIC_KEY: u16 = 1;
const WGPEER_A_FLAGS: u16 = 3;
const WGPEER_A_ENDPOINT: u16 = 4;
const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
const WGPEER_A_RX_BYTES: u16 = 7;
const WGPEER_A_TX_BYTES: u16 = 8;
const WGPEER_A_ALLOWEDIPS: u16 = 9;
/// Flags of a peer.
const WGPEER_F_REMOVE_ME: u32 = 1;
const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
const WGPEER_F_UPDATE_ONLY: u32 = 4;
/// Attributes of a range that a peer may send from.
const WGALLOWEDIP_A_FAMILY: u16 = 1;
const WGALLOWEDIP_A_IPADDR: u16 = 2;
const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;

/// How much of a request peers may take, in bytes: well below the 64 KiB that the length of an attribute can tell.
const PEERS: usize = 32 * 1024;

/// What is to become of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// It is there, as given; how often it is written to stays as it is.
    Set(&'a CipherPeer),
    /// Where it is there, it is written to at least this often, in seconds; never without need where this is 0.
    KeepAlive(u16),
    /// It is not there.
    Remove,
}

/// The request for everything about a device. The answer takes as many messages as it needs.
pub(super) fn get(link: &str) -> Attributes {
    let mut body = generic::attributes(WG_CMD_GET_DEVICE);
    body.put_text(WGDEVICE_A_IFNAME, link);
    body
}

/// The request for a device to have this key, and to listen at this port.
pub(super) fn set_key(link: &str, key: &PrivateKey, port: u16) -> Attributes {
    let mut body = generic::attributes(WG_CMD_SET_DEVICE);
    body.put_text(WGDEVICE_A_IFNAME, link);
    body.put(WGDEVICE_A_LISTEN_PORT, &port.to_ne_bytes());
    // Whatever mark somebody gave its packets would send them another way.
    body.put_number(WGDEVICE_A_FWMARK, 0);
    // The last one: whatever came behind could move it, and leave a copy in memory.
    body.put(WGDEVICE_A_PRIVATE_KEY, key.bytes().as_slice());
    body
}

/// The requests for changes of a device's peers, as few as they fit in.
pub(super) fn set_peers(link: &str, changes: &[(PublicKey, Change<'_>)]) -> Vec<Attributes> {
    let mut requests = Vec::new();
    let mut list = Attributes::default();
    for (key, change) in changes {
        let mut one = Attributes::default();
        one.nest(0, |peer| put_peer(peer, *key, *change));
        if list.length() + one.length() > PEERS {
            requests.push(with_peers(link, &std::mem::take(&mut list)));
        }
        list.append(&one);
    }
    if list.length() > 0 {
        requests.push(with_peers(link, &list));
    }
    requests
}

fn with_peers(link: &str, list: &Attributes) -> Attributes {
    let mut body = generic::attributes(WG_CMD_SET_DEVICE);
    body.put_text(WGDEVICE_A_IFNAME, link);
    body.nest(WGDEVICE_A_PEERS, |peers| {
        peers.append(list);
    });
    body
}

fn put_peer(peer: &mut Attributes, key: PublicKey, change: Change<'_>) {
    peer.put(WGPEER_A_PUBLIC_KEY, &key.0);
    match change {
        Change::Set(wanted) => {
            peer.put_number(WGPEER_A_FLAGS, WGPEER_F_REPLACE_ALLOWEDIPS);
            if let Some(endpoint) = wanted.endpoint {
                peer.put(WGPEER_A_ENDPOINT, &socket_address(endpoint));
            }
            peer.nest(WGPEER_A_ALLOWEDIPS, |list| {
                for net in &wanted.allowed {
                    list.nest(0, |allowed| put_allowed(allowed, *net));
                }
            });
        }
        Change::KeepAlive(seconds) => {
            peer.put_number(WGPEER_A_FLAGS, WGPEER_F_UPDATE_ONLY);
            peer.put(WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL, &seconds.to_ne_bytes());
        }
        Change::Remove => {
            peer.put_number(WGPEER_A_FLAGS, WGPEER_F_REMOVE_ME);
        }
    }
}

fn put_allowed(allowed: &mut Attributes, net: IpNet) {
    let family = u16::from(address_family(Family::of_net(&net)));
    allowed.put(WGALLOWEDIP_A_FAMILY, &family.to_ne_bytes());
    allowed.put_address(WGALLOWEDIP_A_IPADDR, net.network());
    allowed.put(WGALLOWEDIP_A_CIDR_MASK, &[net.prefix_len()]);
}

/// `struct sockaddr_in` and `struct sockaddr_in6`.
fn socket_address(address: SocketAddr) -> Vec<u8> {
    let family = u16::from(address_family(Family::of(address.ip())));
    let mut bytes = family.to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend([0; 4]);
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// Adds what one message of an answer tells. A device with many peers takes several, and so does a peer with many
/// ranges: it is there again in the next one with the rest of them.
pub(super) fn merge(device: &mut Device, content: Content<'_>) {
    for attribute in content.iter() {
        match attribute.kind {
            WGDEVICE_A_PUBLIC_KEY => device.public_key = public_key(attribute.value),
            WGDEVICE_A_LISTEN_PORT => device.port = number(attribute.value).unwrap_or_default(),
            WGDEVICE_A_PEERS => attribute.nested().for_each(|peer| merge_peer(&mut device.peers, peer.content())),
            _ => {}
        }
    }
}

fn merge_peer(peers: &mut BTreeMap<PublicKey, Peer>, content: Content<'_>) {
    let Some(key) = content.get(WGPEER_A_PUBLIC_KEY).and_then(|key| public_key(key.value)) else { return };
    let peer = peers.entry(key).or_default();
    for attribute in content.iter() {
        let value = attribute.value;
        match attribute.kind {
            WGPEER_A_ENDPOINT => peer.peer.endpoint = endpoint(value),
            WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL => peer.keepalive = number(value).unwrap_or_default(),
            WGPEER_A_LAST_HANDSHAKE_TIME => peer.handshake = moment(value),
            WGPEER_A_RX_BYTES => peer.received = value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
            WGPEER_A_TX_BYTES => peer.sent = value.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
            WGPEER_A_ALLOWEDIPS => merge_allowed(&mut peer.peer.allowed, attribute),
            _ => {}
        }
    }
}

fn merge_allowed(allowed: &mut BTreeSet<IpNet>, list: Attribute<'_>) {
    let read = |range: Attribute<'_>| {
        let content = range.content();
        let address = content.get(WGALLOWEDIP_A_IPADDR)?.address()?;
        let length = *content.get(WGALLOWEDIP_A_CIDR_MASK)?.value.first()?;
        IpNet::new(address, length).ok()
    };
    allowed.extend(list.nested().filter_map(read));
}

/// A key; the kernel may tell one of zeros where there is none.
fn public_key(value: &[u8]) -> Option<PublicKey> {
    <[u8; 32]>::try_from(value).ok().filter(|bytes| *bytes != [0; 32]).map(PublicKey)
}

fn number(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn endpoint(value: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*value.get(2..)?.first_chunk()?);
    let v4 = || value.get(4..)?.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes));
    let v6 = || value.get(8..)?.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes));
    let ip = match number(value).and_then(|family| u8::try_from(family).ok()) {
        Some(family) if family == address_family(Family::V4) => v4(),
        Some(family) if family == address_family(Family::V6) => v6(),
        _ => None,
    };
    ip.map(|ip| SocketAddr::new(ip, port))
}

/// `struct __kernel_timespec`; zero where there never was any.
fn moment(value: &[u8]) -> Option<SystemTime> {
    let part = |at: usize| value.get(at..)?.first_chunk().map(|bytes| u64::from_ne_bytes(*bytes));
    let (seconds, nanoseconds) = (part(0)?, part(8)?);
    let since = Duration::new(seconds, u32::try_from(nanoseconds).ok()?);
    (!since.is_zero()).then(|| SystemTime::UNIX_EPOCH.checked_add(since)).flatten()
}

#[cfg(test)]
#[path = "message/tests.rs"]
mod tests;
