//! Transports, exceptions and node addresses against a real API server: what may change while nodes use it, and how
//! nodes and columns follow.

use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use towpath_crds::{
    AGENT, AttachmentMode, ClusterNetwork, Encryption, Mtu, NodeAddressRule, NodeNetwork, TransportMode,
};

use super::KINDNET;
use super::harness::{Cluster, SOON, repository, wait_for, with_cluster};

/// A network with every tunnel: VXLAN, and the others on nodes that are labelled with their name.
fn tunnels() -> Value {
    let exception = |name: &str, transport: Value| json!({"name": name, "nodeSelector": {"matchLabels": {"tunnel": name}}, "transport": transport});
    json!({
        "apiVersion": "towpath.dev/v1alpha1", "kind": "ClusterNetwork", "metadata": {"name": "default"},
        "spec": {
            "ipam": {"mode": "NodeCIDR", "allocation": "Allocate", "podCIDRs": ["10.244.0.0/16", "fd00:10:244::/56"]},
            "attachment": {"mode": "Routed"},
            "transport": {
                "mode": "VXLAN", "vxlan": {"vni": 1, "port": 8472}, "geneve": {"vni": 2},
                "wireGuard": {"keyRotation": "24h"},
            },
            "exceptions": [
                exception("geneve", json!({"mode": "Geneve"})),
                exception("wireguard", json!({"mode": "WireGuard"})),
            ],
            "masquerade": {"mode": "LeavingCluster"},
        },
    })
}

fn apply(cluster: &Cluster, network: &Value) -> Result<String, String> {
    cluster.server_side_apply("admin", network, "spec")
}

/// The network with one field changed, or taken out.
fn with(network: &Value, pointer: &str, value: Value) -> Value {
    let mut network = network.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = network.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    if value.is_null() {
        drop(parent.remove(name));
    } else {
        drop(parent.insert(name.to_owned(), value));
    }
    network
}

/// Says what an agent would of a node that has what it was told, and this besides.
async fn tell(cluster: &Cluster, name: &str, more: &Value) {
    let api = Api::<NodeNetwork>::all(cluster.client.clone());
    let part = api.get(name).await.unwrap();
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Programmed", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let mut status = json!({
        "observedGeneration": part.metadata.generation, "observedRevision": part.spec.revision, "conditions": [ready],
    });
    status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let object = json!({
        "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": name}, "status": status,
    });
    api.patch_status(name, &PatchParams::apply(AGENT).force(), &Patch::Apply(object)).await.unwrap();
}

#[test]
fn what_both_ends_of_a_tunnel_agree_on_stays_and_all_else_may_change_while_it_runs() {
    const NAME: &str = "transport::what_both_ends_of_a_tunnel_agree_on_stays_and_all_else_may_change_while_it_runs";
    with_cluster(NAME, |cluster| async move {
        let network = tunnels();
        apply(&cluster, &network).unwrap();
        let stays = [
            ("/spec/transport/mode", json!("Geneve"), "mode cannot be changed from VXLAN to Geneve while nodes use it"),
            (
                "/spec/transport/vxlan/vni",
                json!(3),
                "spec.transport.vxlan.vni cannot be changed from 1 to 3 while nodes use mode VXLAN",
            ),
            ("/spec/transport/vxlan", json!(null), "spec.transport.vxlan.port cannot be changed from 8472 to 4789"),
            ("/spec/transport/geneve/vni", json!(3), "spec.transport.geneve.vni cannot be changed from 2 to 3"),
            (
                "/spec/transport/geneve/port",
                json!(7000),
                "spec.transport.geneve.port cannot be changed from 6081 to 7000",
            ),
            (
                "/spec/transport/wireGuard/port",
                json!(7000),
                "spec.transport.wireGuard.port cannot be changed from 51820 to 7000",
            ),
        ];
        for (field, value, words) in stays {
            let said = apply(&cluster, &with(&network, field, value)).unwrap_err();
            assert!(said.contains(words), "{field}: {said}");
        }
        let changes = [
            ("/spec/transport/vxlan", json!({"vni": 1, "port": 8472})),
            ("/spec/transport/crossSubnetOnly", json!(true)),
            ("/spec/transport/wireGuard/keyRotation", json!("720h")),
            ("/spec/attachment/mode", json!("Bridge")),
            ("/spec/mtu", json!(1400)),
            ("/spec/nodeAddress", json!({"mode": "CanReach", "canReach": ["192.0.2.1", "2001:db8::1"]})),
            ("/spec/nodeAddress", json!({"mode": "CIDR", "cidrs": ["172.30.0.0/16", "172.16.0.0/12"]})),
            ("/spec/masquerade/mode", json!("Off")),
        ];
        for (field, value) in changes {
            apply(&cluster, &with(&network, field, value)).unwrap();
        }
        // What no node uses any more may be anything.
        let mut less = with(&network, "/spec/transport/geneve", Value::Null);
        less["spec"]["exceptions"].as_array_mut().unwrap().remove(0);
        apply(&cluster, &less).unwrap();
        apply(&cluster, &with(&network, "/spec/transport/geneve", json!({"vni": 9, "port": 9999}))).unwrap();
    });
}

#[test]
fn nodes_move_one_by_one_as_their_labels_change_and_columns_show_what_runs() {
    const NAME: &str = "transport::nodes_move_one_by_one_as_their_labels_change_and_columns_show_what_runs";
    with_cluster(NAME, |cluster| async move {
        use TransportMode::{Geneve, VXLAN, WireGuard};
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        apply(&cluster, &tunnels()).unwrap();
        let part = cluster.part("n1", SOON, |_| true).await.spec;
        assert_eq!(
            (part.transport.prefers, part.transport.accepts),
            (vec![VXLAN, Geneve, WireGuard], vec![VXLAN, Geneve, WireGuard])
        );
        let tunnels = part.transport.tunnels.unwrap();
        let (vxlan, geneve) = (tunnels.vxlan.unwrap(), tunnels.geneve.unwrap());
        assert_eq!(((vxlan.vni, vxlan.port), (geneve.vni, geneve.port)), ((1, 8472), (2, 6081)));
        assert_eq!(tunnels.wire_guard.unwrap().rotation_seconds, Some(86400));
        assert_eq!(part.pod_ranges.unwrap(), ["10.244.0.0/16", "fd00:10:244::/56"]);

        cluster.kubectl(&["label", "node", "n3", "tunnel=wireguard"]);
        let sealed = |part: &NodeNetwork| part.spec.transport.prefers == [WireGuard];
        let part = cluster.part("n3", SOON, sealed).await.spec;
        assert_eq!(part.transport.accepts, [WireGuard]);
        cluster.condition("Accepted", "True", "spec.exceptions[0] \"geneve\": selects no node").await;

        tell(&cluster, "n1", &json!({"transport": "VXLAN,WireGuard", "encryption": "Partial", "mtu": 1420})).await;
        tell(&cluster, "n2", &json!({"transport": "VXLAN,WireGuard", "encryption": "Partial", "mtu": 1420})).await;
        tell(
            &cluster,
            "n3",
            &json!({"transport": "WireGuard", "encryption": "Full", "mtu": 1420,
            "paths": [{"transport": "WireGuard", "nodes": 2}]}),
        )
        .await;
        cluster.kubectl(&["wait", "--for=condition=Ready", "clusternetwork/default", "--timeout=120s"]);
        let table = cluster.kubectl(&["get", "cnet", "-o", "wide"]);
        let row: Vec<&str> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[..5], ["default", "True", "VXLAN,WireGuard", "Routed", "1420"], "{table}");
        assert!(table.lines().next().unwrap().contains("ENCRYPTION") && row.contains(&"Partial"), "{table}");
        let status = Api::<ClusterNetwork>::all(cluster.client.clone()).get("default").await.unwrap().status.unwrap();
        assert_eq!(status.encryption, Some(Encryption::Partial));

        cluster.kubectl(&["label", "node", "n3", "tunnel-"]);
        cluster.part("n3", SOON, |part| part.spec.transport.prefers[0] == VXLAN).await;
    });
}

#[test]
fn a_node_is_reached_by_the_address_that_its_agent_finds_and_keeps_the_old_one_until_then() {
    const NAME: &str =
        "transport::a_node_is_reached_by_the_address_that_its_agent_finds_and_keeps_the_old_one_until_then";
    with_cluster(NAME, |cluster| async move {
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        cluster.apply(KINDNET);
        let internal = ["172.30.0.1", "fd00:172:30::1"];
        cluster.part("n1", SOON, |part| part.spec.addresses == internal).await;
        let change = r#"{"spec": {"nodeAddress": {"mode": "Interface", "interfaces": ["eth1", "bond*"]}}}"#;
        cluster.kubectl(&["patch", "cnet", "default", "--type=merge", "-p", change]);
        let rule = NodeAddressRule {
            interfaces: Some(vec!["eth1".to_owned(), "bond*".to_owned()]),
            ..NodeAddressRule::default()
        };
        let told = cluster.part("n1", SOON, |part| part.spec.address_rule.as_ref() == Some(&rule)).await;
        assert_eq!(told.spec.addresses, internal);
        for found in [["192.168.7.1", "fd07::1"], ["192.168.7.9", "fd07::1"]] {
            tell(&cluster, "n1", &json!({"nodeAddresses": found})).await;
            cluster.part("n1", SOON, |part| part.spec.addresses == found).await;
        }

        cluster.add_node("n4", &["172.30.0.4", "fd00:172:30::4"]).await;
        let fresh = cluster.part("n4", SOON, |_| true).await;
        assert!(fresh.spec.addresses.is_empty() && fresh.spec.pod_cidrs.len() == 2);
        for name in ["n1", "n2", "n3", "n4"] {
            tell(&cluster, name, &json!({})).await;
        }
        cluster.condition("Ready", "False", "waiting for nodes to find their address by spec.nodeAddress: n4").await;
        tell(&cluster, "n4", &json!({"nodeAddresses": ["10.244.0.9", "fd07::4"]})).await;
        cluster
            .condition("Stalled", "True", "NodeNetwork.status.nodeAddresses \"10.244.0.9\": lies in the pod range")
            .await;
        tell(&cluster, "n4", &json!({"nodeAddresses": ["192.168.7.4", "fd07::4"]})).await;
        cluster.part("n4", SOON, |part| part.spec.addresses[0] == "192.168.7.4").await;

        cluster.kubectl(&["patch", "cnet", "default", "--type=merge", "-p", r#"{"spec": {"nodeAddress": null}}"#]);
        cluster.part("n1", SOON, |part| part.spec.addresses == internal && part.spec.address_rule.is_none()).await;
    });
}

#[test]
fn a_part_without_an_address_or_with_two_rules_is_no_part() {
    with_cluster("transport::a_part_without_an_address_or_with_two_rules_is_no_part", |cluster| async move {
        cluster.apply(KINDNET);
        let spec = json!({
            "revision": "1", "addresses": ["172.30.0.1"], "podCIDRs": ["10.244.0.0/24"], "attachment": "LinkLocal",
            "mtu": "Auto", "transport": {"prefers": ["IPIP"], "accepts": ["IPIP"], "crossSubnetOnly": true},
            "masquerade": {"mode": "Off"},
        });
        let part = |field: &str, value: Value| {
            let object = json!({
                "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": "n1"}, "spec": spec,
            });
            cluster.server_side_apply("admin", &with(&object, &format!("/spec/{field}"), value), "spec")
        };
        let refused = [
            ("addresses", json!([]), "addresses is empty: other nodes need one to reach this node"),
            ("addressRule", json!({}), "an addressRule has one of interfaces, cidrs and canReach; leave one"),
            ("addressRule", json!({"interfaces": ["eth1"], "canReach": ["192.0.2.1"]}), "leave one"),
        ];
        for (field, value, words) in refused {
            let said = part(field, value).unwrap_err();
            assert!(said.contains(words), "{said}");
        }
        part("addressRule", json!({"canReach": ["192.0.2.1"]})).unwrap();
    });
}

#[test]
fn every_sample_is_taken_and_the_one_of_every_field_reaches_the_nodes() {
    with_cluster(
        "transport::every_sample_is_taken_and_the_one_of_every_field_reaches_the_nodes",
        |cluster| async move {
            for file in std::fs::read_dir(repository("config/samples")).unwrap() {
                let path = file.unwrap().path().display().to_string();
                cluster.kubectl(&["apply", "--server-side", "--dry-run=server", "-f", &path]);
            }
            cluster.three_nodes().await;
            let _operator = cluster.operator("op-1", 9470);
            cluster.apply("config/samples/every-field.yaml");
            cluster.kubectl(&["label", "node", "n2", "kernel=old", "zone=a"]);
            cluster.kubectl(&["label", "node", "n3", "sealed=true"]);
            let sealed = |part: &NodeNetwork| part.spec.transport.prefers == [TransportMode::WireGuard];
            cluster.part("n3", SOON, sealed).await;
            let old = cluster.part("n2", SOON, |part| part.spec.mtu == Mtu::Bytes(1400)).await.spec;
            assert_eq!((old.attachment, old.transport.prefers[0]), (AttachmentMode::Bridge, TransportMode::Geneve));
            assert!(old.address_rule.is_some() && old.transport.cross_subnet_only == Some(true));
            wait_for("acceptance", SOON, || async {
                let network = Api::<ClusterNetwork>::all(cluster.client.clone()).get("default").await.unwrap();
                let conditions = network.status.map(|status| status.conditions).unwrap_or_default();
                let accepted = conditions.into_iter().find(|condition| condition.type_ == "Accepted");
                accepted.filter(|condition| condition.status == "True").map(drop).ok_or_else(|| "not yet".to_owned())
            })
            .await;
        },
    );
}
