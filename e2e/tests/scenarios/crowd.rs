//! Many pods at once.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, eventually};

/// Does nothing, and costs little.
const IMAGE: &str = "registry.k8s.io/pause:3.10.2";

/// Pods that are told by their label.
pub struct Crowd<'a> {
    cluster: &'a Cluster,
    name: String,
    size: usize,
}

impl<'a> Crowd<'a> {
    /// Makes as many pods as asked for, in turn on each of the nodes, and waits until all run; tells how long it took.
    pub fn start(cluster: &'a Cluster, name: &str, size: usize, nodes: &[&str]) -> (Self, Duration) {
        let start = Instant::now();
        let mut manifests = String::new();
        for (number, node) in (0..size).zip(nodes.iter().cycle()) {
            write!(
                manifests,
                "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}-{number}, labels: {{crowd: {name}}}}}, spec: \
                 {{nodeName: {node}, terminationGracePeriodSeconds: 1, automountServiceAccountToken: false, \
                 enableServiceLinks: false, containers: [{{name: pause, image: {IMAGE}}}]}}}}\n"
            )
            .unwrap();
        }
        cluster.apply(&manifests);
        let crowd = Self { cluster, name: name.to_owned(), size };
        cluster.wait_for(&format!("{size} pods to run"), Duration::from_secs(240), || {
            let running = crowd.look("{range .items[*]}{.status.phase}{\"\\n\"}{end}").matches("Running").count();
            if running == size { Ok(()) } else { Err(format!("{running} run")) }
        });
        (crowd, start.elapsed())
    }

    fn look(&self, template: &str) -> String {
        let selector = format!("crowd={}", self.name);
        self.cluster
            .lab
            .kubectl(&["get", "pods", "-l", &selector, "-o", &format!("jsonpath={template}")])
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Every address of every pod.
    pub fn addresses(&self) -> Vec<String> {
        let all: Vec<String> =
            self.look("{.items[*].status.podIPs[*].ip}").split_whitespace().map(str::to_owned).collect();
        assert!(all.len() >= self.size, "{} addresses for {} pods", all.len(), self.size);
        all
    }

    /// Sends a packet to every address from a node.
    #[track_caller]
    pub fn all_answer(&self, from: &str) {
        let script = format!("printf '%s\\n' {} | xargs -P 16 -n 1 ping -q -c 1 -W 3 2>&1", self.addresses().join(" "));
        eventually("an answer of every pod", Duration::from_secs(120), || {
            let output = self.cluster.lab.node(from).unwrap().exec(&["sh", "-c", &script]).unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            let amiss = |line: &&str| line.starts_with("ping:") || line.contains("100% packet loss");
            if output.status.success() {
                Ok(())
            } else {
                Err(told.lines().filter(amiss).collect::<Vec<_>>().join("\n"))
            }
        });
    }

    /// Ends all pods, and waits until they are gone.
    pub fn end(self) {
        self.cluster.kubectl(&format!("delete pods -l crowd={} --wait=true --timeout=240s", self.name));
    }
}

/// Everything on a node that there is of pods.
pub fn traces(cluster: &Cluster, node: &str) -> String {
    let looks = [
        "ls -A /run/towpath/leases/attachments /run/towpath/leases/addresses /run/towpath/leases/ports /run/towpath/leases/waiting",
        "ip -o link show type veth",
        "ip route show proto 117",
        "ip -6 route show proto 117",
        "ip rule",
        "ip -6 rule",
        "nft --stateless list table inet towpath",
    ];
    looks.map(|look| format!("{look}:\n{}", cluster.on(node, look))).concat()
}
