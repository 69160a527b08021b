//! What policies cost in the kernel of a node, against the same ones written by hand for `nft -f`: in turn, on one machine.

#![allow(clippy::unwrap_used, reason = "a benchmark ends where something fails")]

mod cases;
mod hand;
mod place;
mod scene;
#[path = "../../../e2e/benches/support/mod.rs"]
mod support;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(outcome) = towpath_kernel::testing::alone().unwrap() {
        return if outcome.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let rounds = std::env::args().find_map(|word| word.parse().ok()).unwrap_or(5);
    let report = cases::run(rounds);
    if support::table::print(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
