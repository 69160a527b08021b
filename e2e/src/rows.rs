//! Rows of a page that says how a node is: what is seen there, compared with what it should be.

use std::time::{Duration, Instant};

/// How long a row may take to come true: the agent follows within a second, an image's first command takes longer.
const SETTLED: Duration = Duration::from_secs(10);

/// What the lines of an answer should be. A pattern fits a line that has all of its words, in their order.
#[derive(Debug)]
pub enum Expected {
    /// Each pattern fits a line of its own, and there is no other line.
    Exactly(Vec<String>),
    /// Each pattern fits some line.
    Has(Vec<String>),
    /// The text is nowhere.
    Lacks(&'static str),
}

/// [`Expected::Exactly`], from anything that reads as text.
#[must_use]
pub fn exactly<T: Into<String>>(patterns: impl IntoIterator<Item = T>) -> Expected {
    Expected::Exactly(patterns.into_iter().map(Into::into).collect())
}

/// [`Expected::Has`] of one pattern.
#[must_use]
pub fn has(pattern: impl Into<String>) -> Expected {
    Expected::Has(vec![pattern.into()])
}

fn fits(line: &str, pattern: &str) -> bool {
    let mut words = line.split_whitespace();
    pattern.split_whitespace().all(|wanted| words.any(|word| word == wanted))
}

impl Expected {
    /// Whether an answer is so; says what is not.
    ///
    /// # Errors
    /// The first line that is missing, or those that are too many.
    pub fn check(&self, seen: &str) -> Result<(), String> {
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

/// The rows of one page, as they come: all are looked at before any fails a test.
#[derive(Debug)]
pub struct Rows {
    page: &'static str,
    count: usize,
    failures: Vec<String>,
}

impl Rows {
    /// None yet.
    #[must_use]
    pub const fn new(page: &'static str) -> Self {
        Self { page, count: 0, failures: Vec::new() }
    }

    /// Looks until what is seen is as expected, or it was for long enough.
    pub fn row(
        &mut self,
        name: &str,
        how: &str,
        expected: &Expected,
        mut look: impl FnMut() -> Result<String, String>,
    ) {
        let deadline = Instant::now() + SETTLED;
        let verdict = loop {
            let verdict = look().and_then(|text| match expected.check(&text) {
                Ok(()) => Ok(()),
                Err(why) => Err(format!("{why}; seen:\n{text}")),
            });
            if verdict.is_ok() || Instant::now() > deadline {
                break verdict;
            }
        };
        self.note(name, how, verdict);
    }

    /// A row that somebody else has looked at.
    pub fn note(&mut self, name: &str, how: &str, verdict: Result<(), String>) {
        self.count += 1;
        let mark = if verdict.is_ok() { "ok" } else { "FAILED" };
        println!("{} | {name} | {how} | {mark}", self.page);
        if let Err(why) = verdict {
            self.failures.push(format!("{name} ({how}): {why}"));
        }
    }

    /// Fails where a row did, with all that did.
    ///
    /// # Panics
    /// Where a row is not as it should be.
    #[track_caller]
    pub fn finish(self) {
        println!("{}: {} rows compared", self.page, self.count);
        assert!(self.failures.is_empty(), "{} is not as it should be:\n{}", self.page, self.failures.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_words_in_their_order() {
        let line = "10.42.1.0/24 nhid 7 via 10.42.1.0 dev towvxlan4 proto 117 onlink";
        assert!(fits(line, "10.42.1.0/24 via 10.42.1.0 dev towvxlan4 onlink"));
        assert!(!fits(line, "dev towvxlan4 via") && !fits(line, "10.42.1.0/2"));
        assert!(exactly(["a c", "b"]).check("b\na b c\n").is_ok());
        assert!(exactly(["a"]).check("a\na\n").is_err() && has("b").check("a").is_err());
    }
}
