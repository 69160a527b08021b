//! Rows of a profile: what a command shows, compared with what it should.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use crate::cluster::Cluster;

/// How long a row may take to come true: the agent follows within a second, an image's first command takes longer.
const SETTLED: Duration = Duration::from_secs(10);

/// Where a command runs.
#[derive(Clone, Copy)]
pub enum Place<'a> {
    /// On a node.
    Node(&'a str),
    /// In a pod.
    Pod(&'a str),
    /// Nowhere: `kubectl` with these words.
    Api,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Pod(name) => write!(f, "pod {name}"),
            Self::Api => f.write_str("kubectl"),
        }
    }
}

/// What the lines of an answer should be. A pattern fits a line that has all of its words, in their order.
pub enum Expected {
    /// Each pattern fits a line of its own, and there is no other line.
    Exactly(Vec<String>),
    /// Each pattern fits some line.
    Has(Vec<String>),
    /// The text is nowhere.
    Lacks(&'static str),
}

/// [`Expected::Exactly`], from anything that reads as text.
pub fn exactly<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Expected {
    Expected::Exactly(patterns.into_iter().map(Into::into).collect())
}

/// [`Expected::Has`] of one pattern.
pub fn has(pattern: impl Into<String>) -> Expected {
    Expected::Has(vec![pattern.into()])
}

fn fits(line: &str, pattern: &str) -> bool {
    let mut words = line.split_whitespace();
    pattern.split_whitespace().all(|wanted| words.any(|word| word == wanted))
}

impl Expected {
    fn check(&self, seen: &str) -> Result<(), String> {
        let mut lines: Vec<&str> = seen.lines().filter(|line| !line.trim().is_empty()).collect();
        match self {
            Self::Lacks(text) if seen.contains(text) => Err(format!("it has {text:?}")),
            Self::Lacks(_) => Ok(()),
            Self::Has(patterns) => patterns.iter().try_for_each(|pattern| {
                let found = lines.iter().any(|line| fits(line, pattern));
                if found { Ok(()) } else { Err(format!("no line with {pattern:?}")) }
            }),
            Self::Exactly(patterns) => {
                for pattern in patterns {
                    let place = lines.iter().position(|line| fits(line, pattern));
                    lines.remove(place.ok_or_else(|| format!("no line with {pattern:?}"))?);
                }
                if lines.is_empty() { Ok(()) } else { Err(format!("more than expected: {lines:?}")) }
            }
        }
    }
}

/// The rows of one profile, as they come: all are looked at before any fails the test.
pub struct Sheet<'a> {
    cluster: &'a Cluster,
    profile: &'static str,
    rows: usize,
    failures: String,
}

impl<'a> Sheet<'a> {
    /// An empty one.
    pub fn new(cluster: &'a Cluster, profile: &'static str) -> Self {
        Self { cluster, profile, rows: 0, failures: String::new() }
    }

    fn look(&self, place: Place<'_>, command: &str) -> Result<String, String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let lab = &self.cluster.lab;
        match place {
            Place::Api => lab.kubectl(&words).map_err(|error| error.to_string()),
            Place::Pod(name) => {
                let output = lab.pod_exec("default", name, &words).map_err(|error| error.to_string())?;
                if output.success { Ok(output.stdout) } else { Err(output.stderr + &output.stdout) }
            }
            Place::Node(name) => {
                let output = lab.node(name).and_then(|node| node.exec(&words)).map_err(|error| error.to_string())?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                if output.status.success() {
                    return Ok(text);
                }
                Err(String::from_utf8_lossy(&output.stderr).into_owned() + &text)
            }
        }
    }

    /// Compares what a command shows with what it should.
    pub fn row(&mut self, name: &str, place: Place<'_>, command: &str, expected: &Expected) {
        let deadline = Instant::now() + SETTLED;
        let verdict = loop {
            let seen = self.look(place, command);
            let verdict = match &seen {
                Ok(text) => expected.check(text).map_err(|why| format!("{why}; seen:\n{text}")),
                Err(error) => Err(error.clone()),
            };
            if verdict.is_ok() || Instant::now() > deadline {
                break verdict;
            }
        };
        self.note(name, &format!("{place}: {command}"), verdict);
    }

    /// A row that somebody else has looked at.
    pub fn note(&mut self, name: &str, how: &str, verdict: Result<(), String>) {
        self.rows += 1;
        let mark = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("{} | {name} | {how} | {mark}", self.profile);
        if let Err(why) = verdict {
            writeln!(self.failures, "{name} ({how}): {why}").unwrap();
        }
    }

    /// Fails where a row did, with all that did.
    #[track_caller]
    pub fn finish(self) {
        println!("{}: {} rows compared", self.profile, self.rows);
        assert!(self.failures.is_empty(), "{} is not as profiles.md has it:\n{}", self.profile, self.failures);
    }
}

#[test]
fn a_pattern_is_words_in_their_order() {
    let line = "10.42.1.0/24 nhid 7 via 10.42.1.0 dev towvxlan4 proto 117 onlink";
    assert!(fits(line, "10.42.1.0/24 via 10.42.1.0 dev towvxlan4 onlink"));
    assert!(!fits(line, "dev towvxlan4 via") && !fits(line, "10.42.1.0/2"));
    assert!(exactly(["a c", "b"]).check("b\na b c\n").is_ok());
    assert!(exactly(["a"]).check("a\na\n").is_err() && has("b").check("a").is_err());
}
