//! Static pods of the pod network: the kubelet starts them by itself, and the runtime has another name for them than the API.

use std::fs;

use serde_json::json;

use crate::cluster::{Cluster, POD_IMAGE, in_url};
use crate::denied::metrics;

/// As the API names it: with the node's.
const POD: &str = "static-n2";

/// How many pods of the node started without their policies.
fn not_waited_for(cluster: &Cluster) -> String {
    let metrics = metrics(cluster, "n2");
    let line = metrics.lines().find(|line| line.starts_with("towpath_agent_pods_not_waited_for"));
    line.unwrap_or_else(|| panic!("{metrics}")).to_owned()
}

/// One that the policy `to-d` selects, which lets nothing in but from the pod `c`.
pub fn have_policies(cluster: &Cluster) {
    let before = not_waited_for(cluster);
    let folder = cluster.lab.node("n2").unwrap().root().join("etc/kubernetes/manifests");
    let (aside, manifest) = (folder.join(".static.json"), folder.join("static.json"));
    let container = json!({"name": "netexec", "image": POD_IMAGE, "args": ["netexec", "--http-port=8080"]});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "static", "namespace": "default", "labels": {"app": "d"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    });
    fs::write(&aside, pod.to_string()).unwrap();
    fs::rename(&aside, &manifest).unwrap();
    cluster.kubectl(&format!("wait --for=create pod/{POD} --timeout=120s"));
    cluster.kubectl(&format!("wait --for=condition=Ready pod/{POD} --timeout=150s"));
    assert_eq!(not_waited_for(cluster), before, "its policies were waited for in vain");
    for address in cluster.pod_seen(POD).addresses {
        let curl = format!("curl -sS -g -m 2 http://{}:8080/hostname", in_url(address));
        assert_eq!(cluster.in_pod("c", &curl), POD);
        for stranger in ["a", "b"] {
            let output = cluster.lab.pod_exec("default", stranger, &curl.split(' ').collect::<Vec<_>>()).unwrap();
            assert!(!output.success, "{stranger} reached {address}: {}", output.stdout);
        }
    }
    fs::remove_file(&manifest).unwrap();
    cluster.kubectl(&format!("wait --for=delete pod/{POD} --timeout=150s"));
}
