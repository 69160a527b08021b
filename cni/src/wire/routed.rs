//! Attachment `Routed`.
//!
//! ```text
//! node                                       pod
//! tow...  GATEWAY/32, fe80::1/128            eth0  POD/24
//! POD/32 dev tow... scope link               GATEWAY dev eth0 scope link
//!                                            10.244.X.0/24 via GATEWAY dev eth0 src POD
//!                                            default via GATEWAY dev eth0
//! ```

use towpath_net::family::host_net;
use towpath_net::lease::{Lease, LeasedAddress};

use super::{Way, Wiring, default, to_pods, wiring};

/// What both ends have.
pub(super) fn of(lease: &Lease) -> Wiring {
    let mut wiring = wiring(lease);
    wiring.node.routes = to_pods(lease);
    wiring.pod.routes = lease.addresses.iter().flat_map(in_pod).collect();
    wiring
}

fn in_pod(leased: &LeasedAddress) -> [Way; 3] {
    let subnet = Way { source: Some(leased.address.addr()), ..Way::via(leased.address.trunc(), leased.gateway) };
    [Way::on_link(host_net(leased.gateway)), subnet, default(leased)]
}
