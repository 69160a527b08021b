//! The outcome, for people.

use std::time::Duration;

use super::figures::Series;

/// A figure that is held against a bar.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// Of what.
    pub what: String,
    /// The figure.
    pub figure: f64,
    /// The bar; the figure may not be above it.
    pub bar: f64,
    /// What both count.
    pub unit: &'static str,
}

impl Verdict {
    /// Whether the bar is met.
    pub fn met(&self) -> bool {
        self.figure <= self.bar
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was done, by whom.
    pub what: String,
    /// What was measured.
    pub series: Series,
    /// How many were attached in each measurement.
    pub count: u32,
}

/// All that came out.
#[derive(Debug, Default)]
pub struct Report {
    /// The table.
    pub rows: Vec<Row>,
    /// The bars.
    pub verdicts: Vec<Verdict>,
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Prints the table and the bars; tells whether all of them are met.
pub fn print(report: &Report) -> bool {
    println!("{:<52}{:>10}{:>10}{:>10}{:>10}{:>9}", "milliseconds", "wall", "minimum", "CPU", "minimum", "/s");
    for row in &report.rows {
        let (median, minimum) = (row.series.median(), row.series.minimum());
        let [wall, least_wall, cpu, least_cpu] = [median.wall, minimum.wall, median.cpu, minimum.cpu].map(milliseconds);
        let rate = f64::from(row.count) * 1000.0 / wall;
        println!("{:<52}{wall:>10.2}{least_wall:>10.2}{cpu:>10.2}{least_cpu:>10.2}{rate:>9.0}", row.what);
    }
    println!();
    judge(&report.verdicts)
}

/// Prints the bars; tells whether all of them are met.
pub fn judge(verdicts: &[Verdict]) -> bool {
    for verdict in verdicts {
        let outcome = if verdict.met() { "met   " } else { "MISSED" };
        let Verdict { what, figure, bar, unit } = verdict;
        println!("{outcome}  {what}: {figure:.3}{unit}, the bar is {bar}{unit}");
    }
    verdicts.iter().all(Verdict::met)
}
