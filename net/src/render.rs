//! From what a node is told to the kernel state that it should have.
//!
//! ```text
//! NodeState, Keys, Surroundings --> devices, addresses, settings      (devices, settings, mtu)
//!            + each Peer ---------> routes, neighbours, stations, ... (peers)
//!            + each Lease --------> links, addresses, routes          (leases)
//!            all of them ---------> the table                         (table)
//! ```

mod devices;
mod leases;
mod mtu;
mod nexthops;
mod obstacle;
mod peers;
mod settings;
mod table;
mod vantage;

use std::collections::BTreeMap;

use crate::lease::Lease;
use crate::observed::{Desired, Subnet, Surroundings, Sysctl, Target};
use crate::state::NodeState;
use crate::transport::Keys;
use devices::device_names;
use nexthops::Nexthops;
use peers::{PeerObjects, add_peer};
use vantage::Vantage;

pub use obstacle::Obstacle;
pub use settings::settings_of;
pub use table::{HOSTPORT_SETS, TABLE, hostport_elements, lease_elements, sender_elements};

/// What a node should have, and what of the declared cannot be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The kernel state.
    pub desired: Desired,
    /// The MTU of new pods, in bytes; nothing while no uplink is known.
    pub mtu: Option<u32>,
    /// What cannot be.
    pub obstacles: Vec<Obstacle>,
}

/// Renders the kernel state of a node.
///
/// `keys` are the node's own, where it has any.
pub fn render(state: &NodeState, leases: &[Lease], around: &Surroundings, keys: Option<&Keys>) -> Rendered {
    let own = Vantage::new(state, around, keys);
    let mut rendered = Rendered::default();
    let addresses = state.spec.addresses.iter().filter(|address| around.holding(**address).is_none());
    rendered.obstacles.extend(addresses.map(|address| Obstacle::AddressNotHere { address: *address }));
    rendered.mtu = own.pod_mtu(&mut rendered.obstacles);
    let desired = &mut rendered.desired;
    desired.sysctls = settings_of(state, leases);
    desired.table = Some(table::render(&own, &state.peers, leases));
    render_own(&own, state, leases, rendered.mtu, desired);
    let (mut objects, mut nexthops) = (PeerObjects::default(), Nexthops::default());
    for (name, peer) in &state.peers {
        add_peer(&own, name, peer, &mut objects, &mut nexthops);
    }
    let obstacles = std::mem::take(&mut objects.obstacles);
    objects.enter(desired);
    for lease in leases {
        leases::render_lease(lease, desired);
    }
    rendered.obstacles.extend(obstacles);
    rendered.obstacles.extend(leases::withdrawn(&state.spec.pod_cidrs, leases));
    rendered
}

/// What is there without any peer: devices, and routes to nowhere for what only more specific ones lead anywhere.
fn render_own(own: &Vantage<'_>, state: &NodeState, leases: &[Lease], pod_mtu: Option<u32>, desired: &mut Desired) {
    let everywhere = own.spec.pod_ranges.iter().filter(|_| own.spec.transport.is_encrypted());
    for range in everywhere.chain(&own.spec.pod_cidrs) {
        desired.routes.insert(range.trunc(), Target::Blackhole);
    }
    devices::render_tunnels(own, &state.node, desired);
    if leases::has_bridge(state, leases) {
        devices::render_bridge_device(&state.node, pod_mtu, leases, desired);
        leases::render_bridge(own.spec, leases, desired);
    }
}

/// The kernel state of a node that Towpath has left: settings as they were before it came.
pub fn render_nothing(sysctls_before: BTreeMap<Sysctl, String>) -> Desired {
    Desired { sysctls: sysctls_before, leaving: true, ..Desired::default() }
}

/// The uplink: the link that holds the node's own address.
pub fn uplink<'a>(state: &NodeState, around: &'a Surroundings) -> Option<&'a Subnet> {
    state.spec.addresses.iter().find_map(|address| around.holding(*address))
}

#[cfg(test)]
mod tests;
