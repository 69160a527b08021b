//! The operator's certificates: it issues them itself.
//!
//! Authorities are kept in a Secret, their certificates are published in a `ConfigMap`. When one is half as old as it may
//! become, the next one is made and published; a day later, when every agent can know it, the next one signs; two days
//! after that nothing is left that the old one signed, and it goes. Each replica signs itself a certificate for a day.
//!
//! Everything begins an hour earlier than now, for clocks that are behind.

mod issue;
mod keeper;
mod kube;

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub use self::kube::KubeStore;
pub use issue::{Certificates, IssueError, server_config};
pub use keeper::{Keeper, Loaded, Store, StoreError, Stored};

use crate::OPERATOR;

/// How far clocks may be behind.
const LEEWAY: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// How old an authority becomes.
const AUTHORITY_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long an authority is published before it signs.
const OVERLAP: Duration = DAY;
/// How long a certificate of a replica is good.
const CERTIFICATE_LIFE: Duration = DAY;

/// Who signs, who did, and who will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Authorities(Vec<Authority>);

/// One authority.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Authority {
    /// In PEM.
    certificate: String,
    /// In PEM (PKCS #8).
    key: String,
    /// Its common name.
    name: String,
    not_before: SystemSeconds,
    not_after: SystemSeconds,
    signs_from: SystemSeconds,
}

/// Seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
struct SystemSeconds(u64);

impl SystemSeconds {
    fn new(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default())
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.0)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Authority {
    fn make(now: SystemTime, signs_from: SystemTime) -> Result<Self, IssueError> {
        let name = format!("{OPERATOR}-ca-{}", SystemSeconds::new(now).0);
        let (not_before, not_after) = (now - LEEWAY, now + AUTHORITY_LIFE);
        let (certificate, key) = issue::authority(&name, not_before, not_after)?;
        let [not_before, not_after, signs_from] = [not_before, not_after, signs_from].map(SystemSeconds::new);
        Ok(Self { certificate, key, name, not_before, not_after, signs_from })
    }

    /// Whether a certificate of it is believed by whoever has a clock that is right, and will be for a while.
    fn is_good(&self, now: SystemTime) -> bool {
        self.not_before.time() <= now + LEEWAY && now + CERTIFICATE_LIFE < self.not_after.time()
    }

    fn is_half_over(&self, now: SystemTime) -> bool {
        now >= self.not_before.time() + AUTHORITY_LIFE / 2
    }
}

impl Authorities {
    /// Brings them up to date, and tells whether they changed.
    pub fn turn(&mut self, now: SystemTime) -> Result<bool, IssueError> {
        let before = self.0.clone();
        // What a clock that was ahead has made is of no use now, and neither is what has expired.
        self.0.retain(|authority| authority.is_good(now));
        self.0.sort_by_key(|authority| authority.signs_from);
        match self.0.last() {
            None => self.0.push(Authority::make(now, now)?),
            Some(last) if last.is_half_over(now) => self.0.push(Authority::make(now, now + OVERLAP)?),
            Some(_) => {}
        }
        self.retire(now);
        Ok(self.0 != before)
    }

    /// Takes away those of which nothing is left that they signed.
    fn retire(&mut self, now: SystemTime) {
        let is_over = |authority: &Authority| authority.signs_from.time() + CERTIFICATE_LIFE * 2 <= now;
        if let Some(last) = self.0.iter().rposition(is_over) {
            self.0.drain(..last);
        }
    }

    /// The one that signs now.
    fn signer(&self, now: SystemTime) -> Option<&Authority> {
        let signs = |authority: &&Authority| authority.signs_from.time() <= now + LEEWAY && authority.is_good(now);
        self.0.iter().filter(signs).max_by_key(|authority| authority.signs_from)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Their certificates, for agents: in PEM, one behind the other.
    pub fn published(&self) -> String {
        self.0.iter().map(|authority| authority.certificate.as_str()).collect()
    }
}

#[cfg(test)]
mod tests;
