//! The WireGuard keys of a node: the part of its status by which the others come to know them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use towpath_net::transport::{Keys, NotAKey, Slot};

/// The WireGuard keys of a node. Others encrypt to these; the private ones never leave the node.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WireGuardStatus {
    /// By which of its keys the node sends: First or Second. It takes packets by both.
    pub active_key: KeySlot,

    /// Its public keys.
    #[schemars(length(max = 2))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["slot".to_owned()]))]
    pub keys: Vec<WireGuardKey>,
}

/// A WireGuard key of a node.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WireGuardKey {
    /// First or Second: of the interface towwg0 or towwg1.
    pub slot: KeySlot,

    /// 32 bytes in base64, as `wg pubkey` prints them.
    #[schemars(length(min = 44, max = 44), regex(pattern = "^[A-Za-z0-9+/]{43}=$"))]
    pub public_key: String,

    /// When the node made it.
    pub since: Time,
}

/// One of a node's two WireGuard keys: while one is made anew, the other is in use.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeySlot {
    /// Of the interface towwg0.
    First,
    /// Of the interface towwg1.
    Second,
}

impl From<Slot> for KeySlot {
    fn from(slot: Slot) -> Self {
        match slot {
            Slot::First => Self::First,
            Slot::Second => Self::Second,
        }
    }
}

impl From<KeySlot> for Slot {
    fn from(slot: KeySlot) -> Self {
        match slot {
            KeySlot::First => Self::First,
            KeySlot::Second => Self::Second,
        }
    }
}

impl TryFrom<&WireGuardStatus> for Keys {
    type Error = NotAKey;

    fn try_from(status: &WireGuardStatus) -> Result<Self, NotAKey> {
        let mut keys = Self { active: status.active_key.into(), ..Self::default() };
        for key in &status.keys {
            let parsed = key.public_key.parse()?;
            match key.slot {
                KeySlot::First => keys.first = Some(parsed),
                KeySlot::Second => keys.second = Some(parsed),
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_tells_is_read_as_the_keys_it_was_written_from_and_a_bent_key_is_refused() {
        let text = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let status = |public_key: &str| -> WireGuardStatus {
            let key = serde_json::json!({"slot": "Second", "publicKey": public_key, "since": "2026-01-01T00:00:00Z"});
            serde_json::from_value(serde_json::json!({"activeKey": "Second", "keys": [key]})).unwrap()
        };
        let keys = Keys { first: None, second: text.parse().ok(), active: Slot::Second };
        assert_eq!(Keys::try_from(&status(text)), Ok(keys));
        assert!(Keys::try_from(&status("bent")).is_err());
    }
}
