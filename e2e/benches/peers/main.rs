//! What many peers cost: the agent against `ip -batch` and `bridge -batch` of the same objects, and against one gateway per
//! route as flannel has it.
//!
//! The program starts itself again in network, mount and process namespaces, and for each measurement in one more network
//! namespace: all of it ends with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod agent;
mod batch;
mod cases;
mod cluster;

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::{Parser, ValueEnum};
use support::table;

/// What the caller chooses.
#[derive(Debug, Clone, Parser)]
pub struct Arguments {
    /// The agent, as it is shipped.
    #[arg(long)]
    agent: PathBuf,
    /// How often one thing is measured after the other.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(3..))]
    rounds: u32,
    /// For how many seconds an agent is left alone to see what it does then.
    #[arg(long, default_value_t = 120)]
    idle: u64,
    /// What alone to measure, with what it is compared to.
    #[arg(long)]
    only: Option<Case>,
    /// What to measure, given by the program to itself.
    #[arg(long, hide = true)]
    measure: Option<Case>,
    /// With how many peers, given by the program to itself.
    #[arg(long, hide = true, default_value_t = 0)]
    peers: u32,
    /// That it is inside its namespaces, given by the program to itself.
    #[arg(long, hide = true)]
    inside: bool,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured, each in a network namespace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// The agent on a node without anything of it.
    Cold,
    /// The agent on a node that has everything.
    Restart,
    /// `ip -batch` and `bridge -batch`, with nexthop objects.
    Floor,
    /// The same with one gateway per route.
    Gateways,
    /// One peer more, memory, and what an agent does that has nothing to do.
    Running,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(case) = arguments.measure {
        cases::measure(case, &arguments);
        return ExitCode::SUCCESS;
    }
    if arguments.inside {
        let report = cases::all(&arguments);
        return if table::print(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    assert!(rustix::process::geteuid().is_root(), "network namespaces are made by root: run this as root");
    let agent = match arguments.agent.canonicalize() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("error: --agent {}: {error}", arguments.agent.display());
            return ExitCode::FAILURE;
        }
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg("--").arg(env::current_exe().unwrap()).arg("--inside").arg("--agent").arg(agent);
    command.args(["--rounds", &arguments.rounds.to_string(), "--idle", &arguments.idle.to_string()]);
    let only = arguments.only.and_then(|case| case.to_possible_value());
    command.args(only.iter().flat_map(|case| ["--only", case.get_name()]));
    if command.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
