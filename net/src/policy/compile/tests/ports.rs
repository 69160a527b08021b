//! Ports: by numbers, and by names of either side.

use super::super::Change;
use super::support::{compiler, from, ingress, key, namespace, near, pod, port, shown};
use crate::lease::Protocol::{Sctp, Tcp, Udp};
use crate::policy::input::{Block, NetworkPolicy, Peer, Port, Rule, Selector};

fn cluster() -> Vec<Change> {
    let mut web = pod("web", "web", "app=web", &["10.0.0.1", "fd00::1"]);
    web.ports = vec![port("http", Tcp, 8080), port("dns", Udp, 53)];
    let mut other = pod("web", "other", "app=other", &["10.0.0.2"]);
    other.ports = vec![port("http", Tcp, 80), port("dns", Tcp, 5353)];
    let changes = [Change::Namespace(namespace("web", "")), Change::Pod(web), Change::Pod(other)];
    changes.into_iter().chain([Change::Pod(pod("web", "bare", "app=bare", &["10.0.0.3"]))]).collect()
}

fn rule(peers: Option<Vec<Peer>>, ports: Vec<Port>) -> Rule {
    Rule { peers, ports: Some(ports) }
}

fn named(name: &str) -> Port {
    Port::Named(Tcp, name.into())
}

fn into(uid: &str, rules: Vec<Rule>) -> Vec<String> {
    shown(&mut compiler(cluster().into_iter().chain([Change::Policy(ingress("web", "p", "", rules))])), uid)
}

fn out_of_bare(rules: Vec<Rule>) -> Vec<String> {
    let key = key("web", "p");
    let policy = NetworkPolicy { key, pods: Selector::default(), ingress: None, egress: Some(rules) };
    shown(&mut compiler(cluster().into_iter().chain([Change::Policy(policy)])), "web-bare")
}

#[test]
fn ports_are_single_ranges_or_all_of_a_protocol() {
    let ports = vec![Port::Range(Tcp, 80, 80), Port::Range(Udp, 1000, 2000), Port::All(Sctp)];
    let lines = ["in closed by p", "in sctp: anyone", "in tcp 80: anyone", "in udp 1000-2000: anyone"];
    assert_eq!(into("web-web", vec![rule(None, ports)]), lines);
    assert_eq!(into("web-web", vec![rule(None, vec![Port::Range(Tcp, 81, 80)])]), ["in closed by p"]);
}

#[test]
fn names_are_those_of_the_pod_that_packets_come_to() {
    let rules = || vec![rule(None, vec![named("http"), named("dns")])];
    assert_eq!(into("web-web", rules()), ["in closed by p", "in tcp 8080: anyone"], "its dns is of UDP");
    assert_eq!(into("web-other", rules()), ["in closed by p", "in tcp 80: anyone", "in tcp 5353: anyone"]);
    assert_eq!(into("web-bare", rules()), ["in closed by p"], "it has no names");
}

#[test]
fn names_of_the_other_side_are_ports_beside_its_addresses() {
    let lines = |rules| out_of_bare(rules)[1..].to_vec();
    let to_web = lines(vec![rule(Some(vec![near("app=web")]), vec![named("http")])]);
    assert_eq!(to_web, ["out named: 10.0.0.1 tcp 8080 fd00::1 tcp 8080"]);
    let to_all = lines(vec![rule(None, vec![named("http")])]);
    assert_eq!(to_all, ["out named: 10.0.0.1 tcp 8080 10.0.0.2 tcp 80 fd00::1 tcp 8080"]);
    let any = lines(vec![rule(None, vec![Port::NamedOfAny("dns".into())])]);
    assert_eq!(any, ["out named: 10.0.0.1 udp 53 10.0.0.2 tcp 5353 fd00::1 udp 53"]);
}

#[test]
fn a_name_with_a_block_is_of_the_pods_whose_address_is_in_it() {
    let block =
        Peer::Block(Block { cidr: "10.0.0.0/30".parse().unwrap(), except: vec!["10.0.0.2/32".parse().unwrap()] });
    let lines = out_of_bare(vec![rule(Some(vec![block]), vec![named("http")])]);
    assert_eq!(lines, ["out closed by p", "out named: 10.0.0.1 tcp 8080"]);
}

#[test]
fn policies_add_up_and_there_is_one_rule_for_each_port() {
    let policies = [
        ingress("web", "a", "app=web", vec![rule(Some(vec![near("app=other")]), vec![Port::Range(Tcp, 80, 80)])]),
        ingress("web", "b", "", vec![rule(Some(vec![near("app=bare")]), vec![Port::Range(Tcp, 80, 80)])]),
        ingress("web", "c", "app=web", Vec::new()),
        ingress("web", "d", "app=other", vec![from(vec![near("")])]),
    ];
    let mut compiler = compiler(cluster().into_iter().chain(policies.map(Change::Policy)));
    assert_eq!(shown(&mut compiler, "web-web"), ["in closed by a, b, c", "in tcp 80: 10.0.0.2 10.0.0.3"]);
    assert_eq!(shown(&mut compiler, "web-bare"), ["in closed by b", "in tcp 80: 10.0.0.3"]);
}

#[test]
fn ports_that_everyone_reaches_are_not_listed_again() {
    let near = || Some(vec![near("app=other")]);
    let narrow = || rule(near(), vec![Port::Range(Tcp, 80, 80), Port::Range(Udp, 53, 53)]);
    let wide = |ports| into("web-web", vec![narrow(), Rule { peers: None, ports }]);
    assert_eq!(wide(None), ["in closed by p", "in any: anyone"]);
    assert_eq!(wide(Some(vec![Port::All(Tcp)])), ["in closed by p", "in tcp: anyone", "in udp 53: 10.0.0.2"]);
    let range = wide(Some(vec![Port::Range(Tcp, 1, 1024)]));
    assert_eq!(range, ["in closed by p", "in tcp 1-1024: anyone", "in udp 53: 10.0.0.2"]);
}
