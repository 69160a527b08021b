//! Who reaches whom, and from which address: what every network owes its users.

use std::net::IpAddr;
use std::time::Duration;

use crate::cluster::{Cluster, Pod, eventually, in_url};

/// Which source the server at `url` sees.
#[track_caller]
pub fn seen_source(cluster: &Cluster, from: &Pod, url: &str) -> IpAddr {
    let answer = cluster.in_pod(&from.name, &format!("curl -sS -g -m 3 {url}/clientip"));
    let address: std::net::SocketAddr = answer.trim().parse().unwrap_or_else(|_| panic!("{url}: {answer}"));
    address.ip().to_canonical()
}

/// The addresses of a node.
pub fn node_addresses(cluster: &Cluster, node: &str) -> Vec<IpAddr> {
    cluster.lab.node(node).unwrap().addresses()
}

/// Every pair of pods, Services, names, the outside, nodes and pods; says how many ways were tried.
#[track_caller]
pub fn everything(cluster: &Cluster, pods: &[Pod]) {
    let mut ways = pairs(cluster, pods) + outside(cluster, pods);
    ways += services(cluster, pods) + nodes_and_pods(cluster, pods);
    println!("{ways} ways between pods, nodes, Services and the outside");
}

/// Every pod reaches every other by every address that it has, and is seen by its own.
#[track_caller]
pub fn pairs(cluster: &Cluster, pods: &[Pod]) -> usize {
    let mut count = 0;
    for from in pods {
        for to in pods.iter().filter(|to| to.name != from.name) {
            for address in &to.addresses {
                let source = seen_source(cluster, from, &format!("http://{}:8080", in_url(*address)));
                assert!(from.addresses.contains(&source), "{} to {address} came from {source}", from.name);
                count += 1;
            }
        }
    }
    count
}

/// Every pod reaches the outside of the cluster, by the families that it has, and is seen as its node.
#[track_caller]
pub fn outside(cluster: &Cluster, pods: &[Pod]) -> usize {
    let mut count = 0;
    for from in pods {
        let has = |address: &IpAddr| from.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
        for address in cluster.lab.outside_addresses().into_iter().filter(has) {
            let source = seen_source(cluster, from, &format!("http://{}:8080", in_url(address)));
            assert!(node_addresses(cluster, &from.node).contains(&source), "outside saw {source} of {}", from.name);
            count += 1;
        }
    }
    count
}

/// Every pod reaches a Service of every pod, its own included, by name and by each address of the Service.
#[track_caller]
fn services(cluster: &Cluster, pods: &[Pod]) -> usize {
    for pod in pods {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: of-{name}, labels: {{app: {name}}}}}, spec: {{selector: \
             {{app: {name}}}, ipFamilyPolicy: PreferDualStack, ports: [{{port: 80, targetPort: 8080}}]}}}}",
            name = pod.name
        ));
    }
    let mut count = 0;
    for pod in pods {
        let of = format!("service/of-{}", pod.name);
        let addresses = cluster.field(&of, ".spec.clusterIPs[*]");
        let addresses = addresses.split_whitespace().map(|address| in_url(address.parse().unwrap()));
        let name = format!("of-{}.default.svc.cluster.local", pod.name);
        for place in addresses.take(pod.addresses.len()).chain([name]) {
            for from in pods {
                let answer = cluster.in_pod(&from.name, &format!("curl -sS -g -m 3 http://{place}/hostname"));
                assert_eq!(answer, pod.name, "{} by {place}", from.name);
                count += 1;
            }
        }
    }
    count
}

/// Every node reaches every pod, and every pod every node.
#[track_caller]
fn nodes_and_pods(cluster: &Cluster, pods: &[Pod]) -> usize {
    let mut count = 0;
    for node in ["n1", "n2", "n3"] {
        for pod in pods {
            for address in &pod.addresses {
                let ping = || cluster.lab.node(node)?.exec(&["ping", "-c", "1", "-W", "2", &address.to_string()]);
                eventually(&format!("{node} to {pod:?}"), Duration::from_secs(120), || {
                    let output = ping().unwrap();
                    let said = || String::from_utf8_lossy(&output.stdout).into_owned();
                    if output.status.success() { Ok(()) } else { Err(said()) }
                });
            }
            let has = |address: &IpAddr| pod.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
            for address in node_addresses(cluster, node).into_iter().filter(has) {
                cluster.in_pod(&pod.name, &format!("ping -c 1 -W 2 {address}"));
            }
            count += 2 * pod.addresses.len();
        }
    }
    count
}
