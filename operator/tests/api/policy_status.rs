//! What users see of whether policies are in force.

use serde_json::json;

use crate::harness::{Cluster, SOON, wait_for, with_cluster};
use crate::policy::{cluster_policy, define, namespace, policy};

const KINDNET: &str = "config/samples/kindnet.yaml";

/// Waits until a field of an object is this.
async fn field(cluster: &Cluster, object: &[&str], path: &str, expected: &str) {
    let path = format!("jsonpath={path}");
    let arguments = [&["get"], object, &["-o", &path]].concat();
    wait_for(expected, SOON, || async {
        let found = cluster.try_kubectl("admin", &arguments).unwrap_or_else(|error| error);
        if found == expected { Ok(()) } else { Err(found) }
    })
    .await;
}

/// What was said in events, with what it is about.
fn events(cluster: &Cluster, namespace: &str) -> String {
    let each = "jsonpath={range .items[*]}{.reason} {.involvedObject.name}: {.message}{\"\\n\"}{end}";
    cluster.kubectl(&["get", "events", "-n", namespace, "-o", each])
}

#[test]
fn a_policy_of_the_cluster_says_whether_it_is_in_force_and_a_restart_says_nothing_else() {
    const NAME: &str =
        "policy_status::a_policy_of_the_cluster_says_whether_it_is_in_force_and_a_restart_says_nothing_else";
    with_cluster(NAME, |cluster| async move {
        define(&cluster);
        cluster.apply(KINDNET);
        let operator = cluster.operator("op-1", 9470);
        operator.leads(SOON).await;
        cluster_policy(&cluster, "p", 1, &json!({"namespaces": {}}));
        let object = ["clusternetworkpolicy", "p"];
        cluster.kubectl(&["wait", "--for=condition=InForce", "clusternetworkpolicy/p", "--timeout=120s"]);
        cluster.kubectl(&["wait", "--for=condition=Ready", "clusternetworkpolicy/p", "--timeout=120s"]);
        // Somebody else's word stays.
        let others = json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": "p"}, "status": {"conditions": [{
                "type": "else.example/Seen", "status": "True", "reason": "Yes", "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]},
        });
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), others.to_string()).unwrap();
        let file = file.path().display().to_string();
        cluster.kubectl(&[
            "apply",
            "--server-side",
            "--field-manager=else",
            "--subresource=status",
            "--validate=false",
            "-f",
            &file,
        ]);

        cluster_policy(&cluster, "p", 1, &json!({"galaxies": {}}));
        field(&cluster, &object, "{.status.conditions[?(@.type==\"Ready\")].status}", "False").await;
        let said = cluster.kubectl(&["get", "clusternetworkpolicy", "p", "-o", "jsonpath={.status.conditions}"]);
        assert!(said.contains("galaxies") && said.contains("PolicyNotHonoured"), "{said}");
        let network = ["clusternetwork", "default"];
        field(&cluster, &network, "{.status.policies.inForceOfCount} {.status.policies.notHonoured}", "0/1 1").await;

        cluster_policy(&cluster, "p", 2, &json!({"namespaces": {}}));
        let path = "{.metadata.generation} {.status.conditions[?(@.type==\"InForce\")].observedGeneration}";
        field(&cluster, &object, path, "3 3").await;
        field(&cluster, &network, "{.status.policies.inForceOfCount} {.status.policies.notHonoured}", "1/1 0").await;
        let version =
            || cluster.kubectl(&["get", "clusternetworkpolicy", "p", "-o", "jsonpath={.metadata.resourceVersion}"]);
        let before = version();
        operator.kill();
        let again = cluster.operator("op-1", 9470);
        again.leads(SOON).await;
        // What comes behind it is told, and so all before it was looked at.
        cluster_policy(&cluster, "q", 1, &json!({"namespaces": {}}));
        cluster.kubectl(&["wait", "--for=condition=InForce", "clusternetworkpolicy/q", "--timeout=120s"]);
        assert_eq!(version(), before);
        assert!(cluster.kubectl(&["get", "clusternetworkpolicy", "p", "-o", "yaml"]).contains("else.example/Seen"));
    });
}

#[test]
fn a_policy_of_a_namespace_is_told_of_by_an_event_once_it_is_in_force_and_when_it_is_late() {
    const NAME: &str =
        "policy_status::a_policy_of_a_namespace_is_told_of_by_an_event_once_it_is_in_force_and_when_it_is_late";
    with_cluster(NAME, |cluster| async move {
        cluster.apply(KINDNET);
        namespace(&cluster, "a");
        policy(&cluster, "earlier", &json!([]));
        let operator = cluster.operator("op-1", 9470);
        operator.leads(SOON).await;
        cluster.condition("PoliciesInForce", "True", "every network policy").await;
        policy(&cluster, "web", &json!([{}]));
        wait_for("the event", SOON, || async {
            let said = events(&cluster, "a");
            if said.contains("InForce web: no node has pods of it") { Ok(()) } else { Err(said) }
        })
        .await;
        field(&cluster, &["clusternetwork", "default"], "{.status.policies.inForceOfCount}", "2/2").await;
        // A pod on a node whose agent never came. Where nodes' agents have been away for long, nothing is said to be in force.
        cluster.three_nodes().await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a"},
            "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]},
        });
        cluster.server_side_apply("admin", &pod, "").unwrap();
        wait_for("the pod", SOON, || async {
            let pods = operator.metric("towpath_operator_policy_objects{kind=\"Pod\"}");
            if pods == Some(1.0) { Ok(()) } else { Err(format!("{pods:?}")) }
        })
        .await;
        policy(&cluster, "web", &json!([]));
        cluster.condition("PoliciesInForce", "False", "NetworkPolicy a/web (on 0 of 1 nodes, missing on n1)").await;
        field(&cluster, &["clusternetwork", "default"], "{.status.policies.inForceOfCount}", "1/2").await;
        wait_for("the event", SOON, || async {
            let said = events(&cluster, "a");
            if said.contains("NotInForce web: in force on 0 of 1 nodes, missing on n1") { Ok(()) } else { Err(said) }
        })
        .await;
        cluster.kubectl(&["delete", "pod", "p", "-n", "a", "--force", "--grace-period=0"]);
        field(&cluster, &["clusternetwork", "default"], "{.status.policies.inForceOfCount}", "2/2").await;
        let said = events(&cluster, "a");
        assert!(!said.contains("earlier"), "{said}");
    });
}
