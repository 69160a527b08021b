//! Keeps authorities and the replica's own certificate up to date.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::{Authorities, Certificates, IssueError, LEEWAY};

/// How often everything is looked at.
const PERIOD: Duration = Duration::from_secs(300);
/// How soon again where it failed.
const RETRY: Duration = Duration::from_secs(2);

/// Where authorities are kept, and published.
pub trait Store: Send + Sync + 'static {
    /// Those that there are.
    fn load(&self) -> impl Future<Output = Result<Option<Loaded>, StoreError>> + Send;

    /// Stores them, unless somebody else did since they were loaded.
    fn store(
        &self,
        authorities: &Authorities,
        before: Option<&Loaded>,
    ) -> impl Future<Output = Result<Stored, StoreError>> + Send;

    /// Publishes certificates, in PEM.
    fn publish(&self, pem: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
}

/// Authorities as they are stored.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is stored.
    pub authorities: Authorities,
    /// Names this version of them.
    pub version: String,
    /// When they were first stored, by the store's clock.
    pub created: Option<SystemTime>,
}

/// What became of an attempt to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is stored.
    Done,
    /// Somebody else was first.
    Conflict,
}

/// Why authorities are not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The API server does not answer, or refuses.
    #[error("{operation} {object}: {reason}")]
    Api {
        /// What was tried.
        operation: &'static str,
        /// With what.
        object: String,
        /// Why it failed.
        reason: String,
    },
    /// What is stored is not what it should be.
    #[error("{object} cannot be read: {reason}; delete it, and new authorities are made")]
    Malformed {
        /// What cannot be read.
        object: String,
        /// Why.
        reason: String,
    },
    /// There are none, and this replica is not the one that makes them.
    #[error("the leader has made no authorities yet")]
    NotYet,
    /// The clock is wrong.
    #[error("the clock of this replica is behind: its authorities were made later than now")]
    Clock,
    /// A certificate cannot be issued.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

/// Keeps authorities and this replica's certificate up to date.
pub struct Keeper<S> {
    store: S,
    certificates: Arc<Certificates>,
    clock: fn() -> SystemTime,
    /// Those that were there last.
    known: Authorities,
}

impl<S: Store> Keeper<S> {
    /// A keeper of this replica's `certificates`.
    pub fn new(store: S, certificates: Arc<Certificates>, clock: fn() -> SystemTime) -> Self {
        Self { store, certificates, clock, known: Authorities::default() }
    }

    /// Keeps them for ever. Where `leads` does not hold, authorities are used, and not written.
    pub async fn keep(mut self, leads: impl Fn() -> bool) {
        loop {
            let pause = match self.turn(leads()).await {
                Ok(()) => PERIOD,
                Err(StoreError::NotYet) => RETRY,
                Err(error) => {
                    warn!(%error, "authorities are not up to date; those that there are go on");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Brings everything up to date once. While the store does not answer, certificates are of the authorities that were
    /// there last.
    pub async fn turn(&mut self, leads: bool) -> Result<(), StoreError> {
        let now = (self.clock)();
        match self.authorities(leads, now).await {
            Ok(authorities) => {
                self.known = authorities;
                self.certificates.renew(&self.known, now)?;
                Ok(())
            }
            Err(error) => {
                if !self.known.is_empty() {
                    self.certificates.renew(&self.known, now)?;
                }
                Err(error)
            }
        }
    }

    /// Those that there are now; made, changed and published where this replica leads.
    async fn authorities(&self, leads: bool, now: SystemTime) -> Result<Authorities, StoreError> {
        let loaded = self.store.load().await?;
        let created = loaded.as_ref().and_then(|loaded| loaded.created);
        if created.is_some_and(|created| now + LEEWAY < created) {
            return Err(StoreError::Clock);
        }
        if !leads {
            return loaded.map(|loaded| loaded.authorities).ok_or(StoreError::NotYet);
        }
        let mut authorities = loaded.as_ref().map(|loaded| loaded.authorities.clone()).unwrap_or_default();
        if authorities.turn(now)? {
            match self.store.store(&authorities, loaded.as_ref()).await? {
                Stored::Done => info!("authorities changed"),
                // Whoever was first has done the same that this replica would have.
                Stored::Conflict => authorities = self.store.load().await?.ok_or(StoreError::NotYet)?.authorities,
            }
        }
        // Before any certificate is shown that only they make believed.
        self.store.publish(&authorities.published()).await?;
        Ok(authorities)
    }
}
