//! Which address a pod gets: the one after the last that was given, so that addresses are reused as late as possible.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::family::{Family, bits};

/// The gateway of a pod CIDR: its first address after the network's own.
pub fn gateway(pool: &IpNet) -> IpAddr {
    Family::of_net(pool).address(bits(pool.network()).saturating_add(1))
}

/// The addresses of a pool that pods may have, as the first and the last; nothing where the pool is too small.
///
/// The network's own address (IPv6: the subnet-router anycast address, RFC 4291 section 2.6.1), the gateway, and for
/// IPv4 the broadcast address are left out.
fn usable(pool: &IpNet) -> Option<(u128, u128)> {
    let reserved_end = u128::from(Family::of_net(pool) == Family::V4);
    let first = bits(pool.network()).checked_add(2)?;
    let last = bits(pool.broadcast()).checked_sub(reserved_end)?;
    (first <= last).then_some((first, last))
}

/// The first free address after `last`, beginning anew behind the end of the pool; nothing where all are taken.
pub fn next(pool: &IpNet, last: Option<IpAddr>, is_taken: impl Fn(IpAddr) -> bool) -> Option<IpAddr> {
    let (first, end) = usable(pool)?;
    let family = Family::of_net(pool);
    let given = last.filter(|address| Family::of(*address) == family).map(bits);
    let start = given.and_then(|given| given.checked_add(1)).filter(|next| (first..=end).contains(next));
    let start = start.unwrap_or(first);
    let after = (start..=end).chain(first..start).map(|value| family.address(value));
    after.into_iter().find(|address| !is_taken(*address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pick(pool: &str, last: Option<&str>, taken: &[&str]) -> Option<IpAddr> {
        let taken: Vec<IpAddr> = taken.iter().map(|t| ip(t)).collect();
        next(&pool.parse().unwrap(), last.map(ip), |address| taken.contains(&address))
    }

    #[test]
    fn the_first_pod_gets_the_second_address_after_the_networks_own() {
        assert_eq!(pick("10.244.1.0/24", None, &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("fd00:1::/64", None, &[]), Some(ip("fd00:1::2")));
        assert_eq!(gateway(&"10.244.1.0/24".parse().unwrap()), ip("10.244.1.1"));
        assert_eq!(gateway(&"fd00:1::/64".parse().unwrap()), ip("fd00:1::1"));
    }

    #[test]
    fn an_address_just_freed_is_not_the_next_one() {
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &[]), Some(ip("10.244.1.6")));
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.5"), &["10.244.1.6", "10.244.1.7"]), Some(ip("10.244.1.8")));
    }

    #[test]
    fn behind_the_end_it_begins_anew_and_leaves_out_the_broadcast_address() {
        assert_eq!(pick("10.244.1.0/24", Some("10.244.1.254"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("fd00::/126", Some("fd00::2"), &[]), Some(ip("fd00::3")));
        assert_eq!(pick("fd00::/126", Some("fd00::3"), &[]), Some(ip("fd00::2")));
    }

    #[test]
    fn a_last_address_of_another_pool_does_not_count() {
        assert_eq!(pick("10.244.1.0/24", Some("10.9.0.7"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("10.244.1.0/24", Some("fd00::7"), &[]), Some(ip("10.244.1.2")));
        assert_eq!(pick("10.244.1.0/24", Some("255.255.255.255"), &[]), Some(ip("10.244.1.2")));
    }

    #[test]
    fn a_full_pool_and_one_without_room_give_nothing() {
        assert_eq!(pick("10.244.1.0/30", None, &["10.244.1.2"]), None);
        assert_eq!(pick("10.244.1.0/31", None, &[]), None);
        assert_eq!(pick("fd00::/128", None, &[]), None);
        assert_eq!(pick("10.244.1.0/30", Some("10.244.1.2"), &[]), Some(ip("10.244.1.2")));
    }
}
