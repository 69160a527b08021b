//! The operator against a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod agent;
mod crash;
mod harness;
mod policy;
mod policy_status;
mod pools;
mod servers;
mod transport;

use std::collections::BTreeSet;
use std::sync::Arc;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::watch;
use towpath_crds::{ClusterNetwork, Mtu, NodeNetwork};
use towpath_net::intent::{Draft, Intent, overlap, validate};
use towpath_operator::cache::Seen;
use towpath_operator::cluster::{Cluster as Writer, Error};
use towpath_operator::grant::{NAME, grant};
use towpath_operator::lease::{Candidate, Leadership};
use towpath_operator::metrics::Metrics;

use harness::{Cluster, SOON, repository, wait_for, wait_to_lead, with_cluster};

const KINDNET: &str = "config/samples/kindnet.yaml";

fn versions(parts: &[NodeNetwork]) -> Vec<Option<String>> {
    parts.iter().map(|part| part.metadata.resource_version.clone()).collect()
}

#[test]
fn every_node_gets_its_part_and_a_restart_writes_nothing() {
    with_cluster("every_node_gets_its_part_and_a_restart_writes_nothing", |cluster| async move {
        cluster.three_nodes().await;
        let operator = cluster.operator("op-1", 9470);
        cluster.apply(KINDNET);
        for (name, cidr) in [("n1", "10.244.0.0/24"), ("n2", "10.244.1.0/24"), ("n3", "10.244.2.0/24")] {
            cluster.part(name, SOON, |part| part.spec.pod_cidrs[0] == cidr).await;
            cluster.report(name).await;
        }
        cluster.kubectl(&["wait", "--for=condition=Ready", "clusternetwork/default", "--timeout=120s"]);
        let table = cluster.kubectl(&["get", "cnet"]);
        let words = |line: Option<&str>| line.unwrap().split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            words(table.lines().next()),
            ["NAME", "READY", "TRANSPORT", "ATTACHMENT", "MTU", "NODES", "UPDATED", "POLICIES", "AGE"]
        );
        wait_for("the network's row", SOON, || async {
            let table = cluster.kubectl(&["get", "cnet"]);
            let row = ["default", "True", "Direct", "Routed", "1500", "3/3", "3/3", "0/0"];
            if words(table.lines().nth(1)).iter().take(8).eq(row.iter()) { Ok(()) } else { Err(table) }
        })
        .await;
        let table = cluster.kubectl(&["get", "nnet"]);
        assert_eq!(words(table.lines().next()), ["NAME", "READY", "POD-CIDRS", "TRANSPORT", "MTU", "REVISION", "AGE"]);
        assert!(table.contains("10.244.0.0/24,fd00:10:244::/64"), "{table}");

        // Counts may wait to be written.
        cluster.rests().await;
        operator.kill();
        let before = versions(&cluster.parts().await);
        let again = cluster.operator("op-1", 9470);
        again.leads(SOON).await;
        wait_for("a pass", SOON, || async { if again.passes() > 0.0 { Ok(()) } else { Err("none".to_owned()) } }).await;
        assert_eq!(versions(&cluster.parts().await), before);
        let metrics = again.get("/metrics").unwrap();
        assert!(!metrics.contains("towpath_operator_writes_total{"), "{metrics}");
    });
}

#[test]
fn nodes_that_come_go_move_and_come_again_are_followed() {
    with_cluster("nodes_that_come_go_move_and_come_again_are_followed", |cluster| async move {
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        cluster.apply("crds/tests/fresh/04-too-few-blocks.yaml");
        cluster
            .condition("Stalled", "True", "node n3: spec.ipam.podCIDRs[0] \"10.244.0.0/23\": has no /24 block left")
            .await;
        let old = cluster.part("n1", SOON, |_| true).await;

        cluster.readdress("n1", &["172.30.0.11"]).await;
        cluster.part("n1", SOON, |part| part.spec.addresses == ["172.30.0.11"]).await;

        let nodes = Api::<Node>::all(cluster.client.clone());
        nodes.delete("n1", &DeleteParams::default()).await.unwrap();
        cluster.part("n3", SOON, |part| part.spec.pod_cidrs == old.spec.pod_cidrs).await;

        nodes.delete("n2", &DeleteParams::default()).await.unwrap();
        cluster.add_node("n2", &["172.30.0.2"]).await;
        let uid = nodes.get("n2").await.unwrap().metadata.uid.unwrap();
        let belongs = |part: &NodeNetwork| part.metadata.owner_references.iter().flatten().any(|o| o.uid == uid);
        cluster.part("n2", SOON, belongs).await;
        cluster.condition("Stalled", "False", "").await;
        assert_eq!(cluster.parts().await.len(), 2);
    });
}

#[test]
fn another_replica_takes_over_in_seconds() {
    with_cluster("another_replica_takes_over_in_seconds", |cluster| async move {
        cluster.apply(KINDNET);
        let first = cluster.operator("op-1", 9470);
        first.leads(SOON).await;
        let second = cluster.operator("op-2", 9471);
        wait_for("readiness", SOON, || async {
            second.get("/readyz").filter(|answer| answer.starts_with("HTTP/1.1 200")).map(drop).ok_or("no".to_owned())
        })
        .await;
        // On a busy machine the second may have come to lead.
        let replicas = [first, second];
        let is_first = wait_for("one that leads", SOON, || async {
            match replicas.each_ref().map(|replica| replica.metric("towpath_operator_leading") == Some(1.0)) {
                [is_first, is_second] if is_first != is_second => Ok(is_first),
                both => Err(format!("{both:?}")),
            }
        })
        .await;
        let [first, second] = replicas;
        let (leader, other, port) = if is_first { (first, second, 9470) } else { (second, first, 9471) };
        leader.kill();
        cluster.add_node("n1", &["172.30.0.1", "fd00:172:30::1"]).await;
        cluster.part("n1", SOON, |_| true).await;

        let third = cluster.operator("op-3", port);
        wait_for("health", SOON, || async { third.get("/readyz").map(drop).ok_or("no".to_owned()) }).await;
        other.terminate();
        cluster.add_node("n2", &["172.30.0.2", "fd00:172:30::2"]).await;
        cluster.part("n2", SOON, |_| true).await;
    });
}

#[test]
fn an_api_server_that_was_away_is_found_again() {
    with_cluster("an_api_server_that_was_away_is_found_again", |mut cluster| async move {
        cluster.apply(KINDNET);
        let mut operator = cluster.operator("op-1", 9470);
        operator.leads(SOON).await;
        cluster.stop_api_server();
        wait_for("an end of leadership", SOON, || async {
            if operator.metric("towpath_operator_leading") == Some(0.0) { Ok(()) } else { Err("leads".to_owned()) }
        })
        .await;
        cluster.restart_api_server().await;
        cluster.add_node("n1", &["172.30.0.1", "fd00:172:30::1"]).await;
        cluster.part("n1", SOON, |_| true).await;
        assert!(operator.runs());
    });
}

#[test]
fn what_the_cluster_contradicts_ends_in_a_condition_and_a_deleted_network_stays_on_the_nodes() {
    const NAME: &str = "what_the_cluster_contradicts_ends_in_a_condition_and_a_deleted_network_stays_on_the_nodes";
    with_cluster(NAME, |cluster| async move {
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        let mut files: Vec<_> = std::fs::read_dir(repository("crds/tests/fresh")).unwrap().flatten().collect();
        files.sort_by_key(std::fs::DirEntry::file_name);
        for file in files {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let words = text.lines().next().unwrap().strip_prefix("# expect: condition ").unwrap();
            cluster.kubectl(&["apply", "--server-side", "-f", &file.path().display().to_string()]);
            cluster.condition("Stalled", "True", words).await;
            cluster.condition("Ready", "False", words).await;
            cluster.condition("Reconciling", "False", "").await;
            cluster.kubectl(&["delete", "clusternetwork", "default"]);
        }
        let parts = cluster.parts().await;
        assert_eq!(parts.len(), 2, "of the last file, which has two blocks");
        wait_for("the event", SOON, || async {
            let events = cluster.kubectl(&["get", "events"]);
            if events.contains("NetworkKept") { Ok(()) } else { Err(events) }
        })
        .await;
        assert_eq!(versions(&cluster.parts().await), versions(&parts));
    });
}

#[test]
fn what_one_object_alone_gets_wrong_is_refused_with_the_words_that_help() {
    with_cluster("what_one_object_alone_gets_wrong_is_refused_with_the_words_that_help", |cluster| async move {
        cluster.apply(KINDNET);
        let before =
            cluster.kubectl(&["get", "clusternetwork", "default", "-o", "jsonpath={.metadata.resourceVersion}"]);
        let mut refused = 0;
        let mut wrong = Vec::new();
        for file in std::fs::read_dir(repository("crds/tests/bad")).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let expectation = text.lines().next().unwrap().strip_prefix("# expect: ").unwrap();
            let Some(words) = expectation.strip_prefix("refused ") else { continue };
            let path = path.display().to_string();
            match cluster.try_kubectl("admin", &["apply", "--server-side", "-f", &path]) {
                Err(said) if said.contains(words) => refused += 1,
                said => wrong.push(format!("{path}: no {words:?} in {said:?}")),
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
        assert!(refused >= 100, "{refused} files");
        let after =
            cluster.kubectl(&["get", "clusternetwork", "default", "-o", "jsonpath={.metadata.resourceVersion}"]);
        assert_eq!(before, after);
    });
}

#[test]
fn a_node_whose_part_is_refused_holds_up_no_other_and_is_told_of() {
    with_cluster("a_node_whose_part_is_refused_holds_up_no_other_and_is_told_of", |cluster| async move {
        cluster.three_nodes().await;
        let operator = cluster.operator("op-1", 9470);
        cluster.apply(KINDNET);
        for name in ["n1", "n2", "n3"] {
            cluster.part(name, SOON, |_| true).await;
        }
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": "not-n1"},
            "spec": {
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": ["towpath.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
                    "resources": ["nodenetworks"],
                }]},
                "validations": [{"expression": "object.metadata.name != 'n1'", "message": "hands off n1"}],
            },
        });
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": "not-n1"}, "spec": {"policyName": "not-n1", "validationActions": ["Deny"]},
        });
        for object in [policy, binding] {
            cluster.server_side_apply("admin", &object, "spec").unwrap();
        }
        let api = Api::<NodeNetwork>::all(cluster.client.clone());
        wait_for("the policy in force", SOON, || async {
            let change = Patch::Merge(json!({"spec": {"mtu": 1300}}));
            let refused = api.patch("n1", &PatchParams { dry_run: true, ..PatchParams::default() }, &change).await;
            refused.err().map(drop).ok_or_else(|| "taken".to_owned())
        })
        .await;
        cluster.kubectl(&["patch", "cnet", "default", "--type=merge", "-p", "{\"spec\":{\"mtu\":1400}}"]);
        let has = |part: &NodeNetwork| part.spec.mtu == Mtu::Bytes(1400);
        cluster.part("n2", SOON, has).await;
        cluster.part("n3", SOON, has).await;
        cluster.condition("NodesUpdated", "False", "n1").await;
        wait_for("a pass that failed", SOON, || async {
            let failed = operator.metric("towpath_operator_passes_total{outcome=\"Failed\"}").unwrap_or_default();
            if failed > 0.0 { Ok(()) } else { Err("none".to_owned()) }
        })
        .await;
        assert!(!cluster.parts().await.iter().any(|part| part.metadata.name.as_deref() == Some("n1") && has(part)));
    });
}

/// What an operator sees that has just looked.
async fn look(cluster: &Cluster) -> Seen {
    let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default()).await.unwrap();
    Seen { nodes: nodes.items.into_iter().map(Arc::new).collect(), ..Seen::default() }
}

/// Gives until everything is given, and answers how often somebody else was in the way. As a running operator does, it
/// goes on once it leads again where it did not for a moment, and where an answer came too late.
async fn grant_until_done(writer: Writer, leadership: Leadership, intent: Intent, seen: Seen) -> u32 {
    let mut conflicts = 0_u32;
    loop {
        wait_to_lead(&leadership).await;
        let errors = match grant(&writer, &intent, &seen).await {
            Ok(granted) if granted.errors.is_empty() => return conflicts,
            Ok(granted) => granted.errors,
            Err(error) => vec![error],
        };
        for error in errors {
            assert!(error.is_conflict() || passes(&error), "{error}");
            conflicts += u32::from(error.is_conflict());
        }
    }
}

/// Whether an error is of a moment, such as a busy machine brings.
fn passes(error: &Error) -> bool {
    match error {
        Error::NotLeading { .. } | Error::Late { .. } => true,
        Error::Several(errors) => errors.iter().all(|error| error.is_conflict() || passes(error)),
        _ => false,
    }
}

#[test]
fn operators_that_all_believe_to_lead_never_give_a_cidr_twice() {
    with_cluster("operators_that_all_believe_to_lead_never_give_a_cidr_twice", |cluster| async move {
        cluster.apply(KINDNET);
        for n in 0..150 {
            cluster.add_node(&format!("n{n}"), &[&format!("172.30.1.{n}"), &format!("fd00:172:30::{n}")]).await;
        }
        let network = Api::<ClusterNetwork>::all(cluster.client.clone()).get("default").await.unwrap();
        let intent = validate(&Draft::from(&network.spec)).unwrap();
        let seen = look(&cluster).await;
        // One died after it promised: its promises are kept, for these very nodes.
        let uid = |name: &str| {
            seen.nodes.iter().find(|n| n.metadata.name.as_deref() == Some(name)).unwrap().metadata.uid.clone().unwrap()
        };
        let promise = |name: &str, block: u8| {
            json!({"uid": uid(name), "at": "2026-01-01T00:00:00Z",
                   "cidrs": [format!("10.244.{block}.0/24"), format!("fd00:10:244:{block:x}::/64")]})
        };
        let pending = json!({"n149": promise("n149", 0), "n148": promise("n148", 77)}).to_string();
        let lock = json!({"metadata": {"name": NAME, "namespace": "towpath-system"}, "data": {"pending": pending}});
        let locks = Api::<ConfigMap>::namespaced(cluster.client.clone(), "towpath-system");
        locks.create(&PostParams::default(), &serde_json::from_value(lock).unwrap()).await.unwrap();

        let client = cluster.operator_client().await;
        let (end, ended) = watch::channel(false);
        let mut leaderships = Vec::new();
        // Each leads by a lease of its own.
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            let leases = Api::namespaced(cluster.client.clone(), namespace);
            let (candidate, leadership) = Candidate::new(leases, namespace, Arc::default());
            tokio::spawn(candidate.campaign(ended.clone()));
            leaderships.push(leadership);
        }
        // Nobody is done before the others begin.
        for leadership in &leaderships {
            wait_to_lead(leadership).await;
        }
        let mut operators = tokio::task::JoinSet::new();
        for leadership in leaderships {
            let writer = Writer::new(&client, "towpath-system", leadership.clone(), Arc::new(Metrics::default()));
            operators.spawn(grant_until_done(writer, leadership, intent.clone(), seen.clone()));
        }
        let conflicts: u32 = operators.join_all().await.into_iter().sum();
        end.send_replace(true);
        assert!(conflicts > 0, "they did get into each other's way");
        let parts = cluster.parts().await;
        assert_eq!(parts.len(), 150);
        let cidrs: Vec<IpNet> = parts.iter().flat_map(|p| &p.spec.pod_cidrs).map(|c| c.parse().unwrap()).collect();
        for (index, one) in cidrs.iter().enumerate() {
            assert!(!cidrs[..index].iter().any(|other| overlap(one, other)), "{one} was given twice");
        }
        assert_eq!(cidrs.iter().collect::<BTreeSet<_>>().len(), 300);
        let cidr_of = |name: &str| {
            parts.iter().find(|p| p.metadata.name.as_deref() == Some(name)).unwrap().spec.pod_cidrs[0].clone()
        };
        assert_eq!((cidr_of("n149"), cidr_of("n148")), ("10.244.0.0/24".to_owned(), "10.244.77.0/24".to_owned()));
    });
}

#[test]
fn an_agent_may_write_the_status_of_its_own_node_only() {
    with_cluster("an_agent_may_write_the_status_of_its_own_node_only", |cluster| async move {
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        cluster.apply(KINDNET);
        cluster.part("n2", SOON, |_| true).await;
        let account = "system:serviceaccount:towpath-system:towpath-agent";
        let node = json!({"authentication.kubernetes.io/node-name": ["n1"]});
        cluster.user("agent-n1", &json!({"as": account, "as-user-extra": node}));
        cluster.user("agent-nowhere", &json!({"as": account}));
        let write = |user: &str, node: &str, part: &str| {
            let object = json!({
                "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": node},
                part: {"mtu": 1300},
            });
            cluster.server_side_apply(user, &object, part)
        };
        wait_for("the policy in force", SOON, || async {
            let said = write("agent-n1", "n2", "status").err().unwrap_or_default();
            if said.contains("may not write the NodeNetwork of n2") { Ok(()) } else { Err(said) }
        })
        .await;
        write("agent-n1", "n1", "status").unwrap();
        assert!(write("agent-nowhere", "n1", "status").unwrap_err().contains("names no node"));
        assert!(write("agent-n1", "n1", "spec").unwrap_err().contains("forbidden"));
        let api = Api::<NodeNetwork>::all(cluster.client.clone());
        let moved = Patch::Merge(json!({"spec": {"podCIDRs": ["10.9.0.0/24"]}}));
        let error = api.patch("n1", &PatchParams::default(), &moved).await.unwrap_err().to_string();
        assert!(error.contains("delete the NodeNetwork to have the operator allocate anew"), "{error}");
    });
}
