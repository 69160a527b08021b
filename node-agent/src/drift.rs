//! What was found amiss and put right, although nobody had asked for a change.

use std::collections::VecDeque;
use std::time::SystemTime;

use towpath_net::ops::Op;

/// How many entries are kept: status objects stay small.
pub const KEPT: usize = 10;

/// One thing that was put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// When it was put right.
    pub time: SystemTime,
    /// What had been deleted or altered.
    pub object: String,
    /// What was done about it.
    pub change: String,
    /// How often in all.
    pub times: u64,
}

impl Drift {
    /// Something that was put right now, for the first time.
    pub fn now(object: impl Into<String>, change: impl Into<String>) -> Self {
        Self { time: SystemTime::now(), object: object.into(), change: change.into(), times: 1 }
    }
}

/// The last few things that were put right, and how many there were in all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriftLog {
    last: VecDeque<Drift>,
    total: u64,
}

impl DriftLog {
    /// Notes operations that were done at `time`.
    pub fn note<'a>(&mut self, time: SystemTime, ops: impl IntoIterator<Item = &'a Op>) {
        for op in ops {
            self.note_one(Drift { time, object: op.object(), change: op.to_string(), times: 1 });
        }
    }

    /// Notes one thing. What was put right like this before is one entry with it.
    pub fn note_one(&mut self, mut drift: Drift) {
        self.total += drift.times;
        let same = |d: &Drift| d.object == drift.object && d.change == drift.change;
        if let Some(earlier) = self.last.iter().position(same).and_then(|at| self.last.remove(at)) {
            drift.times += earlier.times;
        }
        self.last.push_front(drift);
        self.last.truncate(KEPT);
    }

    /// The last few, newest first.
    pub fn last(&self) -> impl Iterator<Item = &Drift> {
        self.last.iter()
    }

    /// How many there were since the agent started.
    pub const fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_come_first_and_old_ones_only_count() {
        let mut log = DriftLog::default();
        let time = SystemTime::UNIX_EPOCH;
        for n in 0..15 {
            log.note_one(Drift { time, object: format!("route {n}"), change: "added".to_owned(), times: 1 });
        }
        assert_eq!(log.total(), 15);
        assert_eq!(log.last().count(), KEPT);
        assert_eq!(log.last().next().map(|d| d.object.as_str()), Some("route 14"));
    }

    #[test]
    fn what_is_put_right_again_and_again_is_one_entry() {
        let mut log = DriftLog::default();
        for object in ["route 1", "route 2", "route 1", "route 1"] {
            log.note_one(Drift::now(object, "added"));
        }
        let entries: Vec<(&str, u64)> = log.last().map(|d| (d.object.as_str(), d.times)).collect();
        assert_eq!((entries, log.total()), (vec![("route 1", 3), ("route 2", 1)], 4));
    }
}
