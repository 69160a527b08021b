#![allow(clippy::needless_pass_by_value, reason = "JSON is written where it is read")]

use serde_json::{Value, json};
use towpath_net::lease::{PodReference, Protocol};

use super::*;

fn pod(spec: Value, status: Value) -> Pod {
    let metadata = json!({
        "name": "p", "namespace": "a", "uid": "u", "labels": {"app": "web"}, "resourceVersion": "7",
        "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:metadata": {}}}],
    });
    let pod: ApiPod = serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status})).unwrap();
    assert_eq!(pod.metadata.resource_version.as_deref(), Some("7"));
    pod.into()
}

fn addresses_of(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn a_pod_is_what_names_it_and_where_it_is() {
    let read = pod(
        json!({"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}),
        json!({"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}),
    );
    let expected = Pod {
        key: Key { namespace: "a".to_owned(), name: "p".to_owned() },
        uid: "u".to_owned(),
        labels: [("app".to_owned(), "web".to_owned())].into(),
        node: Some("n1".into()),
        addresses: addresses_of(&["10.0.0.1", "fd00::1"]),
        ports: Vec::new(),
        is_host_network: false,
        is_ended: false,
    };
    assert_eq!(read, expected);
}

/// A pod with this annotation of those that show static pods.
fn shown(mirror: &str) -> Pod {
    let annotations = json!({"kubernetes.io/config.mirror": mirror, "kubernetes.io/config.source": "file"});
    let metadata = json!({"name": "p", "namespace": "a", "uid": "u", "annotations": annotations});
    let pod: ApiPod = serde_json::from_value(json!({"metadata": metadata, "spec": {"nodeName": "n1"}})).unwrap();
    pod.into()
}

#[test]
fn a_static_pod_is_told_apart_by_what_its_kubelet_names_it() {
    let of_runtime = |name: &str| PodReference {
        namespace: "a".to_owned(),
        name: name.to_owned(),
        uid: "0123456789abcdef0123456789abcdef".to_owned(),
    };
    let pod = shown("0123456789abcdef0123456789abcdef");
    assert_eq!(of_runtime("p").identity(), Some(pod.uid.clone()));
    assert_ne!(of_runtime("of-another-name").identity(), Some(pod.uid), "the hash alone can be copied");
}

#[test]
fn who_writes_the_uid_of_another_pod_into_the_annotation_of_static_pods_gains_nothing() {
    assert_eq!(shown("5a4e3d5b-7b1f-4d3c-9a51-6c6f4f0a2b17").uid, "u");
    assert_eq!(shown("").uid, "u");
}

#[test]
fn a_pod_that_was_just_made_has_no_node_and_no_address() {
    let read = pod(json!({}), json!({"phase": "Pending", "podIPs": null}));
    assert_eq!((read.node, read.addresses, read.is_ended), (None, Vec::new(), false));
    assert_eq!(pod(json!({"nodeName": ""}), json!({})).node, None);
}

#[test]
fn a_pod_has_one_address_of_each_family_in_their_order() {
    let of = |status: Value| pod(json!({}), status).addresses;
    assert_eq!(of(json!({"podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]})), addresses_of(&["10.0.0.1", "fd00::1"]));
    assert_eq!(of(json!({"podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]})), addresses_of(&["10.0.0.1"]));
    assert_eq!(of(json!({"podIP": "10.0.0.1"})), addresses_of(&["10.0.0.1"]));
}

#[test]
fn a_pod_on_the_hosts_network_is_told_apart() {
    assert!(pod(json!({"hostNetwork": true}), json!({})).is_host_network);
    assert!(!pod(json!({"hostNetwork": false}), json!({})).is_host_network);
}

#[test]
fn a_pod_has_ended_by_its_phase_alone() {
    let ended = |phase: &str| pod(json!({}), json!({"phase": phase})).is_ended;
    assert!(ended("Succeeded") && ended("Failed"));
    assert!(!ended("Running") && !ended("Pending") && !ended("Unknown"));
    let deleted = json!({"name": "p", "deletionTimestamp": "2026-01-01T00:00:00Z"});
    let deleted: ApiPod = serde_json::from_value(json!({"metadata": deleted})).unwrap();
    assert!(!Pod::from(deleted).is_ended);
}

#[test]
fn named_ports_are_those_of_containers_and_sidecars() {
    let port = |name: &str, number: u16| json!({"name": name, "containerPort": number});
    let dns = json!({"name": "dns", "containerPort": 53, "protocol": "UDP"});
    let read = pod(
        json!({
            "containers": [{"ports": [port("http", 80), {"containerPort": 81}, dns]}, {"ports": [port("http", 80)]}, {}],
            "initContainers": [
                {"ports": [port("once", 1)]}, {"restartPolicy": "Never", "ports": [port("never", 2)]},
                {"restartPolicy": "Always", "ports": [port("proxy", 3)]},
            ],
        }),
        json!({}),
    );
    let named = |name: &str, protocol, port| NamedPort { name: name.to_owned(), protocol, port };
    let expected =
        [named("dns", Protocol::Udp, 53), named("http", Protocol::Tcp, 80), named("proxy", Protocol::Tcp, 3)];
    assert_eq!(read.ports, expected);
}

#[test]
fn a_name_that_two_ports_have_is_of_both() {
    let port = |number: u16| json!({"name": "http", "containerPort": number});
    let read = pod(json!({"containers": [{"ports": [port(81)]}, {"ports": [port(80)]}]}), json!({}));
    assert_eq!(read.ports.iter().map(|port| port.port).collect::<Vec<_>>(), [80, 81]);
}

#[test]
fn a_namespace_is_its_name_and_labels() {
    let object = json!({"metadata": {"name": "a", "labels": {"team": "x"}}, "spec": {}, "status": {"phase": "Active"}});
    let read = Namespace::from(serde_json::from_value::<ApiNamespace>(object).unwrap());
    assert_eq!((read.name.as_str(), read.labels["team"].as_str()), ("a", "x"));
}

#[test]
fn a_node_has_its_internal_and_external_addresses() {
    let object = json!({"metadata": {"name": "n1", "labels": {"zone": "z"}}, "status": {"addresses": [
        {"type": "Hostname", "address": "n1"}, {"type": "ExternalIP", "address": "192.0.2.1"},
        {"type": "InternalIP", "address": "172.30.0.1"}, {"type": "InternalIP", "address": "fd00::1"},
        {"type": "ExternalIP", "address": "172.30.0.1"}, {"type": "InternalDNS", "address": "10.9.9.9"},
    ], "images": [{"names": ["i"]}]}});
    let read = Node::from(serde_json::from_value::<ApiNode>(object).unwrap());
    assert_eq!((read.name, read.labels["zone"].as_str()), ("n1".into(), "z"));
    assert_eq!(read.addresses, addresses_of(&["172.30.0.1", "192.0.2.1", "fd00::1"]));
    let bare = Node::from(serde_json::from_value::<ApiNode>(json!({"metadata": {"name": "n2"}})).unwrap());
    assert_eq!(bare.addresses, addresses_of(&[]));
}
