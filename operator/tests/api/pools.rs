//! Mode `Pools` against a real API server.

use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use towpath_crds::{ClusterNetwork, NodeNetwork};

use crate::agent::Agent;
use crate::harness::{Cluster, Patience, SOON, wait_for, with_cluster};

/// A network of these pools; blocks go back at once.
pub fn network(pools: &Value) -> Value {
    json!({
        "apiVersion": "towpath.dev/v1alpha1", "kind": "ClusterNetwork", "metadata": {"name": "default"},
        "spec": {
            "ipam": {"mode": "Pools", "pools": pools, "blockGracePeriod": "1s"},
            "attachment": {"mode": "Routed"}, "transport": {"mode": "Direct"}, "masquerade": {"mode": "LeavingCluster"},
        },
    })
}

fn main_pools() -> Value {
    json!([
        {"name": "main", "cidr": "10.244.0.0/22", "blockSize": 26},
        {"name": "main6", "cidr": "fd00:10:244::/112", "blockSize": 122},
    ])
}

/// Lets an agent look until it sees what is waited for.
async fn until(agent: &mut Agent, cluster: &Cluster, name: &str, is: impl Fn(&NodeNetwork, u64) -> bool) {
    let api = Api::<NodeNetwork>::all(cluster.client.clone());
    let mut patience = Patience::new(SOON);
    loop {
        let waiting = agent.look().await;
        let part = api.get_opt(name).await.unwrap();
        if part.as_ref().is_some_and(|part| is(part, waiting)) {
            return;
        }
        assert!(patience.lasts(), "{waiting} pods of {name} wait, and it has {:?}", part.map(|part| part.spec));
    }
}

fn blocks(part: &NodeNetwork, family: char) -> usize {
    part.spec.pod_cidrs.iter().filter(|cidr| cidr.contains(family)).count()
}

async fn status(cluster: &Cluster) -> Value {
    let network = Api::<ClusterNetwork>::all(cluster.client.clone()).get("default").await.unwrap();
    serde_json::to_value(network.status).unwrap()
}

/// Waits for what the status says of a pool: blocks, nodes, and how many blocks drain.
async fn pool(cluster: &Cluster, name: &str, expected: Option<(&str, i64, i64)>) {
    wait_for(&format!("pool {name} as {expected:?}"), SOON, || async {
        let status = status(cluster).await;
        let found = status["pools"].as_array().into_iter().flatten().find(|pool| pool["name"] == name);
        let said = found.map(|pool| (pool["blocks"].clone(), pool["nodes"].clone(), pool["draining"].clone()));
        let wanted = expected.map(|(blocks, nodes, draining)| (json!(blocks), json!(nodes), json!(draining)));
        if said == wanted { Ok(()) } else { Err(status["pools"].to_string()) }
    })
    .await;
}

#[test]
fn a_node_is_given_what_a_burst_of_pods_waits_for_and_gives_it_back() {
    with_cluster("pools::a_node_is_given_what_a_burst_of_pods_waits_for_and_gives_it_back", |cluster| async move {
        cluster.three_nodes().await;
        let _operator = cluster.operator("op-1", 9470);
        cluster.server_side_apply("admin", &network(&main_pools()), "spec").unwrap();
        cluster.part("n3", SOON, |part| part.spec.pod_cidrs.len() == 2).await;
        let mut agents = ["n1", "n2", "n3"].map(|name| Agent::new(&cluster.client, name));
        for agent in &mut agents {
            agent.look().await;
        }
        pool(&cluster, "main", Some(("3/16", 3, 0))).await;
        let [first, ..] = &mut agents;

        first.demand = 200;
        until(first, &cluster, "n1", |_, waiting| waiting == 0).await;
        pool(&cluster, "main", Some(("6/16", 3, 0))).await;

        first.demand = 0;
        until(first, &cluster, "n1", |part, _| part.spec.pod_cidrs.len() == 2 && part.spec.addressing.is_some()).await;
        until(first, &cluster, "n1", |part, _| part.status.as_ref().is_some_and(|s| s.drained.is_empty())).await;
        pool(&cluster, "main", Some(("3/16", 3, 0))).await;
        cluster.condition("CIDRsAllocated", "True", "3 of 3 nodes").await;

        let held = cluster.part("n1", SOON, |_| true).await.spec.pod_cidrs;
        let less = Patch::Merge(json!({"spec": {"podCIDRs": &held[..1]}}));
        let parts = Api::<NodeNetwork>::all(cluster.client.clone());
        let said = parts.patch("n1", &PatchParams::default(), &less).await.unwrap_err().to_string();
        assert!(said.contains(&format!("spec.podCIDRs '{}' cannot be taken out", held[1])), "{said}");
        let table = cluster.kubectl(&["get", "nnet", "-o", "wide"]);
        assert!(table.lines().next().unwrap().contains("USED"), "{table}");
    });
}

#[test]
fn pools_come_go_and_are_disabled_while_pods_run() {
    with_cluster("pools::pools_come_go_and_are_disabled_while_pods_run", |cluster| async move {
        cluster.add_node("n1", &["172.30.0.1"]).await;
        let _operator = cluster.operator("op-1", 9470);
        let old = json!({"name": "old", "cidr": "10.1.0.0/29", "blockSize": 29});
        cluster.server_side_apply("admin", &network(&json!([old])), "spec").unwrap();
        cluster.part("n1", SOON, |part| part.spec.pod_cidrs == ["10.1.0.0/29"]).await;
        let mut agent = Agent::new(&cluster.client, "n1");
        agent.demand = 9;
        until(&mut agent, &cluster, "n1", |_, waiting| waiting == 4).await;
        let words = "node n1: spec.ipam.pools \"old\": no IPv4 block is left: all 1 are in use; add a pool";
        cluster.condition("CIDRsAllocated", "False", words).await;

        let gpu = json!({
            "name": "gpu", "cidr": "10.2.0.0/24", "blockSize": 29, "nodeSelector": {"matchLabels": {"gpu": "yes"}},
        });
        let new = json!({"name": "new", "cidr": "10.3.0.0/24", "blockSize": 29});
        cluster.server_side_apply("admin", &network(&json!([old, gpu, new])), "spec").unwrap();
        until(&mut agent, &cluster, "n1", |_, waiting| waiting == 0).await;
        cluster.condition("CIDRsAllocated", "True", "spec.ipam.pools[1] \"gpu\": selects no node").await;

        let mut disabled = old.clone();
        disabled["disabled"] = json!(true);
        cluster.server_side_apply("admin", &network(&json!([disabled, gpu, new])), "spec").unwrap();
        pool(&cluster, "old", Some(("1/1", 1, 1))).await;
        // A pool that is taken out is told of until its last block is back.
        cluster.server_side_apply("admin", &network(&json!([gpu, new])), "spec").unwrap();
        cluster.condition("Accepted", "True", "").await;
        pool(&cluster, "old", Some(("1/1", 1, 1))).await;
        assert_eq!(status(&cluster).await["podCIDRs"], "10.2.0.0/24,10.3.0.0/24,10.1.0.0/29");
        agent.demand = 0;
        until(&mut agent, &cluster, "n1", |part, _| part.spec.pod_cidrs == ["10.3.0.0/29"]).await;
        pool(&cluster, "old", None).await;

        cluster.kubectl(&["label", "node", "n1", "gpu=yes"]);
        agent.demand = 9;
        until(&mut agent, &cluster, "n1", |part, waiting| waiting == 0 && blocks(part, '2') > 0).await;
    });
}

#[test]
fn a_pool_stays_what_it_is_under_its_name_and_the_order_is_as_written() {
    with_cluster("pools::a_pool_stays_what_it_is_under_its_name_and_the_order_is_as_written", |cluster| async move {
        cluster.server_side_apply("admin", &network(&main_pools()), "spec").unwrap();
        let refused = |pools: Value, words: &str| {
            let said = cluster.server_side_apply("admin", &network(&pools), "spec").unwrap_err();
            assert!(said.contains(words), "no {words:?} in {said}");
        };
        let mut other = main_pools();
        other[0]["cidr"] = json!("10.245.0.0/22");
        refused(other, "the pool 'main' cannot be changed from 10.244.0.0/22 in blocks of /26 to 10.245.0.0/22");
        let mut other = main_pools();
        other[0]["blockSize"] = json!(27);
        refused(other, "10.244.0.0/22 in blocks of /26 to 10.244.0.0/22 in blocks of /27");
        let said = cluster.apply_error("config/samples/kindnet.yaml");
        assert!(said.contains("cannot be changed from Pools to NodeCIDR Allocate"), "{said}");

        let names = || cluster.kubectl(&["get", "cnet", "default", "-o", "jsonpath={.spec.ipam.pools[*].name}"]);
        let main = main_pools();
        let first = json!({"name": "first", "cidr": "10.9.0.0/24", "blockSize": 28});
        cluster.server_side_apply("admin", &network(&json!([first, main[1], main[0]])), "spec").unwrap();
        assert_eq!(names(), "first main6 main");
    });
}
