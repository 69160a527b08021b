//! What agents cost an operator: how long an update takes to each and back, and how much memory one takes that has
//! nothing to do. Operator and agents are processes of their own, on the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that cannot go on has failed")]

#[path = "../../tests/stream/harness.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod harness;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use towpath_control::metrics::Refusal;
use towpath_control::server::Limits;
use towpath_net::policy::bundle::{Delta, Members, PodPolicy, SetDelta, SetId};

use harness::{Agent, Map, Operator, Start, key, peer, soon};

/// Nodes of the cluster.
const NODES: u16 = 5000;
/// Agents that have no stream yet.
const AT_ONCE: usize = 64;
/// Updates of one agent, one after the other.
const UPDATES: u32 = 2000;

fn main() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("may open as many files as it may");
    let mut arguments = std::env::args().skip(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.next().as_deref() {
        Some("agents") => {
            let address = arguments.next().unwrap().parse().unwrap();
            let count = arguments.next().unwrap().parse().unwrap();
            runtime.block_on(agents(address, count));
        }
        _ => runtime.block_on(operator()),
    }
}

/// Agents of so many nodes, until the standard input ends. It begins with the authorities.
async fn agents(address: SocketAddr, count: u16) {
    let mut authorities = String::new();
    std::io::stdin().read_to_string(&mut authorities).unwrap();
    let map = Map::at(address, authorities);
    let mut all: Vec<Agent> = Vec::new();
    for number in 0..count {
        // They all share this machine: no more at once than it can serve in the time that they have.
        if let Some(earlier) = all.iter().nth_back(AT_ONCE - 1) {
            soon(earlier.metrics.streams.reach(1)).await;
        }
        all.push(Start::new(&format!("n{number}")).go(&map));
    }
    std::future::pending::<()>().await;
}

/// Ended with the benchmark, and what they wrote with them.
struct Agents {
    child: Child,
    _folder: TempDir,
}

impl Agents {
    fn start(operator: &Operator, count: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["agents", &operator.address.to_string(), &count.to_string()])
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(operator.authorities.published().as_bytes()).unwrap();
        Self { child, _folder: folder }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A value of `/proc/self/status`, in KiB.
fn status(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How long this process had a processor.
fn processor() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of = |path: std::path::PathBuf| -> u64 {
        let text = std::fs::read_to_string(path.join("schedstat")).unwrap_or_default();
        text.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or_default()
    };
    Duration::from_nanos(tasks.map(|task| of(task.unwrap().path())).sum())
}

async fn operator() {
    let mut operator = one_agent().await;
    many_agents(&mut operator).await;
}

fn limits() -> Limits {
    let many = usize::from(NODES) * 2;
    Limits { connections: many, connections_of_address: many, ..Limits::default() }
}

fn joins(number: u32) -> Delta {
    let add = Members::Addresses([std::net::Ipv4Addr::from_bits(0x0a00_0000 + number).into()].into());
    let remove = Members::Addresses([].into());
    Delta { sets: BTreeMap::from([(SetId(1), SetDelta::Change { add, remove })]), ..Delta::default() }
}

/// What each node must know beside its peers: 30 pods, and 20 sets of 50 addresses.
fn policy() -> Delta {
    let addresses = |set: u32| (0..50).map(move |number| std::net::Ipv4Addr::from_bits(set << 8 | number).into());
    let sets =
        (1..=20_u32).map(|set| (SetId(u64::from(set)), SetDelta::New(Members::Addresses(addresses(set).collect()))));
    let pod =
        |number: u32| (format!("uid-{number}"), Some(PodPolicy { key: key("pod"), profile: None, is_policed: false }));
    Delta { is_enforced: Some(true), pods: (0..30).map(pod).collect(), sets: sets.collect(), ..Delta::default() }
}

/// From the change to the word that it is in the kernel, where nobody else wants anything.
async fn one_agent() -> Operator {
    let mut operator = Operator::with(limits()).await;
    let version = operator.cluster.change("n0", policy());
    let agents = Agents::start(&operator, 1);
    operator.acknowledged(version).await;
    let mut times = Vec::new();
    for number in 0..UPDATES {
        let began = Instant::now();
        let version = operator.cluster.change("n0", joins(number));
        operator.acknowledged(version).await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    let at = |percent: usize| times[times.len() * percent / 100 - 1];
    println!("update to acknowledgement: p50 {:?}, p99 {:?}, least {:?}", at(50), at(99), times[0]);
    drop(agents);
    soon(operator.metrics.agents.come_to(0)).await;
    operator
}

async fn many_agents(operator: &mut Operator) {
    for number in 0..NODES {
        operator.cluster.set_peer(&format!("n{number}"), Some(peer(number)));
        operator.cluster.change(&format!("n{number}"), policy());
    }
    let (memory, began, busy) = (status("VmRSS"), Instant::now(), processor());
    let sent = operator.metrics.sent_bytes.get();
    let told = operator.metrics.acknowledged.get() + u64::from(NODES);
    let agents = Agents::start(operator, NODES);
    settled(operator, told).await;
    let many = u64::from(NODES);
    println!(
        "{NODES} agents, told {} kB each: {:.1?}, of which the operator was busy {:.2?}",
        (operator.metrics.sent_bytes.get() - sent) / many / 1000,
        began.elapsed(),
        processor().saturating_sub(busy),
    );
    println!(
        "memory: {} MiB before, {} MiB at most, {} KiB for each that is connected",
        memory / 1024,
        status("VmHWM") / 1024,
        status("VmRSS").saturating_sub(memory) / many,
    );
    let mut worst = Vec::new();
    for number in 0..5 {
        let (began, busy) = (Instant::now(), processor());
        let told = operator.metrics.acknowledged.get() + u64::from(NODES) - 1;
        operator.cluster.set_peer("n7", Some(peer(10_000 + number)));
        settled(operator, told).await;
        worst.push((began.elapsed(), processor().saturating_sub(busy)));
    }
    let (elapsed, busy) = worst.iter().min().unwrap();
    println!("one peer changes for {NODES} agents: all have it after {elapsed:.1?}, the operator was busy {busy:.1?}");
    println!("refused meanwhile: {}", refused(operator));
    drop(agents);
}

/// Waits until so many updates are in the kernels of agents.
async fn settled(operator: &Operator, updates: u64) {
    let patience = Instant::now() + Duration::from_secs(120);
    while operator.metrics.acknowledged.get() < updates {
        assert!(
            Instant::now() < patience,
            "{} of {updates}: {}",
            operator.metrics.acknowledged.get(),
            refused(operator)
        );
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// How often who was refused why.
fn refused(operator: &Operator) -> String {
    let count = |why: Refusal| format!("{} {}", why.label(), operator.metrics.refused(why));
    let agents = format!("{} connected, {} agents", operator.metrics.connections.get(), operator.metrics.agents.get());
    Refusal::ALL.into_iter().map(count).chain([agents]).collect::<Vec<_>>().join(", ")
}
