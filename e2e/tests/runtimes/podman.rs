//! Debian's podman (4.3) with its CNI backend. It sends `runtimeConfig` in lower case, calls no CHECK, and repeats at DEL
//! what it said at ADD.

use std::{collections::BTreeSet, fs, path::Path, thread};

use serde_json::Value;

use crate::node::{Node, eventually, isolated};

/// All that an administrator has to say. Debian's `runc` wants cgroups, its `crun` does not.
const CONTAINERS: &str = r#"
[containers]
cgroups = "disabled"
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "crun"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
default_network = "towpath"
"#;
const STORAGE: &str = r#"
[storage]
driver = "vfs"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
"#;
const POLICY: &str = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
/// An image of one static program, without any registry.
const IMAGE: &str = "mkdir -p /rootfs/bin /rootfs/www && cp /bin/busybox /rootfs/bin/ && for name in httpd ip sh; do
    ln -s busybox /rootfs/bin/$name; done && tar -C /rootfs -c . | podman import --quiet - localhost/box:1";

/// A node with podman, an image and an agent.
fn node(folder: &Path) -> Node {
    let node = Node::make(folder, &[]);
    node.write("etc/containers/containers.conf", CONTAINERS);
    node.write("etc/containers/storage.conf", STORAGE);
    node.write("etc/containers/policy.json", POLICY);
    node.start_agent();
    node
}

/// The same with the image.
fn node_with_image(folder: &Path) -> Node {
    let node = node(folder);
    node.run(IMAGE);
    node
}

/// Starts a web server that answers with its name.
fn serve(name: &str, port: u16) -> String {
    format!(
        "podman run --detach --name {name} --publish {port}:80 localhost/box:1 \
         sh -c 'echo {name} >/www/index.html; exec httpd -f -p 80 -h /www'"
    )
}

fn answers(node: &Node, port: u16, name: &str) {
    eventually(&format!("{name} at port {port}"), || match node.ask(port, "/")? {
        answers if answers == BTreeSet::from([name.to_owned()]) => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

fn inspect(node: &Node, name: &str) -> Value {
    let text = node.run(&format!("podman inspect {name}"));
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

#[test]
fn a_published_port_leads_to_its_container_until_that_is_removed() {
    isolated("podman::a_published_port_leads_to_its_container_until_that_is_removed", |folder| {
        let node = node_with_image(folder);
        let before = node.traces();
        assert_eq!(node.run("podman network ls --format '{{.Name}} {{.Driver}}'"), "towpath towpath");
        node.run(&serve("web", 8080));
        answers(&node, 8080, "web");
        let leases = node.leases();
        assert_eq!(leases[0].ports, BTreeSet::from([8080]), "{leases:?}");
        let seen = &inspect(&node, "web")["NetworkSettings"]["Networks"]["towpath"];
        let addresses =
            ["IPAddress", "GlobalIPv6Address"].map(|field| seen[field].as_str().unwrap().parse().unwrap()).into();
        assert_eq!(leases[0].addresses, addresses, "{seen}");
        let refused = node.fail(&serve("other", 8080));
        assert!(refused.contains("of this node is taken by"), "{refused}");
        node.run("podman rm other");
        assert_eq!(node.leases().len(), 1);
        node.run("podman restart --time 0 web");
        answers(&node, 8080, "web");
        node.run("podman stop --time 0 web");
        node.nothing_is_left(&before);
        node.run("podman start web");
        answers(&node, 8080, "web");
        node.run("podman rm --force --time 0 web");
        node.nothing_is_left(&before);
        assert_eq!(node.run("ls /var/lib/cni/results"), "", "what podman remembers of attachments");
    });
}

#[test]
fn containers_that_end_by_themselves_or_with_their_monitor_leave_nothing() {
    isolated("podman::containers_that_end_by_themselves_or_with_their_monitor_leave_nothing", |folder| {
        let node = node_with_image(folder);
        let before = node.traces();
        thread::scope(|scope| {
            for number in 0..8 {
                let line =
                    format!("podman run --rm --publish {}:80 localhost/box:1 ip address show eth0", 9000 + number);
                let node = &node;
                scope.spawn(move || {
                    let seen = node.run(&line);
                    assert!(seen.contains("inet 10.244.1.") && seen.contains("inet6 fd00:244:0:1:"), "{seen}");
                });
            }
        });
        node.nothing_is_left(&before);
        node.run(&serve("web", 8080));
        // Whoever would have called DEL is gone, and the namespace that podman pinned stays.
        for field in ["ConmonPidFile", "PidFile"] {
            let path = inspect(&node, "web")[field].as_str().unwrap().to_owned();
            let pid = fs::read_to_string(node.space.path(path.trim_start_matches('/'))).unwrap();
            node.run(&format!("kill -9 {}", pid.trim()));
        }
        assert_eq!(node.leases().len(), 1);
        node.run("podman rm --force --time 0 web");
        node.nothing_is_left(&before);
    });
}

#[test]
fn a_network_that_podman_removes_is_back_at_once() {
    isolated("podman::a_network_that_podman_removes_is_back_at_once", |folder| {
        let node = node_with_image(folder);
        let before = node.traces();
        let configuration = node.run("cat /etc/cni/net.d/05-towpath.conflist");
        // podman takes every file of the folder for its own, but for its default network.
        node.write("etc/containers/containers.conf", &CONTAINERS.replace("default_network = \"towpath\"", ""));
        node.run("podman network rm towpath");
        eventually("the configuration", || {
            let now = node.attempt("cat /etc/cni/net.d/05-towpath.conflist")?;
            if now == configuration { Ok(()) } else { Err(now) }
        });
        node.run(&serve("web", 8080).replace("--name", "--network towpath --name"));
        answers(&node, 8080, "web");
        node.run("podman rm --force --time 0 web");
        node.nothing_is_left(&before);
    });
}

#[test]
fn a_container_has_the_addresses_that_it_asks_for_or_is_refused() {
    isolated("podman::a_container_has_the_addresses_that_it_asks_for_or_is_refused", |folder| {
        let node = node_with_image(folder);
        let before = node.traces();
        let with = |wishes: &str, name: &str, port| serve(name, port).replace("--name", &format!("{wishes} --name"));
        let addresses = BTreeSet::from(["10.244.1.77".parse().unwrap(), "fd00:244:0:1::77".parse().unwrap()]);
        let both = "--ip 10.244.1.77 --ip6 fd00:244:0:1::77 --mac-address 02:11:22:33:44:55";
        node.run(&with(both, "web", 8080));
        answers(&node, 8080, "web");
        assert_eq!(node.leases()[0].addresses, addresses);
        let seen = node.run("podman exec web ip link show eth0");
        assert!(seen.contains("02:11:22:33:44:55"), "{seen}");
        for (wishes, named) in
            [("--ip 10.244.1.77", "the pod cannot have 10.244.1.77"), ("--ip 10.9.9.9", "the pod cannot have 10.9.9.9")]
        {
            let refused = node.fail(&with(wishes, "other", 8081));
            assert!(refused.contains(named), "{refused}");
            node.run("podman rm other");
        }
        // Its own address rests when it comes back, and is its own all the same.
        node.run("podman restart --time 0 web");
        answers(&node, 8080, "web");
        assert_eq!(node.leases()[0].addresses, addresses);
        node.run("podman rm --force --time 0 web");
        node.run(&with("--ip 10.244.1.78", "one", 8080));
        answers(&node, 8080, "one");
        node.run("podman rm --force --time 0 one");
        node.nothing_is_left(&before);
    });
}

#[test]
fn a_container_comes_back_after_a_power_cut() {
    isolated("podman::a_container_comes_back_after_a_power_cut", |folder| {
        let first = node_with_image(folder);
        first.run(&serve("web", 8080));
        answers(&first, 8080, "web");
        drop(first);
        // podman's disk says that it is attached; the node's memory is gone.
        let node = node(folder);
        let before = node.traces();
        node.run("podman start web");
        answers(&node, 8080, "web");
        assert_eq!(node.leases().len(), 1);
        node.run("podman rm --force --time 0 web");
        node.nothing_is_left(&before);
        assert_eq!(node.run("ls /var/lib/cni/results"), "", "what podman remembers of attachments");
    });
}
