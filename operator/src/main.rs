//! `towpath-operator`: see the library.

use clap::Parser;
use towpath_operator::args::Args;
use towpath_operator::run::run;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    args.start_logging();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(run(args))?)
}
