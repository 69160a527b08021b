//! The lab itself: it comes up, its nodes come and go, and nothing of it stays.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use towpath_e2e::{
    HostSnapshot, Lab, LabConfig, LabName, Wire,
    component::{ComponentId, Kind},
    isolated::isolated,
    lab::{Folder, LabError},
    snapshot::{Aspect, Difference},
    wait::Look,
};

const SOON: Duration = Duration::from_secs(60);

/// Where this test's labs are: on the disk that holds the cache as a rule, and nobody else's.
fn labs() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("labs")
}

fn name(text: &str) -> LabName {
    text.parse().unwrap()
}

fn lab(name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["--name", name]);
    command
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

fn eventually(what: &str, mut found: impl FnMut() -> Option<String>) {
    let deadline = Instant::now() + SOON;
    while let Some(last) = found() {
        assert!(Instant::now() < deadline, "{what}: {last}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn kill(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// Cgroups and temporary folders are the machine's: what others do there is not ours.
fn ours(difference: Difference, labs: &[&str]) -> Difference {
    difference.filtered(|aspect, item| match aspect {
        Aspect::Cgroups => labs.iter().any(|lab| item.contains(&format!("towpath-lab-{lab}"))),
        Aspect::Files => !item.starts_with("/tmp/") && !item.starts_with("/var/tmp/") && !item.contains("/towpath-lab"),
        Aspect::Settings => false,
        _ => true,
    })
}

fn nothing_stays(before: &HostSnapshot, labs: &[&str]) {
    eventually("the host to be as before", || {
        let difference = ours(before.difference(&HostSnapshot::take().unwrap()), labs);
        (!difference.is_empty()).then(|| difference.to_string())
    });
    for lab in labs {
        assert!(!Folder::of(&name(lab)).path().exists(), "the folder of {lab} is there");
    }
}

/// `lab up` until its first components run.
fn half_way(lab_name: &str) -> Child {
    let up = lab(lab_name).args(["up", "--nodes", "1"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let records = Folder::of(&name(lab_name)).records();
    eventually("a component to start", || {
        let count = fs::read_dir(&records).map_or(0, Iterator::count);
        (count < 3).then(|| format!("{count} components"))
    });
    up
}

/// Removes a folder that what runs in it goes on writing to.
fn lose(folder: &Path) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = fs::remove_dir_all(folder) {
        if error.kind() == std::io::ErrorKind::NotFound {
            return;
        }
        assert!(Instant::now() < deadline, "{}: {error}", folder.display());
    }
}

#[test]
fn nothing_of_a_lab_stays_after_it_was_killed() {
    let body = || {
        let before = HostSnapshot::take().unwrap();
        succeed(lab("kill-a").args(["up", "--nodes", "1"]));
        assert!(succeed(lab("kill-a").args(["kubectl", "get", "nodes", "--output", "name"])).contains("node/n1"));
        assert!(!ours(before.difference(&HostSnapshot::take().unwrap()), &["kill-a"]).is_empty());

        let status = Lab::open(&name("kill-a"), &towpath_e2e::Manner::default()).unwrap().status().unwrap();
        let gateway = status.components.iter().find(|component| component.id.kind == Kind::Gateway).unwrap();
        gateway.process.unwrap().signal(Signal::KILL).unwrap();
        let mut half = half_way("kill-b");
        kill(half.id(), Signal::KILL);
        half.wait().unwrap();
        // The one loses what it knew of itself, the other its end of the wire.
        lose(Folder::of(&name("kill-b")).path());

        succeed(lab("kill-a").arg("down"));
        succeed(lab("kill-b").arg("down"));
        nothing_stays(&before, &["kill-a", "kill-b"]);
    };
    isolated("nothing_of_a_lab_stays_after_it_was_killed", &labs().join("killed"), body).unwrap();
}

#[test]
fn an_interrupt_while_a_lab_comes_up_takes_it_down_again() {
    let body = || {
        let before = HostSnapshot::take().unwrap();
        let half = half_way("interrupt");
        kill(half.id(), Signal::INT);
        let output = half.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains("interrupted"), "{text}");
        nothing_stays(&before, &["interrupt"]);
    };
    isolated("an_interrupt_while_a_lab_comes_up_takes_it_down_again", &labs().join("interrupted"), body).unwrap();
}

fn addresses(lab: &Lab, node: &str) -> String {
    let path = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
    lab.kubectl(&["get", "node", node, "--output", path]).unwrap()
}

const POD: &str = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "probe", "namespace": "default"}, "spec": {
    "hostNetwork": true, "nodeName": "n1", "tolerations": [{"operator": "Exists"}], "terminationGracePeriodSeconds": 0,
    "containers": [{"name": "probe", "image": "registry.k8s.io/e2e-test-images/agnhost:2.63.0", "args": ["netexec", "--http-port=8090"]}]}}"#;

fn a_pod_runs_and_answers(lab: &Lab) {
    lab.apply(POD).unwrap();
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/probe", "--timeout=60s"]).unwrap();
    let url = format!("http://{}:{}/clientip", lab.outside_addresses()[0], Lab::OUTSIDE_PORT);
    let seen = lab.pod_exec("default", "probe", &["curl", "--silent", &url]).unwrap();
    assert!(seen.success && seen.stdout.starts_with("172.30.0.11:"), "{seen:?}");
    assert!(lab.kubectl(&["logs", "probe"]).unwrap().contains("Started HTTP server"));
    lab.kubectl(&["delete", "pod", "probe"]).unwrap();
}

fn a_node_restarts_with_its_disk_and_nothing_else(lab: &Lab) {
    let node = lab.node("n1").unwrap();
    assert!(
        node.exec(&["sh", "-c", "echo kept >/var/kept; echo lost >/run/lost; ip link add left type bridge"])
            .unwrap()
            .status
            .success()
    );
    let before = node.space().unwrap();
    lab.node_restart("n1").unwrap();
    assert!(!before.alive());
    assert_eq!(node.exec(&["cat", "/var/kept"]).unwrap().stdout, b"kept\n");
    assert!(!node.exec(&["cat", "/run/lost"]).unwrap().status.success());
    assert!(!node.exec(&["ip", "link", "show", "left"]).unwrap().status.success());
    assert_eq!(addresses(lab, "n1"), "172.30.0.11");
}

fn a_component_that_dies_is_shown_with_its_last_lines(lab: &Lab) {
    let id = ComponentId::single(Kind::KubeScheduler);
    let status = lab.status().unwrap();
    let scheduler = status.components.iter().find(|component| component.id == id).unwrap();
    scheduler.process.unwrap().signal(Signal::KILL).unwrap();
    let error = lab.wait_for::<()>("nothing", SOON, || Ok(Look::NotYet(String::new()))).unwrap_err().to_string();
    assert!(error.starts_with("kube-scheduler has ended. Its last lines:\n"), "{error}");
    assert!(error.contains("kube-scheduler.log"), "{error}");
    lab.start_component(&id).unwrap();
    assert!(lab.status().unwrap().components.iter().all(|component| component.alive));
}

#[test]
fn nodes_come_and_go_while_the_lab_is_up() {
    let body = || {
        let before = HostSnapshot::take().unwrap();
        let lab = Lab::up(LabConfig { nodes: 1, ..LabConfig::new(name("nodes")) }).unwrap();
        assert!(matches!(Lab::up(LabConfig::new(name("nodes"))), Err(LabError::Exists(_))));
        a_pod_runs_and_answers(&lab);

        assert_eq!(lab.node_add(None).unwrap().name.as_str(), "n2");
        assert_eq!(lab.node_readdress("n2").unwrap().host.0, 76);
        assert_eq!(addresses(&lab, "n2"), "172.30.0.76");
        assert!(lab.node("n1").unwrap().exec(&["ping", "-c1", "-W2", "172.30.0.76"]).unwrap().status.success());
        lab.node_remove("n2").unwrap();
        assert!(matches!(lab.node("n2"), Err(LabError::NoNode { .. })));
        assert_eq!(lab.kubectl(&["get", "nodes", "--output", "name"]).unwrap(), "node/n1\n");

        a_node_restarts_with_its_disk_and_nothing_else(&lab);
        a_component_that_dies_is_shown_with_its_last_lines(&lab);
        drop(lab);
        nothing_stays(&before, &["nodes"]);
    };
    isolated("nodes_come_and_go_while_the_lab_is_up", &labs().join("nodes"), body).unwrap();
}

fn answers(lab: &Lab, node: &str, address: &str) -> String {
    let output = lab.node(node).unwrap().exec(&["ping", "-c1", "-W2", address]).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn routes_to_pods_appear_on_the_control_plane(lab: &Lab) {
    let control_plane = lab.space("control-plane").unwrap();
    for (family, cidr, via) in [("-4", "10.244.", "via 172.30."), ("-6", "fd00:10:244:", "via fd00:172:30:")] {
        lab.wait_for("routes to the pods of two nodes", SOON, || {
            let routes = control_plane.exec(&["ip", family, "route"])?.stdout;
            let text = String::from_utf8_lossy(&routes).into_owned();
            let count = text.lines().filter(|line| line.starts_with(cidr) && line.contains(via)).count();
            Ok(if count == 2 { Look::Found(()) } else { Look::NotYet(text) })
        })
        .unwrap();
    }
}

#[test]
fn nodes_of_two_subnets_meet_over_the_router_in_both_families() {
    let body = || {
        let config = LabConfig {
            nodes: 2,
            wire: Wire::Dual,
            subnets: 2,
            mtu: 1400,
            pod_cidrs: vec!["10.244.0.0/16".parse().unwrap(), "fd00:10:244::/56".parse().unwrap()],
            ..LabConfig::new(name("subnets"))
        };
        let lab = Lab::up(config).unwrap();
        for address in ["172.30.1.12", "fd00:172:30:1::c"] {
            assert!(answers(&lab, "n1", address).contains("ttl=63"), "{address}");
        }
        for address in lab.outside_addresses() {
            assert!(answers(&lab, "n2", &address.to_string()).contains("ttl=63"), "{address}");
        }
        let link = lab.node("n1").unwrap().exec(&["ip", "link", "show", "eth0"]).unwrap();
        assert!(String::from_utf8_lossy(&link.stdout).contains("mtu 1400"));
        routes_to_pods_appear_on_the_control_plane(&lab);
        lab.down().unwrap();
        assert!(!Folder::of(&name("subnets")).path().exists());
    };
    isolated("nodes_of_two_subnets_meet_over_the_router_in_both_families", &labs().join("subnets"), body).unwrap();
}
