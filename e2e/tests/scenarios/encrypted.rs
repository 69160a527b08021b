//! An encrypted network on a kernel that need not have WireGuard: keys are exchanged through the API, and no packet
//! between pods of two nodes is ever seen on the wire in clear.

use std::time::Duration;

use towpath_e2e::Wire;
use towpath_e2e::address::Family;

use crate::cluster::{Cluster, Pod, eventually, kill};

/// The length of the pings by which pod packets are known on the wire, whatever was done to their addresses.
const PAYLOAD: u32 = 777;
/// Any node's packets: shows that the watch sees what passes.
const NODES: &str = "nodes";
/// Packets between pods, and pings of [`PAYLOAD`].
const PODS: &str = "pods";

/// Counts packets on the bridges between the nodes.
fn watch(cluster: &Cluster) {
    let (v4, v6) = (Family::V4.wire(), Family::V6.wire());
    let rules = format!(
        "table bridge watch {{\n counter {NODES} {{ }}\n counter {PODS} {{ }}\n chain prerouting {{\n\
         type filter hook prerouting priority -300;\n\
         ip saddr {v4} counter name {NODES}\n ip6 saddr {v6} counter name {NODES}\n\
         ip saddr 10.244.0.0/16 ip daddr 10.244.0.0/16 counter name {PODS}\n\
         ip6 saddr fd00:10:244::/56 ip6 daddr fd00:10:244::/56 counter name {PODS}\n\
         icmp type echo-request ip length {} counter name {PODS}\n\
         icmpv6 type echo-request ip6 length {} counter name {PODS}\n}}\n}}\n",
        PAYLOAD + 8 + 20,
        PAYLOAD + 8
    );
    let wire = cluster.lab.space("wire").unwrap();
    let output = wire.exec(&["sh", "-c", &format!("nft -f - <<'END'\n{rules}END\n")]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How many packets a counter has seen.
fn seen(cluster: &Cluster, counter: &str) -> u64 {
    let shown =
        cluster.lab.space("wire").unwrap().exec(&["nft", "list", "counter", "bridge", "watch", counter]).unwrap();
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let number = text.split_whitespace().skip_while(|word| *word != "packets").nth(1);
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

/// Pods of two nodes ping each other; tells how many were answered.
fn pings(cluster: &Cluster, pods: &[Pod]) -> usize {
    let mut answered = 0;
    for from in pods {
        for to in pods.iter().filter(|to| to.node != from.node) {
            for address in &to.addresses {
                let words = format!("ping -c 1 -W 1 -s {PAYLOAD} {address}");
                let words: Vec<&str> = words.split_whitespace().collect();
                answered += usize::from(cluster.lab.pod_exec("default", &from.name, &words).unwrap().success);
            }
        }
    }
    answered
}

fn declare(cluster: &Cluster, transport: &str) {
    cluster.apply(&format!(
        "{{apiVersion: towpath.dev/v1alpha1, kind: ClusterNetwork, metadata: {{name: default}}, spec: {{ipam: {{mode: \
         NodeCIDR, allocation: Allocate, podCIDRs: [10.244.0.0/16, 'fd00:10:244::/56']}}, masquerade: {{mode: \
         LeavingCluster}}, attachment: {{mode: Routed}}, transport: {transport}}}}}"
    ));
}

/// Counts from nothing again.
fn forget(cluster: &Cluster) {
    let output =
        cluster.lab.space("wire").unwrap().exec(&["nft", "reset", "counters", "table", "bridge", "watch"]).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The pods come up in a network that is not encrypted, where the watch sees their packets; then all nodes are told to
/// encrypt, on a kernel that cannot.
#[test]
fn nothing_between_pods_is_seen_in_clear_where_encryption_is_wanted() {
    let cluster = Cluster::bare_with("encrypted", |config| config.wire = Wire::Dual);
    cluster.install();
    watch(&cluster);
    declare(&cluster, "{mode: Direct}");
    cluster.wait_ready();
    let pods = [("a", "n1"), ("b", "n1"), ("c", "n2")].map(|(name, node)| cluster.pod(name, node));
    eventually("an answer to each of 8 pings", Duration::from_secs(120), || match pings(&cluster, &pods) {
        8 => Ok(()),
        answered => Err(format!("{answered} were answered")),
    });
    assert!(seen(&cluster, PODS) >= 8, "the watch does not see packets of pods");

    cluster.kubectl("delete clusternetwork default");
    declare(&cluster, "{mode: WireGuard}");
    every_node_tells_a_key(&cluster);
    for node in ["n1", "n2", "n3"] {
        it_says_what_is_missing(&cluster, node);
    }
    forget(&cluster);
    let moments: [(&str, &dyn Fn()); 5] = [
        ("as it is", &|| {}),
        ("without an agent", &|| cluster.agent_pid("n1").into_iter().for_each(kill)),
        ("without our table", &|| drop(cluster.on("n1", "nft delete table inet towpath"))),
        ("without our routes", &|| drop(cluster.on("n1", "ip route flush proto 117"))),
        ("without our routes of IPv6", &|| drop(cluster.on("n1", "ip -6 route flush proto 117"))),
    ];
    for (moment, bring_about) in moments {
        bring_about();
        assert_eq!(pings(&cluster, &pods), 0, "pods of two nodes reach each other without encryption, {moment}");
        assert_eq!(seen(&cluster, PODS), 0, "packets of pods were seen on the wire, {moment}");
        both_fences_are_up(&cluster, "n1");
    }
    println!("{} packets passed the wire, none of them between pods", seen(&cluster, NODES));
    assert!(seen(&cluster, NODES) > 0);
    for address in &pods[1].addresses {
        cluster.in_pod("a", &format!("ping -c 1 -W 2 {address}"));
    }
}

/// Each of the two is enough: the agent puts back what was taken away before the other is taken.
fn both_fences_are_up(cluster: &Cluster, node: &str) {
    let fences = [
        ("nft list table inet towpath", "chain encrypted"),
        ("ip route show proto 117", "blackhole 10.244.0.0/16"),
        ("ip -6 route show proto 117", "blackhole fd00:10:244::/56"),
    ];
    cluster.wait_for("both fences", Duration::from_secs(120), || {
        for (line, part) in fences {
            let words: Vec<&str> = line.split_whitespace().collect();
            let output =
                cluster.lab.node(node).and_then(|node| node.exec(&words)).map_err(|error| error.to_string())?;
            let shown = String::from_utf8_lossy(&output.stdout).into_owned();
            if !shown.contains(part) {
                return Err(format!("{line}: {shown}"));
            }
        }
        Ok(())
    });
}

fn it_says_what_is_missing(cluster: &Cluster, node: &str) {
    let object = format!("nodenetwork/{node}");
    cluster.wait_for("what is not effective, and why", Duration::from_secs(120), || {
        let said = cluster.field(&object, ".status.conditions[?(@.type==\"Ready\")].message");
        let parts = ["WireGuard is not effective", "module wireguard"];
        if parts.iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
    });
    assert_ne!(cluster.field(&object, ".status.encryption"), "Full", "nothing is encrypted here");
}

fn every_node_tells_a_key(cluster: &Cluster) {
    let path = ".status.wireGuard.keys[?(@.slot==\"First\")].publicKey";
    let key = |node: &str| cluster.field(&format!("nodenetwork/{node}"), path);
    for node in ["n1", "n2", "n3"] {
        cluster.wait_for(&format!("the key of {node}"), Duration::from_secs(120), || {
            let text = key(node);
            // 32 bytes in base64.
            if text.len() == 44 && text.ends_with('=') { Ok(()) } else { Err(text) }
        });
        let secret = cluster.on(node, "stat -c %a /run/towpath/agent/wireguard.json");
        assert_eq!(secret.trim(), "600");
    }
    assert!(key("n1") != key("n2") && key("n2") != key("n3"));
}
