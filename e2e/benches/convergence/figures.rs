//! The outcome, for people.

use std::time::Duration;

use crate::rounds::{Flip, Outcome, Ways};
use crate::support::table::{Verdict, judge};

/// The bars, in milliseconds: half of the changes, and 99 of 100.
const IDLE: (f64, f64) = (8.0, 15.0);
/// 99 of 100, while other policies change.
const BUSY: f64 = 50.0;

/// Prints the tables and the bars; tells whether all are met.
pub fn print(idle: &Outcome, busy: &Outcome) -> bool {
    println!(
        "{:<44}{:>5}{:>9}{:>9}{:>9}{:>10}{:>12}",
        "milliseconds until a probe meets it", "n", "p50", "p99", "longest", "answered", "stragglers"
    );
    let mut verdicts = Vec::new();
    for (what, outcome) in [("idle", idle), ("busy", busy)] {
        let (policy, hand) = (rows(what, "policy", &outcome.policy), rows(what, "nft -f", &outcome.hand));
        let ratio = |of: fn(&Spread) -> f64| of(&policy) / of(&hand);
        println!(
            "{what}: {:.2}x of nft -f at the median, {:.2}x at 99 of 100; longest gap between probes {:.1} ms{}",
            ratio(|spread| spread.median),
            ratio(|spread| spread.most),
            milliseconds(outcome.gap),
            outcome.others.map(|rate| format!("; other policies changed: {rate:.0} a second")).unwrap_or_default()
        );
        println!();
        let verdict = |what, figure, bar| Verdict { what, figure, bar, unit: " ms" };
        if outcome.others.is_none() {
            verdicts.push(verdict("idle, half of the changes".to_owned(), policy.median, IDLE.0));
            verdicts.push(verdict("idle, 99 of 100 changes".to_owned(), policy.most, IDLE.1));
        } else {
            verdicts.push(verdict("while others change, 99 of 100 changes".to_owned(), policy.most, BUSY));
        }
    }
    judge(&verdicts)
}

/// How changes spread.
struct Spread {
    median: f64,
    most: f64,
    longest: f64,
}

impl Spread {
    fn of(values: impl Iterator<Item = Duration>) -> Self {
        let mut all: Vec<f64> = values.map(milliseconds).collect();
        all.sort_by(f64::total_cmp);
        // The nearest rank.
        let at = |percent: usize| all[(all.len() * percent).div_ceil(100).max(1) - 1];
        Self { median: at(50), most: at(99), longest: at(100) }
    }
}

/// Prints each way and both; gives both.
fn rows(when: &str, who: &str, Ways { denied, allowed }: &Ways) -> Spread {
    row(&format!("{when}, {who}: denied"), denied);
    row(&format!("{when}, {who}: allowed"), allowed);
    row(&format!("{when}, {who}"), &[&denied[..], &allowed[..]].concat())
}

fn row(what: &str, flips: &[Flip]) -> Spread {
    let spread = Spread::of(flips.iter().map(|flip| flip.until));
    let answered = Spread::of(flips.iter().map(|flip| flip.answered)).median;
    let stragglers: usize = flips.iter().map(|flip| flip.stragglers).sum();
    println!(
        "{what:<44}{:>5}{:>9.1}{:>9.1}{:>9.1}{answered:>10.1}{stragglers:>12}",
        flips.len(),
        spread.median,
        spread.most,
        spread.longest
    );
    spread
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
