//! The node's own WireGuard keys: made here, kept here, and told to the others as public keys.

mod keeper;
mod store;

use std::time::SystemTime;

use towpath_net::transport::{Keys, PublicKey, Slot};

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
