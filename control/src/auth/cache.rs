//! What was said of tokens lately.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};
use towpath_net::state::NodeName;

use super::Refused;

/// How long a good token is not asked about again.
const GOOD: Duration = Duration::from_secs(300);
/// How long a bad one is not.
const BAD: Duration = Duration::from_secs(10);
/// How many tokens are remembered: more than there are agents.
const MOST: usize = 20_000;

/// Stands for a token, which is kept nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(super) fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// What was said of a token.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) result: Result<NodeName, Refused>,
    since: SystemTime,
    expires: SystemTime,
}

impl Kept {
    pub(super) fn new(result: Result<NodeName, Refused>, since: SystemTime, expires: SystemTime) -> Self {
        Self { result, since, expires }
    }

    /// Whether the judge need not be asked again. Where the clock went back, it must.
    pub(super) fn is_fresh(&self, now: SystemTime) -> bool {
        let most = if self.result.is_ok() { GOOD } else { BAD };
        now.duration_since(self.since).is_ok_and(|age| age < most)
    }

    fn is_useful(&self, now: SystemTime) -> bool {
        now < self.expires && (self.result.is_ok() || self.is_fresh(now))
    }
}

#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<HashMap<Fingerprint, Kept>>);

impl Cache {
    pub(super) fn get(&self, token: Fingerprint) -> Option<Kept> {
        self.all().get(&token).cloned()
    }

    pub(super) fn put(&self, token: Fingerprint, kept: Kept, now: SystemTime) {
        let mut all = self.all();
        if all.len() >= MOST {
            all.retain(|_, kept| kept.is_useful(now));
        }
        // Still full of good ones: whoever was refused is not remembered.
        if all.len() < MOST || kept.result.is_ok() {
            all.insert(token, kept);
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Fingerprint, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
