//! Host ports, a cluster of IPv6 alone, and pod CIDRs that the Nodes bring. Who reaches whom in each of the well-known
//! networks is compared in `profiles`.

use crate::cluster::{Cluster, in_url};
use crate::reach::{node_addresses, seen_source};

#[test]
fn host_ports_lead_to_their_pod_from_inside_and_outside() {
    let cluster = Cluster::up("hostports");
    let client = cluster.pod("client", "n2");
    cluster.start_pod("server", "n1", ", hostPort: 8088");
    cluster.kubectl("wait --for=condition=Ready pod/server --timeout=180s");
    for address in node_addresses(&cluster, "n1") {
        let url = format!("http://{}:8088/hostname", in_url(address));
        assert_eq!(cluster.in_pod(&client.name, &format!("curl -sS -g -m 3 {url}")), "server");
        assert_eq!(cluster.in_pod("server", &format!("curl -sS -g -m 3 {url}")), "server", "a pod by its own port");
        let outside = cluster.lab.outside().unwrap().exec(&["curl", "-sS", "-g", "-m", "3", &url]).unwrap();
        assert_eq!(String::from_utf8_lossy(&outside.stdout), "server");
    }
    cluster.kubectl("delete pod server --wait");
    let left = cluster.on("n1", "nft list map inet towpath hostports-v4");
    assert!(!left.contains("8088"), "{left}");
}

#[test]
fn a_cluster_of_ipv6_alone_talks() {
    let cluster = Cluster::bare_with("sixes", |config| {
        config.wire = towpath_e2e::Wire::Ipv6;
        config.nodes = 2;
    });
    cluster.install();
    cluster.apply(
        "{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {name: default}, spec: {ipam: {mode: \
         NodeCIDR, allocation: Allocate, podCIDRs: ['fd00:10:244::/56'], nodeMaskSize: {ipv6: 64}}, attachment: {mode: \
         Routed}, transport: {mode: Direct}, masquerade: {mode: LeavingCluster}}}",
    );
    cluster.wait_ready();
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let source = seen_source(&cluster, &a, &format!("http://{}:8080", in_url(b.addresses[0])));
    assert_eq!(source, a.addresses[0]);
    let outside = cluster.lab.outside_addresses()[0];
    let source = seen_source(&cluster, &a, &format!("http://{}:8080", in_url(outside)));
    assert_eq!(source, node_addresses(&cluster, "n1")[0]);
}

#[test]
fn pod_cidrs_of_the_nodes_are_adopted() {
    let cluster = Cluster::bare_with("adopt", |config| {
        config.nodes = 2;
        config.pod_cidrs = vec!["10.200.0.0/16".parse().unwrap(), "fd00:10:200::/56".parse().unwrap()];
    });
    cluster.install();
    cluster.declare("config/samples/adopt.yaml");
    cluster.wait_ready();
    for node in ["n1", "n2"] {
        let given = cluster.field(&format!("node/{node}"), ".spec.podCIDRs");
        assert_eq!(cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs"), given);
        assert!(given.contains("10.200."), "{given}");
    }
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    assert_eq!(seen_source(&cluster, &a, &format!("http://{}:8080", in_url(b.addresses[0]))), a.addresses[0]);
}
