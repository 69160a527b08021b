//! What is denied is told of: in the agent's log, where that is wanted, and in its metrics.

use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde_json::Value;

use crate::cluster::{Cluster, Pod, eventually};

/// Somebody listens there, but must not be reached.
const PORT: u16 = 8080;

/// What the agent of a node counts.
pub fn metrics(cluster: &Cluster, node: &str) -> String {
    cluster.on(node, "curl -sS -m 5 http://127.0.0.1:9471/metrics")
}

/// Sends from one pod to another of the same node, of which the policy `to-d` lets nothing in but from the pod `c`.
pub fn is_logged_and_counted(cluster: &Cluster, from: &Pod, to: &Pod) {
    assert_eq!(from.node, to.node, "an agent knows the names of its own pods");
    cluster.wait_ready();
    cluster.kubectl(r#"patch clusternetwork default --type=merge -p {"spec":{"policy":{"log":{"denied":"Flows"}}}}"#);
    let namespace = cluster.namespace(from);
    let address = std::net::SocketAddr::new(to.addresses[0], PORT);
    let begin = || {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        _ = rustix::net::connect(&socket, &address);
    };
    let [from, to] = [from, to].map(|pod| format!("default/{}", pod.name));
    let expected =
        [("direction", "ingress"), ("from", &from), ("to", &to), ("why", "Isolated"), ("policy", "default/to-d")];
    let line = eventually("a line about the flow", Duration::from_secs(120), || {
        namespace.run(begin).unwrap();
        let arguments = "-n towpath-system logs -l app.kubernetes.io/name=towpath-agent --tail=100";
        let logs = cluster.lab.kubectl(&arguments.split(' ').collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        let denied = logs
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .map(|mut line| line["fields"].take());
        let mut denied: Vec<Value> = denied.filter(|fields| fields["message"] == "denied").collect();
        let told = |fields: &Value| expected.iter().all(|(name, value)| fields[*name] == **value);
        let found = denied.iter().position(told).ok_or_else(|| format!("{denied:?}"))?;
        Ok(denied.swap_remove(found))
    });
    println!("logged: {line}");
    assert_eq!((&line["protocol"], &line["destination"]), (&"TCP".into(), &address.to_string().into()));
    let labels = r#"namespace="default",pod="d",direction="ingress",policy="default/to-d""#;
    for name in ["denied", "allowed"] {
        let counter = format!("towpath_agent_policy_{name}_packets_total{{{labels}}} ");
        // An agent with much to do leaves them out of an answer.
        eventually(&counter, Duration::from_secs(120), || {
            let counters = metrics(cluster, "n2");
            let value = counters.lines().find_map(|line| line.strip_prefix(&counter));
            if value.is_some_and(|value| value != "0") { Ok(()) } else { Err(counters) }
        });
    }
    cluster.kubectl(r#"patch clusternetwork default --type=merge -p {"spec":{"policy":{"log":{"denied":"None"}}}}"#);
}
