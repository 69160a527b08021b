//! Installing and removing leaves nothing.

use std::time::Duration;

use crate::cluster::{Cluster, kill, repository};

/// Everything on a node that Towpath could have changed.
fn node(cluster: &Cluster, name: &str) -> String {
    let looks = [
        "ip -o link show",
        "ip -o -4 address show",
        "ip route show table all",
        "ip -6 route show table main",
        "ip rule",
        "ip -6 rule",
        "nft list tables",
        "nft list table inet foreign",
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv4.conf.all.forwarding net.ipv4.conf.eth0.forwarding net.ipv6.conf.eth0.forwarding",
        "find /etc/cni /opt/cni /run/towpath /var/lib/towpath",
    ];
    // `find` fails where a folder was never made: what it prints is what counts.
    let run =
        |look: &str| cluster.lab.node(name).unwrap().exec(&look.split_whitespace().collect::<Vec<_>>()).unwrap().stdout;
    looks.map(|look| format!("{look}:\n{}", String::from_utf8_lossy(&run(look)))).concat()
}

/// Everything on every node that Towpath could have changed.
pub fn all(cluster: &Cluster) -> Vec<String> {
    ["n1", "n2", "n3"].map(|name| node(cluster, name)).to_vec()
}

/// Folders that the kubelet makes for the agent's mounts stay, empty; everything else is as before.
fn comparable(state: &str) -> Vec<String> {
    let mounts = ["/run/towpath", "/var/lib/towpath", "/etc/cni", "/etc/cni/net.d", "/opt/cni", "/opt/cni/bin"];
    state.lines().filter(|line| !mounts.contains(&line.trim())).map(str::to_owned).collect()
}

/// Whether every node is as [`all`] found it; the difference otherwise.
pub fn is_as_before(cluster: &Cluster, before: &[String]) -> Result<(), String> {
    for (now, then) in all(cluster).iter().zip(before) {
        let (now, then) = (comparable(now), comparable(then));
        if now != then {
            let surplus: Vec<&String> = now.iter().filter(|line| !then.contains(line)).collect();
            let missing: Vec<&String> = then.iter().filter(|line| !now.contains(line)).collect();
            return Err(format!("surplus {surplus:#?}, missing {missing:#?}"));
        }
    }
    Ok(())
}

/// Takes Towpath away, as a user does.
pub fn remove(cluster: &Cluster) {
    let overlay = repository().join("config/overlays/lab").display().to_string();
    cluster.kubectl(&format!("delete --ignore-not-found --timeout=180s -k {overlay}"));
}

#[test]
fn removal_brings_every_node_back_to_what_it_was() {
    let cluster = Cluster::bare("removal");
    cluster.kubectl("-n kube-system scale deployment coredns --replicas=0");
    for foreign in [
        "ip link add tower0 type veth peer name twr1",
        "ip address add 10.99.0.1/24 dev tower0",
        "ip route add 192.0.2.0/24 via 172.30.0.1 proto static",
        "ip -6 route add 2001:db8::/32 via fd00:172:30::1",
        "ip rule add from 192.0.2.1 table 77",
        "nft add table inet foreign",
        "nft add chain inet foreign postrouting { type nat hook postrouting priority 100 ; }",
        "nft add rule inet foreign postrouting ip saddr 192.0.2.1 masquerade",
    ] {
        cluster.on("n1", foreign);
    }
    let before = all(&cluster);
    cluster.install();
    cluster.declare("config/samples/kindnet.yaml");
    cluster.wait_ready();
    cluster.pod("a", "n1");
    cluster.kubectl("delete pod a");
    assert!(is_as_before(&cluster, &before).is_err(), "Towpath changed nothing: this compares nothing");
    remove(&cluster);
    cluster.wait_for("every node to be as before", Duration::from_secs(120), || is_as_before(&cluster, &before));

    // Again, and this time the operator dies half-way.
    cluster.install();
    cluster.declare("config/samples/kindnet.yaml");
    cluster.wait_ready();
    for node in ["n1", "n2", "n3"] {
        cluster.pid_of(node, "towpath-operator").into_iter().for_each(kill);
    }
    remove(&cluster);
    cluster.wait_for("every node to be as before", Duration::from_secs(120), || is_as_before(&cluster, &before));
}

#[test]
fn deleting_the_network_leaves_what_runs() {
    let cluster = Cluster::up("kept");
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let routes = cluster.on("n1", "ip route show proto 117");
    cluster.kubectl("delete clusternetwork default");
    cluster.in_pod(&a.name, &format!("ping -c 3 {}", b.addresses[0]));
    assert_eq!(cluster.on("n1", "ip route show proto 117"), routes);
    cluster.declare("config/samples/kindnet.yaml");
    cluster.wait_ready();
}
