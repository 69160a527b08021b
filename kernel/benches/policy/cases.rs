//! What is measured.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use towpath_kernel::policy::{Meanwhile, PolicyTable, Repair};
use towpath_net::policy::bind::LeaseChanges;

use crate::hand::{self, Dispatch};
use crate::place::Place;
use crate::scene::{Scene, local};
use crate::support::figures::{Sample, Series, measure};
use crate::support::table::{Report, Row, Verdict};

/// The policies, their peers, and how many ports the policies of one pod are for.
const POLICIES: usize = 10_000;
const PEERS: usize = 100_000;
const PORTS: usize = 20;
/// The policy whose peer is measured: that before which as many stand as behind it.
const MIDDLE: usize = POLICIES / 2;
/// How many connections, and how many changes, are measured in one round.
const CONNECTIONS: usize = 400;
const CHANGES: usize = 100;

/// The processor time of the calling thread, and the time that passed.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Sample) {
    let cpu = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap())
    };
    let (start, before) = (Instant::now(), cpu());
    let result = work();
    (result, Sample { wall: start.elapsed(), cpu: cpu().saturating_sub(before) })
}

fn load(table: &mut PolicyTable, scene: &Scene) {
    table.load(&scene.bundle, &scene.leases, Meanwhile::Closed).unwrap();
}

fn bar(report: &mut Report, what: &str, figure: f64, bar: f64, unit: &'static str) {
    report.verdicts.push(Verdict { what: what.into(), figure, bar, unit });
}

fn row(report: &mut Report, what: &str, series: &Series, count: u32) {
    report.rows.push(Row { what: what.into(), series: series.clone(), count });
}

/// All of it, in turn.
pub fn run(rounds: usize) -> Report {
    let mut report = Report::default();
    let resident = resident_kib();
    let scene = Scene::new(POLICIES, PEERS, PORTS);
    println!(
        "{} sets for {POLICIES} policies; the compiler and all it knows: {} MiB",
        scene.bundle.sets.len(),
        (resident_kib() - resident) / 1024
    );
    holder(&scene);
    cold(&mut report, &scene, rounds);
    first_packet(&mut report, &scene, rounds);
    pause(&mut report, &scene, rounds);
    drop(scene);
    changes(&mut report, rounds);
    report
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// What an agent keeps: the bundle, and what it knows of the kernel.
fn holder(scene: &Scene) {
    let before = resident_kib();
    let bundle = scene.bundle.clone();
    let with_bundle = resident_kib();
    let mut table = PolicyTable::open().unwrap();
    let written = table.load(&bundle, &scene.leases, Meanwhile::Closed).unwrap();
    let after = resident_kib();
    println!(
        "kept: {} KiB of bundle, {} KiB of the kernel's state and buffers; {written:?}",
        with_bundle - before,
        after.saturating_sub(with_bundle)
    );
    let mut other = PolicyTable::open().unwrap();
    let (found, took) = timed(|| other.repair(&bundle, &scene.leases).unwrap());
    assert_eq!(found, Repair::Nothing);
    println!(
        "read and compared, nothing written: {:.0} ms, {:.0} ms CPU",
        took.wall.as_secs_f64() * 1e3,
        took.cpu.as_secs_f64() * 1e3
    );
    table.remove().unwrap();
}

fn cold(report: &mut Report, scene: &Scene, rounds: usize) {
    let text = hand::text(&scene.policies, Dispatch::ByPod);
    let own_ports = Scene::new(POLICIES, PEERS, POLICIES);
    let (mut ours, mut apart, mut theirs) = (Series::default(), Series::default(), Series::default());
    for _ in 0..rounds {
        let mut table = PolicyTable::open().unwrap();
        ours.push(timed(|| load(&mut table, scene)).1);
        table.remove().unwrap();
        apart.push(timed(|| load(&mut table, &own_ports)).1);
        table.remove().unwrap();
        theirs.push(measure(|| hand::load(&text)).1);
        hand::load("delete table inet by-hand\n");
    }
    row(report, "cold: 10,000 policies, 100,000 peers, 110 pods", &ours, 1);
    row(report, "  the same, no two policies of a pod for one port", &apart, 1);
    row(report, "  nft -f, a chain for each policy", &theirs, 1);
    bar(report, "cold", ours.median().wall.as_secs_f64(), 1.0, " s");
    let ratio = ours.median().wall.as_secs_f64() / theirs.median().wall.as_secs_f64();
    bar(report, "cold against nft -f", ratio, 0.2, "x");
}

fn first_packet(report: &mut Report, scene: &Scene, rounds: usize) {
    let policy = scene.policies.get(MIDDLE).unwrap();
    let (pod, peer, port) = (local(policy.pod), *policy.peers.first().unwrap(), policy.port);
    let places = ["none", "policies", "linear"].map(|name| Place::new(name, pod, peer));
    let mut nothing = Scene::new(0, 0, 1);
    nothing.bundle.is_enforced = true;
    load(&mut places[0].table(), &nothing);
    load(&mut places[1].table(), scene);
    let text = hand::text(&scene.policies, Dispatch::Linear);
    places[2].inside(|| hand::load(&text));
    let mut all = [const { Vec::new() }; 3];
    // Without the first ones: neighbours are found, and caches filled.
    for round in 0..=rounds * 5 {
        for (place, times) in places.iter().zip(&mut all) {
            let took = place.connect(port, CONNECTIONS);
            if round > 0 {
                times.push(median(took));
            }
        }
    }
    let [none, ours, linear] = all.map(|times| series(&times));
    row(report, "connect: no policy", &none, 1);
    row(report, "  10,000 policies", &ours, 1);
    row(report, "  10,000 policies one after the other, by hand", &linear, 1);
    let ratio = |other: &Series| ours.median().wall.as_secs_f64() / other.median().wall.as_secs_f64();
    bar(report, "first packet against no policy", ratio(&none), 1.05, "x");
    bar(report, "first packet against linear rules", ratio(&linear), 0.45, "x");
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn series(times: &[Duration]) -> Series {
    let mut series = Series::default();
    for wall in times {
        series.push(Sample { wall: *wall, cpu: Duration::ZERO });
    }
    series
}

fn pause(report: &mut Report, scene: &Scene, rounds: usize) {
    let place = Place::new("paused", local(0), Ipv4Addr::new(10, 64, 0, 1));
    let mut open = Scene::new(0, 0, 1);
    open.bundle.is_enforced = true;
    let (mut busy, mut idle) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut table = place.table();
        load(&mut table, &open);
        let mut took = Duration::ZERO;
        busy.push(place.longest_pause(9, || took = timed(|| load(&mut table, scene)).1.wall));
        load(&mut table, &open);
        idle.push(place.longest_pause(9, || std::thread::sleep(took)));
    }
    row(report, "longest pause while policies are programmed", &series(&busy), 1);
    row(report, "  for as long without that", &series(&idle), 1);
    bar(report, "longest pause", median(busy).as_secs_f64() * 1e3, 2.0, " ms");
}

/// One pod of the cluster gets other labels: it goes from one set and comes to another.
fn changes(report: &mut Report, rounds: usize) {
    let mut sides = [1_000, PEERS].map(|peers| {
        let scene = Scene::new(POLICIES, peers, PORTS);
        let place = Place::new(if peers == PEERS { "many" } else { "few" }, local(0), Ipv4Addr::new(10, 64, 0, 1));
        let mut table = place.table();
        load(&mut table, &scene);
        (scene, table, Series::default())
    });
    for round in 0..rounds * CHANGES {
        for (scene, table, series) in &mut sides {
            let delta = scene.relabel(round % 500, round / 500 * 997 + round % 500 + 1);
            let ((), sample) = timed(|| {
                table.change(&scene.bundle, &delta, &LeaseChanges::new()).unwrap();
                scene.bundle.apply(delta).unwrap();
            });
            series.push(sample);
        }
    }
    let [few, many] = sides.map(|(_, _, series)| series);
    row(report, "one pod's labels change: 1,000 peers", &few, 1);
    row(report, "  100,000 peers", &many, 1);
    bar(report, "CPU of a change", many.median().cpu.as_secs_f64() * 1e6, 100.0, " us");
    let ratio = many.median().cpu.as_secs_f64() / few.median().cpu.as_secs_f64();
    bar(report, "CPU of a change, 100,000 peers against 1,000", ratio, 1.2, "x");
}
