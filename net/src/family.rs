//! The two address families as data, so that no code branches on them twice.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use serde::Serialize;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both, in the order in which everything lists them.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a CIDR.
    pub const fn of_net(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }

    /// The length of an address in bits: 32 or 128.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The address whose bits are the low bits of `value`.
    pub fn address(self, value: u128) -> IpAddr {
        match self {
            Self::V4 => {
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(value & u128::from(u32::MAX)).unwrap_or(u32::MAX)))
            }
            Self::V6 => IpAddr::V6(Ipv6Addr::from_bits(value)),
        }
    }

    /// The CIDR that holds every address: `0.0.0.0/0` or `::/0`.
    pub fn everything(self) -> IpNet {
        match self {
            Self::V4 => IpNet::V4(ipnet::Ipv4Net::default()),
            Self::V6 => IpNet::V6(ipnet::Ipv6Net::default()),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// The bits of an address as a number; the inverse of [`Family::address`].
pub fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(a.to_bits()),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// The CIDR that holds just this address: `/32` or `/128`.
pub fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

/// One value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PerFamily<T> {
    /// The value for IPv4.
    pub v4: T,
    /// The value for IPv6.
    pub v6: T,
}

impl<T> PerFamily<T> {
    /// Computes the value of each family.
    pub fn from_fn(mut f: impl FnMut(Family) -> T) -> Self {
        Self { v4: f(Family::V4), v6: f(Family::V6) }
    }

    /// The value of one family.
    pub const fn get(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The value of one family, to be changed.
    pub const fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Both values with their family.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        Family::ALL.into_iter().map(|family| (family, self.get(family)))
    }
}

impl PerFamily<Option<IpAddr>> {
    /// The first address of each family.
    pub fn first_of(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut found = Self::default();
        for address in addresses {
            found.get_mut(Family::of(address)).get_or_insert(address);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_survives_the_way_through_its_bits() {
        for text in ["0.0.0.0", "10.244.1.2", "255.255.255.255", "::", "fd00:10:244::2", "ffff::"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(Family::of(address).address(bits(address)), address);
        }
    }

    #[test]
    fn the_first_address_of_each_family_counts() {
        let list = ["fd00::1", "10.0.0.1", "10.0.0.2", "fd00::2"].map(|a| a.parse().unwrap());
        let first = PerFamily::first_of(list);
        assert_eq!(first.v4, "10.0.0.1".parse().ok());
        assert_eq!(first.v6, "fd00::1".parse().ok());
    }
}
