//! Another network's configuration on a node: Kubernetes issue 107687, with the files of Debian's podman package and
//! the reference plugins.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use towpath_e2e::binaries::Binaries;
use towpath_e2e::progress::Progress;

use crate::cluster::{Cluster, repository};

const PODMAN: &str = "87-podman-bridge.conflist";
const ASIDE: &str = "87-podman-bridge.conflist.disabled-by-towpath";

/// A file in the folder of CNI configurations of node `n1`.
fn configuration(cluster: &Cluster, name: &str) -> PathBuf {
    cluster.lab.node("n1").unwrap().root().join("etc/cni/net.d").join(name)
}

fn put_configuration(cluster: &Cluster, name: &str, text: &str) {
    let aside = configuration(cluster, ".new");
    fs::write(&aside, text).unwrap();
    fs::rename(aside, configuration(cluster, name)).unwrap();
}

/// What installing podman on a node leaves there; returns its configuration.
fn install_podman(cluster: &Cluster) -> String {
    let plugins = Binaries::plugins(&Progress::quiet()).unwrap();
    for name in ["bridge", "host-local", "portmap", "firewall", "tuning", "loopback"] {
        let bin = cluster.lab.node("n1").unwrap().root().join("opt/cni/bin");
        fs::copy(plugins.join(name), bin.join(name)).unwrap();
    }
    let packaged = format!("/etc/cni/net.d/{PODMAN}");
    let text = fs::read_to_string(&packaged).unwrap_or_else(|error| panic!("{packaged}, of podman: {error}"));
    put_configuration(cluster, PODMAN, &text);
    text
}

fn said_of(cluster: &Cluster, node: &str) -> String {
    let of = |field| {
        cluster.field(
            &format!("nodenetwork/{node}"),
            &format!(".status.conditions[?(@.type==\"CNIUncontested\")].{field}"),
        )
    };
    format!("{} {}: {}", of("status"), of("reason"), of("message"))
}

#[track_caller]
fn wait_said(cluster: &Cluster, parts: &[&str]) -> Duration {
    let start = Instant::now();
    cluster.wait_for(&format!("{parts:?}"), Duration::from_secs(120), || {
        let said = said_of(cluster, "n1");
        if parts.iter().all(|part| said.contains(part)) { Ok(()) } else { Err(said) }
    });
    start.elapsed()
}

#[test]
fn pods_that_joined_podmans_network_are_named_and_come_right_when_made_anew() {
    let cluster = Cluster::bare_with("contest", |config| config.nodes = 2);
    let packaged = install_podman(&cluster);
    let early = cluster.pod("early", "n1");
    assert!(early.addresses[0].to_string().starts_with("10.88."), "{early:?}");
    cluster.install();
    cluster.declare("config/samples/kindnet.yaml");
    cluster.wait_ready();

    let named = format!("default/early ({})", early.addresses[0]);
    let file = format!("{PODMAN} (network podman: bridge, portmap, firewall, tuning)");
    wait_said(&cluster, &["False PodsOfAnotherNetwork: delete these pods", &named, &file]);
    cluster.wait_for("what n2 says", Duration::from_secs(120), || {
        let said = said_of(&cluster, "n2");
        if said == "True Uncontested: " { Ok(()) } else { Err(said) }
    });
    cluster.wait_for("the cluster's condition", Duration::from_secs(120), || {
        let said = cluster.field("clusternetwork/default", ".status.conditions[?(@.type==\"CNIUncontested\")].message");
        if said.contains("n1") { Ok(()) } else { Err(said) }
    });
    a_file_before_ours_is_seen_at_once(&cluster);
    assert!(configuration(&cluster, PODMAN).exists(), "Report leaves it alone");

    cluster.kubectl(r#"patch clusternetwork default --type=merge -p {"spec":{"cniConfig":{"conflict":"Rename"}}}"#);
    wait_said(
        &cluster,
        &["PodsOfAnotherNetwork", "moved aside until Towpath leaves the node: 87-podman-bridge.conflist"],
    );
    assert!(!configuration(&cluster, PODMAN).exists() && configuration(&cluster, ASIDE).exists());

    cluster.kubectl("delete pod early");
    cluster.kubectl("-n kube-system delete pod -l k8s-app=kube-dns");
    let (late, far) = (cluster.pod("early", "n1"), cluster.pod("far", "n2"));
    assert!(late.addresses[0].to_string().starts_with("10.244."), "{late:?}");
    wait_said(&cluster, &["True Uncontested"]);
    for address in &late.addresses {
        cluster.in_pod(&far.name, &format!("ping -c 1 -W 2 {address}"));
    }
    cluster.wait_for("events", Duration::from_secs(120), || {
        let events = cluster.kubectl("get events -o jsonpath={.items[*].reason}");
        let has = |reason| events.split(' ').any(|one| one == reason);
        let all = ["PodsOfAnotherNetwork", "ForeignConfiguration", "Uncontested"].into_iter().all(has);
        if all { Ok(()) } else { Err(events) }
    });

    cluster.kubectl("delete pod early far");
    let overlay = repository().join("config/overlays/lab").display().to_string();
    cluster.kubectl(&format!("delete --ignore-not-found --timeout=180s -k {overlay}"));
    cluster.wait_for("podman's configuration", Duration::from_secs(120), || {
        fs::read_to_string(configuration(&cluster, PODMAN)).map(drop).map_err(|error| error.to_string())
    });
    assert_eq!(fs::read_to_string(configuration(&cluster, PODMAN)).unwrap(), packaged);
    assert!(!configuration(&cluster, ASIDE).exists());
}

fn a_file_before_ours_is_seen_at_once(cluster: &Cluster) {
    put_configuration(cluster, "00-early.conf", r#"{"name": "early", "type": "bridge"}"#);
    let seen =
        wait_said(cluster, &["ForeignConfiguration", "00-early.conf (network early: bridge) comes before 05-towpath"]);
    println!("a configuration before ours was in the API within {seen:?}");
    fs::remove_file(configuration(cluster, "00-early.conf")).unwrap();
    wait_said(cluster, &["PodsOfAnotherNetwork"]);
}
