//! Members of sets: of fixed size, one behind the other.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bytes::{BufMut, Bytes};
use towpath_net::Family;
use towpath_net::family::bits;
use towpath_net::lease::Protocol;
use towpath_net::policy::bundle::{AddressPort, Members};
use towpath_net::ranges::Range;

use super::scalar::{address, read_protocol};
use super::schema as wire;
use crate::malformed::{Fault, Malformed};

/// Of the schema: these numbers never change.
const ADDRESSES: u32 = 1;
const PORTS: u32 = 2;
const RANGES: u32 = 3;

/// Both families, while they are written.
#[derive(Default)]
struct Columns {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl Columns {
    /// Writes an address, and tells where the rest of its member goes.
    fn address(&mut self, address: IpAddr) -> &mut Vec<u8> {
        match address {
            IpAddr::V4(v4) => {
                self.v4.put_slice(&v4.octets());
                &mut self.v4
            }
            IpAddr::V6(v6) => {
                self.v6.put_slice(&v6.octets());
                &mut self.v6
            }
        }
    }

    fn finish(self, kind: u32) -> wire::Members {
        wire::Members { kind, v4: Bytes::from(self.v4), v6: Bytes::from(self.v6) }
    }
}

/// The members in messages of at most `most` each; one that is empty where there are none, for the kind must be known.
/// Ranges are few, and never parted.
pub fn write(members: &Members, most: usize) -> Vec<wire::Members> {
    match members {
        Members::Addresses(all) => pieces(ADDRESSES, all.iter(), most, |columns, member| {
            columns.address(*member);
        }),
        Members::Ports(all) => pieces(PORTS, all.iter(), most, |columns, member| {
            let rest = columns.address(member.address);
            rest.put_u8(member.protocol.number());
            rest.put_u16(member.port);
        }),
        Members::Ranges(all) => pieces(RANGES, all.iter(), usize::MAX, |columns, member| {
            columns.address(member.first);
            columns.address(member.last);
        }),
    }
}

fn pieces<T>(
    kind: u32,
    mut all: impl ExactSizeIterator<Item = T>,
    most: usize,
    put: impl Fn(&mut Columns, T),
) -> Vec<wire::Members> {
    let mut pieces = Vec::with_capacity(all.len() / most + 1);
    loop {
        let mut columns = Columns::default();
        for member in all.by_ref().take(most) {
            put(&mut columns, member);
        }
        pieces.push(columns.finish(kind));
        if all.len() == 0 {
            return pieces;
        }
    }
}

pub fn read(members: &wire::Members) -> Result<Members, Malformed> {
    Ok(match members.kind {
        ADDRESSES => Members::Addresses(read_addresses(members)?),
        PORTS => Members::Ports(read_ports(members)?),
        RANGES => Members::Ranges(read_ranges(members)?),
        other => return Err(Malformed::new("kind", Fault::Number(u64::from(other)))),
    })
}

/// The members of one family, of `size` bytes each.
fn chunks<'a>(bytes: &'a [u8], size: usize, field: &str) -> Result<std::slice::ChunksExact<'a, u8>, Malformed> {
    let chunks = bytes.chunks_exact(size);
    if !chunks.remainder().is_empty() {
        return Err(Malformed::new(field, Fault::Length(bytes.len())));
    }
    Ok(chunks)
}

fn read_addresses(members: &wire::Members) -> Result<BTreeSet<IpAddr>, Malformed> {
    let v4 = chunks(&members.v4, 4, "v4")?;
    let v6 = chunks(&members.v6, 16, "v6")?;
    Ok(v4.chain(v6).filter_map(address).collect())
}

fn read_ports(members: &wire::Members) -> Result<BTreeSet<AddressPort>, Malformed> {
    let v4 = chunks(&members.v4, 7, "v4")?;
    let v6 = chunks(&members.v6, 19, "v6")?;
    v4.chain(v6).map(read_port).collect()
}

fn read_port(bytes: &[u8]) -> Result<AddressPort, Malformed> {
    let wrong = || Malformed::new("port", Fault::Length(bytes.len()));
    let (rest, port) = bytes.split_last_chunk::<2>().ok_or_else(wrong)?;
    let (protocol, rest) = rest.split_last().ok_or_else(wrong)?;
    let protocol: Protocol = read_protocol(u32::from(*protocol))?;
    Ok(AddressPort { address: address(rest).ok_or_else(wrong)?, protocol, port: u16::from_be_bytes(*port) })
}

fn read_ranges(members: &wire::Members) -> Result<Vec<Range>, Malformed> {
    let v4 = chunks(&members.v4, 8, "v4")?;
    let v6 = chunks(&members.v6, 32, "v6")?;
    let mut all: Vec<Range> = Vec::with_capacity(v4.len() + v6.len());
    for bytes in v4.chain(v6) {
        let (first, last) = bytes.split_at(bytes.len() / 2);
        let wrong = || Malformed::new("range", Fault::Length(bytes.len()));
        let range = Range { first: address(first).ok_or_else(wrong)?, last: address(last).ok_or_else(wrong)? };
        if range.first > range.last || all.last().is_some_and(|before| !is_apart(before.last, range.first)) {
            return Err(Malformed::new("range", Fault::Order));
        }
        all.push(range);
    }
    Ok(all)
}

/// Whether there is at least one address between two, or the border between the families.
fn is_apart(before: IpAddr, behind: IpAddr) -> bool {
    if Family::of(before) == Family::of(behind) {
        bits(behind).saturating_sub(bits(before)) > 1
    } else {
        before < behind
    }
}
