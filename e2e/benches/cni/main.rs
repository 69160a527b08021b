//! How long the CNI binary takes, against the reference plugins: both run in turn, in the same run, on nodes that are
//! network namespaces of their own.
//!
//! The program starts itself again in network, mount and process namespaces, in which all of it ends with it.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod cases;
mod chain;
mod node;
mod pods;

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Parser;
use towpath_e2e::{binaries::Binaries, progress::Progress};

/// What the caller chooses.
#[derive(Debug, Parser)]
struct Arguments {
    /// The CNI binary, as it is shipped.
    #[arg(long)]
    towpath: PathBuf,
    /// How often one thing is measured after the other.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(5..))]
    rounds: u32,
    /// The folder of the reference plugins; given by the program to itself.
    #[arg(long, hide = true)]
    plugins: Option<PathBuf>,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let progress = Progress::shown();
    match &arguments.plugins {
        None => outside(&arguments, &progress),
        Some(plugins) => {
            node::prepare_host();
            let bench = cases::Bench::new(&arguments.towpath, plugins, arguments.rounds, &progress);
            if support::table::print(&bench.run()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    }
}

/// Builds what is missing, with the caller's network, and then goes on in namespaces.
fn outside(arguments: &Arguments, progress: &Progress) -> ExitCode {
    assert!(rustix::process::geteuid().is_root(), "network namespaces are made by root: run this as root");
    let plugins = match Binaries::plugins(progress) {
        Ok(folder) => folder,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let towpath = match arguments.towpath.canonicalize() {
        Ok(path) => path,
        Err(error) => {
            eprintln!("error: --towpath {}: {error}", arguments.towpath.display());
            return ExitCode::FAILURE;
        }
    };
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg("--").arg(env::current_exe().unwrap()).arg("--towpath").arg(towpath).arg("--plugins").arg(plugins);
    command.arg("--rounds").arg(arguments.rounds.to_string());
    if command.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
