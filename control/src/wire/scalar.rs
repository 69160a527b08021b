//! Names, addresses and numbers.

use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use ipnet::IpNet;
use towpath_net::Family;
use towpath_net::lease::Protocol;
use towpath_net::policy::identity;
use towpath_net::policy::input::Key;

use super::schema as wire;
use crate::malformed::{Fault, Malformed, Within};

/// The longest name of an object (RFC 1123 subdomain), in bytes.
const LONGEST_NAME: usize = 253;

/// A name.
pub fn read_name(name: String, field: &str) -> Result<String, Malformed> {
    if name.is_empty() || name.len() > LONGEST_NAME {
        return Err(Malformed::new(field, Fault::Length(name.len())));
    }
    Ok(name)
}

/// What a pod is told apart by.
pub fn read_uid(uid: String, field: &str) -> Result<String, Malformed> {
    if uid.is_empty() || uid.len() > identity::LONGEST {
        return Err(Malformed::new(field, Fault::Length(uid.len())));
    }
    Ok(uid)
}

pub fn read_key(key: wire::Key) -> Result<Key, Malformed> {
    Ok(Key { namespace: read_name(key.namespace, "namespace")?, name: read_name(key.name, "name")? })
}

pub fn write_key(key: &Key) -> wire::Key {
    wire::Key { namespace: key.namespace.clone(), name: key.name.clone() }
}

/// 4 or 16 bytes.
pub fn write_address(address: IpAddr) -> Bytes {
    match address {
        IpAddr::V4(v4) => Bytes::copy_from_slice(&v4.octets()),
        IpAddr::V6(v6) => Bytes::copy_from_slice(&v6.octets()),
    }
}

/// The address of 4 or of 16 bytes.
pub fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(v4));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// Addresses, at most one of each family.
pub fn read_addresses(all: &[Bytes], field: &str) -> Result<Vec<IpAddr>, Malformed> {
    let mut read: Vec<IpAddr> = Vec::with_capacity(all.len().min(2));
    for bytes in all {
        let address = address(bytes).ok_or_else(|| Malformed::new(field, Fault::Length(bytes.len())))?;
        if read.iter().any(|other| Family::of(*other) == Family::of(address)) {
            return Err(Malformed::new(field, Fault::Twice));
        }
        read.push(address);
    }
    Ok(read)
}

pub fn write_net(net: &IpNet) -> Bytes {
    let mut bytes = write_address(net.addr()).to_vec();
    bytes.put_u8(net.prefix_len());
    Bytes::from(bytes)
}

/// An address, and the length of the prefix behind it.
pub fn read_net(bytes: &[u8]) -> Result<IpNet, Malformed> {
    let wrong = || Malformed::new("prefix", Fault::Length(bytes.len()));
    let (length, rest) = bytes.split_last().ok_or_else(wrong)?;
    let address = address(rest).ok_or_else(wrong)?;
    IpNet::new(address, *length).map_err(|_| Malformed::new("prefix", Fault::Number(u64::from(*length))))
}

pub fn read_protocol(number: u32) -> Result<Protocol, Malformed> {
    let known = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    let found = known.into_iter().find(|protocol| u32::from(protocol.number()) == number);
    found.ok_or_else(|| Malformed::new("protocol", Fault::Number(u64::from(number))))
}

pub fn read_port(number: u32, field: &str) -> Result<u16, Malformed> {
    u16::try_from(number).map_err(|_| Malformed::new(field, Fault::Number(u64::from(number))))
}

/// Reads each entry of a list.
pub fn read_all<T, R>(all: Vec<T>, field: &str, read: impl Fn(T) -> Result<R, Malformed>) -> Result<Vec<R>, Malformed> {
    all.into_iter().map(|one| read(one).within(field)).collect()
}
