//! The binary, and the agent's sweep, killed at every one of their system calls in turn.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod ground;
#[macro_use]
#[path = "../support/mod.rs"]
mod support;
mod tracer;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use ground::{Ground, Verb, bind, netns, remove_netns, wait_for_links};
use serde_json::{Value, json};
use support::{Call, STATE, config, config_with_ports, node, node_json, node_of, table, write_node_json};
use towpath_kernel::leases::Store;
use towpath_kernel::netlink::{Protocol, Socket};
use towpath_kernel::release::{Sight, sweep_node};
use towpath_kernel::testing::isolated;
use towpath_net::PerFamily;
use towpath_net::lease::host_interface;
use towpath_net::state::Attachment;
use towpath_net::sweep::Scope;
use tracer::Run;

const DUAL: [&str; 2] = ["10.244.0.0/20", "fd00:10:244:1::/64"];
/// Attachments that are killed before the node is swept once.
const BATCH: usize = 24;
/// Where the host ports of heirs begin.
const HEIR: usize = 5000;
/// No verb makes so many system calls.
const MOST_CALLS: usize = 3000;

/// A configuration with two host ports that no other number has.
fn ports(number: usize) -> Value {
    config_with_ports(&json!([
        {"hostPort": 10_000 + number, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 10_000 + number, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.1"},
    ]))
}

fn begin(mode: Attachment) -> (Ground, BTreeSet<String>) {
    node_of(mode, &DUAL);
    table();
    let mut ground = Ground::new();
    let before = ground.traces();
    (ground, before)
}

fn addresses(result: &Value) -> Vec<IpAddr> {
    let texts = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap());
    texts.map(|text| text.split('/').next().unwrap().parse().unwrap()).collect()
}

/// A pod that was attached while what a dead process left was there.
struct Witness {
    name: String,
    config: Value,
}

impl Witness {
    /// Attaches it: it must get addresses that the node has for nobody else, and the ports where nobody has them.
    fn attach(ground: &mut Ground, name: String, number: usize, what: &str) -> Self {
        let (held, routed) = (ground.holders(), ground.routed());
        let (path, mut asked) = (netns(&name), ports(number));
        let mut answer = Call::of("ADD", &name, &path).config(&asked).run();
        if answer.document["code"] == 103 {
            asked = config();
            answer = Call::of("ADD", &name, &path).config(&asked).run();
        }
        assert_eq!(answer.status, 0, "{what}: {answer:?}");
        for address in addresses(&answer.document) {
            assert_eq!(held.get(&address), None, "{what}: {address} is given again, though it has a lease");
            assert_eq!(routed.get(&address), None, "{what}: {address} is given again, though a route leads to it");
        }
        asked["prevResult"] = answer.document;
        Self { name, config: asked }
    }

    /// It must still have all that it got.
    fn detach(self, what: &str) {
        let path = format!("/run/netns/{}", self.name);
        let answer = Call::of("CHECK", &self.name, &path).config(&self.config).run();
        assert_eq!(answer.status, 0, "{what}: {} lost something: {answer:?}", self.name);
        detach(&self.name, &self.config);
        remove_netns(&self.name);
    }
}

fn detach(name: &str, config: &Value) {
    Call::of("DEL", name, &format!("/run/netns/{name}")).config(config).succeed();
}

/// Kills at each call in turn, until the victim ends by itself; returns how many calls it makes.
fn at_each_call(kill: impl FnMut(usize) -> Run) -> usize {
    let run = (0..MOST_CALLS).map(kill).find(|run| run.status.is_some()).unwrap();
    assert_eq!(run.status, Some(0), "{run:?}");
    run.calls
}

fn add_is_killed_and_swept(mode: Attachment) {
    let (mut ground, before) = begin(mode);
    let mut batch: Vec<(usize, String, Witness)> = Vec::new();
    let mut sights = [Sight::Own, Sight::Runtime].into_iter().cycle();
    let calls = at_each_call(|at| {
        let pod = format!("p{at}");
        let run = Verb::of("ADD", &pod, &netns(&pod), &ports(at)).killed_at(at);
        let what = format!("ADD killed at call {at} ({})", run.last.trim());
        let witness = Witness::attach(&mut ground, format!("w{at}"), at, &what);
        batch.push((at, what, witness));
        if batch.len() == BATCH || run.status.is_some() {
            end_batch(&mut ground, std::mem::take(&mut batch), sights.next().unwrap());
            ground.assert_traces(&before, &format!("ADD killed at calls up to {at}"));
        }
        run
    });
    println!("ADD makes {calls} system calls");
}
in_every_mode!(what_an_add_leaves_that_is_killed_at_any_system_call_is_swept, "", add_is_killed_and_swept);

/// Sweeps what is left of pods whose namespaces go, and ends those that live.
fn end_batch(ground: &mut Ground, batch: Vec<(usize, String, Witness)>, sight: Sight) {
    for (number, ..) in &batch {
        remove_netns(&format!("p{number}"));
    }
    if sight == Sight::Own {
        wait_for_links(&batch.iter().map(|(_, _, witness)| host_interface(&witness.name, "eth0")).collect());
    }
    ground.sweep(sight);
    assert_eq!(ground.holders().len(), 2 * batch.len(), "pods that live keep what they have");
    for (_, what, witness) in batch {
        witness.detach(&what);
    }
}

fn is_killed_and_detached(mode: Attachment) {
    let (mut ground, before) = begin(mode);
    let path = netns("pod");
    let mut ended = false;
    let calls = at_each_call(|at| {
        let config = ports(at);
        let run = Verb::of("ADD", "pod", &path, &config).killed_at(at);
        detach("pod", &config);
        // What was being written aside is not looked for on the way: a sweep finds it.
        ground.sweep(Sight::Runtime);
        ground.assert_traces(&before, &format!("ADD killed at call {at} ({})", run.last.trim()));
        let given = addresses(&Call::of("ADD", "pod", &path).config(&config).succeed().document);
        if !ended {
            let run = Verb::of("DEL", "pod", &path, &config).killed_at(at);
            ended = run.status.is_some();
            let what = format!("DEL killed at call {at} ({})", run.last.trim());
            is_free_only_without_link(&mut ground, &given, &what);
            let heir = inherit(&given, at);
            detach("pod", &config);
            if let Some(heir) = heir {
                heir.detach(&what);
            }
        }
        detach("pod", &config);
        ground.assert_traces(&before, &format!("DEL killed at call {at}"));
        run
    });
    assert!(ended, "DEL makes more than the {calls} system calls of ADD");
}
in_every_mode!(
    a_pod_whose_add_or_detach_is_killed_at_any_system_call_is_detached_and_attached_anew,
    "",
    is_killed_and_detached
);

/// Attaches another pod that asks for the addresses of one whose end was begun; nothing where they are still taken.
fn inherit(given: &[IpAddr], number: usize) -> Option<Witness> {
    let mut config = ports(HEIR + number);
    config["runtimeConfig"]["ips"] = json!(given);
    let answer = Call::of("ADD", "heir", &netns("heir")).config(&config).run();
    if answer.status != 0 {
        assert_eq!(answer.document["code"], 106, "{answer:?}");
        remove_netns("heir");
        return None;
    }
    assert_eq!(addresses(&answer.document), given);
    config["prevResult"] = answer.document;
    Some(Witness { name: "heir".to_owned(), config })
}

/// The address of a pod is another's to have only once nothing leads to the pod any more.
fn is_free_only_without_link(ground: &mut Ground, given: &[IpAddr], what: &str) {
    let (held, linked) = (ground.holders(), !ground.links().is_empty());
    for address in given {
        assert!(held.contains_key(address) || !linked, "{what}: {address} has no lease, but its link is there");
    }
}

fn detach_is_killed_and_swept(mode: Attachment) {
    let (mut ground, before) = begin(mode);
    let path = netns("pod");
    at_each_call(|at| {
        let visible = bind(&path, "now");
        Call::of("ADD", "pod", &visible).config(&ports(at)).succeed();
        let run = Verb::of("DEL", "pod", &visible, &ports(at)).killed_at(at);
        let what = format!("DEL killed at call {at} ({})", run.last.trim());
        remove_netns("now");
        ground.sweep(Sight::Runtime);
        ground.assert_traces(&before, &what);
        run
    });
}
in_every_mode!(what_a_detach_leaves_that_is_killed_at_any_system_call_is_swept, "", detach_is_killed_and_swept);

/// Attaches two pods whose namespaces are then out of sight, one of them with host ports.
fn attach_dead(paths: &BTreeMap<&'static str, String>, number: usize) {
    for (name, path) in paths {
        let config = if *name == "first" { ports(number) } else { config() };
        let visible = bind(path, "now");
        Call::of("ADD", name, &visible).config(&config).succeed();
        remove_netns("now");
    }
}

fn two_namespaces() -> BTreeMap<&'static str, String> {
    ["first", "second"].into_iter().map(|name| (name, netns(name))).collect()
}

#[test]
fn what_a_garbage_collection_leaves_that_is_killed_at_any_system_call_is_collected() {
    isolated("what_a_garbage_collection_leaves_that_is_killed_at_any_system_call_is_collected", || {
        let _ = begin(Attachment::Routed);
        Call::of("ADD", "alive", &netns("alive")).succeed();
        let mut ground = Ground::new();
        let before = ground.traces();
        let paths = two_namespaces();
        let mut config = config();
        config["cni.dev/valid-attachments"] = json!([]);
        let calls = at_each_call(|at| {
            attach_dead(&paths, at);
            let run = Verb::of("GC", "", "", &config).killed_at(at);
            let what = format!("GC killed at call {at} ({})", run.last.trim());
            ground.holders();
            Call::new("GC").config(&config).succeed();
            ground.assert_traces(&before, &what);
            run
        });
        println!("GC makes {calls} system calls");
    });
}

#[test]
fn an_add_that_is_killed_while_it_waits_for_a_block_waits_no_more() {
    isolated("an_add_that_is_killed_while_it_waits_for_a_block_waits_no_more", || {
        node(&[]);
        table();
        let mut full = node_json(&["10.244.0.0/30"]);
        full["addressing"] = json!({"growing": true});
        write_node_json(&full);
        Call::of("ADD", "first", &netns("first")).succeed();
        let mut ground = Ground::new();
        let before = ground.traces();
        let path = netns("pod");
        let pause = format!("{} ", nix::libc::SYS_clock_nanosleep);
        let mut pauses = 0;
        for at in 0.. {
            let run = Verb::of("ADD", "pod", &path, &ports(1)).killed_at(at);
            let what = format!("ADD killed at call {at} ({})", run.last.trim());
            assert_eq!(run.status, None, "{what}");
            assert_eq!(ground.store.waiting().unwrap(), PerFamily::default(), "{what}");
            ground.sweep(Sight::Runtime);
            ground.assert_traces(&before, &what);
            pauses += usize::from(run.last.starts_with(&pause));
            if pauses > 3 {
                break;
            }
        }
    });
}

/// Tells the test binary, started again, that it is to sweep as the agent does, once its input has ended.
const SWEEPER: &str = "TOWPATH_TEST_SWEEPS";
const SWEEPING: &str = "what_an_agent_leaves_that_is_killed_at_any_system_call_of_its_sweep_is_swept";

fn sweep_when_told() {
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let mut node = Socket::open(Protocol::Route).unwrap();
    let swept = sweep_node(&Store::below(Path::new(STATE)), &mut node, &Scope::Node, Sight::Own).unwrap();
    assert!(swept.failed.is_empty() && swept.broken.is_empty(), "{swept:?}");
    std::process::exit(0);
}

#[test]
fn what_an_agent_leaves_that_is_killed_at_any_system_call_of_its_sweep_is_swept() {
    if env::var(SWEEPER).is_ok() {
        return sweep_when_told();
    }
    isolated(SWEEPING, || {
        let _ = begin(Attachment::Routed);
        Call::of("ADD", "alive", &netns("alive")).succeed();
        let mut ground = Ground::new();
        let before = ground.traces();
        let paths = two_namespaces();
        let mut sweeper = Command::new(env::current_exe().unwrap());
        sweeper.args([SWEEPING, "--exact", "--nocapture", "--test-threads=1"]).env(SWEEPER, "");
        let calls = at_each_call(|at| {
            attach_dead(&paths, at);
            for name in paths.keys() {
                ground.remove_link(&host_interface(name, "eth0"));
            }
            let run = tracer::run(&mut sweeper, "", at);
            let what = format!("the agent killed at call {at} ({})", run.last.trim());
            ground.holders();
            ground.sweep(Sight::Own);
            ground.assert_traces(&before, &what);
            run
        });
        println!("a sweep makes {calls} system calls");
    });
}

#[test]
fn after_a_loss_of_power_a_node_begins_anew() {
    isolated("after_a_loss_of_power_a_node_begins_anew", || {
        let (mut ground, before) = begin(Attachment::Routed);
        let first = addresses(&Call::of("ADD", "a", &netns("a")).config(&ports(1)).succeed().document);
        Call::of("ADD", "b", &netns("b")).succeed();
        for name in ["a", "b"] {
            ground.remove_link(&host_interface(name, "eth0"));
            remove_netns(name);
        }
        std::fs::remove_dir_all(STATE).unwrap();
        Call::new("STATUS").fail(50);
        begin(Attachment::Routed);
        Call::new("STATUS").succeed();
        let again = addresses(&Call::of("ADD", "a", &netns("a")).config(&ports(1)).succeed().document);
        assert_eq!(again, first);
        ground.sweep(Sight::Own);
        assert_eq!(ground.holders().len(), 2);
        // A runtime ends what it remembers from before.
        detach("b", &config());
        detach("a", &ports(1));
        ground.assert_traces(&before, "the pod of the second life was detached");
    });
}
