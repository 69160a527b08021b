//! When the next full comparison is due.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::{Duration, Instant};

/// How long one is waited for that nothing speaks for, at least: what makes up for events that were lost.
const SLOW: Duration = Duration::from_secs(10);
/// The same at most.
const SLOWEST: Duration = Duration::from_mins(5);
/// How much longer than it takes such a one is waited for: so all of them take 0.05 % of a processor at most.
const REST: u32 = 2000;
/// How soon what failed is tried again; every further time after twice as long, up to [`SLOW`].
const RETRY: Duration = Duration::from_millis(250);
/// How often that time is doubled at most.
const LONGEST_DOUBLED: u32 = 7;
/// How far two are apart at least: whatever happens meanwhile is one's work.
const APART: Duration = Duration::from_millis(2);
/// How far they are apart at most where there is something to do: what is altered is healed well within a second.
const FAR_APART: Duration = Duration::from_millis(250);

/// Says when to compare.
#[derive(Debug)]
pub struct Pace {
    hurries: bool,
    not_before: Instant,
    at_last: Instant,
    /// How often in a row something was left undone.
    unsettled: u32,
}

impl Pace {
    /// One is due at once.
    pub const fn new(now: Instant) -> Self {
        Self { hurries: true, not_before: now, at_last: now, unsettled: 0 }
    }

    /// Something speaks for one.
    pub const fn hurry(&mut self) {
        self.hurries = true;
    }

    /// Whether one waits only for the time to be ripe.
    pub const fn hurries(&self) -> bool {
        self.hurries
    }

    /// Whether the last one left nothing undone.
    pub const fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// When the next one is due.
    pub const fn next(&self) -> Instant {
        if self.hurries { self.not_before } else { self.at_last }
    }

    /// One was done that ended `now`, took `time` of the clock and `work` of the processor, and settled everything or not.
    pub fn done(&mut self, now: Instant, time: Duration, work: Duration, settled: bool) {
        self.hurries = false;
        // A long one means large tables: at least as much time goes to others.
        self.not_before = now + (time * 2).clamp(APART, FAR_APART);
        let wait = if settled {
            self.unsettled = 0;
            jittered((work * REST).clamp(SLOW, SLOWEST))
        } else {
            self.unsettled = (self.unsettled + 1).min(LONGEST_DOUBLED);
            (RETRY * (1 << (self.unsettled - 1))).min(SLOW)
        };
        self.at_last = now + wait;
    }
}

/// Up to a tenth less, so that the nodes of a cluster do not all compare at once.
fn jittered(wait: Duration) -> Duration {
    let random = u32::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
    wait.saturating_sub(wait / 10_000 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_costs_more_comes_less_often_but_not_where_something_speaks_for_it() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(pace.next(), now);
        let wait = |work, settled| {
            let mut pace = Pace::new(now);
            pace.done(now, work, work, settled);
            pace.next() - now
        };
        assert!((9 * SLOW / 10..=SLOW).contains(&wait(MS, true)));
        assert!((90 * Duration::from_secs(1)..=Duration::from_secs(100)).contains(&wait(50 * MS, true)));
        assert!(wait(10_000 * MS, true) <= SLOWEST);
        assert_eq!(wait(50 * MS, false), RETRY);
        let mut failing = Pace::new(now);
        let mut again = || {
            failing.done(now, MS, MS, false);
            failing.next() - now
        };
        assert_eq!([again(), again(), again()], [RETRY, 2 * RETRY, 4 * RETRY]);
        assert_eq!((0..20).map(|_| again()).last(), Some(SLOW));
        pace.done(now, 50 * MS, 50 * MS, true);
        pace.hurry();
        assert_eq!(pace.next() - now, 100 * MS);
    }
}
