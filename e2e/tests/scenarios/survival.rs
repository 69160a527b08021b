//! Traffic goes on without the agent, without the operator and without the API server.

use std::time::{Duration, Instant};

use towpath_e2e::component::{ComponentId, Kind};

use crate::cluster::{Cluster, eventually, kill};
use crate::stream::Stream;

#[test]
fn an_agent_pod_that_is_deleted_by_force_leaves_the_network_as_it_is() {
    let cluster = Cluster::up("forced");
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let routes = cluster.on("n1", "ip route show proto 117");
    let stream = Stream::start(&cluster, &a, &b, 25);
    let before = wait_for_agent(&cluster, "n1");
    cluster.kubectl("-n towpath-system delete pod -l app.kubernetes.io/name=towpath-agent --force --grace-period=0");
    cluster.wait_for("the next agent", Duration::from_secs(120), || {
        let now = cluster.agent_pid("n1");
        if now.is_some_and(|pid| pid != before) { Ok(()) } else { Err(format!("{now:?}")) }
    });
    while stream.is_running() {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    stream.finish().assert_nothing_lost();
    assert_eq!(cluster.on("n1", "ip route show proto 117"), routes);
}

/// The process of a node's agent, as soon as there is one.
pub fn wait_for_agent(cluster: &Cluster, node: &str) -> u32 {
    let mut found = None;
    cluster.wait_for(&format!("the agent of {node}"), Duration::from_secs(120), || {
        found = cluster.agent_pid(node);
        found.map(drop).ok_or_else(|| "no such process".to_owned())
    });
    found.unwrap()
}

#[test]
fn traffic_and_deletion_go_on_without_operator_and_api_server() {
    let cluster = Cluster::up("alone");
    let (a, b) = (cluster.pod("a", "n1"), cluster.pod("b", "n2"));
    let c = cluster.pod("c", "n3");
    let stream = Stream::start(&cluster, &a, &b, 900);
    cluster.kubectl("-n towpath-system scale deployment towpath-operator --replicas=0");
    cluster
        .kubectl("-n towpath-system wait --for=delete pod -l app.kubernetes.io/name=towpath-operator --timeout=120s");
    cluster.kubectl("delete pod c --wait=false");
    let block = cluster.field("nodenetwork/n3", ".spec.podCIDRs[0]");
    let api = ComponentId::single(Kind::KubeApiserver);
    cluster.lab.stop_component(&api).unwrap();
    let down = Instant::now();
    // An agent that is killed now starts from its memory, and heals what is altered meanwhile.
    let route = cluster.on("n1", &format!("ip route get {}", b.addresses[0]));
    kill(wait_for_agent(&cluster, "n1"));
    wait_for_agent(&cluster, "n1");
    let way = cluster.on("n1", &format!("ip route show {block}"));
    cluster.on("n1", &format!("ip route delete {block}"));
    eventually("the route to n3", Duration::from_secs(120), || {
        let now = cluster.on("n1", &format!("ip route show {block}"));
        if now == way { Ok(()) } else { Err(now) }
    });
    while down.elapsed() < Duration::from_secs(60) {
        assert!(stream.is_running(), "the stream ended");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(first_line(&cluster.on("n1", &format!("ip route get {}", b.addresses[0]))), first_line(&route));
    cluster.lab.start_component(&api).unwrap();
    cluster.wait_for("the API server", Duration::from_secs(120), || {
        cluster.lab.kubectl(&["get", "nodes"]).map(drop).map_err(|error| error.to_string())
    });
    cluster.kubectl("-n towpath-system scale deployment towpath-operator --replicas=2");
    cluster.wait_ready();
    cluster.wait_for("the end of pod c", Duration::from_secs(120), || {
        let left = cluster.on("n3", &format!("ip route show {}", c.addresses[0]));
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    stream.end().assert_nothing_lost();
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
