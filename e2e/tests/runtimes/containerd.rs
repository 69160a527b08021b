//! containerd alone, asked through the CRI as a kubelet asks it. It calls no CHECK and no GC, and forgets a sandbox whose
//! ADD failed.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::{Value, json};
use towpath_e2e::{
    binaries::{Binaries, CRI_TOOLS},
    cgroup::CgroupTree,
    images::{self, ImageStore},
    node::containerd_configuration,
    process::ProcessId,
    progress::Progress,
};

use crate::node::{Node, eventually, isolated, kill};

const SANDBOXES: u16 = 30;

/// A node with an agent and a containerd.
struct Runtime {
    node: Node,
    containerd: ProcessId,
    agent: ProcessId,
}

impl Runtime {
    fn start(folder: &Path, name: &'static str) -> Self {
        let quiet = Progress::quiet();
        let binaries = Binaries::find(None, &quiet).unwrap();
        let tools = Binaries::of(&CRI_TOOLS, &quiet).unwrap();
        let store = ImageStore::find(&binaries, &CgroupTree::of(&name.parse().unwrap()).unwrap(), &quiet).unwrap();
        let node =
            Node::make_with_cgroups(folder, &[(binaries.folder(), "opt/lab/bin"), (&tools, "opt/lab/tools")], name);
        let root = node.space.root.join("var/lib/containerd");
        std::fs::create_dir_all(&root).unwrap();
        store.copy_to(&root).unwrap();
        node.write("etc/containerd/config.toml", &containerd_configuration());
        node.write("etc/crictl.yaml", "runtime-endpoint: unix:///run/containerd/containerd.sock\ntimeout: 60\n");
        for number in 0..SANDBOXES {
            node.write(&format!("sandboxes/{number}.json"), &sandbox(name, number));
        }
        let agent = node.start_agent();
        let containerd = Self::start_containerd(&node);
        Self { node, containerd, agent }
    }

    fn start_containerd(node: &Node) -> ProcessId {
        let containerd = node.start("containerd", "containerd --config /etc/containerd/config.toml --log-level warn");
        eventually("a ready containerd", || {
            if !images::containerd_ready(&node.space) {
                return Err("no connection".to_owned());
            }
            let info = node.attempt("crictl info")?;
            let ready = |kind: &str| info.contains(&format!("\"type\": \"{kind}\"")) && !info.contains("NotReady\"");
            if ready("NetworkReady") { Ok(()) } else { Err(info) }
        });
        containerd
    }

    /// Begins to make all sandboxes at once.
    fn begin(&self) -> Vec<Child> {
        let run = |number| start(self.node.shell(&format!("exec crictl runp /sandboxes/{number}.json")));
        (0..SANDBOXES).map(run).collect()
    }

    /// Makes all sandboxes at once.
    fn make_all(&self) {
        succeed(self.begin());
    }

    fn sandboxes(&self) -> BTreeSet<String> {
        self.node.run("crictl pods --quiet").lines().map(str::to_owned).collect()
    }

    /// Begins to do to all sandboxes at once what a kubelet does at a pod's end.
    fn begin_to_remove(&self) -> Child {
        let sandboxes = self.sandboxes().into_iter().collect::<Vec<_>>().join(" ");
        let all = |verb| format!("echo {sandboxes} | xargs -r -n 1 -P 30 crictl {verb}");
        start(self.node.shell(&format!("{} && {}", all("stopp"), all("rmp"))))
    }

    /// Removes all sandboxes.
    fn remove_all(&self) {
        succeed(vec![self.begin_to_remove()]);
        assert_eq!(self.sandboxes(), BTreeSet::new());
    }
}

fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn succeed(children: Vec<Child>) {
    for output in end(children) {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn end(children: Vec<Child>) -> Vec<Output> {
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

fn port(number: u16) -> u16 {
    20_000 + number
}

/// `PodSandboxConfig` of the CRI, with a port of the node and a limit for what the pod receives and sends.
fn sandbox(lab: &str, number: u16) -> String {
    json!({
        "metadata": {"name": format!("pod-{number}"), "namespace": "default", "uid": format!("uid-{number}"), "attempt": 0},
        "hostname": format!("pod-{number}"),
        "log_directory": "/var/log/pods",
        "port_mappings": [{"protocol": 0, "container_port": 8080, "host_port": port(number), "host_ip": ""}],
        "annotations": {"kubernetes.io/ingress-bandwidth": "10M", "kubernetes.io/egress-bandwidth": "20M"},
        "linux": {"cgroup_parent": format!("/towpath-lab-{lab}/n1/pods")},
    })
    .to_string()
}

#[test]
fn thirty_sandboxes_at_once_come_and_go_without_a_trace() {
    isolated("containerd::thirty_sandboxes_at_once_come_and_go_without_a_trace", |folder| {
        let runtime = Runtime::start(folder, "runtimes-thirty");
        let before = runtime.node.traces();
        runtime.make_all();
        let leases = runtime.node.leases();
        let addresses: BTreeSet<_> = leases.iter().flat_map(|lease| &lease.addresses).collect();
        let ports: BTreeSet<_> = leases.iter().flat_map(|lease| &lease.ports).copied().collect();
        assert_eq!((leases.len(), addresses.len()), (30, 60), "{leases:?}");
        assert_eq!(ports, (0..SANDBOXES).map(|number| port(number).into()).collect());
        for lease in &leases {
            let queues = runtime.node.run(&format!("tc qdisc show dev {}", lease.link));
            assert!(queues.contains("tbf") && queues.contains("rate 10Mbit"), "{queues}");
        }
        runtime.remove_all();
        runtime.node.nothing_is_left(&before);
    });
}

#[test]
fn sandboxes_come_and_go_while_the_agent_is_down() {
    isolated("containerd::sandboxes_come_and_go_while_the_agent_is_down", |folder| {
        let runtime = Runtime::start(folder, "runtimes-down");
        let node = &runtime.node;
        let before = node.traces();
        runtime.make_all();
        let leases = node.leases();
        kill(runtime.agent);
        runtime.remove_all();
        node.nothing_is_left(&before);
        // A runtime may call DEL again later, and then it knows no namespace.
        node.write("again.json", &again(node));
        for lease in leases {
            node.run(&format!(
                "CNI_COMMAND=DEL CNI_CONTAINERID={} CNI_IFNAME=eth0 CNI_NETNS= CNI_PATH=/opt/cni/bin \
                 /opt/cni/bin/towpath </again.json",
                lease.container
            ));
        }
        runtime.make_all();
        let with_sandboxes = node.traces();
        node.start_agent();
        assert_eq!(node.traces(), with_sandboxes, "an agent that starts leaves running pods as they are");
        runtime.remove_all();
        node.nothing_is_left(&before);
    });
}

/// The plugin's configuration as a runtime hands it over that has forgotten the rest.
fn again(node: &Node) -> String {
    let list: Value = serde_json::from_str(&node.run("cat /etc/cni/net.d/05-towpath.conflist")).unwrap();
    let mut plugin = list["plugins"][0].clone();
    plugin["name"] = list["name"].clone();
    plugin["cniVersion"] = json!("1.1.0");
    plugin.to_string()
}

#[test]
fn a_containerd_that_is_killed_amid_thirty_sandboxes_leaves_nothing_in_the_end() {
    isolated("containerd::a_containerd_that_is_killed_amid_thirty_sandboxes_leaves_nothing_in_the_end", |folder| {
        let runtime = Runtime::start(folder, "runtimes-killed");
        let node = &runtime.node;
        let before = node.traces();
        let mut containerd = runtime.containerd;
        let mut kill_amid = |work: Vec<Child>, reached: &dyn Fn(usize) -> bool| {
            eventually("some leases", || match node.leases().len() {
                leases if reached(leases) => Ok(()),
                leases => Err(leases.to_string()),
            });
            kill(containerd);
            let failed = end(work).iter().filter(|output| !output.status.success()).count();
            assert!(failed > 0, "containerd was killed too late");
            containerd = Runtime::start_containerd(node);
        };
        for made in [1, 15] {
            kill_amid(runtime.begin(), &|leases| leases >= made);
            runtime.remove_all();
            node.nothing_is_left(&before);
        }
        runtime.make_all();
        kill_amid(vec![runtime.begin_to_remove()], &|leases| leases <= 15);
        runtime.remove_all();
        node.nothing_is_left(&before);
    });
}

#[test]
fn a_port_of_the_node_leads_to_a_program_in_a_sandbox_after_a_restart_of_both() {
    isolated("containerd::a_port_of_the_node_leads_to_a_program_in_a_sandbox_after_a_restart_of_both", |folder| {
        let runtime = Runtime::start(folder, "runtimes-port");
        let node = &runtime.node;
        let before = node.traces();
        let container = json!({
            "metadata": {"name": "web"}, "image": {"image": images::agnhost()}, "log_path": "web.log",
            "args": ["netexec", "--http-port=8080"],
        });
        node.write(
            "sandboxes/same-port.json",
            &sandbox("runtimes-port", 1).replace(&port(1).to_string(), &port(0).to_string()),
        );
        node.write("container.json", &container.to_string());
        let sandbox = node.run("crictl runp /sandboxes/0.json");
        let web = node.run(&format!("crictl create --no-pull {sandbox} /container.json /sandboxes/0.json"));
        node.run(&format!("crictl start {web}"));
        answers(node);
        // containerd forgets a sandbox whose ADD fails.
        let refused = node.fail("crictl runp /sandboxes/same-port.json");
        assert!(refused.contains("of this node is taken by"), "{refused}");
        assert_eq!((runtime.sandboxes().len(), node.leases().len()), (1, 1));
        for process in [runtime.containerd, runtime.agent] {
            kill(process);
            answers(node);
        }
        Runtime::start_containerd(node);
        node.start_agent();
        answers(node);
        runtime.remove_all();
        node.nothing_is_left(&before);
    });
}

fn answers(node: &Node) {
    eventually("a web server", || match node.ask(port(0), "/hostname")? {
        answers if answers == BTreeSet::from(["pod-0".to_owned()]) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

#[test]
fn a_pod_has_the_addresses_of_its_annotation_or_is_refused() {
    isolated("containerd::a_pod_has_the_addresses_of_its_annotation_or_is_refused", |folder| {
        let runtime = Runtime::start(folder, "runtimes-fixed");
        let node = &runtime.node;
        let before = node.traces();
        let asking = |number: u16, addresses: &str| {
            let mut sandbox: Value = serde_json::from_str(&sandbox("runtimes-fixed", number)).unwrap();
            sandbox["annotations"]["towpath.dev/ip-addresses"] = addresses.into();
            node.write("asking.json", &sandbox.to_string());
        };
        asking(0, "10.244.1.77, fd00:244:0:1::77");
        node.run("crictl runp /asking.json");
        let addresses = BTreeSet::from(["10.244.1.77".parse().unwrap(), "fd00:244:0:1::77".parse().unwrap()]);
        assert_eq!(node.leases()[0].addresses, addresses);
        for (addresses, named) in [
            ("10.244.1.77", "the pod cannot have 10.244.1.77"),
            ("10.9.9.9", "the pod cannot have 10.9.9.9"),
            ("nonsense", "the pod's annotation towpath.dev/ip-addresses is"),
        ] {
            asking(1, addresses);
            let refused = node.fail("crictl runp /asking.json");
            assert!(refused.contains(named), "{refused}");
        }
        assert_eq!((runtime.sandboxes().len(), node.leases().len()), (1, 1));
        runtime.remove_all();
        node.nothing_is_left(&before);
    });
}
