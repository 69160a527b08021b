//! What is asked of CIDRs: whether they are written right, overlap, or are taken.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::Problem;
use crate::family::{Family, PerFamily, bits};
use crate::state::NodeName;

/// Ranges that no pod, Service or node can have an address of.
///
/// RFC 6890 and RFC 4291, section 2.4: this host, loopback, link-local, multicast and what is beyond; for IPv6
/// everything below `100::` holds the unspecified, loopback and mapped addresses.
const RESERVED: [&str; 7] =
    ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3", "::/8", "fe80::/10", "ff00::/8"];

/// Reads a CIDR as the Kubernetes API would: no host bits, no IPv4 address dressed as IPv6.
pub fn parse(text: &str) -> Result<IpNet, Problem> {
    let net: IpNet = text.parse().map_err(|_| Problem::NotCidr)?;
    match net {
        IpNet::V6(v6) if v6.addr().to_ipv4_mapped().is_some() => Err(Problem::NotCidr),
        _ if net.addr() != net.network() => Err(Problem::HostBits { canonical: net.trunc() }),
        _ => Ok(net),
    }
}

/// Whether two CIDRs share an address; for CIDRs that is when one holds the other.
pub fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// The range without usable addresses that `net` touches.
pub fn reserved(net: &IpNet) -> Option<IpNet> {
    RESERVED.iter().filter_map(|r| r.parse().ok()).find(|r| overlap(r, net))
}

/// CIDRs as one text, for people to read.
pub fn join(cidrs: &[IpNet]) -> String {
    cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// CIDRs as one text of at most `most` bytes: all of them, or the first ones and how many more.
pub fn abridge(cidrs: &[IpNet], most: usize) -> String {
    let all = join(cidrs);
    if all.len() <= most {
        return all;
    }
    let some =
        (0..cidrs.len()).rev().map(|shown| format!("{} and {} more", join(&cidrs[..shown]), cidrs.len() - shown));
    some.map(|text| text.trim_start().to_owned()).find(|text| text.len() <= most).unwrap_or_default()
}

/// CIDRs and who has them, answering what overlaps in the logarithm of their number.
///
/// What is held is kept disjoint: of two that overlap, the larger stays.
#[derive(Clone, Debug, Default)]
pub struct Taken(PerFamily<BTreeMap<u128, Held>>);

#[derive(Clone, Debug)]
struct Held {
    last: u128,
    by: NodeName,
}

impl Taken {
    /// Who has an address of `net`, if anybody.
    pub fn holder(&self, net: &IpNet) -> Option<&NodeName> {
        self.overlapping(Family::of_net(net), bits(net.broadcast()), bits(net.network())).map(|held| &held.by)
    }

    /// The last address of what overlaps the addresses from `first` to `last`.
    pub(crate) fn end_of_overlap(&self, family: Family, first: u128, last: u128) -> Option<u128> {
        self.overlapping(family, last, first).map(|held| held.last)
    }

    fn overlapping(&self, family: Family, last: u128, first: u128) -> Option<&Held> {
        self.0.get(family).range(..=last).next_back().map(|(_, held)| held).filter(|held| held.last >= first)
    }

    /// Says that `by` has `net`.
    pub fn take(&mut self, net: &IpNet, by: &NodeName) {
        let (first, last) = (bits(net.network()), bits(net.broadcast()));
        let map = self.0.get_mut(Family::of_net(net));
        let covered = map.range(..=first).next_back().is_some_and(|(_, held)| held.last >= last);
        if covered {
            return;
        }
        let within: Vec<u128> = map.range(first..=last).map(|(start, _)| *start).collect();
        for start in within {
            map.remove(&start);
        }
        map.insert(first, Held { last, by: by.clone() });
    }
}
