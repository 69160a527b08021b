//! How much may be told of what comes often.

use std::time::Instant;

/// So much at once, and so much in a second after that. Full at first.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Budget {
    /// When how much was left.
    left: Option<(Instant, f64)>,
}

impl Budget {
    /// Whether there is room for one more, which it takes then: `most` at once, and `each_second` after that.
    pub fn take(&mut self, (most, each_second): (f64, f64), now: Instant) -> bool {
        let (since, left) = self.left.unwrap_or((now, most));
        let passed = now.saturating_duration_since(since).as_secs_f64();
        let left = passed.mul_add(each_second, left).min(most);
        let has_room = left >= 1.0;
        self.left = Some((now.max(since), if has_room { left - 1.0 } else { left }));
        has_room
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_comes_often_is_told_as_often_as_there_is_room() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let mut took = |second| budget.take((2.0, 0.5), now + Duration::from_secs(second));
        assert_eq!([0, 0, 0, 1, 2].map(&mut took), [true, true, false, false, true]);
        assert_eq!([100, 100, 100].map(&mut took), [true, true, false]);
    }

    #[test]
    fn who_wants_less_from_now_on_gets_less() {
        let (mut budget, now) = (Budget::default(), Instant::now());
        let mut took = |most: f64| budget.take((most, most), now);
        assert_eq!([10.0, 2.0, 2.0, 2.0, 0.0].map(&mut took), [true, true, true, false, false]);
    }
}
