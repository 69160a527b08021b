//! How long it takes from a write of a policy at the API server until packets between pods of two nodes meet it, and the
//! same change made by `nft -f` on the node of the one that it concerns, in turn with it: in a lab of three nodes, with
//! Towpath as its users install it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(dead_code, reason = "what clusters and tables are made of is shared with what needs all of it")]

#[path = "../../tests/scenarios/audit.rs"]
mod audit;
#[path = "../../tests/scenarios/cluster.rs"]
mod cluster;
mod figures;
mod hand;
mod place;
mod policies;
mod probe;
mod rounds;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use clap::Parser;

/// What the caller chooses.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often a policy is changed each way, idle and among other changes.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(10..))]
    rounds: u32,
    /// How many other policies are changed a second in the second half.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    others: u32,
    /// A lab that is up, with Towpath ready in it, in place of one that ends with this.
    #[arg(long)]
    lab: Option<String>,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let place = place::Place::make(arguments.lab.as_deref());
    let idle = rounds::measure(&place, arguments.rounds, None);
    let busy = rounds::measure(&place, arguments.rounds, Some(arguments.others));
    place.clear();
    if figures::print(&idle, &busy) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
