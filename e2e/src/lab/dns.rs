//! The cluster's DNS: CoreDNS, as a Deployment behind the Service `kube-dns`.

use serde_json::{Value, json};

use super::{Lab, LabError};
use crate::{config::Wire, control_plane::dns_services};

const MANIFESTS: &str = include_str!("coredns.yaml");

pub(super) fn deploy(lab: &Lab) -> Result<(), LabError> {
    lab.apply(&format!("{MANIFESTS}---\n{:#}\n", service(lab)))
}

/// The Service, at the addresses that every kubelet was told.
fn service(lab: &Lab) -> Value {
    let addresses = dns_services(&lab.config);
    let policy = if lab.config.wire == Wire::Dual && addresses.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let port = |name: &str, protocol: &str, port: u16| json!({"name": name, "protocol": protocol, "port": port, "targetPort": port});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {
            "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS",
        }},
        "spec": {
            "clusterIP": addresses.first(),
            "clusterIPs": addresses,
            "ipFamilyPolicy": policy,
            "selector": {"k8s-app": "kube-dns"},
            "ports": [port("dns", "UDP", 53), port("dns-tcp", "TCP", 53), port("metrics", "TCP", 9153)],
        },
    })
}
