//! Peers.

use bytes::Bytes;
use towpath_net::state::{NodeName, Peer};
use towpath_net::transport::{Keys, PublicKey, Slot, Transport};

use super::scalar::{read_addresses, read_all, read_name, read_net, write_address, write_net};
use super::schema as wire;
use crate::malformed::{Fault, Malformed, Within};

pub fn write_named(name: &NodeName, peer: Option<&Peer>) -> wire::NamedPeer {
    wire::NamedPeer { name: name.0.clone(), peer: peer.map(write) }
}

pub fn read_named(named: wire::NamedPeer) -> Result<(NodeName, Option<Peer>), Malformed> {
    let name = read_name(named.name, "name")?;
    let peer = named.peer.map(read).transpose().within("peer")?;
    Ok((NodeName(name), peer))
}

fn write(peer: &Peer) -> wire::Peer {
    wire::Peer {
        addresses: peer.addresses.iter().map(|address| write_address(*address)).collect(),
        pod_cidrs: peer.pod_cidrs.iter().map(write_net).collect(),
        accepts: peer.accepts.iter().map(|transport| number(*transport)).collect(),
        keys: peer.keys.as_ref().map(write_keys),
    }
}

fn read(peer: wire::Peer) -> Result<Peer, Malformed> {
    Ok(Peer {
        addresses: read_addresses(&peer.addresses, "addresses")?,
        pod_cidrs: read_all(peer.pod_cidrs, "podCIDRs", |net| read_net(&net))?,
        accepts: read_all(peer.accepts, "accepts", transport)?,
        keys: peer.keys.map(|keys| read_keys(&keys)).transpose().within("keys")?,
    })
}

/// Of the schema: these numbers never change.
const fn number(transport: Transport) -> u32 {
    match transport {
        Transport::Direct => 1,
        Transport::Ipip => 2,
        Transport::Vxlan => 3,
        Transport::Geneve => 4,
        Transport::WireGuard => 5,
    }
}

fn transport(wanted: u32) -> Result<Transport, Malformed> {
    let found = Transport::ALL.into_iter().find(|transport| number(*transport) == wanted);
    found.ok_or_else(|| Malformed::new("transport", Fault::Number(u64::from(wanted))))
}

fn write_keys(keys: &Keys) -> wire::Keys {
    let write = |key: Option<PublicKey>| key.map(|key| Bytes::copy_from_slice(&key.0)).unwrap_or_default();
    let active = match keys.active {
        Slot::First => 1,
        Slot::Second => 2,
    };
    wire::Keys { first: write(keys.first), second: write(keys.second), active }
}

fn read_keys(keys: &wire::Keys) -> Result<Keys, Malformed> {
    let active = match keys.active {
        1 => Slot::First,
        2 => Slot::Second,
        other => return Err(Malformed::new("active", Fault::Number(u64::from(other)))),
    };
    Ok(Keys { first: read_public(&keys.first, "first")?, second: read_public(&keys.second, "second")?, active })
}

fn read_public(bytes: &[u8], field: &str) -> Result<Option<PublicKey>, Malformed> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let key = <[u8; 32]>::try_from(bytes).map_err(|_| Malformed::new(field, Fault::Length(bytes.len())))?;
    Ok(Some(PublicKey(key)))
}
