//! The definitions as they are applied: fresh, bounded, explained; and lossless towards the domain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Value, json};
use towpath_crds::generate::files;
use towpath_crds::{ClusterNetwork, NodeNetworkSpec};
use towpath_net::intent::{Draft, validate};
use towpath_net::state::NodeSpec;

fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn schemas() -> Vec<(String, Value)> {
    let schema = |text: &str| {
        let definition: Value = serde_yaml_ng::from_str(text).unwrap();
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
    };
    files().unwrap().into_iter().map(|file| (file.name, schema(&file.text))).collect()
}

/// Calls `look` with the path and the schema of every field.
fn walk(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, field);
        walk(&path, field, look);
    }
    if schema["items"].is_object() {
        let path = format!("{path}[]");
        look(&path, &schema["items"]);
        walk(&path, &schema["items"], look);
    }
}

#[test]
fn what_is_in_the_repository_is_what_the_types_say() {
    for file in files().unwrap() {
        let written = std::fs::read_to_string(repository("config/crd").join(&file.name)).unwrap();
        assert!(written == file.text, "{} is stale; run cargo run -p towpath-crds --bin crdgen", file.name);
    }
}

#[test]
fn every_field_is_explained_and_bounded_and_none_has_a_default() {
    for (name, schema) in schemas() {
        walk("", &schema, &mut |path, field| {
            let kind = field["type"].as_str().unwrap_or_default();
            let bounded = match kind {
                "string" => ["maxLength", "enum", "format"].iter().any(|bound| !field[bound].is_null()),
                "array" => field["maxItems"].is_u64(),
                _ => true,
            };
            assert!(bounded, "{name} {path} has no bound");
            assert!(path.ends_with(']') || field["description"].is_string(), "{name} {path} is not explained");
            assert!(field["default"].is_null() && field["nullable"].is_null(), "{name} {path} promises too much");
            let format = field["format"].as_str().unwrap_or("int32");
            assert!(["int32", "int64", "date-time"].contains(&format), "{name} {path} has format {format}");
        });
    }
}

#[test]
fn every_sample_means_something() {
    let mut samples = 0;
    for file in std::fs::read_dir(repository("config/samples")).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        for document in serde_yaml_ng::Deserializer::from_str(&text) {
            let value = Value::deserialize(document).unwrap();
            if value["kind"] == "ClusterNetwork" {
                let network: ClusterNetwork = serde_json::from_value(value).unwrap();
                let intent = validate(&Draft::from(&network.spec));
                assert!(intent.is_ok(), "{}: {intent:?}", file.display());
                samples += 1;
            }
        }
    }
    assert!(samples >= 4, "{samples}");
}

/// Every path of a value, without the places in lists.
fn paths(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    found.insert(path.to_owned());
    for (name, field) in value.as_object().into_iter().flatten() {
        paths(&format!("{path}.{name}"), field, found);
    }
    for item in value.as_array().into_iter().flatten() {
        paths(&format!("{path}[]"), item, found);
    }
}

#[test]
fn the_samples_of_every_field_have_every_field() {
    let mut found = BTreeSet::new();
    for sample in ["every-field", "pools"] {
        let text = std::fs::read_to_string(repository(&format!("config/samples/{sample}.yaml"))).unwrap();
        let sample: Value = serde_yaml_ng::from_str(&text).unwrap();
        paths(".spec", &sample["spec"], &mut found);
        // A mode has not what belongs to others: those stand beside it as comments.
        for name in ["cidrs", "canReach"] {
            if text.contains(&format!("\n    # {name}: [")) {
                paths(&format!(".spec.nodeAddress.{name}"), &json!([""]), &mut found);
            }
        }
    }
    let (_, schema) = schemas().into_iter().find(|(name, _)| name.contains("clusternetworks")).unwrap();
    walk("", &json!({"properties": {"spec": schema["properties"]["spec"]}}), &mut |path, _| {
        assert!(found.contains(path), "{path} is missing");
    });
}

#[test]
fn a_part_of_a_node_survives_the_way_through_the_api_and_looks_the_same() {
    for mtu in [json!("Auto"), json!(1400)] {
        for excluded in [json!(null), json!(["10.244.0.0/16", "fd00:10:244::/56"])] {
            let mut masquerade = json!({"mode": "LeavingCluster"});
            if !excluded.is_null() {
                masquerade["excluded"] = excluded;
            }
            let written = json!({
                "revision": "132818b", "addresses": ["172.30.0.1", "fd00::1"],
                "podCIDRs": ["10.244.0.0/24", "fd00:10:244::/64"], "attachment": "Routed", "mtu": mtu,
                "transport": {
                    "prefers": ["VXLAN", "WireGuard"], "accepts": ["Direct", "VXLAN", "WireGuard"], "crossSubnetOnly": true,
                    "tunnels": {"vxlan": {"vni": 1, "port": 8472}, "wireGuard": {"port": 51820, "rotationSeconds": 86400}},
                },
                "masquerade": masquerade, "addressRule": {"interfaces": ["eth1"]}, "podRanges": ["10.244.0.0/16"],
                "addressing": {
                    "draining": ["10.244.0.0/24"], "reserved": ["10.244.0.9/32"], "growing": true, "graceSeconds": 60,
                },
                "cniConflict": "Rename", "policy": {
                    "startup": "Strict", "established": "Keep", "log": {"denied": "Flows", "perSecond": 100},
                },
            });
            let spec: NodeSpec = serde_json::from_value(written.clone()).unwrap();
            let part = NodeNetworkSpec::from(&spec);
            assert_eq!(serde_json::to_value(&part).unwrap(), written);
            assert_eq!(NodeSpec::try_from(&part).unwrap(), spec);
        }
    }
}

#[test]
fn a_part_that_no_operator_wrote_is_refused_with_the_field() {
    let good = json!({
        "revision": "1", "addresses": [], "podCIDRs": [], "attachment": "Routed", "mtu": "Auto",
        "transport": {"prefers": ["Direct"], "accepts": ["Direct"]}, "masquerade": {"mode": "Off"},
    });
    let cases = [
        ("addresses", json!(["x"]), "spec.addresses \"x\" is not an IP address"),
        (
            "podCIDRs",
            json!(["10.0.0.1/8"]),
            "spec.podCIDRs \"10.0.0.1/8\" has bits set beyond its prefix length; write 10.0.0.0/8",
        ),
        ("mtu", json!("big"), "spec.mtu \"big\" is neither Auto nor a number of bytes"),
    ];
    for (field, value, expected) in cases {
        let mut bad = good.clone();
        bad[field] = value;
        let part: NodeNetworkSpec = serde_json::from_value(bad).unwrap();
        assert_eq!(NodeSpec::try_from(&part).unwrap_err().to_string(), expected);
    }
}
