//! The keys that agents made, as the kernel has them.

use towpath_kernel::wireguard::WireGuard;
use towpath_net::{
    device,
    transport::{Keys, Slot},
};

use crate::node::{Node, wait_for};

/// The public keys of a node's devices, once it has both.
pub fn keys(node: &Node) -> Keys {
    wait_for(&format!("{}: keys of its WireGuard devices", node.spot.name), || {
        let read = |slot| {
            let name = device::wireguard(slot);
            let device = node.ground.namespace.run(|| WireGuard::open().map(|mut wireguard| wireguard.device(name)));
            let device = device.unwrap().map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            device.public_key.ok_or_else(|| format!("{name} has no key"))
        };
        Ok(Keys { first: Some(read(Slot::First)?), second: Some(read(Slot::Second)?), active: Slot::First })
    })
}
