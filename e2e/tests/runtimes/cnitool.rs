//! `cnitool`, which calls plugins by libcni as CRI-O and podman do: the newest version of all that a configuration lists.

use std::path::Path;

use serde_json::Value;
use towpath_e2e::{binaries::Binaries, process::ProcessId, progress::Progress};

use crate::node::{Node, isolated, kill};

const PORTS: &str = r#"{"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}"#;

fn node(folder: &Path) -> Node {
    node_and_agent(folder).0
}

fn node_and_agent(folder: &Path) -> (Node, ProcessId) {
    let plugins = Binaries::plugins(&Progress::quiet()).unwrap();
    let node = Node::make(folder, &[(&plugins, "opt/lab/tools")]);
    for name in ["a", "b"] {
        node.run(&format!("ip netns add {name}"));
    }
    let agent = node.start_agent();
    (node, agent)
}

/// A call for the namespace of this name, with values of capabilities.
fn call(verb: &str, namespace: &str, capabilities: &str) -> String {
    format!(
        "NETCONFPATH=/etc/cni/net.d CNI_PATH=/opt/cni/bin CAP_ARGS='{capabilities}' \
         cnitool {verb} towpath /run/netns/{namespace}"
    )
}

#[test]
fn every_verb_succeeds_where_it_should_and_says_why_where_it_does_not() {
    isolated("cnitool::every_verb_succeeds_where_it_should_and_says_why_where_it_does_not", |folder| {
        let node = node(folder);
        let before = node.traces();
        node.run(&call("status", "a", ""));
        let result: Value = serde_json::from_str(&node.run(&call("add", "a", PORTS))).unwrap();
        assert_eq!(result["cniVersion"], "1.1.0", "{result}");
        assert_eq!(result["interfaces"][1]["sandbox"], "/run/netns/a", "{result}");
        node.run(&call("check", "a", PORTS));
        for (line, named) in [
            (call("add", "a", PORTS), "is attached already"),
            (call("add", "b", PORTS), "of this node is taken by cnitool-"),
            (call("add", "b", r#"{"portMappings": [{"hostPort": 70000, "containerPort": 80}]}"#), "hostPort is 70000"),
            (
                format!("CNI_ARGS='IgnoreUnknown=1;IP=10.9.9.9' {}", call("add", "b", "")),
                "the pod cannot have 10.9.9.9",
            ),
            (call("add", "b", r#"{"ips": ["10.9.9.9/24"]}"#), "the pod cannot have 10.9.9.9"),
            (call("add", "none", ""), "network namespace /run/netns/none: there is nothing at this path"),
        ] {
            let error = node.fail(&line);
            assert!(error.contains(named), "{line}: {error}");
        }
        assert_eq!(node.leases().len(), 1);
        node.run("ip -n a address flush dev eth0");
        let error = node.fail(&call("check", "a", PORTS));
        assert!(error.contains("differences, the first: "), "{error}");
        for _ in 0..2 {
            node.run(&call("del", "a", PORTS));
        }
        node.nothing_is_left(&before);
    });
}

#[test]
fn gc_with_nothing_valid_ends_every_attachment() {
    isolated("cnitool::gc_with_nothing_valid_ends_every_attachment", |folder| {
        let node = node(folder);
        let before = node.traces();
        node.run(&call("add", "a", PORTS));
        node.run(&call("add", "b", ""));
        assert_eq!(node.leases().len(), 2);
        // It names no attachment, for it knows none: libcni then calls DEL for each that it remembers, and GC.
        node.run(&call("gc", "a", ""));
        node.nothing_is_left(&before);
        node.run(&call("gc", "a", ""));
    });
}

#[test]
fn status_fails_where_add_would() {
    isolated("cnitool::status_fails_where_add_would", |folder| {
        let (node, agent) = node_and_agent(folder);
        // While it runs, the agent puts its file back.
        kill(agent);
        node.run("mv /run/towpath/node.json /run/towpath/away");
        for verb in ["status", "add"] {
            let error = node.fail(&call(verb, "a", ""));
            assert!(error.contains("/run/towpath/node.json"), "{error}");
        }
        node.run("mv /run/towpath/away /run/towpath/node.json");
        node.run(&call("status", "a", ""));
    });
}
