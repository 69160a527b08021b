//! Upstream's specs, unchanged: all pass that a test selects, but for those that cannot on one machine.
//!
//! ```text
//! list (dry run) --- left out (by a file) ---> beside the others, and none may pass
//!               \--- the others: several at once -----> then those that upstream marks serial, one by one
//! ```
//! Each spec is a process of its own: what it printed and how long it took is told apart from the others, and one that
//! hangs or crashes takes none with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Deserialize;
use towpath_e2e::{binaries::Binaries, progress::Progress, run};

use crate::cluster::Cluster;

/// A spec waits most of its time: as many at once keep two cores busy.
const AT_ONCE: usize = 4;
/// Far beyond the slowest; without it one that fails goes on for up to a quarter of an hour.
const LIMIT: Duration = Duration::from_mins(5);
/// One that is left out is not waited for any longer than one that passes would take.
const LIMIT_LEFT_OUT: Duration = Duration::from_mins(2);
/// What is shown of a spec that ended without a report.
const LAST_LINES: usize = 30;

/// Which specs are run.
pub struct Selection {
    /// What their full names match.
    pub names: &'static str,
    /// The file of those that cannot pass here, with reasons, in e2e/.
    pub left_out: &'static str,
    /// What the file says.
    pub reasons: &'static str,
}

/// What Ginkgo's `--json-report` says of a run; other fields are not read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suite {
    spec_reports: Vec<Report>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_text: String,
    leaf_node_type: String,
    state: State,
    #[serde(default)]
    is_serial: bool,
    failure: Option<Failure>,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "lowercase")]
enum State {
    Passed,
    Skipped,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    message: String,
    location: Location,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    file_name: String,
    line_number: u32,
}

impl Report {
    fn full_name(&self) -> String {
        let containers = self.container_hierarchy_texts.iter().flatten();
        containers.chain([&self.leaf_node_text]).map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    fn is_spec(&self) -> bool {
        self.leaf_node_type == "It"
    }
}

impl Failure {
    fn shown(&self) -> String {
        let Location { file_name, line_number } = &self.location;
        format!("{}\nat {file_name}:{line_number}", self.message)
    }
}

#[derive(Debug, Clone)]
struct Spec {
    name: String,
    /// Upstream says that it does not bear others beside it.
    serial: bool,
}

struct Verdict {
    name: String,
    /// Why it did not pass.
    failure: Option<String>,
}

/// Upstream's program, and the cluster that it is let loose on.
struct Specs {
    program: PathBuf,
    flags: Vec<String>,
    selection: Selection,
    /// Reports and output, a folder for each spec.
    folder: PathBuf,
    begin: Instant,
    done: AtomicUsize,
}

impl Specs {
    fn new(cluster: &Cluster, selection: Selection, folder: &Path) -> Self {
        let located = |program| Binaries::locate(program, &Progress::shown()).unwrap_or_else(|error| panic!("{error}"));
        let nodes = cluster.lab.nodes().len();
        let flags = vec![
            "--provider=skeleton".to_owned(),
            format!("--kubeconfig={}", cluster.lab.kubeconfig().display()),
            format!("--kubectl-path={}", located("kubectl").display()),
            format!("--num-nodes={nodes}"),
            "--allowed-not-ready-nodes=0".to_owned(),
            "--disable-log-dump".to_owned(),
        ];
        let (program, folder) = (located("e2e.test"), folder.to_owned());
        Self { program, flags, selection, folder, begin: Instant::now(), done: AtomicUsize::new(0) }
    }

    /// The program, set to run what `focus` selects and to write all that comes of it into `folder`.
    fn command(&self, focus: &str, folder: &Path) -> Command {
        fs::create_dir_all(folder).unwrap();
        let output = fs::File::create(folder.join("output")).unwrap();
        let mut command = Command::new(&self.program);
        command.current_dir(folder).args(&self.flags).args(["--ginkgo.no-color", "--ginkgo.silence-skips"]);
        command.arg(format!("--ginkgo.focus={focus}"));
        command.arg(format!("--ginkgo.json-report={}", folder.join("report.json").display()));
        command.arg(format!("--report-dir={}", folder.display()));
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        command
    }

    /// All that are selected, in the order of their names.
    fn list(&self) -> Vec<Spec> {
        let folder = self.folder.join("list");
        let status = self.command(self.selection.names, &folder).arg("--ginkgo.dry-run").status().unwrap();
        assert!(status.success(), "list the specs: {status}: {}", last_lines(&folder));
        let selected = reports(&folder).unwrap().into_iter().filter(|r| r.is_spec() && r.state != State::Skipped);
        let mut specs: Vec<Spec> =
            selected.map(|report| Spec { name: report.full_name(), serial: report.is_serial }).collect();
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        specs
    }

    fn run(&self, spec: &Spec, limit: Duration) -> Verdict {
        let begin = Instant::now();
        let folder = self.folder.join(file_name(&spec.name));
        // Ginkgo puts the name of the suite before that of the spec, so only its end can be named.
        let mut command = self.command(&format!("{}$", quoted(&spec.name)), &folder);
        let status = command.arg(format!("--ginkgo.timeout={}s", limit.as_secs())).status().unwrap();
        let failure = failure(&spec.name, status.success(), &folder);
        let outcome = if failure.is_none() { "passed" } else { "FAILED" };
        let (took, number) = (begin.elapsed().as_secs_f64(), self.done.fetch_add(1, Ordering::Relaxed) + 1);
        println!(
            "{:>6.1}s  {number:>3}  {outcome} in {took:>5.1} s  {}",
            self.begin.elapsed().as_secs_f64(),
            spec.name
        );
        Verdict { name: spec.name.clone(), failure }
    }

    /// Runs some at a time, until all are done.
    fn run_all(&self, specs: &[Spec], at_once: usize, limit: Duration) -> Vec<Verdict> {
        let (next, verdicts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let work = || {
            while let Some(spec) = specs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let verdict = self.run(spec, limit);
                verdicts.lock().unwrap().push(verdict);
            }
        };
        std::thread::scope(|scope| (0..at_once).for_each(|_| drop(scope.spawn(work))));
        verdicts.into_inner().unwrap()
    }
}

fn reports(folder: &Path) -> Result<Vec<Report>, String> {
    let text = fs::read_to_string(folder.join("report.json")).map_err(|error| format!("no report: {error}"))?;
    let suites: Vec<Suite> = serde_json::from_str(&text).map_err(|error| format!("a report unlike others: {error}"))?;
    Ok(suites.into_iter().flat_map(|suite| suite.spec_reports).collect())
}

/// Why a spec's run does not count as passed. What is around specs fails, too: then the spec itself is skipped.
fn failure(name: &str, succeeded: bool, folder: &Path) -> Option<String> {
    let reports = match reports(folder) {
        Ok(reports) => reports,
        Err(error) => return Some(format!("{error}\n{}", last_lines(folder))),
    };
    let failures: Vec<String> = reports.iter().filter_map(|report| Some(report.failure.as_ref()?.shown())).collect();
    let passed = |report: &Report| report.is_spec() && report.state == State::Passed && report.full_name() == name;
    match (failures.is_empty(), succeeded && reports.iter().any(passed)) {
        (true, true) => None,
        (true, false) => Some(format!("it did not run:\n{}", last_lines(folder))),
        (false, _) => Some(failures.join("\n")),
    }
}

fn last_lines(folder: &Path) -> String {
    run::last_lines(&fs::read_to_string(folder.join("output")).unwrap_or_default(), LAST_LINES)
}

/// A regular expression that matches the text alone.
fn quoted(text: &str) -> String {
    text.chars().flat_map(|c| c.is_ascii_punctuation().then_some('\\').into_iter().chain([c])).collect()
}

/// A name for a folder: the end of what a spec is called, by which it differs from others. Files have names of 255 bytes.
fn file_name(name: &str) -> String {
    let plain: Vec<char> = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    plain[plain.len().saturating_sub(200)..].iter().collect()
}

/// The names that the file leaves out; everything that is wrong with it is told at once.
fn left_out<'a>(file: &'a str, all: &[Spec]) -> Result<Vec<&'a str>, Vec<String>> {
    let (mut names, mut wrong) = (Vec::new(), Vec::new());
    for (number, line) in file.lines().enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let mut complain = |what: &str| wrong.push(format!("line {}: {what}: {line}", number + 1));
        let (name, reason) = line.split_once('\t').unwrap_or((line, ""));
        if reason.trim().is_empty() {
            complain("no reason: write one behind the full name and a tab");
        }
        if all.iter().all(|spec| spec.name != name) {
            complain("there is no such spec: remove the line");
        }
        if names.contains(&name) {
            complain("it stands here twice: remove one");
        }
        names.push(name);
    }
    if wrong.is_empty() { Ok(names) } else { Err(wrong) }
}

/// What came of the specs, as a failing test shows it.
fn complaints(verdicts: &[Verdict], left_out: &[Verdict], file: &str) -> Vec<String> {
    let failed = verdicts.iter().filter_map(|verdict| Some((verdict, verdict.failure.as_ref()?)));
    let stale = left_out.iter().filter(|verdict| verdict.failure.is_none());
    failed
        .map(|(verdict, failure)| format!("{}\nfailed: {failure}", verdict.name))
        .chain(stale.map(|verdict| format!("{}\npasses: remove it from e2e/{file}", verdict.name)))
        .collect()
}

/// A node loses its taint a moment after it is Ready. Upstream looks for that first, and then every 30 s.
fn wait_until_pods_may_run_anywhere(cluster: &Cluster) {
    cluster.wait_for("nodes without taints", Duration::from_secs(120), || {
        let taints = cluster.kubectl("get nodes -o jsonpath={.items[*].spec.taints}");
        if taints.is_empty() { Ok(()) } else { Err(taints) }
    });
    cluster.kubectl("-n kube-system rollout status deployment/coredns --timeout=180s");
}

/// Runs what is selected, and panics with all that is wrong at its end.
pub fn pass(cluster: &Cluster, selection: Selection) {
    wait_until_pods_may_run_anywhere(cluster);
    let folder = tempfile::Builder::new().prefix("towpath-specs-").tempdir().unwrap();
    let specs = Specs::new(cluster, selection, folder.path());
    let Selection { names, left_out: file, reasons } = specs.selection;
    let all = specs.list();
    assert!(!all.is_empty(), "no spec is selected by {names}");
    let names = left_out(reasons, &all).unwrap_or_else(|wrong| panic!("e2e/{file}: {}", wrong.join("\n")));
    let (out, run): (Vec<Spec>, Vec<Spec>) = all.into_iter().partition(|spec| names.contains(&spec.name.as_str()));
    let (serial, parallel): (Vec<Spec>, Vec<Spec>) = run.into_iter().partition(|spec| spec.serial);
    println!("\n{} specs, {} of them serial; {} left out", parallel.len() + serial.len(), serial.len(), out.len());
    // What is left out waits for what does not come: beside the others it costs nothing.
    let (mut verdicts, without) = std::thread::scope(|scope| {
        let without = scope.spawn(|| specs.run_all(&out, AT_ONCE, LIMIT_LEFT_OUT));
        (specs.run_all(&parallel, AT_ONCE, LIMIT), without.join().unwrap())
    });
    verdicts.extend(specs.run_all(&serial, 1, LIMIT));
    let passed = verdicts.iter().filter(|verdict| verdict.failure.is_none()).count();
    let took = specs.begin.elapsed().as_secs_f64();
    println!("{passed} of {} specs passed in {took:.0} s", verdicts.len());
    let complaints = complaints(&verdicts, &without, file);
    let told = || format!("{}\n\nAll that the specs printed is in", complaints.join("\n\n"));
    assert!(complaints.is_empty(), "{} {}", told(), folder.keep().display());
}

#[test]
fn a_list_of_specs_that_is_stale_is_refused() {
    let all = ["[sig-network] A", "[sig-network] B"].map(|name| Spec { name: name.to_owned(), serial: false });
    assert_eq!(left_out("# why\n\n[sig-network] B\tit asks a public name\n", &all).unwrap(), ["[sig-network] B"]);
    let wrong = left_out("[sig-network] A\n[sig-network] C\tgone\n[sig-network] B\tx\n[sig-network] B\tx", &all);
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.len(), 3, "{wrong:?}");
    for (complaint, what) in wrong.iter().zip(["line 1: no reason", "line 2: there is no such", "line 4: it stands"]) {
        assert!(complaint.starts_with(what), "{complaint}");
    }
}

#[test]
fn a_spec_that_is_left_out_and_passes_is_told_of() {
    let verdict =
        |name: &str, failure: Option<&str>| Verdict { name: name.to_owned(), failure: failure.map(Into::into) };
    let told = complaints(&[verdict("A", None), verdict("B", Some("timed out"))], &[verdict("C", None)], "out.txt");
    assert_eq!(told, ["B\nfailed: timed out", "C\npasses: remove it from e2e/out.txt"]);
    assert!(complaints(&[verdict("A", None)], &[verdict("C", Some("no such host"))], "out.txt").is_empty());
}

#[test]
fn a_name_selects_nothing_but_its_spec() {
    assert_eq!(quoted("[sig-network] /etc/hosts (a.b)"), r"\[sig\-network\] \/etc\/hosts \(a\.b\)");
}
