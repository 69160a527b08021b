//! What the documentation of both APIs says by examples, row by row: the judge is judged first.
//!
//! `kubernetes.io/docs/concepts/services-networking/network-policies`, and the stories of `network-policy-api.sigs.k8s.io`.

use towpath_net::lease::Protocol::{Sctp, Tcp, Udp};
use towpath_net::policy::input::{Action, ClusterPeer, Operator, Peer, Port, Tier};

use crate::story::{Story, all, block, cluster_rule, of, own, pods_of, port, requires, rule, subject, values, with};

/// The pods of the first example: a database, who may reach it, and who may not.
fn database() -> Story {
    Story::new(&[("default", ""), ("mine", "project=myproject"), ("other", "")])
        .pod("default/db", "role=db", "172.17.9.1")
        .pod("default/frontend", "role=frontend", "172.17.1.2")
        .pod("default/backend", "role=backend", "172.17.1.3")
        .pod("mine/any", "", "172.17.1.4")
        .pod("other/frontend", "role=frontend", "172.17.1.5")
}

#[test]
fn the_example_of_the_documentation_allows_by_any_of_three_peers_and_one_port() {
    let peers = [block("172.17.0.0/16", &["172.17.1.0/24"]), of("project=myproject", ""), own("role=frontend")];
    let story = database().policy(
        "default/test",
        with("role=db"),
        Some(vec![rule(&peers, &[port(Tcp, 6379)])]),
        Some(vec![rule(&[block("10.0.0.0/24", &[])], &[port(Tcp, 5978)])]),
    );
    story.expect(&[
        ("default/frontend", "default/db", Tcp, 6379, true),
        ("default/frontend", "default/db", Tcp, 6380, false),
        ("default/frontend", "default/db", Udp, 6379, false),
        ("default/backend", "default/db", Tcp, 6379, false),
        ("mine/any", "default/db", Tcp, 6379, true),
        ("other/frontend", "default/db", Tcp, 6379, false),
        ("172.17.0.1", "default/db", Tcp, 6379, true),
        ("172.17.0.255", "default/db", Tcp, 6379, true),
        ("172.17.1.0", "default/db", Tcp, 6379, false),
        ("172.17.1.255", "default/db", Tcp, 6379, false),
        ("172.17.2.0", "default/db", Tcp, 6379, true),
        ("172.17.255.255", "default/db", Tcp, 6379, true),
        ("172.18.0.0", "default/db", Tcp, 6379, false),
        ("172.16.255.255", "default/db", Tcp, 6379, false),
        ("default/db", "10.0.0.1", Tcp, 5978, true),
        ("default/db", "10.0.1.0", Tcp, 5978, false),
        ("default/db", "10.0.0.1", Tcp, 5979, false),
        ("default/db", "default/db", Udp, 1, true),
        ("default/frontend", "default/backend", Sctp, 1, true),
    ]);
}

#[test]
fn both_selectors_of_one_entry_must_match_and_any_of_two_entries() {
    let one = database().pod("mine/frontend", "role=frontend", "172.17.1.6");
    let both = rule(&[of("project=myproject", "role=frontend")], &[]);
    one.policy("default/both", with("role=db"), Some(vec![both]), None).expect(&[
        ("mine/frontend", "default/db", Tcp, 80, true),
        ("mine/any", "default/db", Tcp, 80, false),
        ("default/frontend", "default/db", Tcp, 80, false),
        ("default/db", "mine/any", Tcp, 80, true),
    ]);
    let any = rule(&[of("project=myproject", ""), own("role=frontend")], &[]);
    database().policy("default/any", with("role=db"), Some(vec![any]), None).expect(&[
        ("mine/any", "default/db", Tcp, 80, true),
        ("default/frontend", "default/db", Tcp, 80, true),
        ("default/backend", "default/db", Tcp, 80, false),
    ]);
}

#[test]
fn the_default_policies_of_a_namespace() {
    let everything = || Some(vec![rule(&[], &[])]);
    let nothing = || Some(Vec::new());
    let rows = |into: bool, out: bool| {
        [
            ("other/frontend", "default/db", Tcp, 80, into),
            ("192.0.2.1", "default/db", Udp, 80, into),
            ("default/db", "other/frontend", Sctp, 80, out),
            ("default/db", "192.0.2.1", Tcp, 80, out),
            ("default/frontend", "default/db", Tcp, 80, into && out),
            ("mine/any", "other/frontend", Tcp, 80, true),
        ]
    };
    database().policy("default/deny-in", all(), nothing(), None).expect(&rows(false, true));
    database().policy("default/allow-in", all(), everything(), None).expect(&rows(true, true));
    database().policy("default/deny-out", all(), None, nothing()).expect(&rows(true, false));
    database().policy("default/allow-out", all(), None, everything()).expect(&rows(true, true));
    database().policy("default/deny", all(), nothing(), nothing()).expect(&rows(false, false));
    let stacked = database().policy("default/deny", all(), nothing(), nothing());
    stacked.policy("default/allow-in", all(), everything(), None).expect(&rows(true, false));
}

#[test]
fn policies_add_up_and_none_takes_from_another() {
    let story = database()
        .policy("default/a", with("role=db"), Some(vec![rule(&[own("role=frontend")], &[port(Tcp, 80)])]), None)
        .policy("default/b", all(), Some(vec![rule(&[own("role=backend")], &[port(Tcp, 81)])]), None);
    story.expect(&[
        ("default/frontend", "default/db", Tcp, 80, true),
        ("default/frontend", "default/db", Tcp, 81, false),
        ("default/backend", "default/db", Tcp, 81, true),
        ("default/backend", "default/db", Tcp, 80, false),
    ]);
}

#[test]
fn a_range_of_ports_holds_both_of_its_ends() {
    let range = rule(&[block("10.0.0.0/24", &[])], &[Port::Range(Tcp, 32_000, 32_768)]);
    database().policy("default/range", with("role=db"), None, Some(vec![range])).expect(&[
        ("default/db", "10.0.0.9", Tcp, 31_999, false),
        ("default/db", "10.0.0.9", Tcp, 32_000, true),
        ("default/db", "10.0.0.9", Tcp, 32_768, true),
        ("default/db", "10.0.0.9", Tcp, 32_769, false),
        ("default/db", "10.0.0.9", Udp, 32_000, false),
    ]);
}

#[test]
fn namespaces_are_selected_by_expressions() {
    let story = |operator| {
        let peer = Peer::Pods { namespaces: Some(requires("name", operator)), pods: all() };
        Story::new(&[("a", "name=frontend"), ("b", "name=backend"), ("c", "")])
            .pod("a/p", "", "10.0.0.1")
            .pod("b/p", "", "10.0.0.2")
            .pod("c/p", "", "10.0.0.3")
            .policy("c/policy", all(), Some(vec![rule(&[peer], &[])]), None)
            .pod("d/p", "", "10.0.0.4")
    };
    for (operator, from_a, from_b, from_own) in [
        (Operator::In(values(&["frontend", "backend"])), true, true, false),
        (Operator::In(values(&["backend"])), false, true, false),
        (Operator::NotIn(values(&["frontend"])), false, true, true),
        (Operator::Exists, true, true, false),
        (Operator::DoesNotExist, false, false, true),
    ] {
        let story = story(operator).pod("c/other", "", "10.0.0.5");
        story.expect(&[
            ("a/p", "c/p", Tcp, 80, from_a),
            ("b/p", "c/p", Tcp, 80, from_b),
            ("c/other", "c/p", Tcp, 80, from_own),
            ("d/p", "c/p", Tcp, 80, false),
        ]);
    }
}

#[test]
fn names_of_ports_are_those_of_the_pod_that_packets_go_to() {
    let named = || rule(&[], &[Port::Named(Udp, "dns".into())]);
    let story = Story::new(&[("a", "")])
        .pod("a/client", "", "10.0.0.1")
        .pod("a/one", "side=server", "10.0.0.2")
        .with_port("dns", Udp, 53)
        .pod("a/two", "side=server", "10.0.0.3")
        .with_port("dns", Udp, 5353)
        .pod("a/tcp", "side=server", "10.0.0.4")
        .with_port("dns", Tcp, 53);
    let rows = [
        ("a/client", "a/one", Udp, 53, true),
        ("a/client", "a/one", Udp, 5353, false),
        ("a/client", "a/two", Udp, 5353, true),
        ("a/client", "a/two", Udp, 53, false),
        ("a/client", "a/tcp", Udp, 53, false),
        ("a/client", "a/tcp", Tcp, 53, false),
    ];
    let into = Story { world: story.world.clone() };
    into.policy("a/in", with("side=server"), Some(vec![named()]), None).expect(&rows);
    story.policy("a/out", all(), None, Some(vec![named()])).expect(&rows);
}

#[test]
fn pods_of_the_hosts_network_ended_ones_and_those_without_address_are_nobody() {
    let story = Story::new(&[("a", "")])
        .pod("a/p", "role=server", "10.0.0.1")
        .pod("a/host", "role=client", "192.168.0.2")
        .last(|pod| pod.is_host_network = true)
        .pod("a/ended", "role=client", "10.0.0.3")
        .last(|pod| pod.is_ended = true)
        .pod("a/runs", "role=client", "10.0.0.4")
        .policy("a/clients", with("role=server"), Some(vec![rule(&[own("role=client")], &[])]), None)
        .policy("a/nobody", with("role=client"), Some(Vec::new()), Some(vec![rule(&[own("role=server")], &[])]));
    story.expect(&[
        ("a/runs", "a/p", Tcp, 80, true),
        ("a/host", "a/p", Tcp, 80, false),
        ("a/ended", "a/p", Tcp, 80, false),
        ("a/host", "192.0.2.1", Tcp, 80, true),
        ("192.0.2.1", "a/host", Tcp, 80, true),
        ("192.0.2.1", "a/runs", Tcp, 80, false),
    ]);
}

/// Two tenants, a namespace that watches, and one that is sensitive.
fn tenants() -> Story {
    Story::new(&[("a", "tenant=a"), ("b", "tenant=b"), ("monitoring", "role=watch"), ("secret", "kind=sensitive")])
        .pod("a/p", "", "10.0.0.1")
        .pod("a/q", "", "10.0.0.2")
        .pod("b/p", "", "10.0.0.3")
        .pod("monitoring/p", "", "10.0.0.4")
        .pod("secret/p", "", "10.0.0.5")
        .with_port("metrics", Tcp, 9090)
}

#[test]
fn the_admin_tier_denies_and_accepts_whatever_namespaces_say() {
    let deny = vec![cluster_rule(Action::Deny, &[pods_of("")], &[])];
    let accept = vec![cluster_rule(Action::Accept, &[pods_of("role=watch")], &[])];
    let story = tenants()
        .cluster(Tier::Admin, 10, subject("kind=sensitive"), deny, Vec::new())
        .cluster(Tier::Admin, 5, subject(""), accept, Vec::new())
        .policy("secret/open", all(), Some(vec![rule(&[], &[])]), None)
        .policy("a/closed", all(), Some(Vec::new()), None);
    story.expect(&[
        ("b/p", "secret/p", Tcp, 80, false),
        ("192.0.2.1", "secret/p", Tcp, 80, true),
        ("monitoring/p", "secret/p", Tcp, 80, true),
        ("monitoring/p", "a/p", Tcp, 80, true),
        ("b/p", "a/p", Tcp, 80, false),
        ("a/p", "b/p", Tcp, 80, true),
    ]);
}

#[test]
fn what_passes_the_admin_tier_is_left_to_namespaces_and_then_to_the_baseline() {
    let pass = cluster_rule(Action::Pass, &[pods_of("tenant=b")], &[]);
    let deny = cluster_rule(Action::Deny, &[pods_of("")], &[]);
    let story = tenants()
        .cluster(Tier::Admin, 1, subject("tenant=a"), vec![pass.clone(), deny.clone()], Vec::new())
        .cluster(Tier::Baseline, 1, subject("tenant=a"), vec![deny.clone()], Vec::new());
    story.expect(&[("b/p", "a/p", Tcp, 80, false), ("192.0.2.1", "a/p", Tcp, 80, true)]);
    let open = story.policy("a/open", all(), Some(vec![rule(&[of("tenant=b", "")], &[])]), None);
    open.expect(&[("b/p", "a/p", Tcp, 80, true), ("monitoring/p", "a/p", Tcp, 80, false)]);
    let ends = tenants().cluster(Tier::Baseline, 1, subject("tenant=a"), vec![pass], Vec::new()).cluster(
        Tier::Baseline,
        2,
        subject("tenant=a"),
        vec![deny],
        Vec::new(),
    );
    ends.expect(&[("b/p", "a/p", Tcp, 80, true), ("monitoring/p", "a/p", Tcp, 80, false)]);
}

#[test]
fn tenants_are_apart_by_the_baseline_until_a_namespace_says_more() {
    let rules = vec![
        cluster_rule(Action::Accept, &[pods_of("tenant=a")], &[]),
        cluster_rule(Action::Deny, &[pods_of("")], &[]),
    ];
    let story = tenants().cluster(Tier::Baseline, 100, subject("tenant=a"), rules, Vec::new());
    story.expect(&[
        ("a/q", "a/p", Tcp, 80, true),
        ("b/p", "a/p", Tcp, 80, false),
        ("a/p", "b/p", Tcp, 80, true),
        ("192.0.2.1", "a/p", Tcp, 80, true),
    ]);
    let more = story.policy("a/more", all(), Some(vec![rule(&[of("tenant=b", "")], &[])]), None);
    more.expect(&[("b/p", "a/p", Tcp, 80, true), ("a/q", "a/p", Tcp, 80, false)]);
}

#[test]
fn the_way_out_of_the_cluster_is_closed_but_for_some() {
    let network = |net: &str| ClusterPeer::Network(net.parse().unwrap());
    let egress = vec![
        cluster_rule(Action::Accept, &[network("10.0.0.0/24"), network("192.0.2.1/32")], &[]),
        cluster_rule(Action::Accept, &[ClusterPeer::Nodes(with("zone=east"))], &[port(Tcp, 6443)]),
        cluster_rule(Action::Deny, &[network("0.0.0.0/0")], &[]),
    ];
    tenants().cluster(Tier::Admin, 0, subject(""), Vec::new(), egress).expect(&[
        ("a/p", "b/p", Tcp, 80, true),
        ("a/p", "192.0.2.1", Tcp, 80, true),
        ("a/p", "192.0.2.2", Tcp, 80, false),
        ("a/p", "192.168.0.2", Tcp, 6443, true),
        ("a/p", "192.168.0.2", Tcp, 6444, false),
        ("a/p", "192.168.0.1", Tcp, 6443, false),
    ]);
}

#[test]
fn the_cluster_names_ports_without_their_protocol() {
    let rules = vec![
        cluster_rule(Action::Accept, &[pods_of("")], &[Port::NamedOfAny("metrics".into()), port(Udp, 53)]),
        cluster_rule(Action::Deny, &[pods_of("")], &[Port::All(Tcp), Port::All(Udp)]),
    ];
    let rows = [
        ("a/p", "secret/p", Tcp, 9090, true),
        ("a/p", "secret/p", Tcp, 9091, false),
        ("a/p", "secret/p", Udp, 9090, false),
        ("a/p", "secret/p", Udp, 53, true),
        ("a/p", "secret/p", Sctp, 9090, true),
    ];
    tenants().cluster(Tier::Admin, 0, subject("kind=sensitive"), rules.clone(), Vec::new()).expect(&rows);
    tenants().cluster(Tier::Admin, 0, subject("tenant=a"), Vec::new(), rules).expect(&rows);
}

#[test]
fn lower_priorities_come_first_and_names_break_ties() {
    let one = |action| vec![cluster_rule(action, &[pods_of("")], &[])];
    let story = |first: i32, second: i32| {
        tenants().cluster(Tier::Admin, first, subject("tenant=a"), one(Action::Deny), Vec::new()).cluster(
            Tier::Admin,
            second,
            subject("tenant=a"),
            one(Action::Accept),
            Vec::new(),
        )
    };
    for (first, second, passes) in
        [(0, 1, false), (1, 0, true), (7, 7, false), (i32::MAX, i32::MIN, true), (i32::MIN, i32::MAX, false)]
    {
        story(first, second).expect(&[("b/p", "a/p", Tcp, 80, passes)]);
    }
}
