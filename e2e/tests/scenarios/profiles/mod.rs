//! The three networks of `docs/profiles.md`: each sample makes on real nodes what the page says, row by row.

mod calico;
mod flannel;
mod kindnet;
mod sheet;
mod stage;

use std::fs;
use std::time::{Duration, Instant};

use towpath_e2e::rows::{exactly, has};
use towpath_e2e::samples::dual_stack;
use towpath_e2e::{LabConfig, Wire};

use self::sheet::{Place, Sheet};
use self::stage::{Stage, inet, length, option, vxlan};
use crate::cluster::{Cluster, repository};
use crate::reach;
use crate::removal::{all, is_as_before, remove};

/// The nodes that are not `n1`.
const PEERS: [&str; 2] = ["n2", "n3"];

/// Brings up a lab with a network, compares rows, has everybody talk to everybody, takes Towpath away again and compares
/// each node with what it was.
fn profile(name: &str, change: impl FnOnce(&mut LabConfig), network: &str, rows: impl FnOnce(&mut Stage)) {
    let cluster = Cluster::bare_with(name, change);
    // Its pods would take the first addresses, on whatever node.
    dns(&cluster, 0);
    let before = all(&cluster);
    cluster.install();
    cluster.apply(network);
    cluster.wait_ready();
    let mut stage = Stage::set(cluster);
    rows(&mut stage);
    let Stage { cluster, pods } = stage;
    dns(&cluster, 2);
    reach::everything(&cluster, &pods);
    dns(&cluster, 0);
    cluster.kubectl("delete pods,services -l app --wait");
    remove(&cluster);
    cluster.wait_for("every node to be as before", Duration::from_secs(120), || is_as_before(&cluster, &before));
}

/// How many replicas the cluster's DNS has; they are there, or gone, then.
fn dns(cluster: &Cluster, replicas: u8) {
    cluster.kubectl(&format!("-n kube-system scale deployment coredns --replicas={replicas}"));
    match replicas {
        0 => cluster.kubectl("-n kube-system wait --for=delete pod -l k8s-app=kube-dns --timeout=180s"),
        _ => cluster.kubectl("-n kube-system rollout status deployment coredns --timeout=180s"),
    };
}

/// A sample as its file has it.
fn sample(name: &str) -> String {
    fs::read_to_string(repository().join(format!("config/samples/{name}.yaml"))).unwrap()
}

/// Two subnets: `n1` and `n3` share one, `n2` is in the other.
fn two_subnets(wire: Wire) -> impl FnOnce(&mut LabConfig) {
    move |config| {
        config.wire = wire;
        config.subnets = 2;
    }
}

/// What VXLAN between nodes is made of, on `n1`: the device, its address, and what it knows of each of the other nodes.
fn vxlan_rows(sheet: &mut Sheet<'_>, stage: &Stage, vni: u32, port: u16) {
    let node = Place::Node("n1");
    for family in stage.families() {
        let (device, ip) = (vxlan(family), option(family));
        let (local, mtu) = (stage.node_address("n1", family), vxlan_mtu(family));
        let kind = format!("mtu {mtu} vxlan id {vni} local {local} dstport {port} nolearning");
        sheet.row("tunnel device", node, &format!("ip -d -o link show dev {device}"), &has(kind));
        let own = format!("{} {}/{}", inet(family), stage.of_block("n1", family, 0), length(family));
        let addresses = format!("ip {ip} -o address show dev {device} scope global");
        sheet.row("tunnel address", node, &addresses, &exactly([own]));
        let (mut neighbours, mut forwards) = (Vec::new(), Vec::new());
        for peer in PEERS {
            let (block, gateway) = (stage.block(peer, family), stage.tunnel_gateway(peer, family));
            let route = exactly([format!("{block} via {gateway} dev {device} proto 117 onlink")]);
            sheet.row("a route to the peer's block", node, &format!("ip {ip} route show {block}"), &route);
            let mac = stage.tunnel_mac(peer, family);
            neighbours.push(format!("{gateway} lladdr {mac} PERMANENT"));
            forwards.push(format!("{mac} dst {} self permanent", stage.node_address(peer, family)));
        }
        let known = format!("ip {ip} neighbour show dev {device} nud permanent");
        sheet.row("tunnel neighbours", node, &known, &exactly(neighbours));
        sheet.row("tunnel FDB, nothing flooded", node, &format!("bridge fdb show dev {device}"), &exactly(forwards));
    }
}

/// 1500 less the outer headers (RFC 7348): 50 bytes over IPv4, 70 over IPv6.
fn vxlan_mtu(family: towpath_e2e::address::Family) -> u32 {
    match family {
        towpath_e2e::address::Family::V4 => 1450,
        towpath_e2e::address::Family::V6 => 1430,
    }
}

/// A ping between pods of two nodes, and between two of one node: by how many hops it came.
fn ttl_rows(sheet: &mut Sheet<'_>, stage: &Stage, far: u8, near: u8) {
    for family in stage.families() {
        for (name, to, ttl) in [("to another node", "c", far), ("to another node", "d", far), ("same node", "b", near)]
        {
            let command = format!("ping -c 1 -W 2 {}", stage.address(to, family));
            sheet.row(&format!("ttl, {name}"), Place::Pod("a"), &command, &has(format!("ttl={ttl}")));
        }
    }
}

/// The pods' MTU.
fn mtu_row(sheet: &mut Sheet<'_>, mtu: u32) {
    sheet.row("pod's MTU", Place::Pod("a"), "ip -o link show dev eth0", &has(format!("mtu {mtu}")));
}

/// That the next pod has the address after the last one given, even when that one was just given back. A sandbox that the
/// kubelet made in vain had an address too.
fn next_address_rows(sheet: &mut Sheet<'_>, stage: &Stage, first: u128) {
    let family = stage.families()[0];
    let mut next = first;
    let mut holds = |pod: &str, seen: std::net::IpAddr| {
        // Some of those had no address yet when they came to nothing, and events are late.
        let found = until_some(Duration::from_secs(10), || {
            let (in_vain, events) = sandboxes_in_vain(&stage.cluster, pod);
            let after = (0..=in_vain).find(|more| seen == stage.of_block("n1", family, next + more));
            after.ok_or_else(|| format!("{seen}, not {}; its events: {events}", stage.of_block("n1", family, next)))
        });
        found.map(|more| next += more + 1)
    };
    let given = holds("a", stage.address("a", family));
    sheet.note("first pod's address", "pod a", given);
    let given = holds("b", stage.address("b", family));
    sheet.note("second pod's address", "pod b", given);
    let third = stage.cluster.pod("third", "n1");
    let given = holds("third", third.addresses[0]);
    stage.cluster.kubectl("delete pod third --wait");
    let fourth = stage.cluster.pod("fourth", "n1");
    let given = given.and(holds("fourth", fourth.addresses[0]));
    sheet.note("a freed address is not the next", "pods third and fourth", given);
    assert_ne!(third.addresses, fourth.addresses);
    stage.cluster.kubectl("delete pod fourth --wait");
}

/// What is found in that time, or the last reason why not.
fn until_some<T>(limit: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Err(_) if Instant::now() < end => std::thread::park_timeout(Duration::from_millis(500)),
            found => return found,
        }
    }
}

/// How many sandboxes of a pod came to nothing, and all that was told of it.
fn sandboxes_in_vain(cluster: &Cluster, pod: &str) -> (u128, String) {
    let path = "{range.items[*]}{.reason}|{.count}|{.message}{\"\\n\"}{end}";
    let events = cluster.kubectl(&format!("get events --field-selector involvedObject.name={pod} -o jsonpath={path}"));
    let failed = events.lines().filter_map(|line| line.strip_prefix("FailedCreatePodSandBox|"));
    let times = failed.map(|rest| rest.split('|').next().and_then(|count| count.parse().ok()).unwrap_or(1));
    (times.sum(), events)
}

/// Pods leave nothing on their node, those that never came to run included.
fn residue_rows(sheet: &mut Sheet<'_>, stage: &Stage) {
    let cluster = &stage.cluster;
    let look = || cluster.on("n1", "ip -o link show") + &cluster.on("n1", "ip route show table all");
    let before = look();
    cluster.apply(
        "{apiVersion: v1, kind: Pod, metadata: {name: crashing}, spec: {nodeName: n1, terminationGracePeriodSeconds: 1, \
         containers: [{name: ends, image: 'registry.k8s.io/e2e-test-images/agnhost:2.63.0', command: [sh, -c, 'exit 1']}]}}",
    );
    cluster.wait_for("the pod to crash twice", Duration::from_secs(120), || {
        let times = cluster.field("pod/crashing", ".status.containerStatuses[0].restartCount");
        if times.parse::<u32>().is_ok_and(|times| times >= 1) { Ok(()) } else { Err(times) }
    });
    let while_there = look();
    cluster.kubectl("delete pod crashing --wait");
    let after = look();
    let gone = if after == before { Ok(()) } else { Err(format!("before:\n{before}\nafter:\n{after}")) };
    let was_there = if while_there == before { Err("it had no link".to_owned()) } else { Ok(()) };
    sheet.note("a link for a crashing pod", "node n1: ip link, ip route", was_there);
    sheet.note("no residue of a crashing pod", "node n1: ip link, ip route", gone);
}
