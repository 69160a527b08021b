//! The node agent's command line.

use anyhow::Context as _;
use clap::Parser as _;
use tikv_jemallocator::Jemalloc;
use towpath_node_agent::args::{Action, Command, LogFormat};
use towpath_node_agent::command::execute;
use tracing_subscriber::EnvFilter;

/// It gives back what a turn took, some seconds later: that of the C library keeps it for as long as anything behind it is
/// in use.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    let format = match &command.action {
        Action::Run(run) => run.log_format,
        Action::Plan(_) | Action::Dump(_) => LogFormat::Text,
    };
    start_log(format);
    // The kernel has a thread of its own; all else waits for others most of the time.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start")?;
    runtime.block_on(execute(command.action)).context("towpath-agent")
}

/// To standard error, so that what a subcommand prints can be piped.
fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn,towpath_node_agent=info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_ansi(false).init(),
        LogFormat::Json => log.json().init(),
    }
}
