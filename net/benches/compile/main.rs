//! What the compiler of policies costs for whole clusters, cold and per change, on one core.
//!
//! The program starts itself again for each cluster: the memory of one is not that of another. Ends with an error where a
//! bar is missed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark prints, and fails by panicking"
)]

mod changes;
mod clusters;
mod meter;

use std::collections::BTreeMap;
use std::env;
use std::process::{Command, ExitCode};

use clusters::Cluster;
use meter::{Meter, megabytes};
use towpath_net::policy::compile::Compiler;

/// Of CPU for a cold start of each cluster that has a bar.
const COLD_SECONDS: f64 = 1.0;
/// Resident, with every node subscribed.
const RESIDENT_MIB: f64 = 400.0;
/// For a change of one pod's labels, in the median.
const POD_CHANGE_MICROS: f64 = 50.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [name] = arguments.as_slice() {
        let cluster = Cluster::ALL.into_iter().find(|cluster| cluster.name() == name);
        return cluster.map_or(ExitCode::FAILURE, |cluster| ExitCode::from(u8::from(!measure(cluster))));
    }
    let is_met = Cluster::ALL.map(|cluster| {
        let program = env::current_exe().unwrap();
        Command::new(program).arg(cluster.name()).status().unwrap().success()
    });
    ExitCode::from(u8::from(is_met.contains(&false)))
}

/// Measures one cluster, and tells whether its bars are met.
fn measure(cluster: Cluster) -> bool {
    println!("{}: {}", cluster.name(), cluster.says());
    let mut compiler = Compiler::default();
    let mut cold: BTreeMap<&str, Meter> = BTreeMap::new();
    cluster.for_each_part(|kind, part| {
        cold.entry(kind).or_default().run(|| part.into_iter().for_each(|change| compiler.apply(change)));
    });
    cold.entry("what follows").or_default().run(|| drop(compiler.deltas()));
    let seconds = cold.values().map(Meter::seconds).sum::<f64>();
    let parts: Vec<String> = cold.iter().map(|(kind, meter)| format!("{kind} {:.3}", meter.seconds())).collect();
    println!("  cold: {seconds:.3} s of CPU ({}), {:.0} MiB resident", parts.join(", "), megabytes("VmRSS:"));
    let nodes = cluster.nodes();

    let (mut subscribe, mut sets, mut members) = (Meter::default(), 0, 0);
    for node in &nodes {
        let bundle = subscribe.run(|| compiler.subscribe(node));
        sets += bundle.sets.len();
        members += bundle.sets.values().map(towpath_net::policy::bundle::Members::len).sum::<usize>();
        subscribe.run(|| drop(bundle));
    }
    let resident = megabytes("VmRSS:");
    println!(
        "  {} nodes subscribed, with {sets} sets and {members} members in all: {:.3} s of CPU; {resident:.0} MiB resident, {:.0} MiB at most",
        nodes.len(),
        subscribe.seconds(),
        megabytes("VmHWM:")
    );
    let flip = changes::measure(&mut compiler, cluster);
    if !cluster.has_bars() {
        return true;
    }
    [
        ("CPU of a cold start, in s", seconds, COLD_SECONDS),
        ("resident memory, in MiB", resident, RESIDENT_MIB),
        ("a change of a pod's labels, in us", flip, POD_CHANGE_MICROS),
    ]
    .into_iter()
    .filter(|(what, figure, bar)| {
        let is_met = figure <= bar;
        println!("  {} {what}: {figure:.3}, at most {bar}", if is_met { "met:   " } else { "MISSED:" });
        !is_met
    })
    .count()
        == 0
}
