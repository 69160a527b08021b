//! The command `lab`.

use std::{io::IsTerminal as _, process::ExitCode};

use clap::Parser as _;
use towpath_e2e::command::Command;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    logging();
    Command::parse().run().unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// What the API client makes of a server that is not up yet is for the caller to judge, not for the log.
fn logging() {
    let fallback = EnvFilter::new("info,kube_client=off");
    let filter = EnvFilter::try_from_default_env().unwrap_or(fallback);
    let terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal).init();
}
