//! What policies are compiled from, as the API server tells it.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;
use towpath_net::policy::compile::Change;
use towpath_net::policy::input::Key;
use towpath_operator::policy::feed::{Fed, Feed, feed};
use towpath_operator::policy::report::{PolicyId, PolicyKind};

use crate::harness::{Cluster, LONG, SOON, wait_for, with_cluster};

const DEFINITION: &str = "clusternetworkpolicies.policy.networking.k8s.io";

struct Listener {
    feed: Feed,
    _tasks: JoinSet<()>,
}

impl Listener {
    /// With the operator's own rights.
    async fn new(cluster: &Cluster) -> Self {
        let mut tasks = JoinSet::new();
        Self { feed: feed(&cluster.operator_client().await, &mut tasks), _tasks: tasks }
    }

    /// What comes next but for how policies of the cluster are written.
    async fn next(&mut self) -> Fed {
        loop {
            match timeout(LONG, self.feed.changes.recv()).await.unwrap().unwrap() {
                Fed::Written(..) => {}
                fed => return fed,
            }
        }
    }

    /// What is told in short, until that is all that there is.
    async fn whole(&mut self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        loop {
            match self.next().await {
                Fed::Change(change) => assert!(all.insert(short(&change)), "{change:?} was told twice"),
                Fed::Whole => return all,
                Fed::Written(..) => {}
            }
        }
    }

    /// What is told next in short.
    async fn change(&mut self) -> String {
        match self.next().await {
            Fed::Change(change) => short(&change),
            Fed::Whole => "Whole".to_owned(),
            Fed::Written(name, _) => format!("Written {name}"),
        }
    }
}

/// A change without what the tests of reading show.
fn short(change: &Change) -> String {
    let key = |key: &Key| format!("{}/{}", key.namespace, key.name);
    match change {
        Change::Namespace(namespace) => format!("Namespace {}", namespace.name),
        Change::NamespaceGone(name) => format!("NamespaceGone {name}"),
        Change::Pod(pod) => format!("Pod {} {:?}", key(&pod.key), pod.labels),
        Change::PodGone(gone) => format!("PodGone {}", key(gone)),
        Change::Node(node) => format!("Node {} {:?}", node.name, node.addresses),
        Change::NodeGone(name) => format!("NodeGone {name}"),
        Change::Policy(policy) => format!("Policy {} {}", key(&policy.key), policy.ingress.iter().flatten().count()),
        Change::PolicyGone(gone) => format!("PolicyGone {}", key(gone)),
        Change::ClusterPolicy(policy) => format!("ClusterPolicy {} {}", policy.name, policy.priority),
        Change::ClusterPolicyGone(name) => format!("ClusterPolicyGone {name}"),
    }
}

fn apply(cluster: &Cluster, object: &Value) {
    cluster.server_side_apply("admin", object, "").unwrap();
}

pub fn namespace(cluster: &Cluster, name: &str) {
    apply(cluster, &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": name}});
    apply(cluster, &account);
}

fn pod(cluster: &Cluster, name: &str, label: &str) {
    let labels = json!({"app": label});
    apply(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }),
    );
}

pub fn policy(cluster: &Cluster, name: &str, rules: &Value) {
    apply(
        cluster,
        &json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name, "namespace": "a"},
            "spec": {"podSelector": {}, "ingress": rules},
        }),
    );
}

/// Defines the kind, with a status and without a schema: what is not understood is let in as well.
pub fn define(cluster: &Cluster) {
    let each = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "required": ["type"], "properties": {
        "type": {"type": "string"},
    }});
    let conditions = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": each,
    });
    let schema = json!({"openAPIV3Schema": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
        "properties": {"status": {"type": "object", "properties": {"conditions": conditions}}},
    }});
    let names = json!({"kind": "ClusterNetworkPolicy", "plural": "clusternetworkpolicies"});
    apply(
        cluster,
        &json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": DEFINITION, "annotations": {"api-approved.kubernetes.io": "unapproved, a test"}},
            "spec": {
                "group": "policy.networking.k8s.io", "scope": "Cluster", "names": names,
                "versions": [{
                    "name": "v1alpha2", "served": true, "storage": true, "schema": schema, "subresources": {"status": {}},
                }],
            },
        }),
    );
    cluster.kubectl(&["wait", "--for=condition=Established", &format!("crd/{DEFINITION}"), "--timeout=120s"]);
}

pub fn cluster_policy(cluster: &Cluster, name: &str, priority: i32, subject: &Value) {
    apply(
        cluster,
        &json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name}, "spec": {"tier": "Admin", "priority": priority, "subject": subject},
        }),
    );
}

fn of_this_test(told: &BTreeSet<String>) -> Vec<&str> {
    let known = ["Namespace a", "Node n1 ", "Pod a/", "Policy a/", "ClusterPolicy "];
    told.iter().map(String::as_str).filter(|one| known.iter().any(|start| one.starts_with(start))).collect()
}

#[test]
fn all_that_there_is_is_told_and_then_what_changes_it() {
    with_cluster("policy::all_that_there_is_is_told_and_then_what_changes_it", |mut cluster| async move {
        namespace(&cluster, "a");
        cluster.add_node("n1", &["172.30.0.1"]).await;
        pod(&cluster, "p", "x");
        policy(&cluster, "web", &json!([{}]));
        let mut listener = Listener::new(&cluster).await;
        let told = listener.whole().await;
        let expected = ["Namespace a", "Node n1 [172.30.0.1]", "Pod a/p {\"app\": \"x\"}", "Policy a/web 1"];
        assert_eq!(of_this_test(&told), expected);

        cluster.kubectl(&["annotate", "pod", "p", "-n", "a", "irrelevant=yes"]);
        pod(&cluster, "p", "y");
        assert_eq!(listener.change().await, "Pod a/p {\"app\": \"y\"}");
        cluster.kubectl(&["delete", "pod", "p", "-n", "a", "--force", "--grace-period=0"]);
        assert_eq!(listener.change().await, "PodGone a/p");
        cluster.kubectl(&["delete", "networkpolicy", "web", "-n", "a"]);
        assert_eq!(listener.change().await, "PolicyGone a/web");
        cluster.kubectl(&["delete", "node", "n1"]);
        assert_eq!(listener.change().await, "NodeGone n1");

        // Nothing is told anew when everything is listed anew.
        cluster.stop_api_server();
        cluster.restart_api_server().await;
        namespace(&cluster, "b");
        assert_eq!(listener.change().await, "Namespace b");
    });
}

#[test]
fn lists_come_in_pages_where_the_api_server_streams_none() {
    with_cluster("policy::lists_come_in_pages_where_the_api_server_streams_none", |mut cluster| async move {
        cluster.stop_api_server();
        cluster.restart_api_server_with(&["--feature-gates=WatchList=false"]).await;
        namespace(&cluster, "a");
        pod(&cluster, "p", "x");
        let mut listener = Listener::new(&cluster).await;
        assert_eq!(of_this_test(&listener.whole().await), ["Namespace a", "Pod a/p {\"app\": \"x\"}"]);
        pod(&cluster, "q", "x");
        assert_eq!(listener.change().await, "Pod a/q {\"app\": \"x\"}");
    });
}

#[test]
fn policies_of_the_cluster_are_followed_where_they_are_defined() {
    with_cluster("policy::policies_of_the_cluster_are_followed_where_they_are_defined", |cluster| async move {
        let mut listener = Listener::new(&cluster).await;
        listener.whole().await;
        define(&cluster);
        let all = json!({"namespaces": {}});
        cluster_policy(&cluster, "p", 7, &all);
        assert_eq!(listener.change().await, "ClusterPolicy p 7");
        cluster_policy(&cluster, "p", 8, &all);
        assert_eq!(listener.change().await, "ClusterPolicy p 8");
        assert_eq!(of_this_test(&Listener::new(&cluster).await.whole().await), ["ClusterPolicy p 8"]);

        cluster.kubectl(&["delete", "crd", DEFINITION]);
        assert_eq!(listener.change().await, "ClusterPolicyGone p");
        assert_eq!(of_this_test(&Listener::new(&cluster).await.whole().await), [""; 0]);
        define(&cluster);
        cluster_policy(&cluster, "q", 9, &all);
        assert_eq!(listener.change().await, "ClusterPolicy q 9");
    });
}

#[test]
fn what_cannot_be_honoured_is_reported_until_it_can_be() {
    with_cluster("policy::what_cannot_be_honoured_is_reported_until_it_can_be", |cluster| async move {
        define(&cluster);
        cluster_policy(&cluster, "nobody", 1, &json!({"galaxies": {}}));
        let mut listener = Listener::new(&cluster).await;
        assert!(listener.whole().await.contains("ClusterPolicyGone nobody"));
        let report = listener.feed.report.borrow_and_update().clone();
        let (id, complaint) = report.complaints().next().unwrap();
        let key = Key { namespace: String::new(), name: "nobody".to_owned() };
        assert_eq!(*id, PolicyId { kind: PolicyKind::ClusterNetworkPolicy, key });
        assert!(
            complaint.findings[0].to_string().starts_with("spec.subject \"unknown field `galaxies`"),
            "{complaint:?}"
        );
        cluster_policy(&cluster, "nobody", 1, &json!({"namespaces": {}}));
        timeout(LONG, listener.feed.report.wait_for(|report| report.complaints().len() == 0)).await.unwrap().unwrap();
        assert_eq!(listener.change().await, "ClusterPolicy nobody 1");
    });
}

#[test]
fn a_policy_that_is_not_honoured_is_told_of_on_itself_and_on_the_network() {
    const NAME: &str = "policy::a_policy_that_is_not_honoured_is_told_of_on_itself_and_on_the_network";
    with_cluster(NAME, |cluster| async move {
        define(&cluster);
        cluster.apply("config/samples/kindnet.yaml");
        let operator = cluster.operator("op-1", 9470);
        operator.leads(SOON).await;
        cluster.condition("PoliciesHonoured", "True", "every network policy").await;
        cluster_policy(&cluster, "nobody", 1, &json!({"galaxies": {}}));
        cluster.condition("PoliciesHonoured", "False", "ClusterNetworkPolicy nobody").await;
        wait_for("the event", SOON, || async {
            let events = cluster.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason} {.items[*].message}"]);
            let is_told = events.contains("PolicyNotHonoured") && events.contains("galaxies");
            if is_told { Ok(()) } else { Err(events) }
        })
        .await;
        cluster_policy(&cluster, "nobody", 1, &json!({"namespaces": {}}));
        cluster.condition("PoliciesHonoured", "True", "every network policy").await;
        assert_eq!(operator.metric("towpath_operator_policies{state=\"InForce\"}"), Some(1.0));
    });
}
