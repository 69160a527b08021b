//! The conformance suite of the network policy API, unchanged, with every feature that it knows.

use std::{collections::BTreeSet, fs, process::Command, time::Instant};

use towpath_e2e::{binaries::Binaries, progress::Progress};

use crate::cluster::Cluster;

/// The tests that need what this kernel lacks, each with the reason behind a tab.
const LEFT_OUT: &str = include_str!("../../policy-api-left-out.txt");

/// What came of a test, by its name below the suite's.
struct Outcomes {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Outcomes {
    /// Of what a Go test printed with `-test.v`.
    fn read(output: &str) -> Self {
        let (mut passed, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for line in output.lines().map(str::trim_start) {
            let Some((verdict, rest)) = line.strip_prefix("--- ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            let Some(name) = name.strip_prefix("TestConformance/") else { continue };
            match verdict {
                "PASS" => passed.insert(name.to_owned()),
                _ => failed.insert(name.to_owned()),
            };
        }
        Self { passed, failed }
    }

    /// Without tests that only have others below them.
    fn leaves(mut self) -> Self {
        let all: BTreeSet<String> = self.passed.union(&self.failed).cloned().collect();
        let is_leaf = |name: &String| !all.iter().any(|other| other.starts_with(&format!("{name}/")));
        self.passed.retain(is_leaf);
        self.failed.retain(is_leaf);
        self
    }
}

fn left_out(file: &str) -> BTreeSet<String> {
    let lines = file.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let named = lines.map(|line| match line.split_once('\t') {
        Some((name, reason)) if !reason.trim().is_empty() => name.to_owned(),
        _ => panic!("e2e/policy-api-left-out.txt: no reason behind a tab: {line}"),
    });
    named.collect()
}

/// The kinds of the API, as it publishes them.
fn install_kinds(cluster: &Cluster, program: &std::path::Path) {
    let kinds = program.with_file_name("clusternetworkpolicies.yaml");
    cluster.kubectl(&format!("apply --server-side -f {}", kinds.display()));
    cluster
        .kubectl("wait --for=condition=Established crd/clusternetworkpolicies.policy.networking.k8s.io --timeout=30s");
}

#[test]
fn the_policy_apis_own_suite_passes() {
    let cluster = Cluster::up("spec-policy-api");
    let program = Binaries::locate("policy.test", &Progress::shown()).unwrap_or_else(|error| panic!("{error}"));
    install_kinds(&cluster, &program);
    let folder = tempfile::Builder::new().prefix("towpath-policy-api-").tempdir().unwrap();
    let output = fs::File::create(folder.path().join("output")).unwrap();
    let begin = Instant::now();
    let mut command = Command::new(&program);
    command.current_dir(folder.path()).env("KUBECONFIG", cluster.lab.kubeconfig());
    command.args(["-test.v", "-test.timeout=20m", "-all-features", "-conformance-profiles=ClusterNetworkPolicy"]);
    command.args(["-organization=towpath", "-project=towpath", "-url=https://towpath.dev", "-version=dev"]);
    command.args(["-contact=towpath", "-cleanup-base-resources=false", "-report-output=report.yaml"]);
    command.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
    let text = fs::read_to_string(folder.path().join("output")).unwrap();
    let outcomes = Outcomes::read(&text).leaves();
    println!(
        "{} of {} tests passed in {:.0} s",
        outcomes.passed.len(),
        outcomes.passed.len() + outcomes.failed.len(),
        begin.elapsed().as_secs_f64()
    );
    let expected = left_out(LEFT_OUT);
    assert!(!outcomes.passed.is_empty(), "nothing ran: {}", towpath_e2e::run::last_lines(&text, 30));
    if outcomes.failed != expected {
        let (failed, stale): (Vec<_>, Vec<_>) =
            (outcomes.failed.difference(&expected).collect(), expected.difference(&outcomes.failed).collect());
        let folder = folder.keep();
        panic!(
            "failed: {failed:#?}\nleft out, and passed or gone: {stale:#?}\nall that it printed is in {}",
            folder.display()
        );
    }
}
