//! The command line.

use std::io::IsTerminal;

use clap::{Parser, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Turns the `ClusterNetwork` and the Nodes of a cluster into one `NodeNetwork` per node.
#[derive(Clone, Debug, Parser)]
#[command(version, about)]
pub struct Args {
    /// The port of /healthz, /readyz and /metrics, on all addresses of the host.
    #[arg(long, default_value_t = 9470)]
    pub port: u16,

    /// The port that agents are served on, on all addresses of the host.
    #[arg(long, default_value_t = 9472)]
    pub control_port: u16,

    /// The namespace of the leader's lease and of the allocation lock: the operator's own.
    #[arg(long, env = "POD_NAMESPACE", default_value = "towpath-system")]
    pub namespace: String,

    /// What this replica calls itself in the lease and in events.
    #[arg(long, env = "POD_NAME", default_value = "towpath-operator")]
    pub identity: String,

    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// What is logged, as in info or `towpath_operator=debug,warn`.
    #[arg(long, env = "TOWPATH_LOG", default_value = "info")]
    pub log: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Args {
    /// Starts writing log lines to standard error; a second call is without effect.
    pub fn start_logging(&self) {
        let filter = EnvFilter::builder().parse_lossy(&self.log);
        let colours = std::io::stderr().is_terminal();
        let lines = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
        let started = match self.log_format {
            LogFormat::Text => lines.try_init(),
            LogFormat::Json => lines.json().flatten_event(true).try_init(),
        };
        if started.is_err() {
            tracing::debug!("logging was started before");
        }
    }
}
