//! Towpath's only syscalls for networking: netlink, nftables, namespaces, sysctls.
//!
//! Everything blocks and belongs to the calling thread; there is no runtime underneath. A [`netlink::Socket`] stays in
//! the network namespace that it was opened in, so one thread can keep sockets of several.

pub mod address;
pub mod conntrack;
pub mod events;
pub mod fake;
pub mod fdb;
pub mod fs;
pub mod host;
pub mod kernel;
pub mod leases;
pub mod link;
pub mod neighbour;
pub mod netlink;
pub mod netns;
pub mod nexthop;
pub mod nflog;
pub mod nft;
pub mod policy;
pub mod ports;
pub mod proxies;
pub mod release;
pub mod route;
pub mod shaping;
pub mod sysctl;
#[cfg(feature = "testing")]
pub mod testing;
pub mod toward;
pub mod wireguard;
