//! What is altered by hand comes back within a second and is reported; what is foreign stays.

use std::time::{Duration, Instant};

use crate::cluster::Cluster;

/// How soon everything must be back.
const HEALED: Duration = Duration::from_secs(1);

/// Everything of Towpath's on a node, and nothing else.
fn ours(cluster: &Cluster, node: &str, veth: &str) -> String {
    [
        "ip route show proto 117".to_owned(),
        "ip -6 route show proto 117".to_owned(),
        format!("ip address show dev {veth}"),
        "nft -s list table inet towpath".to_owned(),
        "sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding".to_owned(),
        "ls /etc/cni/net.d /opt/cni/bin".to_owned(),
    ]
    .map(|look| cluster.lab.node(node).unwrap().exec(&look.split_whitespace().collect::<Vec<_>>()).unwrap().stdout)
    .map(|text| stable(&String::from_utf8_lossy(&text)))
    .join("\n")
}

/// Without what the kernel counts down, and what it makes of a link by itself some time after that is up again.
fn stable(text: &str) -> String {
    let lasting = |line: &&str| !line.contains("valid_lft");
    let of_links = |line: &str| {
        let line = [" linkdown", "NO-CARRIER,", ",LOWER_UP", " state UP", " state DOWN", " state LOWERLAYERDOWN"]
            .iter()
            .fold(line.to_owned(), |line, by_itself| line.replace(by_itself, ""));
        line.trim_end().to_owned() + "\n"
    };
    text.lines().filter(lasting).map(of_links).collect()
}

fn foreign(cluster: &Cluster) -> String {
    let looks = ["ip route show table 77", "ip rule", "ip route show proto static", "nft list table inet foreign"];
    looks.map(|look| cluster.on("n1", look)).concat()
}

#[test]
fn whatever_is_altered_is_back_within_a_second_and_reported() {
    let cluster = Cluster::up("drift");
    cluster.on("n1", "ip route add 192.0.2.0/24 via 172.30.0.12 proto static");
    cluster.on("n1", "ip rule add from 192.0.2.1 table 77");
    cluster.on("n1", "ip route add 198.51.100.0/24 via 172.30.0.12 table 77");
    cluster.on("n1", "nft add table inet foreign");
    let foreign_before = foreign(&cluster);
    cluster.start_pod("server", "n1", ", hostPort: 8088");
    cluster.kubectl("wait --for=condition=Ready pod/server --timeout=150s");
    let pod = cluster.pod_seen("server");
    let (v4, v6) = (pod.addresses[0], pod.addresses[1]);
    let route = cluster.on("n1", &format!("ip route show {v4}"));
    let veth = route.split_whitespace().skip_while(|word| *word != "dev").nth(1).unwrap().to_owned();
    let gateway = cluster.on("n1", &format!("ip -4 -o address show dev {veth}"));
    let gateway = gateway.split_whitespace().nth(3).unwrap().to_owned();
    let peer = cluster.field("nodenetwork/n2", ".spec.podCIDRs[0]");
    let peer6 = cluster.field("nodenetwork/n2", ".spec.podCIDRs[1]");
    let own = cluster.field("nodenetwork/n1", ".spec.podCIDRs[0]");
    let mut slowest = Duration::ZERO;
    for alteration in [
        format!("ip route delete {peer}"),
        format!("ip route replace {peer} via 172.30.0.13 proto 117"),
        format!("ip -6 route delete {peer6}"),
        format!("ip route delete blackhole {own}"),
        format!("ip route delete {v4}"),
        format!("ip -6 route delete {v6}"),
        every_route_deleted("-4"),
        every_route_deleted("-6"),
        "ip nexthop flush proto 117".to_owned(),
        format!("ip address delete {gateway} dev {veth}"),
        format!("ip link set {veth} down"),
        format!("ip link set {veth} mtu 1400"),
        "sysctl -q -w net.ipv4.ip_forward=0".to_owned(),
        "sysctl -q -w net.ipv6.conf.all.forwarding=0".to_owned(),
        "nft delete table inet towpath".to_owned(),
        "nft flush chain inet towpath postrouting".to_owned(),
        "nft insert rule inet towpath prerouting counter".to_owned(),
        "nft flush map inet towpath hostports-v4".to_owned(),
        "nft add element inet towpath pods-v4 { 10.9.0.0/16 }".to_owned(),
        "rm /etc/cni/net.d/05-towpath.conflist".to_owned(),
        "rm /opt/cni/bin/towpath".to_owned(),
    ] {
        let right = ours(&cluster, "n1", &veth);
        let start = Instant::now();
        alter(&cluster, &alteration);
        cluster.wait_for(&format!("healing of `{alteration}`"), HEALED, || {
            let now = ours(&cluster, "n1", &veth);
            if now == right { Ok(()) } else { Err(difference(&right, &now)) }
        });
        slowest = slowest.max(start.elapsed());
    }
    println!("the slowest of all was back, and seen to be, after {slowest:?}");
    it_is_reported(&cluster, &peer);
    assert_eq!(foreign(&cluster), foreign_before);
    assert!(!cluster.in_pod("server", "curl -sS -m 3 http://172.30.255.2:8080/hostname").is_empty());
}

/// `ip route flush` sends routes back as it has read them, which the kernel refuses of those with nexthop objects.
fn every_route_deleted(family: &str) -> String {
    let destinations = "sed 's/^blackhole //; s/ .*//'";
    format!("ip {family} route show proto 117 | {destinations} | xargs -n 1 ip {family} route delete")
}

/// Runs a line of a shell on `n1`.
#[track_caller]
fn alter(cluster: &Cluster, line: &str) {
    let output = cluster.lab.node("n1").and_then(|node| node.exec(&["sh", "-c", line])).unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn it_is_reported(cluster: &Cluster, route: &str) {
    let before: u64 = cluster.field("nodenetwork/n1", ".status.driftTotal").parse().unwrap_or(0);
    cluster.on("n1", &format!("ip route delete {route}"));
    cluster.wait_for("the report", Duration::from_secs(120), || {
        let total: u64 = cluster.field("nodenetwork/n1", ".status.driftTotal").parse().unwrap_or(0);
        let newest = cluster.field("nodenetwork/n1", ".status.drift[0].object");
        let time = cluster.field("nodenetwork/n1", ".status.drift[0].time");
        if total > before && newest == format!("route {route}") && !time.is_empty() {
            return Ok(());
        }
        Err(format!("{total} in all, the newest {newest} at {time}"))
    });
    let kept = cluster.field("nodenetwork/n1", ".status.drift[*].object").split(' ').count();
    assert!(kept <= 2 * 10 + 10, "the list of drift is not bounded: {kept} words");
    assert_small(cluster, "n1");
}

/// What the API server keeps of a node, who wrote what included, is small.
#[track_caller]
pub fn assert_small(cluster: &Cluster, node: &str) {
    let text = cluster.kubectl(&format!("get nodenetwork {node} -o json --show-managed-fields"));
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    let size = object.to_string().len();
    let drift = object["status"]["drift"].as_array().map_or(0, Vec::len);
    println!("the NodeNetwork of {node} has {size} bytes, with {drift} entries of drift");
    assert!(size < 4096, "{object}");
}

fn difference(right: &str, now: &str) -> String {
    let missing = right.lines().filter(|line| !now.contains(line)).map(|line| format!("- {line}\n"));
    let surplus = now.lines().filter(|line| !right.contains(line)).map(|line| format!("+ {line}\n"));
    missing.chain(surplus).collect()
}
