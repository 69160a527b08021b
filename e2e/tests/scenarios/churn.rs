//! Pods that come and go: nothing is left of them, on no node and in no program's memory.

use std::fs;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::crowd::{Crowd, traces};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// How many pods are made at once first.
const BURST: usize = 200;
/// How many each later round makes.
const ROUND: usize = 100;
/// How many there are in all, unless [`TOTAL_VARIABLE`] says otherwise.
const TOTAL: usize = BURST + ROUND;
/// Names how many pods there are to be in all, as in 2000: the long run.
const TOTAL_VARIABLE: &str = "TOWPATH_CHURN";
/// How much the memory of a program may grow over the whole run, in kB: what an allocator does not give back at once.
const GROWTH: f64 = 2048.0;

/// A program, and how much memory it had after each round, in kB.
struct Program {
    name: String,
    pid: u32,
    samples: Vec<(f64, f64)>,
}

impl Program {
    fn all(cluster: &Cluster) -> Vec<Self> {
        let of = |node: &str, program: &str| {
            let pid = cluster.pid_of(node, program)?;
            Some(Self { name: format!("{program} of {node}"), pid, samples: Vec::new() })
        };
        NODES
            .iter()
            .flat_map(|node| ["towpath-agent", "towpath-operator"].map(|program| of(node, program)))
            .flatten()
            .collect()
    }

    fn sample(&mut self, pods: usize) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid));
        let status = status.unwrap_or_else(|error| panic!("{} has ended: {error}", self.name));
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let memory: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        self.samples.push((f64::from(u32::try_from(pods).unwrap()), memory));
    }

    /// By how much it grew from the first sample to the last, as the line of least squares has it.
    fn growth(&self) -> f64 {
        let number = f64::from(u32::try_from(self.samples.len()).unwrap());
        let mean = |of: fn(&(f64, f64)) -> f64| self.samples.iter().map(of).sum::<f64>() / number;
        let (x, y) = (mean(|sample| sample.0), mean(|sample| sample.1));
        let spread: f64 = self.samples.iter().map(|sample| (sample.0 - x).powi(2)).sum();
        let slope = self.samples.iter().map(|sample| (sample.0 - x) * (sample.1 - y)).sum::<f64>() / spread;
        slope * (self.samples.last().unwrap().0 - self.samples[0].0)
    }
}

fn sample_all(programs: &mut [Program], pods: usize) {
    for program in programs {
        program.sample(pods);
    }
}

fn all_traces(cluster: &Cluster) -> [String; 3] {
    NODES.map(|node| traces(cluster, node))
}

fn wait_for_no_trace(cluster: &Cluster, before: &[String; 3]) {
    cluster.wait_for("the end of every trace", Duration::from_secs(120), || {
        let now = all_traces(cluster);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let differ = now.iter().zip(before).find(|(now, then)| now != then);
        differ.map_or(Ok(()), |(now, then)| {
            let then = lines(then);
            Err(format!("{:#?}", lines(now).into_iter().filter(|line| !then.contains(line)).collect::<Vec<_>>()))
        })
    });
}

#[test]
fn two_hundred_pods_at_once_run_answer_and_leave_nothing_however_often() {
    let cluster = Cluster::up("churn");
    cluster.kubectl("-n kube-system rollout status deployment coredns --timeout=180s");
    let before = all_traces(&cluster);
    let (crowd, took) = Crowd::start(&cluster, "burst", BURST, &NODES);
    println!("{BURST} pods ran within {took:?}");
    crowd.all_answer("n1");
    crowd.end();
    wait_for_no_trace(&cluster, &before);

    let total = std::env::var(TOTAL_VARIABLE).map_or(TOTAL, |text| text.parse().expect("a number of pods"));
    let mut programs = Program::all(&cluster);
    assert!(programs.len() > NODES.len(), "an agent on each node, and an operator");
    sample_all(&mut programs, BURST);
    let mut pods = BURST;
    while pods < total {
        let (crowd, _) = Crowd::start(&cluster, "round", ROUND, &NODES);
        crowd.end();
        pods += ROUND;
        wait_for_no_trace(&cluster, &before);
        sample_all(&mut programs, pods);
    }
    for program in &programs {
        let samples: Vec<f64> = program.samples.iter().map(|sample| sample.1).collect();
        println!("{}: {samples:?} kB after {pods} pods, growth {:.0} kB", program.name, program.growth());
    }
    for program in &programs {
        assert!(program.growth() < GROWTH, "{} grew by {:.0} kB", program.name, program.growth());
    }
}
