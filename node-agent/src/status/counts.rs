//! A node's addresses, as its status has them.

use towpath_crds::{AddressCount, AddressFamily, NodeNetworkStatus};
use towpath_net::Family;

use crate::addresses::{Addresses, Count};

/// From how many addresses on only their order of magnitude is told.
const MANY: u64 = 1 << 32;

/// The addresses of each family that the node has any of.
pub fn of(addresses: &Addresses) -> Vec<AddressCount> {
    let whole = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let one = |(family, count): (Family, &Count)| AddressCount {
        family: match family {
            Family::V4 => AddressFamily::IPv4,
            Family::V6 => AddressFamily::IPv6,
        },
        blocks: i32::try_from(count.blocks).unwrap_or(i32::MAX),
        capacity: whole(count.capacity),
        used: whole(count.used),
        free: whole(count.free),
        draining: (count.draining > 0).then(|| whole(count.draining)),
        wanted: (count.wanted > 0).then(|| whole(count.wanted)),
    };
    addresses.counts.iter().filter(|(_, count)| count.blocks > 0).map(one).collect()
}

/// Used of all, as in `12/62,12/2^64`; behind that, what pods still have of CIDRs that drain, as in `0/62+12`.
pub fn text(addresses: &Addresses) -> Option<String> {
    let present = addresses.counts.iter().filter(|(_, count)| count.blocks > 0);
    let texts: Vec<String> =
        present.map(|(_, count)| format!("{}/{}{}", count.used, magnitude(count.capacity), draining(count))).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

fn draining(count: &Count) -> String {
    if count.draining == 0 { String::new() } else { format!("+{}", count.draining) }
}

fn magnitude(number: u64) -> String {
    if number < MANY { number.to_string() } else { format!("2^{}", u64::BITS - number.leading_zeros()) }
}

/// Whether nothing differs but counts, and no more pods wait than before: nobody has to know at once.
pub fn can_wait(last: &NodeNetworkStatus, now: &NodeNetworkStatus) -> bool {
    let wanted = |status: &NodeNetworkStatus, family| {
        status.addresses.iter().find(|count| count.family == family).and_then(|count| count.wanted).unwrap_or_default()
    };
    let blocks = |status: &NodeNetworkStatus| -> Vec<_> {
        status.addresses.iter().map(|count| (count.family, count.blocks)).collect()
    };
    let mut but_counts = now.clone();
    but_counts.addresses.clone_from(&last.addresses);
    but_counts.used_addresses.clone_from(&last.used_addresses);
    but_counts == *last
        && blocks(last) == blocks(now)
        && now.addresses.iter().all(|count| count.wanted.unwrap_or_default() <= wanted(last, count.family))
}

#[cfg(test)]
mod tests {
    use towpath_net::PerFamily;

    use super::*;

    fn status(used: u64, wanted: u64, idle: &[&str]) -> NodeNetworkStatus {
        let v4 = Count { blocks: 1, capacity: 62, used, free: 62 - used, draining: 0, wanted };
        let addresses = Addresses { counts: PerFamily { v4, ..PerFamily::default() }, ..Addresses::default() };
        NodeNetworkStatus {
            addresses: of(&addresses),
            used_addresses: text(&addresses),
            idle: idle.iter().map(ToString::to_string).collect(),
            ..NodeNetworkStatus::default()
        }
    }

    #[test]
    fn mere_counts_can_wait_and_pods_that_wait_cannot() {
        assert!(can_wait(&status(3, 0, &[]), &status(4, 0, &[])));
        assert!(can_wait(&status(3, 7, &[]), &status(10, 0, &[])));
        assert!(!can_wait(&status(3, 0, &[]), &status(3, 1, &[])));
        assert!(!can_wait(&status(3, 1, &[]), &status(3, 2, &[])));
        assert!(!can_wait(&status(0, 0, &[]), &status(0, 0, &["10.0.0.0/26"])));
        assert!(!can_wait(&NodeNetworkStatus::default(), &status(0, 0, &[])));
    }

    #[test]
    fn the_text_is_short_however_many_addresses_there_are() {
        let count = |capacity| Count { blocks: 1, capacity, used: 12, free: 3, draining: 0, wanted: 0 };
        let counts = PerFamily { v4: count(62), v6: count(u64::MAX - 1) };
        let mut addresses = Addresses { counts, ..Addresses::default() };
        assert_eq!(text(&addresses).as_deref(), Some("12/62,12/2^64"));
        addresses.counts.v4.draining = 22;
        assert_eq!(text(&addresses).as_deref(), Some("12/62+22,12/2^64"));
        assert_eq!(of(&addresses)[1].capacity, i64::MAX);
        assert_eq!(text(&Addresses::default()), None);
    }
}
