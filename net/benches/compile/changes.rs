//! What one change costs when every node is subscribed: taking it in, and finding what each node must be told.

use std::time::Instant;

use towpath_net::policy::compile::{Change, Compiler};
use towpath_net::policy::input::Selector;

use crate::clusters::{Cluster, namespace};

/// How often each is measured.
const ROUNDS: u32 = 1_000;

/// Prints what several changes cost, and gives the median of a change of one pod's labels, in microseconds.
pub fn measure(compiler: &mut Compiler, cluster: Cluster) -> f64 {
    let some = |round: u32| {
        if cluster == Cluster::One { cluster.pod(0, round) } else { cluster.pod(round * 7 % 9_000, round % 4) }
    };
    let flip = run(compiler, "a pod's labels, to ones that other policies select", |round| {
        let mut pod = some(round);
        let other = if cluster == Cluster::Small { ("app-1", "scale-2") } else { ("app", "other") };
        pod.labels.insert(other.0.into(), other.1.into());
        (Change::Pod(pod), Change::Pod(some(round)))
    });
    run(compiler, "a pod's address", |round| {
        let mut pod = some(round);
        pod.addresses = vec!["10.255.0.1".parse().unwrap()];
        (Change::Pod(pod), Change::Pod(some(round)))
    });
    run(compiler, "a pod that goes", |round| (Change::PodGone(some(round).key), Change::Pod(some(round))));
    run(compiler, "a pod of which nothing is new", |round| (Change::Pod(some(round)), Change::Pod(some(round))));
    if cluster.has_bars() {
        run(compiler, "a policy, to another selector", |round| {
            let mut policy = cluster.policy(round * 7, 0);
            policy.pods = Selector::default();
            policy.pods.labels.insert("app".into(), "db".into());
            (Change::Policy(policy), Change::Policy(cluster.policy(round * 7, 0)))
        });
        run(compiler, "a namespace's labels", |round| {
            let mut other = namespace(round * 7);
            other.labels.insert("team".into(), "team-1".into());
            (Change::Namespace(other), Change::Namespace(namespace(round * 7)))
        });
    }
    flip
}

/// The time of one change there and one back, in the median of all.
fn run(compiler: &mut Compiler, what: &str, change: impl Fn(u32) -> (Change, Change)) -> f64 {
    let (mut times, mut told) = (Vec::new(), 0);
    for round in 0..ROUNDS {
        let (there, back) = change(round);
        for change in [there, back] {
            let start = Instant::now();
            compiler.apply(change);
            let deltas = compiler.deltas();
            times.push(start.elapsed().as_secs_f64() * 1e6);
            told += deltas.len();
        }
    }
    times.sort_by(f64::total_cmp);
    let at = |part: usize| times[times.len() * part / 100];
    println!(
        "  {what}: {:.1} us in the median, {:.1} us at least, {:.1} us in 99 of 100; {:.1} nodes told",
        at(50),
        times[0],
        at(99),
        f64::from(u32::try_from(told).unwrap()) / f64::from(2 * ROUNDS)
    );
    at(50)
}
