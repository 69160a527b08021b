//! Which address a pod gets: the one after the last that was given, so that addresses are reused as late as possible.

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::{Family, bits};
use crate::ranges::{Range, merge};
use crate::state::Attachment;

/// The gateway of a block, for pods that have one in it: its first address after the network's own.
pub fn gateway(block: &IpNet) -> IpAddr {
    Family::of_net(block).address(bits(block.network()).saturating_add(1))
}

/// What an address of a block is for, where it is for no pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The network's own address (IPv6: the subnet-router anycast address, RFC 4291 section 2.6.1): the node's on its
    /// tunnels.
    Network,
    /// The node's own towards its pods.
    Gateway,
    /// The broadcast address, which only IPv4 has.
    Broadcast,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network address",
            Self::Gateway => "gateway",
            Self::Broadcast => "broadcast address",
        })
    }
}

/// What an address of a block is for, where pods are attached by `mode`; nothing where a pod may have it.
pub fn role(block: &IpNet, mode: Attachment, address: IpAddr) -> Option<Role> {
    if address == block.network() {
        Some(Role::Network)
    } else if address == gateway(block) && has_gateway(mode) {
        Some(Role::Gateway)
    } else if address == block.broadcast() && Family::of(address) == Family::V4 {
        Some(Role::Broadcast)
    } else {
        None
    }
}

/// Whether pods have a gateway in their block.
pub const fn has_gateway(mode: Attachment) -> bool {
    match mode {
        Attachment::Routed | Attachment::Bridge => true,
        Attachment::LinkLocal => false,
    }
}

/// The addresses of a block that pods may have, as the first and the last; nothing where the block is too small.
pub(crate) fn usable(block: &IpNet, mode: Attachment) -> Option<(u128, u128)> {
    let broadcast = u128::from(Family::of_net(block) == Family::V4);
    let first = bits(block.network()).checked_add(1 + u128::from(has_gateway(mode)))?;
    let last = bits(block.broadcast()).checked_sub(broadcast)?;
    (first <= last).then_some((first, last))
}

/// The first free address after `last`, through the blocks in their order and, behind their end, from the beginning
/// again; nothing where all are taken.
///
/// All blocks are of one family. Addresses in `reserved` are passed over at once, however many they are.
pub fn next(
    blocks: &[IpNet],
    mode: Attachment,
    reserved: &[IpNet],
    last: Option<IpAddr>,
    mut is_taken: impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let family = Family::of_net(blocks.first()?);
    let reserved = merge(family, reserved);
    let usable = |block: &IpNet| usable(block, mode);
    let mut free = |(first, end)| first_free(family, first, end, &reserved, &mut is_taken);
    let at = last.and_then(|last| blocks.iter().position(|block| block.contains(&last)).map(|at| (at, bits(last))));
    let Some((at, last)) = at else {
        return blocks.iter().filter_map(usable).find_map(free);
    };
    let (before, rest) = blocks.split_at(at);
    let (current, behind) = rest.split_first()?;
    let current = usable(current);
    let upper = current.and_then(|(first, end)| Some((last.checked_add(1)?.max(first), end)));
    let lower = current.map(|(first, end)| (first, end.min(last)));
    let round = upper.into_iter().chain(behind.iter().filter_map(usable)).chain(before.iter().filter_map(usable));
    round.chain(lower).find_map(&mut free)
}

fn first_free(
    family: Family,
    first: u128,
    end: u128,
    reserved: &[Range],
    is_taken: &mut impl FnMut(IpAddr) -> bool,
) -> Option<IpAddr> {
    let mut at = first;
    while at <= end {
        let address = family.address(at);
        let passed = match reserved.iter().find(|range| (range.first..=range.last).contains(&address)) {
            Some(range) => bits(range.last),
            None if is_taken(address) => at,
            None => return Some(address),
        };
        at = passed.checked_add(1)?;
    }
    None
}
