//! How much a connection between pods carries, against pairs of links and a tunnel that were made by hand, in turn.
//!
//! The program starts itself again in network, mount and process namespaces: all of it ends with it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a benchmark fails by panicking")]
#![allow(dead_code, reason = "what nodes are made of is shared with tests that need all of it")]

#[path = "../../tests/guest/ground.rs"]
mod ground;
mod hand;
mod link;
#[path = "../../tests/guest/network.rs"]
mod network;
#[path = "../../tests/guest/node.rs"]
mod node;

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use clap::Parser;
use link::Carried;
use network::Network;
use node::Setting;
use towpath_net::transport::{Transport, Transports};

/// What the namespaces need before anything runs in them.
const PREPARE: &str = "mount -t tmpfs -o mode=0755 tmpfs /run && mkdir /run/netns && ip link set lo up";
/// The least share of what was made by hand.
const BAR: f64 = 0.97;

/// What the caller chooses.
#[derive(Debug, Parser)]
struct Arguments {
    /// The agent, as it is shipped.
    #[arg(long)]
    agent: PathBuf,
    /// The CNI binary, as it is shipped.
    #[arg(long)]
    cni: PathBuf,
    /// How often one thing is measured after the other.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(20..))]
    rounds: u32,
    /// That it is inside its namespaces, given by the program to itself.
    #[arg(long, hide = true)]
    inside: bool,
    /// Given by `cargo bench`; changes nothing.
    #[arg(long, hide = true)]
    bench: bool,
}

/// From one pod to another, as Towpath and as hands made it.
struct Case<'a> {
    what: &'static str,
    ours: link::Path<'a>,
    theirs: link::Path<'a>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.inside {
        return if measure(arguments.rounds) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    assert!(rustix::process::geteuid().is_root(), "network namespaces are made by root: run this as root");
    let own = env::current_exe().unwrap();
    let [agent, cni] = [&arguments.agent, &arguments.cni].map(|path| match path.canonicalize() {
        Ok(path) => path,
        Err(error) => panic!("{}: {error}", path.display()),
    });
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.args(["sh", "-c", &format!("{PREPARE} && exec \"$@\"")]).arg("sh").arg(own).arg("--inside");
    command.arg("--agent").arg(&agent).arg("--cni").arg(&cni).args(["--rounds", &arguments.rounds.to_string()]);
    command.env("TOWPATH_AGENT", agent).env("TOWPATH_CNI", cni);
    if command.status().unwrap().success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn setting(transport: Transport) -> Setting {
    Setting { families: [true, false], ..Setting::of_transport(Transports::only(transport)) }
}

fn measure(rounds: u32) -> bool {
    let network = Network::make();
    network.start();
    let hands = hand::Nodes::make(&network.wire);
    let [n1, n2] = [&network.nodes[0], &network.nodes[1]];
    network.settle(&setting(Transport::Direct));
    let [near, far, across] = [n1.attach("near"), n1.attach("far"), n2.attach("across")];
    let cases = [
        Case {
            what: "same node",
            ours: link::Path { from: &near.ground, to: &far.ground, address: far.addresses.v4.unwrap() },
            theirs: hands.near(),
        },
        Case {
            what: "two nodes, Direct",
            ours: link::Path { from: &near.ground, to: &across.ground, address: across.addresses.v4.unwrap() },
            theirs: hands.direct(),
        },
    ];
    let direct = cases.iter().map(|case| compare(case, rounds)).collect::<Vec<_>>();
    network.settle(&setting(Transport::Vxlan));
    hands.wrap();
    let [from, to] = [n1.attach("from"), n2.attach("to")];
    let case = Case {
        what: "two nodes, VXLAN",
        ours: link::Path { from: &from.ground, to: &to.ground, address: to.addresses.v4.unwrap() },
        theirs: hands.wrapped(),
    };
    compare(&case, rounds) && direct.into_iter().all(|met| met)
}

/// Measures both in turn, whoever is first in one round last in the next; tells whether the bar is met. Shares are medians
/// of those of the rounds.
fn compare(case: &Case<'_>, rounds: u32) -> bool {
    let pairs = (0..rounds).map(|round| {
        if round % 2 == 0 {
            let ours = case.ours.carry();
            (ours, case.theirs.carry())
        } else {
            let theirs = case.theirs.carry();
            (case.ours.carry(), theirs)
        }
    });
    let pairs: Vec<(Carried, Carried)> = pairs.collect();
    let figures = |of: fn(&(Carried, Carried)) -> f64| {
        let mut all: Vec<f64> = pairs.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (all[all.len() / 2], all[all.len() - 1])
    };
    let (ours, our_best) = figures(|pair| pair.0.rate);
    let (theirs, their_best) = figures(|pair| pair.1.rate);
    let (share, _) = figures(|pair| pair.0.rate / pair.1.rate);
    let (cost, _) = figures(|pair| pair.0.cost / pair.1.cost);
    let outcome = if share >= BAR { "met   " } else { "MISSED" };
    println!(
        "{outcome}  {}: {ours:.2} Gbit/s (best {our_best:.2}) against {theirs:.2} (best {their_best:.2}) by hand: \
         {share:.3}x, the bar is {BAR}x; the processors' time for as much: {cost:.3}x",
        case.what
    );
    share >= BAR
}
