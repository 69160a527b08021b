//! Plugins as a runtime calls them: a chain of programs, each with its configuration on standard input.

use std::{
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::node::{MTU, Node};

const NETWORK: &str = "bench";
const VERSION: &str = "1.1.0";
/// Where plugins find their own helpers.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How host ports are opened by the reference plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Through the program `nft`.
    Nftables,
    /// Through the program `iptables`.
    Iptables,
}

/// Who attaches pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Contender {
    /// Our binary.
    Towpath,
    /// `ptp` with `host-local`, and behind them `portmap` where pods have host ports.
    Reference(Option<Backend>),
}

/// A verb of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Attach.
    Add,
    /// Compare.
    Check,
    /// Detach.
    Delete,
    /// Tell whether ADD would work.
    Status,
    /// Tell the versions.
    Version,
}

impl Verb {
    const fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Check => "CHECK",
            Self::Delete => "DEL",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }
}

/// A pod to be attached.
#[derive(Debug, Clone)]
pub struct Pod<'a> {
    /// The container's id.
    pub container: String,
    /// The path of its network namespace.
    pub netns: &'a Path,
    /// A port of the node that shall lead to its port 80.
    pub host_port: Option<u16>,
}

/// The plugins of one contender on one node.
#[derive(Debug)]
pub struct Chain<'a> {
    /// Where.
    pub node: &'a Node,
    programs: Vec<(PathBuf, Value)>,
    folder: &'a Path,
}

impl<'a> Chain<'a> {
    /// The chain of a contender.
    pub fn new(contender: Contender, node: &'a Node, towpath: &Path, plugins: &'a Path) -> Self {
        let programs = match contender {
            Contender::Towpath => vec![(towpath.to_owned(), json!({"type": "towpath", "stateDir": node.state}))],
            Contender::Reference(backend) => {
                let mut chain = vec![(plugins.join("ptp"), ptp(node))];
                chain.extend(backend.map(|backend| (plugins.join("portmap"), portmap(backend))));
                chain
            }
        };
        Self { node, programs, folder: plugins }
    }

    /// Attaches a pod; the result.
    pub fn add(&self, pod: &Pod<'_>) -> Value {
        let mut result = Value::Null;
        for plugin in &self.programs {
            let answer = self.call(Verb::Add, plugin, Some(pod), &result);
            result = serde_json::from_str(&answer).unwrap();
        }
        result
    }

    /// Compares a pod with its result.
    pub fn check(&self, pod: &Pod<'_>, result: &Value) {
        for plugin in &self.programs {
            self.call(Verb::Check, plugin, Some(pod), result);
        }
    }

    /// Detaches a pod.
    pub fn delete(&self, pod: &Pod<'_>, result: &Value) {
        for plugin in self.programs.iter().rev() {
            self.call(Verb::Delete, plugin, Some(pod), result);
        }
    }

    /// Does a verb that is about no pod.
    pub fn ask(&self, verb: Verb) {
        for plugin in &self.programs {
            self.call(verb, plugin, None, &Value::Null);
        }
    }

    fn call(&self, verb: Verb, plugin: &(PathBuf, Value), pod: Option<&Pod<'_>>, previous: &Value) -> String {
        let mut child = self.start(verb, plugin, pod, previous);
        let (mut answer, mut log) = (String::new(), String::new());
        child.stdout.take().unwrap().read_to_string(&mut answer).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{} of {} on {:?}: {answer}{log}", verb.name(), plugin.0.display(), self.node);
        answer
    }

    fn start(
        &self,
        verb: Verb,
        (program, config): &(PathBuf, Value),
        pod: Option<&Pod<'_>>,
        previous: &Value,
    ) -> Child {
        let mut config = config.clone();
        config["cniVersion"] = json!(VERSION);
        config["name"] = json!(NETWORK);
        let mut command = Command::new(program);
        command.env_clear().env("PATH", PATH).env("CNI_COMMAND", verb.name()).env("CNI_PATH", self.folder);
        if let Some(pod) = pod {
            command.env("CNI_CONTAINERID", &pod.container).env("CNI_NETNS", pod.netns).env("CNI_IFNAME", "eth0");
            if let Some(port) = pod.host_port {
                let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
                config["runtimeConfig"] = json!({"portMappings": [mapping]});
            }
        }
        if !previous.is_null() {
            config["prevResult"] = previous.clone();
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // VERSION needs no input, and may have ended by now.
        _ = child.stdin.take().unwrap().write_all(config.to_string().as_bytes());
        child
    }
}

fn ptp(node: &Node) -> Value {
    let ranges: Vec<Value> = node.stack.blocks().iter().map(|block| json!([{"subnet": block}])).collect();
    let routes: Vec<Value> = node.stack.everything().iter().map(|all| json!({"dst": all})).collect();
    json!({
        "type": "ptp", "mtu": MTU,
        "ipam": {"type": "host-local", "dataDir": node.state, "ranges": ranges, "routes": routes},
    })
}

fn portmap(backend: Backend) -> Value {
    let name = match backend {
        Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    };
    json!({"type": "portmap", "backend": name, "capabilities": {"portMappings": true}})
}

/// The folder in which `host-local` has one file for each address.
pub fn reservations(node: &Node) -> PathBuf {
    node.state.join(NETWORK)
}
