//! Bad networks are refused at apply, or end in a condition that says what to do; what runs is never touched.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::cluster::{Cluster, repository};

/// What a file of `crds/tests/bad` expects, from its first line.
struct Bad {
    path: PathBuf,
    refused: bool,
    words: Vec<String>,
}

fn all() -> Vec<Bad> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(repository().join("crds/tests/bad")).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Bad {
    let text = fs::read_to_string(&path).unwrap();
    let expectation = text
        .lines()
        .next()
        .and_then(|line| line.strip_prefix("# expect: "))
        .unwrap_or_else(|| panic!("{}", path.display()));
    let (outcome, words) = expectation.split_once(' ').unwrap();
    let refused = match outcome {
        "refused" => true,
        "condition" => false,
        other => panic!("{} expects {other}", path.display()),
    };
    Bad { path, refused, words: words.split_whitespace().map(str::to_owned).collect() }
}

/// What runs, as the nodes and the API have it. Pods come and go by themselves, so their own routes do not count.
fn running(cluster: &Cluster) -> String {
    let kernel = ["n1", "n2", "n3"].map(|node| {
        let routes = cluster.on(node, "ip route show proto 117");
        let lasting = routes.lines().filter(|route| !route.contains(" dev tow"));
        lasting.collect::<Vec<_>>().join("\n") + &cluster.on(node, "nft -s list table inet towpath")
    });
    kernel.concat() + &cluster.kubectl("get nodenetworks -o jsonpath={.items[*].spec}")
}

#[test]
fn thirty_bad_networks_say_what_is_wrong_and_touch_nothing() {
    let cluster = Cluster::up("refusal");
    let (before, bad) = (running(&cluster), all());
    assert!(bad.len() >= 30, "{} files", bad.len());
    for file in &bad {
        let path = file.path.display().to_string();
        let applied = cluster.lab.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path]);
        match (applied, file.refused) {
            (Err(error), true) => assert_words(file, &error.to_string()),
            (Ok(_), false) => {
                it_ends_in_a_condition(&cluster, file);
                assert_eq!(running(&cluster), before, "{path} changed what runs");
                cluster.declare("config/samples/kindnet.yaml");
                cluster.wait_ready();
            }
            (Ok(_), true) => panic!("{path} was not refused"),
            (Err(error), false) => panic!("{path} was refused: {error}"),
        }
    }
    assert_eq!(running(&cluster), before);
    an_mtu_above_the_uplink_is_told_and_given_to_nobody(&cluster);
}

/// Only the nodes know their uplinks: the network is told, and each of them says that it cannot be.
fn an_mtu_above_the_uplink_is_told_and_given_to_nobody(cluster: &Cluster) {
    cluster.kubectl("patch clusternetwork default --type=merge -p {\"spec\":{\"mtu\":9000}}");
    let path = ".status.conditions[?(@.type==\"Ready\")].message";
    cluster.wait_for("the condition", Duration::from_secs(120), || {
        let message = cluster.field("clusternetwork/default", path);
        if message.contains("mtu 9000 is more than the 1500 bytes") { Ok(()) } else { Err(message) }
    });
    let file = cluster.on("n1", "cat /run/towpath/node.json");
    assert!(file.contains("\"mtu\": 1500"), "{file}");
    cluster.declare("config/samples/kindnet.yaml");
    cluster.kubectl("patch clusternetwork default --type=merge -p {\"spec\":{\"mtu\":\"Auto\"}}");
    cluster.wait_ready();
}

fn it_ends_in_a_condition(cluster: &Cluster, file: &Bad) {
    let ready = |field: &str| {
        cluster.field("clusternetwork/default", &format!(".status.conditions[?(@.type==\"Ready\")].{field}"))
    };
    let generation = cluster.field("clusternetwork/default", ".metadata.generation");
    cluster.wait_for(&format!("the condition of {}", file.path.display()), Duration::from_secs(120), || {
        let observed = cluster.field("clusternetwork/default", ".status.observedGeneration");
        let status = ready("status");
        if status == "False" && observed == generation { Ok(()) } else { Err(format!("{status} at {observed}")) }
    });
    assert_words(file, &ready("message"));
}

#[track_caller]
fn assert_words(file: &Bad, message: &str) {
    for word in &file.words {
        assert!(message.contains(word.as_str()), "{}: no {word:?} in: {message}", file.path.display());
    }
}
