//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LAST: Duration = Duration::from_secs(10);

/// Twice as long after each failure, and never the same for two agents: they all lose a replica at once.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    pub(super) fn reset(&mut self) {
        self.0 = FIRST;
    }

    /// Between half and all of what it is now.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.0.mul_f64(fastrand::f64().mul_add(0.5, 0.5));
        self.0 = (self.0 * 2).min(LAST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_ten_seconds_and_begin_anew_after_success() {
        let mut backoff = Backoff::default();
        for most in [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            let pause = backoff.next().as_millis();
            assert!((most / 2..=most).contains(&pause), "{pause} of {most}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
