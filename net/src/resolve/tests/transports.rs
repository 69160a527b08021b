//! Whatever is declared, any two nodes have a way to each other, and what is to be encrypted is.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::intent::{DraftException, Selector};
use crate::transport::Transport::{Direct, Geneve, Ipip, Vxlan, WireGuard};

const fn crossing(mode: Transport, cross_subnet_only: bool) -> Crossing {
    Crossing { mode, cross_subnet_only }
}

/// A network with one exception for each label `is=0`, `is=1` and so on.
fn with(cluster: Crossing, exceptions: &[Crossing]) -> Draft {
    let exception = |(index, own): (usize, &Crossing)| DraftException {
        name: index.to_string(),
        selector: Selector { labels: labels(Some(index)), ..Selector::default() },
        transport: Some(*own),
        ..DraftException::default()
    };
    Draft { transport: cluster.into(), exceptions: exceptions.iter().enumerate().map(exception).collect(), ..draft() }
}

fn labels(exception: Option<usize>) -> BTreeMap<String, String> {
    exception.into_iter().map(|index| ("is".to_owned(), index.to_string())).collect()
}

/// Two nodes without an exception, and two under each: the name's first letter says which.
fn nodes(exceptions: usize) -> Facts {
    let kinds = std::iter::once(None).chain((0..exceptions).map(Some));
    let both = kinds.flat_map(|kind| [(kind, 1), (kind, 2)]);
    let node = |(kind, number): (Option<usize>, usize)| {
        let last = number + 2 * kind.map_or(0, |kind| kind + 1);
        let addresses = [format!("172.16.30.{last}"), format!("fd00:172::{last}")].map(|a| a.parse().unwrap()).to_vec();
        let name = kind.map_or_else(|| format!("d{number}"), |kind| format!("{kind}-{number}"));
        (name.as_str().into(), NodeFacts { addresses, labels: labels(kind), ..NodeFacts::default() })
    };
    Facts { nodes: both.map(node).collect(), ..Facts::default() }
}

fn specs(cluster: Crossing, exceptions: &[Crossing]) -> BTreeMap<NodeName, NodeSpec> {
    let out = resolved(&with(cluster, exceptions), &nodes(exceptions.len()));
    assert!(out.findings.is_empty());
    out.specs
}

/// By what one sends to another of its subnet, and of another.
fn ways(specs: &BTreeMap<NodeName, NodeSpec>, from: &str, to: &str) -> [Option<Transport>; 2] {
    [true, false].map(|near| specs[from].transport.toward(&specs[to].transport.accepts, near))
}

#[test]
fn a_cluster_of_one_mode_sends_by_it_alone() {
    for mode in Transport::ALL {
        let specs = specs(crossing(mode, false), &[]);
        assert_eq!(specs["d1"].transport, Transports::only(mode));
    }
    let specs = specs(crossing(Vxlan, true), &[]);
    assert_eq!((&specs["d1"].transport.prefers, &specs["d1"].transport.accepts), (&vec![Vxlan], &vec![Direct, Vxlan]));
    assert_eq!(ways(&specs, "d1", "d2"), [Some(Direct), Some(Vxlan)]);
}

#[test]
fn nodes_send_to_an_exception_by_its_mode_and_it_sends_by_its_own() {
    let specs = specs(crossing(Vxlan, false), &[crossing(Ipip, false), crossing(Geneve, false)]);
    for (from, to, by) in [("d1", "d2", Vxlan), ("d1", "0-1", Ipip), ("0-1", "d1", Ipip), ("0-1", "1-1", Geneve)] {
        assert_eq!(ways(&specs, from, to), [Some(by); 2], "{from} {to}");
    }
    assert_eq!(specs["d1"].transport.accepts, [Ipip, Vxlan, Geneve]);
    assert_eq!((&specs["0-1"].transport.accepts, specs["0-1"].transport.prefers[0]), (&vec![Ipip], Ipip));
}

#[test]
fn a_direct_cluster_reaches_nodes_of_other_subnets_by_the_tunnel_that_these_have() {
    let specs = specs(crossing(Direct, false), &[crossing(Ipip, true)]);
    for (from, to) in [("d1", "0-1"), ("0-1", "d1"), ("0-1", "0-2"), ("d1", "d2")] {
        assert_eq!(ways(&specs, from, to), [Some(Direct), Some(Ipip)], "{from} {to}");
    }
}

#[test]
fn an_exception_that_encrypts_is_reached_by_that_alone_also_from_other_exceptions() {
    let specs = specs(crossing(Vxlan, true), &[crossing(WireGuard, false), crossing(Ipip, true)]);
    for other in ["d1", "0-2", "1-1"] {
        assert_eq!(ways(&specs, other, "0-1"), [Some(WireGuard); 2], "{other}");
        assert_eq!(ways(&specs, "0-1", other), [Some(WireGuard); 2], "{other}");
    }
    assert!(specs["0-1"].transport.is_encrypted() && !specs["d1"].transport.is_encrypted());
}

fn any_crossing() -> impl Strategy<Value = Crossing> {
    (prop::sample::select(Transport::ALL.to_vec()), any::<bool>())
        .prop_map(|(mode, bypass)| crossing(mode, bypass && mode.is_tunnel()))
}

proptest! {
    #[test]
    fn any_two_nodes_have_a_way_to_each_other_or_the_network_is_refused(
        cluster in any_crossing(),
        exceptions in prop::collection::vec(any_crossing(), 0..4),
    ) {
        let draft = with(cluster, &exceptions);
        let Ok(intent) = validate(&draft) else {
            // The only thing that is wrong with any of these is that it would not encrypt what it should.
            prop_assert_eq!(cluster.mode, WireGuard);
            return Ok(());
        };
        let specs = resolve(&intent, &nodes(exceptions.len()), &allocate(&intent, &nodes(exceptions.len()))).specs;
        let own = |name: &NodeName| name.0.split_once('-').map_or(cluster, |(kind, _)| exceptions[kind.parse::<usize>().unwrap()]);
        for (one, here) in &specs {
            prop_assert_eq!(here.transport.is_encrypted(), own(one).is_encrypted());
            for (other, there) in specs.iter().filter(|(other, _)| *other != one) {
                let [near, far] = ways(&specs, &one.0, &other.0);
                prop_assert!(near.is_some() && far.is_some(), "{} {}", one, other);
                for by in [near, far].into_iter().flatten() {
                    prop_assert!(there.transport.accepts.contains(&by));
                    let encrypts = own(one).is_encrypted() || own(other).is_encrypted();
                    prop_assert!(!encrypts || by == WireGuard, "{} {} {}", one, other, by);
                }
                let is_direct = own(one).mode == Direct || own(other).mode == Direct;
                prop_assert!(far != Some(Direct) || is_direct, "{} {}", one, other);
            }
        }
    }
}
