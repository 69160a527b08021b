//! What is done, in which order, and what the bars are.

use std::{
    collections::BTreeMap,
    env,
    process::Command,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::{
    Arguments, Case,
    agent::{Ground, add_peer},
    batch::{Shape, program},
    cluster::Node,
    support::{
        figures::{Sample, Series},
        table::{Report, Row, Verdict},
    },
};

/// The sizes that are measured.
const SIZES: [u32; 2] = [5_000, 20_000];
/// The size at which everything else is.
const MANY: u32 = SIZES[0];
/// How many peers are added one by one.
const ADDED: u32 = 50;

/// What a measurement tells the program that started it.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Told {
    wall: Duration,
    cpu: Duration,
    /// From a peer's file to its route.
    added: Vec<Duration>,
    resident: u64,
    writes: u64,
    idle_cpu: Duration,
    idle: Duration,
}

/// Measures one thing in this network namespace, and prints what came out.
pub fn measure(case: Case, arguments: &Arguments) {
    let folder = tempfile::tempdir_in("/run").unwrap();
    let ground = Ground::new(folder.path(), &arguments.agent);
    let of = |sample: Sample| Told { wall: sample.wall, cpu: sample.cpu, ..Told::default() };
    let told = match case {
        Case::Floor => of(program(folder.path(), arguments.peers, Shape::Nexthops)),
        Case::Gateways => of(program(folder.path(), arguments.peers, Shape::Gateways)),
        Case::Cold => of(ground.once(&ground.write_file(arguments.peers))),
        Case::Restart => {
            let state = ground.write_file(arguments.peers);
            ground.start(&state).end();
            let restarted = ground.once(&state);
            let again = ground.start(&state);
            let writes = again.writes();
            again.end();
            Told { writes, ..of(restarted) }
        }
        Case::Running => run(&ground, arguments),
    };
    println!("{}", serde_json::to_string(&told).unwrap());
}

fn run(ground: &Ground, arguments: &Arguments) -> Told {
    let folder = ground.write_folder(arguments.peers);
    let agent = ground.start(&folder);
    let added = (1..=ADDED).map(|more| {
        agent.has_written();
        add_peer(&folder, Node(arguments.peers + more))
    });
    let added = added.collect();
    // What it still has to do for the peers that came is not idleness.
    agent.settles();
    let (before, start) = (agent.cpu(), Instant::now());
    agent.runs_for(Duration::from_secs(arguments.idle));
    let told = Told {
        added,
        resident: agent.resident(),
        idle_cpu: agent.cpu().saturating_sub(before),
        idle: start.elapsed(),
        ..Told::default()
    };
    agent.end();
    told
}

/// Has one thing measured in a network namespace of its own.
fn measured(case: Case, peers: u32, arguments: &Arguments) -> Told {
    let name = clap::ValueEnum::to_possible_value(&case).unwrap();
    let mut command = Command::new("unshare");
    command.arg("--net").arg(env::current_exe().unwrap()).arg("--agent").arg(&arguments.agent);
    command.args(["--measure", name.get_name(), "--peers", &peers.to_string(), "--idle", &arguments.idle.to_string()]);
    let output = command.stderr(std::process::Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{case:?} with {peers} peers failed");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Measures everything, or what alone is asked for.
pub fn all(arguments: &Arguments) -> Report {
    let mut report = Report::default();
    let asked = |cases: &[Case]| arguments.only.is_none_or(|only| cases.contains(&only));
    if asked(&[Case::Floor, Case::Cold, Case::Gateways]) {
        cold(arguments, &mut report);
    }
    if asked(&[Case::Restart]) {
        restart(arguments, &mut report);
    }
    if asked(&[Case::Running]) {
        running(arguments, &mut report);
    }
    report
}

/// From nothing, each thing in turn with what it is compared to.
fn cold(arguments: &Arguments, report: &mut Report) {
    let mut series: BTreeMap<(u32, &str), Series> = BTreeMap::new();
    let cases = [(Case::Floor, FLOOR), (Case::Cold, AGENT), (Case::Gateways, GATEWAYS)];
    for round in 0..arguments.rounds {
        for peers in SIZES {
            // Whoever comes first in one round comes last in the next.
            let order: Vec<_> = if round % 2 == 0 { cases.to_vec() } else { cases.iter().rev().copied().collect() };
            for (case, name) in order {
                eprintln!("round {} of {}: {peers} peers, {name}", round + 1, arguments.rounds);
                let told = measured(case, peers, arguments);
                series.entry((peers, name)).or_default().push(Sample { wall: told.wall, cpu: told.cpu });
            }
        }
    }
    let cpu = |peers, name| series[&(peers, name)].median().cpu.as_secs_f64();
    for peers in SIZES {
        let what = format!("{peers} peers from nothing, CPU against ip -batch and bridge -batch");
        report.verdicts.push(Verdict { what, figure: cpu(peers, AGENT) / cpu(peers, FLOOR), bar: 1.3, unit: "x" });
    }
    let growth = cpu(SIZES[1], AGENT) / cpu(SIZES[0], AGENT) / (f64::from(SIZES[1]) / f64::from(SIZES[0]));
    let what = "growth of CPU for each peer, from the smaller to the larger".to_owned();
    report.verdicts.push(Verdict { what, figure: growth, bar: 1.2, unit: "x" });
    for ((peers, name), series) in series {
        report.rows.push(Row { what: format!("{peers} peers from nothing: {name}"), series, count: peers });
    }
}

const FLOOR: &str = "ip -batch, nexthop objects";
const AGENT: &str = "the agent";
const GATEWAYS: &str = "ip -batch, a gateway per route";

fn restart(arguments: &Arguments, report: &mut Report) {
    let mut series = Series::default();
    let mut writes = 0;
    for round in 1..=arguments.rounds {
        eprintln!("round {round} of {}: {MANY} peers, an agent that starts again", arguments.rounds);
        let told = measured(Case::Restart, MANY, arguments);
        writes = writes.max(told.writes);
        series.push(Sample { wall: told.wall, cpu: told.cpu });
    }
    let bar = |what: &str, figure, bar, unit| Verdict { what: format!("{MANY} peers, {what}"), figure, bar, unit };
    let work = series.median().cpu.as_secs_f64() * 1000.0;
    report.verdicts.push(bar("an agent that starts again", work, 50.0, " ms of CPU"));
    #[expect(clippy::cast_precision_loss, reason = "few")]
    report.verdicts.push(bar("what it writes", writes as f64, 0.0, " writes"));
    report.rows.push(Row { what: format!("{MANY} peers: start again"), series, count: MANY });
}

fn running(arguments: &Arguments, report: &mut Report) {
    eprintln!("{MANY} peers, one more, and an agent that is left alone for {} s", arguments.idle);
    let told = measured(Case::Running, MANY, arguments);
    let mut series = Series::default();
    told.added.iter().for_each(|wall| series.push(Sample { wall: *wall, cpu: Duration::ZERO }));
    let bar = |what: &str, figure, bar, unit| Verdict { what: format!("{MANY} peers, {what}"), figure, bar, unit };
    let one = series.median().wall.as_secs_f64() * 1000.0;
    report.verdicts.push(bar("one more, from its file to its route", one, 1.0, " ms"));
    #[expect(clippy::cast_precision_loss, reason = "below the 2^53 bytes that are exact")]
    report.verdicts.push(bar("resident", told.resident as f64 / f64::from(1 << 20), 15.0, " MiB"));
    let idle = told.idle_cpu.as_secs_f64() / told.idle.as_secs_f64() * 100.0;
    report.verdicts.push(bar("nothing to do", idle, 0.1, " % of a core"));
    report.rows.push(Row { what: format!("{MANY} peers: one more"), series, count: 1 });
}
