//! Waiting for a condition, with a deadline and a way out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// Why a wait ended without what was waited for.
#[derive(Debug, thiserror::Error)]
pub enum WaitError {
    /// The deadline passed.
    #[error("{what}: not within {seconds} s; last seen: {last}", seconds = .limit.as_secs())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was there in its place.
        last: String,
    },
    /// The user interrupted.
    #[error("interrupted while waiting: {what}")]
    Interrupted {
        /// What was waited for.
        what: String,
    },
}

/// What one look found.
pub enum Look<T> {
    /// What was waited for.
    Found(T),
    /// Not yet, with what is there in its place.
    NotYet(String),
}

/// Set once the user wants the work to end; shared by whoever works.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Asks everyone to end.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether the work is to end.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How often is looked; short against everything that a lab waits for.
const PERIOD: Duration = Duration::from_millis(50);

/// Looks until `look` finds it. A look takes its time, on a busy machine more of it than there was: one that began before the
/// deadline counts.
///
/// # Errors
/// `look`'s own error, the deadline, or the user's interrupt.
pub fn until<T, E: From<WaitError>>(
    what: &str,
    limit: Duration,
    interrupt: &Interrupt,
    mut look: impl FnMut() -> Result<Look<T>, E>,
) -> Result<T, E> {
    let deadline = Instant::now() + limit;
    loop {
        let begun = Instant::now();
        let last = match look()? {
            Look::Found(found) => return Ok(found),
            Look::NotYet(last) => last,
        };
        if interrupt.is_set() {
            return Err(WaitError::Interrupted { what: what.to_owned() }.into());
        }
        if begun >= deadline {
            return Err(WaitError::Deadline { what: what.to_owned(), limit, last }.into());
        }
        std::thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_says_what_was_there_instead() {
        let error = until::<(), WaitError>("a node", Duration::ZERO, &Interrupt::default(), || {
            Ok(Look::NotYet("no node".into()))
        });
        assert_eq!(error.unwrap_err().to_string(), "a node: not within 0 s; last seen: no node");
    }

    #[test]
    fn an_interrupt_ends_a_wait_at_once() {
        let interrupt = Interrupt::default();
        interrupt.set();
        let error =
            until::<(), WaitError>("a node", Duration::from_hours(1), &interrupt, || Ok(Look::NotYet(String::new())));
        assert!(matches!(error, Err(WaitError::Interrupted { .. })));
    }
}
