//! How much a status says: the object that it is part of stays below 4 kB.
//!
//! What a node is told, and what its agent tells of addresses, paths and keys, is there in full. Messages are cut, and old
//! drift is left out, as far as it takes.

use towpath_crds::conditions::{LONGEST_MESSAGE, shortened};
use towpath_crds::{NodeNetwork, NodeNetworkStatus};

/// The largest object, in bytes of its JSON: 4 kB, less what its versions may grow by.
const LARGEST: usize = 4096 - 32;
/// What the object has beside the texts of its parts: the name of the field.
const FIELD: usize = r#","status":"#.len();
/// How long messages may be, in characters, and how much drift is told of at least, the first that fits.
const MANNERS: [(usize, usize); 6] = [(LONGEST_MESSAGE, 3), (512, 3), (256, 2), (192, 1), (128, 0), (64, 0)];

/// How large an object is without its status, in bytes.
pub fn rest(mut object: NodeNetwork) -> usize {
    object.status = None;
    size(&object)
}

/// Leaves out of a status what is too much for an object that has so much beside it.
pub fn fit(status: &mut NodeNetworkStatus, rest: usize) {
    let room = LARGEST.saturating_sub(rest + FIELD);
    for (longest, drift) in MANNERS {
        for condition in &mut status.conditions {
            condition.message = shortened(&condition.message, longest);
        }
        while size(status) > room && status.drift.len() > drift {
            status.drift.pop();
        }
        if size(status) <= room {
            return;
        }
    }
}

/// Of the JSON, as the API server keeps it.
fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(0, |json| json.len())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
    use k8s_openapi::jiff::Timestamp;
    use serde_json::{Value, json};
    use towpath_crds::conditions;

    use super::super::claims;
    use super::*;
    use crate::snapshot::Snapshot;
    use crate::strangers::{Stranger, Strangers};

    /// The name of a node that is told, and tells, more than others.
    const LARGE: &str = "node-of-a-large-cluster-0123456789.of-a-region.example.internal";
    const V4: &str = "172.30.100.100";
    const V6: &str = "fd00:172:30:100::100";

    /// As the API server keeps it, who wrote what included.
    fn object(name: &str, spec: &Value) -> NodeNetwork {
        let uid = "02a67fe3-3844-4b5f-8e36-b8f38242fb3c";
        let owners = "k:{\"uid\":\"02a67fe3-3844-4b5f-8e36-b8f38242fb3c\"}";
        let wrote = |manager: &str, subresource: &str, fields: Value| {
            json!({"apiVersion": "towpath.dev/v1alpha1", "fieldsType": "FieldsV1", "fieldsV1": fields, "manager": manager,
                "operation": "Apply", "subresource": subresource, "time": "2026-01-01T00:00:00Z"})
        };
        let operator =
            wrote("towpath-operator", "", json!({"f:metadata": {"f:ownerReferences": {owners: {}}}, "f:spec": {}}));
        serde_json::from_value(json!({
            "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "spec": spec,
            "metadata": {
                "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1_000_000, "name": name, "uid": uid,
                "resourceVersion": "1000000000",
                "managedFields": [operator, wrote("towpath-agent", "status", json!({"f:status": {}}))],
                "ownerReferences": [{"apiVersion": "v1", "blockOwnerDeletion": false, "controller": false, "kind": "Node",
                    "name": name, "uid": uid}],
            },
        }))
        .unwrap()
    }

    fn spec(name: &str) -> Value {
        let ranges = json!(["10.244.100.0/24", "fd00:10:244:1000::/64"]);
        let mut spec = json!({
            "revision": "1234567", "addresses": [V4, V6], "podRanges": ranges, "podCIDRs": ranges, "attachment": "Routed",
            "mtu": "Auto", "transport": {"prefers": ["Direct"], "accepts": ["Direct"]},
            "masquerade": {"mode": "LeavingCluster", "excluded": ranges},
        });
        if name == LARGE {
            let transports = json!(["WireGuard", "VXLAN"]);
            let tunnels = json!({"vxlan": {"vni": 16_777_215, "port": 65535}, "wireGuard": {"port": 65534, "rotationSeconds": 86400}});
            spec["transport"] =
                json!({"prefers": transports, "accepts": transports, "crossSubnetOnly": true, "tunnels": tunnels});
            spec["addressing"] = json!({"growing": true, "graceSeconds": 86400});
            spec["policy"] =
                json!({"startup": "Strict", "established": "Keep", "log": {"denied": "Flows", "perSecond": 1000}});
            spec["cniConflict"] = json!("Report");
        }
        spec
    }

    /// Of a node of which all that can go wrong does, and is told at length; or nothing.
    fn conditions(wrong: &str) -> Vec<Condition> {
        let stranger =
            |n: u8| Stranger { namespace: wrong.to_owned(), name: wrong.to_owned(), address: [10, 88, 0, n].into() };
        let (snapshot, strangers) = if wrong.is_empty() {
            let snapshot = Snapshot { programmed: true, cni_installed: true, ..Snapshot::default() };
            (snapshot, Strangers::default())
        } else {
            let snapshot = Snapshot { obstacles: vec![wrong.to_owned(); 10], ..Snapshot::default() };
            (snapshot, Strangers { named: (0..10).map(stranger).collect(), total: 1000 })
        };
        let mut conditions = Vec::new();
        for claim in claims::of(&snapshot, Some(&strangers)) {
            conditions::set(&mut conditions, &claim, Some(1000), Timestamp::UNIX_EPOCH);
        }
        conditions
    }

    fn status(name: &str, wrong: &str, drift: (&str, &str)) -> NodeNetworkStatus {
        let time = "2026-01-01T00:00:00Z";
        let count =
            |family: &str, all: i64| json!({"family": family, "blocks": 1, "capacity": all, "used": 250, "free": all});
        let counts = [count("IPv4", 16_000_000), count("IPv6", i64::MAX)];
        let mut status: NodeNetworkStatus = serde_json::from_value(json!({
            "observedGeneration": 1000, "observedRevision": "1234567", "transport": "Direct", "encryption": "None",
            "paths": [{"transport": "Direct", "nodes": 10_000}], "mtu": 1500, "addresses": counts,
            "podCIDRs": "10.244.100.0/24,fd00:10:244:1000::/64", "usedAddresses": "250/253,250/2^64",
            "uplink": {"name": "eth0", "addresses": [V4, V6], "mtu": 1500}, "agentVersion": "0.1.0",
            "routes": {"count": 10_000, "digest": "12345678"}, "driftTotal": 1_000_000,
            "drift": vec![json!({"time": time, "object": drift.0, "change": drift.1}); 10],
        }))
        .unwrap();
        status.conditions = conditions(wrong);
        if name == LARGE {
            let key = |slot: &str| json!({"slot": slot, "publicKey": "A".repeat(44), "since": time});
            let keys = json!({"activeKey": "Second", "keys": [key("First"), key("Second")]});
            status.wire_guard = Some(serde_json::from_value(keys).unwrap());
            status.node_addresses = vec![V4.to_owned(), V6.to_owned()];
            let paths = json!([{"transport": "WireGuard", "nodes": 10_000}, {"transport": "VXLAN", "nodes": 10_000}]);
            status.paths = serde_json::from_value(paths).unwrap();
        }
        status
    }

    /// The size of the object, and the status that it then has.
    fn fitted(name: &str, status: &NodeNetworkStatus) -> (usize, NodeNetworkStatus) {
        let (mut object, mut status) = (object(name, &spec(name)), status.clone());
        fit(&mut status, rest(object.clone()));
        object.status = Some(status.clone());
        (size(&object), status)
    }

    #[test]
    fn whatever_goes_wrong_the_object_is_below_4_kb_and_says_it() {
        for (name, wrong) in [(LARGE, "e"), (LARGE, "ä\""), (&"n".repeat(253), "e")] {
            let status = status(name, &wrong.repeat(1024 / wrong.len()), (&"o".repeat(128), &"c".repeat(256)));
            let (size, status) = fitted(name, &status);
            assert!(size < 4096, "{size} bytes");
            let said = status.conditions.iter().filter(|condition| condition.message.starts_with(wrong)).count();
            assert_eq!((said, status.conditions.len()), (3, 6), "{:?}", status.conditions);
        }
    }

    #[test]
    fn of_a_node_that_is_well_nine_entries_of_drift_fit_and_all_messages() {
        let said = status("n1", "", ("route 10.244.1.0/24", "add route 10.244.1.0/24 via 172.30.0.12 dev eth0"));
        let (_, fitted) = fitted("n1", &said);
        assert_eq!((fitted.drift.len(), fitted.conditions), (9, said.conditions));
    }
}
