//! What the operator counts, against what is said of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use towpath_operator::control::{Exported, Shared};
use towpath_operator::metrics::{Kind, Metrics, NodeState, Outcome, Verb};

const DOCUMENTED: &str = include_str!("../../docs/conditions.md");
const PREFIX: &str = "towpath_operator_";

/// The names at the beginning of the rows of tables.
fn documented() -> BTreeSet<String> {
    let cells = DOCUMENTED.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.filter(|name| name.starts_with(PREFIX)).map(|name| name.split('{').next().unwrap().to_owned()).collect()
}

/// The names as they are exported, counters with their ending.
fn exported() -> BTreeSet<String> {
    let exported = Exported { shared: Arc::new(Shared::default()), server: Arc::default() };
    let metrics = Metrics::default().collecting(Box::new(exported));
    // Those with labels are there once something was counted.
    metrics.wrote(Kind::NodeNetwork, Verb::Apply);
    metrics.passed(Outcome::Done, Duration::ZERO);
    metrics.count(NodeState::Desired, 1);
    let text = metrics.text();
    let described = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    described.map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() }).collect()
}

#[test]
fn every_metric_is_documented_and_no_other_is() {
    assert!(exported().len() > 20, "{:?}", exported());
    assert_eq!(exported(), documented());
}
