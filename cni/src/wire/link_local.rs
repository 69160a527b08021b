//! Attachment `LinkLocal`.
//!
//! ```text
//! node                                       pod
//! tow...  ee:ee:ee:ee:ee:ee, fe80::1/128     eth0  POD/32
//! POD/32 dev tow... scope link               169.254.1.1 dev eth0 scope link
//!                                            169.254.1.1 lladdr ee:ee:ee:ee:ee:ee PERMANENT
//!                                            default via 169.254.1.1 dev eth0
//! ```
//!
//! For IPv6 the gateway is `fe80::1`. Of IPv4 the node's end has no address: it answers for everybody's (`proxy_arp`),
//! though only where the node has a default route. So that it works without, the pod knows the gateway for good.

use towpath_net::family::host_net;
use towpath_net::lease::{LINK_LOCAL_MAC, Lease, LeasedAddress};

use super::{Known, Way, Wiring, default, to_pods, wiring};

/// What both ends have.
pub(super) fn of(lease: &Lease) -> Wiring {
    let mut wiring = wiring(lease);
    wiring.node.routes = to_pods(lease);
    wiring.node.answers_for_others = true;
    let gateway = |leased: &LeasedAddress| Known { address: leased.gateway, mac: LINK_LOCAL_MAC, for_good: true };
    wiring.pod.neighbours = lease.addresses.iter().map(gateway).collect();
    let in_pod = |leased: &LeasedAddress| [Way::on_link(host_net(leased.gateway)), default(leased)];
    wiring.pod.routes = lease.addresses.iter().flat_map(in_pod).collect();
    wiring
}
