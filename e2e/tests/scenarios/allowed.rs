//! Nothing that is allowed is lost, whatever happens to agents, and whatever other policies come and go. On the same cluster:
//! what is denied is told of, and static pods.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::cluster::{Cluster, kill};
use crate::stream::Stream;
use crate::survival::wait_for_agent;
use crate::{denied, static_pods};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// Pods of whose traffic some policy says nothing but that it is allowed, and others of which none says anything.
#[test]
fn nothing_that_is_allowed_is_lost_in_two_hundred_kills_and_a_thousand_changes() {
    let cluster = Cluster::up("allowed");
    let [a, b, c, d] = [("a", "n1"), ("b", "n2"), ("c", "n1"), ("d", "n2")].map(|(name, node)| cluster.pod(name, node));
    cluster.apply(
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: to-d}, spec: {podSelector: {matchLabels: \
         {app: d}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: c}}}]}]}}\n---\n\
         {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: from-c}, spec: {podSelector: {matchLabels: \
         {app: c}}, policyTypes: [Egress], egress: [{to: [{podSelector: {matchLabels: {app: d}}}]}]}}",
    );
    let streams = [(&a, &b), (&c, &d)].map(|(from, to)| Stream::start(&cluster, from, to, 900));
    let changed = AtomicU64::new(0);
    let mut kills = 0;
    thread::scope(|scope| {
        scope.spawn(|| change_a_thousand_times(&cluster, &changed));
        while kills < 200 {
            for node in NODES {
                kill(wait_for_agent(&cluster, node));
                kills += 1;
            }
        }
    });
    println!("{kills} kills, {} changes", changed.load(Ordering::Relaxed));
    for stream in streams {
        let tally = stream.end();
        assert!(tally.sent() >= 20_000, "{tally}");
        tally.assert_nothing_lost();
    }
    denied::is_logged_and_counted(&cluster, &cluster.pod_seen("f"), &d);
    static_pods::have_policies(&cluster);
}

/// Policies of pods that take no part in the streams, on the same nodes, come and go.
fn change_a_thousand_times(cluster: &Cluster, changed: &AtomicU64) {
    for (name, node) in [("e", "n1"), ("f", "n2")] {
        cluster.start_pod(name, node, "");
    }
    let mut policies = String::new();
    for number in 0..50 {
        let app = ["e", "f"][number % 2];
        write!(
            policies,
            "---\n{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: other-{number}, labels: {{other: \
             'yes'}}}}, spec: {{podSelector: {{matchLabels: {{app: {app}}}}}, ingress: [{{from: [{{ipBlock: {{cidr: \
             10.9.{number}.0/24}}}}, {{podSelector: {{}}}}], ports: [{{port: {number}1}}]}}]}}}}\n"
        )
        .unwrap();
    }
    for _ in 0..10 {
        cluster.apply(&policies);
        cluster.kubectl("delete networkpolicy -l other=yes --wait=false");
        changed.fetch_add(100, Ordering::Relaxed);
    }
}
