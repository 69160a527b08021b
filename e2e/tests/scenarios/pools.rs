//! Pools of blocks: what nodes get, give back and lose while pods run.

use std::time::Duration;

use crate::cluster::{Cluster, eventually};
use crate::crowd::Crowd;
use crate::drift::assert_small;

const MAIN: &str = "{name: main, cidr: 10.244.0.0/21, blockSize: 27}";
const MAIN_DISABLED: &str = "{name: main, cidr: 10.244.0.0/21, blockSize: 27, disabled: true}";
const MAIN6: &str = "{name: main6, cidr: 'fd00:10:244::/116', blockSize: 123}";
const EXTRA: &str = "{name: extra, cidr: 10.246.0.0/22, blockSize: 27, reserved: [10.246.0.0/28]}";

/// How many pods come at once: seven blocks full.
const BURST: usize = 200;

fn declare(cluster: &Cluster, pools: &[&str]) {
    let pools = pools.join(", ");
    cluster.apply(&format!(
        "{{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {{name: default}}, spec: {{ipam: {{mode: Pools, \
         blockGracePeriod: 3s, pools: [{pools}]}}, attachment: {{mode: Routed}}, transport: {{mode: Direct}}, masquerade: \
         {{mode: LeavingCluster}}}}}}"
    ));
}

fn blocks(cluster: &Cluster, node: &str) -> Vec<String> {
    let all = cluster.field(&format!("nodenetwork/{node}"), ".spec.podCIDRs[*]");
    all.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn blocks_come_as_pods_do_and_go_back_and_pools_change_under_running_pods() {
    let cluster = Cluster::bare("pools");
    cluster.install();
    declare(&cluster, &[MAIN, MAIN6]);
    cluster.wait_ready();
    assert!(["n1", "n2", "n3"].iter().all(|node| blocks(&cluster, node).len() == 2), "one block of each family");

    let (crowd, took) = Crowd::start(&cluster, "burst", BURST, &["n1"]);
    let given = blocks(&cluster, "n1");
    println!("{BURST} pods on one node ran within {took:?}, in {} blocks", given.len());
    assert!(given.len() >= 14, "{given:?}");
    assert_eq!(crowd.addresses().len(), 2 * BURST);
    assert_small(&cluster, "n1");
    crowd.all_answer("n2");
    let blackholes = cluster.on("n1", "ip route show proto 117 type blackhole");
    for block in given.iter().filter(|block| block.starts_with("10.")) {
        assert!(blackholes.contains(block.as_str()), "{blackholes}");
    }
    crowd.end();
    cluster.wait_for("the blocks to go back", Duration::from_secs(120), || {
        let left = blocks(&cluster, "n1");
        if left.len() <= 4 { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let used = cluster.field("nodenetwork/n1", ".status.usedAddresses");
    assert!(used.contains('/') && used.contains(','), "{used}");
    a_pool_is_added_disabled_and_removed(&cluster);
}

fn a_pool_is_added_disabled_and_removed(cluster: &Cluster) {
    let old = cluster.pod("old", "n1");
    declare(cluster, &[MAIN, EXTRA, MAIN6]);
    declare(cluster, &[MAIN_DISABLED, EXTRA, MAIN6]);
    cluster.wait_for("blocks of the other pool", Duration::from_secs(120), || {
        let has = |node: &str| blocks(cluster, node).iter().any(|block| block.starts_with("10.246."));
        if ["n1", "n2", "n3"].into_iter().all(has) { Ok(()) } else { Err(format!("{:?}", blocks(cluster, "n1"))) }
    });
    // The agent follows within a moment: until then a pod may still get an address of the old block.
    eventually("the offer", Duration::from_secs(120), || {
        let file = cluster.on("n1", "cat /run/towpath/node.json");
        if file.contains("10.246.") { Ok(()) } else { Err(file) }
    });
    let (new, far) = (cluster.pod("new", "n1"), cluster.pod("far", "n2"));
    for pod in [&new, &far] {
        assert!(pod.addresses[0].to_string().starts_with("10.246."), "{pod:?}");
    }
    assert!(old.addresses[0].to_string().starts_with("10.244."), "{old:?}");
    for address in old.addresses.iter().chain(&new.addresses) {
        cluster.in_pod(&far.name, &format!("ping -c 1 -W 2 {address}"));
    }
    cluster.kubectl("delete pod old");
    cluster.kubectl("-n kube-system rollout restart deployment coredns");
    cluster.wait_for("the disabled pool to drain", Duration::from_secs(120), || {
        let left: Vec<String> = ["n1", "n2", "n3"].iter().flat_map(|node| blocks(cluster, node)).collect();
        let left: Vec<&String> = left.iter().filter(|block| block.starts_with("10.244.")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    declare(cluster, &[EXTRA, MAIN6]);
    cluster.wait_ready();
    assert_eq!(cluster.field("clusternetwork/default", ".status.pools[*].name"), "extra main6");
    cluster.in_pod(&far.name, &format!("ping -c 1 -W 2 {}", new.addresses[0]));
}
