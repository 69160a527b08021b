//! One random alteration of what Towpath has in a kernel, as a person or a program might make it.

use std::collections::BTreeSet;

use fastrand::Rng;
use ipnet::IpNet;
use towpath_net::{
    family::{Family, bits},
    mac::Mac,
    nft::{Element, Table},
    observed::{Address, Forwarding, Link, Neighbour, Nexthop, Observed, Route, Station, Target},
    ops::Op,
};

/// What is altered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Device,
    PodLink,
    Address,
    Route,
    Nexthop,
    Neighbour,
    Station,
    Sysctl,
    Table,
}

impl Kind {
    pub const ALL: [Self; 9] = [
        Self::Device,
        Self::PodLink,
        Self::Address,
        Self::Route,
        Self::Nexthop,
        Self::Neighbour,
        Self::Station,
        Self::Sysctl,
        Self::Table,
    ];
}

/// A change to something of `whole`, what the kernel has when all is well.
pub fn alteration(rng: &mut Rng, whole: &Observed) -> (Kind, Op) {
    loop {
        let kind = Kind::ALL[rng.usize(..Kind::ALL.len())];
        let op = match kind {
            Kind::Device => device(rng, whole),
            Kind::PodLink => pod_link(rng, whole),
            Kind::Address => address(rng, whole),
            Kind::Route => route(rng, whole),
            Kind::Nexthop => nexthop(rng, whole),
            Kind::Neighbour => neighbour(rng, whole),
            Kind::Station => station(rng, whole),
            Kind::Sysctl => sysctl(rng, whole),
            Kind::Table => whole.table.as_ref().and_then(|whole| table(rng, whole)),
        };
        if let Some(op) = op {
            return (kind, op);
        }
    }
}

fn any<T>(rng: &mut Rng, all: impl IntoIterator<Item = T>) -> Option<T> {
    let mut all: Vec<T> = all.into_iter().collect();
    if all.is_empty() { None } else { Some(all.swap_remove(rng.usize(..all.len()))) }
}

fn mac(rng: &mut Rng) -> Mac {
    Mac([2, 0xbe, rng.u8(..), rng.u8(..), rng.u8(..), rng.u8(..)])
}

/// An address of a family that is of nobody here: of the ranges for documentation (RFC 5737, RFC 3849).
fn stranger(rng: &mut Rng, family: Family) -> IpNet {
    let first: IpNet = match family {
        Family::V4 => "198.51.100.0/24".parse().unwrap(),
        Family::V6 => "2001:db8::/64".parse().unwrap(),
    };
    family.address(bits(first.addr()) + u128::from(rng.u8(1..))).into()
}

fn family(rng: &mut Rng) -> Family {
    Family::ALL[rng.usize(..2)]
}

fn device(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let (name, device) = any(rng, &whole.devices)?;
    let (name, mut device) = (name.clone(), device.clone());
    match rng.u8(..4) {
        0 => return Some(Op::DeleteDevice(name)),
        1 => device.up = false,
        2 => device.mtu -= rng.u32(1..100),
        _ => device.mac = Some(mac(rng)),
    }
    Some(Op::SetDevice { name, device })
}

fn pod_link(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let (name, link) = any(rng, &whole.links)?;
    let altered = match rng.u8(..3) {
        0 => Link { up: !link.up, ..*link },
        1 => Link { mtu: link.mtu - rng.u32(1..100), ..*link },
        _ => Link { bridged: !link.bridged, ..*link },
    };
    Some(Op::SetLink { name: name.clone(), link: altered })
}

fn address(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let address = *any(rng, &whole.addresses)?;
    if rng.bool() {
        return Some(Op::DeleteAddress(address));
    }
    let family = Family::of_net(&address.address);
    Some(Op::AddAddress(Address { address: stranger(rng, family), ..address }))
}

fn route(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let route = *any(rng, &whole.routes)?;
    match rng.u8(..4) {
        0 | 1 => Some(Op::DeleteRoute(route)),
        2 if route.target != Target::Blackhole => Some(Op::ReplaceRoute(Route { target: Target::Blackhole, ..route })),
        2 => None,
        _ => {
            let family = family(rng);
            Some(Op::AddRoute(Route { destination: stranger(rng, family), target: Target::Blackhole }))
        }
    }
}

fn nexthop(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let nexthop = *any(rng, whole.nexthops.values())?;
    if rng.bool() {
        return Some(Op::DeleteNexthop(nexthop));
    }
    let family = Family::of(nexthop.gateway);
    nexthop.on_link.then(|| Op::SetNexthop(Nexthop { gateway: stranger(rng, family).addr(), ..nexthop }))
}

fn neighbour(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let (neighbour, _) = any(rng, &whole.neighbours)?;
    let neighbour = *neighbour;
    Some(match rng.u8(..3) {
        0 => Op::DeleteNeighbour(neighbour),
        1 => Op::SetNeighbour { neighbour, mac: mac(rng) },
        _ => {
            let address = stranger(rng, Family::of(neighbour.address)).addr();
            Op::SetNeighbour { neighbour: Neighbour { address, ..neighbour }, mac: mac(rng) }
        }
    })
}

fn station(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let (station, to) = any(rng, &whole.stations)?;
    let (station, to) = (*station, *to);
    match (rng.u8(..3), to) {
        (0, _) => Some(Op::DeleteStation { station, to }),
        (1, Forwarding::To(node)) => {
            let to = Forwarding::To(stranger(rng, Family::of(node)).addr());
            Some(Op::SetStation { station, to })
        }
        (1, Forwarding::Port) => None,
        _ => Some(Op::SetStation { station: Station { mac: mac(rng), ..station }, to }),
    }
}

fn sysctl(rng: &mut Rng, whole: &Observed) -> Option<Op> {
    let (key, value) = any(rng, &whole.sysctls)?;
    let altered = if value == "0" { "1" } else { "0" };
    Some(Op::SetSysctl { key: key.clone(), value: altered.to_owned() })
}

fn table(rng: &mut Rng, whole: &Table) -> Option<Op> {
    match rng.u8(..4) {
        0 => Some(Op::DeleteTable),
        1 => {
            let mut altered = whole.clone();
            let chain = any(rng, altered.chains.values_mut())?;
            if chain.rules.is_empty() {
                return None;
            }
            chain.rules.remove(rng.usize(..chain.rules.len()));
            Some(Op::ReplaceTable(altered))
        }
        _ => {
            let (set, content) = any(rng, &whole.sets)?;
            let all: BTreeSet<Element> = content.elements.clone();
            let remove = vec![any(rng, all)?];
            Some(Op::ChangeSet { set: set.clone(), add: Vec::new(), remove })
        }
    }
}
