//! What holds whatever changes come, in whatever order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::{Change, Compiler};
use super::support::{Objects, key};
use crate::lease::Protocol;
use crate::policy::bundle::Bundle;
use crate::policy::digest::Digests;
use crate::policy::input::{
    Action, Block, ClusterPeer, ClusterPolicy, ClusterRule, Key, Labels, NamedPort, Namespace, NetworkPolicy, Node,
    Operator, Peer, Pod, Port, Requirement, Rule, Selector, Subject, Tier,
};
use crate::state::NodeName;

/// What happens to a compiler.
#[derive(Clone, Debug)]
enum Step {
    Change(Box<Change>),
    Subscribe(NodeName),
    Unsubscribe(NodeName),
    Deltas,
    Look(NodeName),
}

fn text(of: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(of).prop_map(str::to_owned)
}

fn label() -> impl Strategy<Value = String> {
    text(&["app", "tier"])
}

fn value() -> impl Strategy<Value = String> {
    text(&["a", "b"])
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(label(), value(), 0..=2)
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || btree_set(value(), 0..3);
    let operator = prop_oneof![
        values().prop_map(Operator::In),
        values().prop_map(Operator::NotIn),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    let expression = (label(), operator).prop_map(|(key, operator)| Requirement { key, operator });
    let expressions = prop_oneof![3 => Just(Vec::new()), 1 => vec(expression, 1..3)];
    (btree_map(label(), value(), 0..2), expressions).prop_map(|(labels, expressions)| Selector { labels, expressions })
}

fn object() -> impl Strategy<Value = Key> {
    (text(&["x", "y", "z"]), text(&["1", "2", "3"])).prop_map(|(namespace, name)| key(&namespace, &name))
}

fn node_name() -> impl Strategy<Value = NodeName> {
    select(vec!["n1", "n2"]).prop_map(NodeName::from)
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    let v4 = option::of((0..5_u8).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))));
    let v6 =
        option::weighted(0.2, (0..3_u16).prop_map(|last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last))));
    (v4, v6).prop_map(|(v4, v6)| v4.into_iter().chain(v6).collect())
}

fn protocol() -> impl Strategy<Value = Protocol> {
    select(vec![Protocol::Tcp, Protocol::Udp])
}

fn pod() -> impl Strategy<Value = Pod> {
    let port = (text(&["http", "dns"]), protocol(), 80..82_u16).prop_map(|(name, protocol, port)| NamedPort {
        name,
        protocol,
        port,
    });
    let flags = (prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (object(), 0..2, labels(), option::weighted(0.9, node_name()), addresses(), vec(port, 0..2), flags).prop_map(
        |(key, life, labels, node, addresses, ports, (is_host_network, is_ended))| Pod {
            uid: format!("{}-{}-{life}", key.namespace, key.name),
            key,
            labels,
            node,
            addresses,
            ports,
            is_host_network,
            is_ended,
        },
    )
}

fn net() -> impl Strategy<Value = ipnet::IpNet> {
    select(vec!["10.0.0.0/30", "10.0.0.0/31", "10.0.0.2/32", "10.0.0.0/24", "fd00::/126", "fd00::1/128", "0.0.0.0/0"])
        .prop_map(|net| net.parse().unwrap())
}

fn ports() -> impl Strategy<Value = Option<Vec<Port>>> {
    let port = prop_oneof![
        protocol().prop_map(Port::All),
        (protocol(), 79..82_u16, 79..82_u16).prop_map(|(protocol, first, last)| Port::Range(protocol, first, last)),
        (protocol(), text(&["http", "dns"])).prop_map(|(protocol, name)| Port::Named(protocol, name)),
        text(&["http", "dns"]).prop_map(Port::NamedOfAny),
    ];
    option::of(vec(port, 0..3))
}

fn rules() -> impl Strategy<Value = Option<Vec<Rule>>> {
    let peer = prop_oneof![
        3 => (option::of(selector()), selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => (net(), vec(net(), 0..2)).prop_map(|(cidr, except)| Peer::Block(Block { cidr, except })),
    ];
    let rule = (option::of(vec(peer, 0..3)), ports()).prop_map(|(peers, ports)| Rule { peers, ports });
    option::of(vec(rule, 0..3))
}

fn policy() -> impl Strategy<Value = NetworkPolicy> {
    (object(), selector(), rules(), rules()).prop_map(|(key, pods, ingress, egress)| NetworkPolicy {
        key,
        pods,
        ingress,
        egress,
    })
}

fn subject() -> impl Strategy<Value = Subject> {
    (selector(), selector()).prop_map(|(namespaces, pods)| Subject { namespaces, pods })
}

fn cluster_rules() -> impl Strategy<Value = Vec<ClusterRule>> {
    let peer = prop_oneof![
        subject().prop_map(ClusterPeer::Pods),
        selector().prop_map(ClusterPeer::Nodes),
        net().prop_map(ClusterPeer::Network),
    ];
    let action = select(vec![Action::Accept, Action::Deny, Action::Pass]);
    let rule = (action, vec(peer, 0..3), ports()).prop_map(|(action, peers, ports)| ClusterRule {
        name: String::new(),
        action,
        peers,
        ports,
    });
    vec(rule, 0..3)
}

fn cluster_policy() -> impl Strategy<Value = ClusterPolicy> {
    let tier = select(vec![Tier::Admin, Tier::Baseline]);
    (text(&["c1", "c2"]), tier, select(vec![i32::MIN, 0, i32::MAX]), subject(), cluster_rules(), cluster_rules())
        .prop_map(|(name, tier, priority, subject, ingress, egress)| ClusterPolicy {
            name,
            tier,
            priority,
            subject,
            ingress,
            egress,
        })
}

fn change() -> impl Strategy<Value = Change> {
    let namespace = (text(&["x", "y", "z"]), labels()).prop_map(|(name, labels)| Namespace { name, labels });
    let node =
        (node_name(), labels(), addresses()).prop_map(|(name, labels, addresses)| Node { name, labels, addresses });
    prop_oneof![
        4 => namespace.prop_map(Change::Namespace),
        1 => text(&["x", "y", "z"]).prop_map(Change::NamespaceGone),
        8 => pod().prop_map(Change::Pod),
        2 => object().prop_map(Change::PodGone),
        2 => node.prop_map(Change::Node),
        1 => node_name().prop_map(Change::NodeGone),
        4 => policy().prop_map(Change::Policy),
        2 => object().prop_map(Change::PolicyGone),
        3 => cluster_policy().prop_map(Change::ClusterPolicy),
        1 => text(&["c1", "c2"]).prop_map(Change::ClusterPolicyGone),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => change().prop_map(|change| Step::Change(Box::new(change))),
        2 => node_name().prop_map(Step::Subscribe),
        1 => node_name().prop_map(Step::Unsubscribe),
        30 => Just(Step::Deltas),
        1 => node_name().prop_map(Step::Look),
    ]
}

fn names() -> [NodeName; 2] {
    ["n1", "n2"].map(NodeName::from)
}

fn apply_deltas(compiler: &mut Compiler, nodes: &mut BTreeMap<NodeName, Bundle>) {
    for (name, delta) in compiler.deltas() {
        let bundle = nodes.get_mut(&name).expect("only subscribed nodes are told");
        assert!(!delta.is_empty());
        assert_eq!(bundle.apply(delta.clone()), Ok(delta), "a delta is exact");
    }
    for (name, bundle) in nodes {
        assert_eq!(*bundle, compiler.bundle(name), "what a node was told is what it must know");
    }
}

/// Every profile and set that is named is there, and no other.
fn assert_closed(bundle: &Bundle) {
    let profiles: BTreeSet<_> = bundle.pods.values().filter_map(|pod| pod.profile).collect();
    assert_eq!(profiles, bundle.profiles.keys().copied().collect());
    let text = format!("{:?}", bundle.profiles);
    for id in bundle.sets.keys() {
        assert!(text.contains(&id.to_string()), "set {id} is named");
    }
    assert_eq!(
        bundle.sets.len(),
        text.match_indices("SetId(").map(|(at, _)| &text[at..at + 22]).collect::<BTreeSet<_>>().len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_happened_the_bundles_are_those_of_the_objects_that_are_left(
        first in vec(change(), 0..40),
        steps in vec(step(), 1..60),
        seed in any::<u64>(),
    ) {
        let (mut compiler, mut objects) = (Compiler::default(), Objects::default());
        let mut nodes: BTreeMap<NodeName, Bundle> = BTreeMap::new();
        let first = first.into_iter().map(|change| Step::Change(Box::new(change)));
        for step in first.chain(names().map(Step::Subscribe)).chain(steps) {
            match step {
                Step::Change(change) => {
                    objects.apply(&change);
                    compiler.apply(*change);
                }
                Step::Subscribe(name) => {
                    let bundle = compiler.subscribe(&name);
                    prop_assert_eq!(&bundle, &compiler.bundle(&name));
                    nodes.insert(name, bundle);
                }
                Step::Unsubscribe(name) => {
                    compiler.unsubscribe(&name);
                    nodes.remove(&name);
                }
                Step::Deltas => apply_deltas(&mut compiler, &mut nodes),
                Step::Look(name) => assert_closed(&compiler.bundle(&name)),
            }
        }
        apply_deltas(&mut compiler, &mut nodes);
        prop_assert_eq!(compiler.deltas(), vec![]);

        let mut fresh = Compiler::default();
        let mut left = objects.all();
        let turn = usize::try_from(seed % 97).unwrap() % left.len().max(1);
        left.rotate_left(turn);
        if seed.is_multiple_of(2) {
            left.reverse();
        }
        for change in left {
            fresh.apply(change);
        }
        for name in names() {
            let bundle = compiler.bundle(&name);
            assert_closed(&bundle);
            prop_assert_eq!(Digests::of(&bundle).whole(), Digests::of(&fresh.bundle(&name)).whole());
            prop_assert_eq!(bundle, fresh.bundle(&name));
        }
    }

    #[test]
    fn when_all_is_gone_nothing_is_left_of_it(changes in vec(change(), 1..40), with_deltas in any::<bool>()) {
        let (mut compiler, mut objects) = (Compiler::default(), Objects::default());
        for change in changes {
            objects.apply(&change);
            compiler.apply(change);
            if with_deltas {
                compiler.deltas();
            }
        }
        for change in objects.all() {
            compiler.apply(match change {
                Change::Namespace(namespace) => Change::NamespaceGone(namespace.name),
                Change::Pod(pod) => Change::PodGone(pod.key),
                Change::Node(node) => Change::NodeGone(node.name),
                Change::Policy(policy) => Change::PolicyGone(policy.key),
                Change::ClusterPolicy(policy) => Change::ClusterPolicyGone(policy.name),
                gone => gone,
            });
        }
        compiler.deltas();
        prop_assert_eq!(compiler.left(), 0);
    }
}
