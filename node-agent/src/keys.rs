//! The node's own WireGuard keys: made here, kept here, and told to the others as public keys.

mod keeper;
mod store;

use std::time::SystemTime;

use towpath_crds::NodeNetwork;
use towpath_net::transport::{Keys, PublicKey, Slot};
use tracing::warn;

pub use keeper::{Keeper, Tended};
pub use store::KeysError;

/// What everybody may know of the node's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// By which of them the node sends.
    pub active: Slot,
    /// At most one for each device.
    pub keys: Vec<OwnKey>,
}

/// What everybody may know of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnKey {
    /// Of which device.
    pub slot: Slot,
    /// The key.
    pub public: PublicKey,
    /// When it was made.
    pub since: SystemTime,
}

impl PublicKeys {
    /// As peers are told them.
    pub fn told(&self) -> Keys {
        let of = |slot| self.keys.iter().find(|key| key.slot == slot).map(|key| key.public);
        Keys { first: of(Slot::First), second: of(Slot::Second), active: self.active }
    }
}

/// The keys that a node tells in the status of its `NodeNetwork`. One that is bent counts as none: nothing is sent to that
/// node then, instead of in clear.
pub fn told_by(object: &NodeNetwork) -> Option<Keys> {
    let told = object.status.as_ref()?.wire_guard.as_ref()?;
    Keys::try_from(told)
        .inspect_err(|error| warn!(node = object.metadata.name, %error, "a node tells keys that are none"))
        .ok()
}
