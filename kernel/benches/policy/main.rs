//! What policies cost in the kernel of a node, against the same ones written by hand for `nft -f`: in turn, on one machine.

#![allow(clippy::unwrap_used, reason = "a benchmark ends where something fails")]

mod cases;
mod hand;
mod place;
mod scene;
#[path = "../../../e2e/benches/support/mod.rs"]
mod support;

use std::process::{Command, ExitCode};

/// Tells the inner process that it is inside.
const INSIDE: &str = "TOWPATH_POLICY_BENCH_INSIDE";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let rounds = words.iter().find_map(|word| word.parse().ok()).unwrap_or(5);
    if std::env::var_os(INSIDE).is_none() {
        return again(rounds);
    }
    prepare();
    let report = cases::run(rounds);
    if support::table::print(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// In namespaces that end with it.
fn again(rounds: usize) -> ExitCode {
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--mount",
        "--propagation",
        "private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--",
    ]);
    command.arg(std::env::current_exe().unwrap()).arg(rounds.to_string()).env(INSIDE, "1");
    if command.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn prepare() {
    use rustix::mount::{MountFlags, mount};
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=0755")).unwrap();
    std::fs::create_dir("/run/netns").unwrap();
}
