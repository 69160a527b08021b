//! Numbers for nexthop objects.

use std::hash::Hasher;
use std::net::IpAddr;

use fnv::{FnvHashMap, FnvHasher};

use crate::observed::{Encapsulation, Nexthop, NexthopId, Target};

/// The lowest number of ours.
const FIRST: u32 = NexthopId::FIRST;
/// How many there are.
const MANY: u32 = 1 << 31;

/// Gives every way to another node a number: the same for equal ways, whatever came before but for a way that would have
/// had the same number.
#[derive(Debug, Default)]
pub struct Nexthops {
    by_id: FnvHashMap<NexthopId, Nexthop>,
}

impl Nexthops {
    /// The target of routes that take `way`, whose own number does not count.
    pub fn target(&mut self, mut way: Nexthop) -> Target {
        let mut place = place(&way);
        loop {
            way.id = NexthopId(FIRST | place);
            match self.by_id.get(&way.id) {
                Some(taken) if *taken != way => place = (place + 1) % MANY,
                Some(_) => return Target::Via(way),
                None => {
                    self.by_id.insert(way.id, way);
                    return Target::Via(way);
                }
            }
        }
    }
}

/// Where the number of a way is looked for first.
fn place(way: &Nexthop) -> u32 {
    let mut hash = FnvHasher::default();
    let Nexthop { id: _, gateway, link, on_link, encapsulation } = way;
    feed(&mut hash, *gateway);
    hash.write(link.as_bytes());
    hash.write(&[u8::from(*on_link)]);
    if let Some(Encapsulation { vni, source, destination }) = encapsulation {
        hash.write(&vni.to_be_bytes());
        feed(&mut hash, *source);
        feed(&mut hash, *destination);
    }
    let low = hash.finish() % u64::from(MANY);
    u32::try_from(low).unwrap_or_default()
}

/// An address byte by byte: the same on every machine, and with every version of the standard library.
fn feed(hash: &mut FnvHasher, address: IpAddr) {
    match address {
        IpAddr::V4(address) => hash.write(&address.octets()),
        IpAddr::V6(address) => hash.write(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(last: u8) -> Nexthop {
        Nexthop {
            id: NexthopId(0),
            gateway: [172, 16, 30, last].into(),
            link: "eth0".into(),
            on_link: false,
            encapsulation: None,
        }
    }

    #[test]
    fn equal_ways_share_a_number_and_others_do_not() {
        let mut nexthops = Nexthops::default();
        let first = nexthops.target(way(1));
        assert_eq!(nexthops.target(way(1)), first);
        let second = nexthops.target(way(2));
        assert_ne!(second, first);
        let mut others = Nexthops::default();
        assert_eq!((others.target(way(2)), others.target(way(1))), (second, first));
        let id = second.nexthop().unwrap().id.0;
        assert!(id >= FIRST);
    }

    #[test]
    fn a_number_that_is_taken_leads_to_the_next() {
        let mut nexthops = Nexthops::default();
        let Target::Via(wanted) = Nexthops::default().target(way(1)) else { unreachable!() };
        nexthops.by_id.insert(wanted.id, Nexthop { id: wanted.id, ..way(9) });
        let Target::Via(given) = nexthops.target(way(1)) else { unreachable!() };
        assert_eq!(given.id.0, FIRST | (((wanted.id.0 & (MANY - 1)) + 1) % MANY));
    }
}
