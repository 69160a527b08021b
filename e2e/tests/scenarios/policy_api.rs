//! The conformance suite of the network policy API, unchanged, with every feature that it knows.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use rustix::net::{AddressFamily, SocketType, ipproto, socket};
use towpath_e2e::{binaries::Binaries, progress::Progress, run::last_lines};

use crate::cluster::Cluster;

/// The tests that need what this kernel lacks, each with the reason behind a tab.
const LEFT_OUT: &str = include_str!("../../policy-api-left-out.txt");
/// What all names begin with.
const TOP: &str = "TestConformance/";
/// How long a connection is waited for that may be forbidden, and how soon another try follows: pods are on one machine.
const PATIENCE: [&str; 2] = ["-request-timeout=1s", "-poke-interval=100ms"];
/// For tests that cannot pass.
const NO_PATIENCE: [&str; 2] = ["-poke-timeout=1ms", "-poke-interval=1s"];

/// What came of a test, by its name below the suite's.
struct Outcomes {
    passed: BTreeSet<String>,
    failed: BTreeSet<String>,
}

impl Outcomes {
    /// Of what a Go test printed with `-test.v`: of all that belongs to another, and has no more below it.
    fn read(output: &str) -> Self {
        let (mut passed, mut failed) = (BTreeSet::new(), BTreeSet::new());
        for line in output.lines().map(str::trim_start) {
            let Some((verdict, rest)) = line.strip_prefix("--- ").and_then(|line| line.split_once(": ")) else {
                continue;
            };
            let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
            let Some(name) = name.strip_prefix(TOP).filter(|name| name.contains('/')) else { continue };
            match verdict {
                "PASS" => passed.insert(name.to_owned()),
                _ => failed.insert(name.to_owned()),
            };
        }
        Self { passed, failed }
    }

    fn count(&self) -> usize {
        self.passed.len() + self.failed.len()
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

/// Whether this kernel has what those tests need.
fn has_sctp() -> bool {
    socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::SCTP)).is_ok()
}

/// An expression of Go that selects tests by their names.
fn selecting(names: &BTreeSet<String>) -> String {
    let quoted = |part: &str| {
        let quote = |c: char| if c.is_alphanumeric() || c == '_' { c.to_string() } else { format!(r"\{c}") };
        format!("^{}$", part.chars().map(quote).collect::<String>())
    };
    let one = |name: &String| format!("{TOP}{name}").split('/').map(quoted).collect::<Vec<_>>().join("/");
    names.iter().map(one).collect::<Vec<_>>().join("|")
}

/// The suite on a cluster.
struct Suite<'a> {
    cluster: &'a Cluster,
    program: PathBuf,
    /// Where it writes what it prints.
    folder: tempfile::TempDir,
}

impl<'a> Suite<'a> {
    fn prepare(cluster: &'a Cluster) -> Self {
        let program = Binaries::locate("policy.test", &Progress::shown()).unwrap_or_else(|error| panic!("{error}"));
        install_kinds(cluster, &program);
        let folder = tempfile::Builder::new().prefix("towpath-policy-api-").tempdir().unwrap();
        Self { cluster, program, folder }
    }

    /// Runs what flags select; what it prints goes to a file of this name.
    fn run(&self, name: &str, flags: &[&str]) -> Outcomes {
        let begin = Instant::now();
        let path = self.folder.path().join(name);
        let output = fs::File::create(&path).unwrap();
        let mut command = Command::new(&self.program);
        command.current_dir(self.folder.path()).env("KUBECONFIG", self.cluster.lab.kubeconfig());
        command.args(["-test.v", "-test.timeout=20m", "-all-features", "-conformance-profiles=ClusterNetworkPolicy"]);
        command.args(["-organization=towpath", "-project=towpath", "-url=https://towpath.dev", "-version=dev"]);
        command.args(["-contact=towpath", "-additional-info=e2e/tests/scenarios/policy_api.rs"]);
        command.args(["-cleanup-base-resources=false", &format!("-report-output={name}.yaml")]).args(flags);
        command.stdout(output.try_clone().unwrap()).stderr(output).status().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let outcomes = Outcomes::read(&text);
        assert_ne!(outcomes.count(), 0, "nothing ran: {}", last_lines(&text, 30));
        let (passed, all, seconds) = (outcomes.passed.len(), outcomes.count(), begin.elapsed().as_secs_f64());
        println!("{name}: {passed} of {all} tests passed in {seconds:.0} s");
        outcomes
    }

    /// Fails, and leaves what was printed.
    fn fail(self, what: &str) -> ! {
        panic!("{what}\nall that it printed is in {}", self.folder.keep().display())
    }
}

/// The kinds of the API, as it publishes them.
fn install_kinds(cluster: &Cluster, program: &Path) {
    let kinds = program.with_file_name("clusternetworkpolicies.yaml");
    cluster.kubectl(&format!("apply --server-side -f {}", kinds.display()));
    cluster
        .kubectl("wait --for=condition=Established crd/clusternetworkpolicies.policy.networking.k8s.io --timeout=180s");
}

#[test]
fn the_policy_apis_own_suite_passes() {
    let cluster = Cluster::up("spec-policy-api");
    let suite = Suite::prepare(&cluster);
    let mut flags = PATIENCE.map(str::to_owned).to_vec();
    let left_out = left_out(LEFT_OUT);
    if !has_sctp() {
        flags.push(format!("-test.skip={}", selecting(&left_out)));
    }
    let outcomes = suite.run("suite", &flags.iter().map(String::as_str).collect::<Vec<_>>());
    if !outcomes.failed.is_empty() {
        suite.fail(&format!("failed: {:#?}", outcomes.failed));
    }
    if has_sctp() {
        return;
    }
    // That those are still there, under these names.
    let [timeout, interval] = NO_PATIENCE;
    let others = suite.run("left-out", &[timeout, interval, &format!("-test.run={}", selecting(&left_out))]);
    if others.failed != left_out {
        let stale: Vec<_> = left_out.difference(&others.failed).collect();
        suite.fail(&format!("left out, and passed or gone: {stale:#?}"));
    }
}

#[test]
fn a_name_selects_nothing_but_its_test() {
    let names = ["A/an_'allow'_rule;_b".to_owned(), "B/c".to_owned()].into();
    assert_eq!(selecting(&names), r"^TestConformance$/^A$/^an_\'allow\'_rule\;_b$|^TestConformance$/^B$/^c$");
}
