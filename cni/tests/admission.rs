//! A pod that starts where there are policies, and an agent that answers, is late, goes away, or is not there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;

use serde_json::{Value, json};
use support::{Answer, Call, STATE, leases, netns, node, node_json, sh, traces, wait_until, write_node_json};
use towpath_kernel::policy::{Meanwhile, PolicyTable};
use towpath_kernel::testing::isolated;
use towpath_net::lease::{Phase, host_interface};
use towpath_net::policy::bind::Leases;
use towpath_net::policy::bundle::{Bundle, PodPolicy};
use towpath_net::policy::input::Key;

const BLOCKS: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
const STRICT: &str = "the policies of the pod are not in force, and policy.startup is Strict";
const WORD: &str = "starts without its policies";

/// A node that says how pods start.
fn policed(startup: &str) {
    node(&BLOCKS);
    say(startup);
}

fn say(startup: &str) {
    let mut content = node_json(&BLOCKS);
    content["startup"] = startup.into();
    write_node_json(&content);
}

fn call(name: &str) -> Call {
    let pod = format!("K8S_POD_NAMESPACE=web;K8S_POD_NAME={name};K8S_POD_UID=uid-{name}");
    Call::of("ADD", name, &format!("/run/netns/{name}")).with("CNI_ARGS", &pod)
}

fn start(name: &str) -> Child {
    netns(name);
    call(name).start()
}

fn end(child: Child) -> Answer {
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let document = serde_json::from_str(&stdout).unwrap_or(Value::Null);
    let stderr = String::from_utf8(output.stderr).unwrap();
    Answer { status: output.status.code().unwrap_or(-1), document, stdout, stderr }
}

/// An agent that says what it is told to say.
struct Agent(UnixListener);

impl Agent {
    fn listen() -> Self {
        let path = format!("{STATE}/agent/admission.sock");
        fs::create_dir_all(format!("{STATE}/agent")).unwrap();
        _ = fs::remove_file(&path);
        Self(UnixListener::bind(path).unwrap())
    }

    /// Who asks next, and what.
    fn asked(&self) -> (UnixStream, Value) {
        let (stream, _) = self.0.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line).unwrap();
        (stream, serde_json::from_str(&line).unwrap())
    }
}

fn answer(mut stream: &UnixStream, line: &str) {
    stream.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn is_up(name: &str) -> bool {
    let link = host_interface(name, "eth0");
    let shown = sh(&format!("ip -o link show {link} 2>/dev/null || true"));
    shown.split(['<', '>']).nth(1).is_some_and(|flags| flags.split(',').any(|flag| flag == "UP"))
}

fn exists(name: &str) -> bool {
    Path::new(&format!("/sys/class/net/{}", host_interface(name, "eth0"))).exists()
        || sh("ip -o link").contains(&host_interface(name, "eth0"))
}

#[test]
fn no_link_is_up_before_the_addresses_are_the_pods_own_and_add_ends_when_it_is_known() {
    isolated("no_link_is_up_before_the_addresses_are_the_pods_own_and_add_ends_when_it_is_known", || {
        policed("Strict");
        let agent = Agent::listen();
        let mut child = start("a");
        let (stream, question) = agent.asked();
        let addresses: Vec<String> =
            leases()[0].addresses.iter().map(|leased| leased.address.addr().to_string()).collect();
        assert_eq!(question, json!({"attachment": "a/eth0", "uid": "uid-a", "addresses": addresses}));
        wait_until("there is a link", || exists("a"));
        answer(&stream, "something new");
        assert!(!is_up("a") && child.try_wait().unwrap().is_none());
        answer(&stream, "bound");
        wait_until("the link is up", || is_up("a"));
        answer(&stream, "in force");
        assert!(child.try_wait().unwrap().is_none());
        assert_eq!(leases()[0].phase, Phase::Joining, "the operator is told that it waits");
        answer(&stream, "known");
        let answer = end(child);
        assert_eq!((answer.status, answer.stderr.as_str()), (0, ""), "{answer:?}");
        assert_eq!(leases()[0].phase, Phase::Ready);
    });
}

#[test]
fn an_agent_that_is_late_is_waited_for_in_bounds() {
    isolated("an_agent_that_is_late_is_waited_for_in_bounds", || {
        policed("Wait");
        let before = traces();
        let agent = Agent::listen();
        let waiting = start("a");
        let (of_waiting, _) = agent.asked();
        answer(&of_waiting, "bound");
        answer(&of_waiting, "in force");
        say("Strict");
        let strict = start("b");
        let (of_strict, _) = agent.asked();
        answer(&of_strict, "bound");
        let waited = end(waiting);
        assert_eq!(waited.status, 0, "{waited:?}");
        assert!(waited.stderr.contains(WORD) && waited.stderr.contains("not every other node"), "{waited:?}");
        let failed = end(strict);
        assert_eq!((failed.status, &failed.document["code"]), (1, &json!(11)), "{failed:?}");
        assert!(failed.document["msg"].as_str().unwrap().starts_with(STRICT), "{failed:?}");
        Call::of("DEL", "a", "/run/netns/a").succeed();
        assert_eq!(traces(), before);
    });
}

#[test]
fn without_an_agent_a_pod_that_waits_starts_with_a_word_and_a_strict_one_not_at_all() {
    isolated("without_an_agent_a_pod_that_waits_starts_with_a_word_and_a_strict_one_not_at_all", || {
        policed("Strict");
        let before = traces();
        let failed = end(start("a"));
        assert_eq!(failed.document["code"], 11, "{failed:?}");
        assert_eq!(failed.document["msg"], format!("{STRICT}: the node agent is not there"));
        assert_eq!(traces(), before);
        say("Wait");
        // A socket that nobody listens at is what an agent leaves that was killed.
        drop(Agent::listen());
        let waited = end(start("b"));
        assert_eq!(waited.status, 0, "{waited:?}");
        assert!(waited.stderr.contains(WORD) && waited.stderr.contains("agent is not there"), "{waited:?}");
        say("Async");
        netns("c");
        call("c").succeed();
        // Of a pod that the runtime does not name nobody knows any policies.
        say("Strict");
        let nameless = Call::of("ADD", "d", &netns("d")).run();
        assert_eq!(nameless.status, 0, "{nameless:?}");
        assert!(nameless.stderr.contains("d/eth0 is of no pod that the runtime names"), "{nameless:?}");
    });
}

#[test]
fn an_agent_that_comes_back_is_asked_again() {
    isolated("an_agent_that_comes_back_is_asked_again", || {
        policed("Strict");
        let agent = Agent::listen();
        let child = start("a");
        let (stream, question) = agent.asked();
        answer(&stream, "bound");
        drop((stream, agent));
        let agent = Agent::listen();
        let (stream, again) = agent.asked();
        assert_eq!(question, again);
        for line in ["bound", "in force", "known"] {
            answer(&stream, line);
        }
        let answer = end(child);
        assert_eq!((answer.status, answer.stderr.as_str()), (0, ""), "{answer:?}");
    });
}

#[test]
fn without_an_agent_a_pod_has_nothing_of_who_had_its_addresses() {
    isolated("without_an_agent_a_pod_has_nothing_of_who_had_its_addresses", || {
        policed("Async");
        let [v4, v6] = ["10.244.1.77", "fd00:10:244:1::77"];
        let pod =
            PodPolicy { key: Key { namespace: "web".into(), name: "old".into() }, profile: None, is_policed: true };
        let mut bundle = Bundle { is_enforced: true, ..Bundle::default() };
        bundle.pods.insert("old".into(), pod.clone());
        bundle.pods.insert("other".into(), pod);
        let others = ["10.244.1.78", "fd00:10:244:1::78"];
        let addresses = |texts: [&str; 2]| texts.map(|text| text.parse().unwrap()).to_vec();
        let held = Leases::from([("old".into(), addresses([v4, v6])), ("other".into(), addresses(others))]);
        PolicyTable::open().unwrap().load(&bundle, &held, Meanwhile::Open).unwrap();
        let maps = || {
            ["ingress-v4", "egress-v4", "ingress-v6", "egress-v6"]
                .map(|map| sh(&format!("nft list map inet towpath-policy {map}")))
                .concat()
        };
        assert!(maps().contains(v4) && maps().contains(v6));
        netns("a");
        let wished = "K8S_POD_NAMESPACE=web;K8S_POD_NAME=new;K8S_POD_UID=new;IP=10.244.1.77,fd00:10:244:1::77";
        call("a").with("CNI_ARGS", wished).succeed();
        assert!(!maps().contains(v4) && !maps().contains(v6), "{}", maps());
        assert_eq!(others.map(|other| maps().matches(other).count()), [2, 2], "{}", maps());
    });
}
