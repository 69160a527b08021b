//! When it is looked at what nothing may tell of.

use std::time::{Duration, Instant};

/// How often everything is compared with the kernel although nothing was heard of: an event can be lost.
const COMPARE: Duration = Duration::from_mins(5);
/// How often it is looked whether the folder of leases is another one: of one above it that is, no event tells.
const RENEW: Duration = Duration::from_secs(10);
/// How soon what failed is tried again.
pub const RETRY: Duration = Duration::from_secs(1);

/// What is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Round {
    /// Whether the folder of leases is another one.
    Folder,
    /// Everything.
    All,
}

/// Says when what is due.
#[derive(Debug)]
pub struct Rounds {
    all: Instant,
    folder: Instant,
}

impl Rounds {
    /// All is due.
    pub const fn new(now: Instant) -> Self {
        Self { all: now, folder: now }
    }

    /// What is due, and then is done; a look at the folder is whenever somebody asks for it.
    pub fn take(&mut self, now: Instant, is_asked: bool) -> Option<Round> {
        let is_due = self.all <= now;
        if !is_due && !is_asked && now < self.folder {
            return None;
        }
        self.folder = now + RENEW;
        if !is_due {
            return Some(Round::Folder);
        }
        self.all = now + COMPARE;
        Some(Round::All)
    }

    /// Everything is due.
    pub const fn hurry(&mut self, now: Instant) {
        self.all = now;
    }

    /// Something failed.
    pub fn retry(&mut self, now: Instant) {
        self.all = self.all.min(now + RETRY);
    }

    /// When something is due next.
    pub fn next(&self) -> Instant {
        self.all.min(self.folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_is_looked_for_often_and_everything_compared_seldom() {
        let mut now = Instant::now();
        let mut rounds = Rounds::new(now);
        assert_eq!(rounds.take(now, false), Some(Round::All));
        // No longer than an ADD waits.
        assert!(rounds.next() - now <= Duration::from_secs(10));
        let end = now + COMPARE;
        while rounds.next() < end {
            assert_eq!(rounds.next() - now, RENEW);
            assert_eq!(rounds.take(now, false), None);
            now = rounds.next();
            assert_eq!(rounds.take(now, false), Some(Round::Folder));
        }
        assert_eq!(rounds.take(end, false), Some(Round::All));
    }

    #[test]
    fn what_somebody_asks_for_or_what_failed_does_not_wait() {
        let now = Instant::now();
        let mut rounds = Rounds::new(now);
        assert_eq!(rounds.take(now, true), Some(Round::All), "with the folder");
        assert_eq!(rounds.take(now, true), Some(Round::Folder));
        rounds.retry(now);
        assert_eq!(rounds.take(now, false), None);
        assert_eq!(rounds.next(), now + RETRY);
        rounds.retry(now + RETRY);
        assert_eq!(rounds.take(now + RETRY, false), Some(Round::All), "it was not put off");
        rounds.hurry(now);
        assert_eq!(rounds.take(now, false), Some(Round::All));
    }
}
