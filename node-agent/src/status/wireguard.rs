//! The node's WireGuard keys in the words of its status.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use towpath_crds::{WireGuardKey, WireGuardStatus};

use super::timestamp;
use crate::keys::PublicKeys;

/// What is told of the node's keys.
pub fn of(keys: &PublicKeys) -> WireGuardStatus {
    let key = |key: &crate::keys::OwnKey| WireGuardKey {
        slot: key.slot.into(),
        public_key: key.public.to_string(),
        since: Time(timestamp(key.since)),
    };
    WireGuardStatus { active_key: keys.active.into(), keys: keys.keys.iter().map(key).collect() }
}
