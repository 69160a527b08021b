//! CRI-O by its own library for CNI, as Debian has no CRI-O: STATUS until it succeeds, CHECK right after each ADD, and GC
//! once at its start.

use std::path::Path;

use serde_json::{Value, json};
use towpath_e2e::{
    binaries::{Binaries, OCICNI},
    progress::Progress,
};

use crate::node::{Node, isolated};

const ANNOTATION: &str = "io.kubernetes.cri.pod-annotations";

fn node(folder: &Path) -> Node {
    let tools = Binaries::of(&OCICNI, &Progress::quiet()).unwrap();
    let node = Node::make(folder, &[(&tools, "opt/lab/tools")]);
    node.start_agent();
    node
}

fn call(verb: &str, pods: &[&Value]) -> String {
    format!("echo '{}' | ocicni {verb} /etc/cni/net.d /opt/cni/bin /var/lib/cni", json!(pods))
}

/// A pod in a namespace of its own, as CRI-O describes it.
fn pod(node: &Node, name: &str, runtime: &Value) -> Value {
    node.run(&format!("ip netns add {name}"));
    json!({
        "Name": name, "Namespace": "default", "ID": format!("{name}-0123"), "UID": format!("{name}-uid"),
        "NetNS": format!("/run/netns/{name}"), "RuntimeConfig": {"towpath": runtime},
    })
}

#[test]
fn a_pod_is_right_by_check_as_soon_as_it_is_added() {
    isolated("crio::a_pod_is_right_by_check_as_soon_as_it_is_added", |folder| {
        let node = node(folder);
        let before = node.traces();
        node.run(&call("status", &[]));
        let web = pod(
            &node,
            "web",
            &json!({
                "PortMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}],
                "Bandwidth": {"IngressRate": 10_000_000, "IngressBurst": 100_000, "EgressRate": 20_000_000, "EgressBurst": 200_000},
                "MAC": "02:11:22:33:44:55",
                ANNOTATION: {"towpath.dev/ip-addresses": "10.244.1.77"},
            }),
        );
        let result: Value = serde_json::from_str(&node.run(&call("add", &[&web]))).unwrap();
        assert_eq!(result["ips"][0]["address"], "10.244.1.77/24", "{result}");
        assert_eq!(result["interfaces"][1]["mac"], "02:11:22:33:44:55", "{result}");
        let lease = &node.leases()[0];
        assert!(lease.ports.contains(&8080), "{lease:?}");
        assert!(node.run(&format!("tc qdisc show dev {}", lease.link)).contains("rate 10Mbit"));
        let other = pod(&node, "other", &json!({"IP": "10.244.1.77"}));
        let refused = node.fail(&call("add", &[&other]));
        assert!(refused.contains("the pod cannot have 10.244.1.77"), "{refused}");
        for _ in 0..2 {
            node.run(&call("del", &[&web, &other]));
        }
        node.nothing_is_left(&before);
    });
}

#[test]
fn what_is_not_listed_at_a_start_is_collected_and_with_no_pods_at_all() {
    isolated("crio::what_is_not_listed_at_a_start_is_collected_and_with_no_pods_at_all", |folder| {
        let node = node(folder);
        let before = node.traces();
        // A list without pods is null to Go.
        node.run(&call("gc", &[]));
        let (kept, lost) = (pod(&node, "kept", &json!({})), pod(&node, "lost", &json!({})));
        node.run(&call("add", &[&kept, &lost]));
        node.run(&call("gc", &[&kept]));
        let containers: Vec<String> = node.leases().into_iter().map(|lease| lease.container).collect();
        assert_eq!(containers, ["kept-0123"]);
        node.run(&call("gc", &[]));
        node.nothing_is_left(&before);
    });
}
