//! Who leads: one replica at a time holds a `Lease`, and only the holder writes.
//!
//! The holder renews every second and stops believing in itself three seconds after it sent the last renewal that
//! succeeded. The others take the lease once they have seen it unchanged for its four seconds by their own clock, so
//! clocks need not agree, only run at about the same speed. A holder that ends gives the lease back, and the next
//! poll of the others takes it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// The name of the lease.
pub const NAME: &str = "towpath-operator";

const DURATION: Duration = Duration::from_secs(4);
const BELIEF: Duration = Duration::from_secs(3);
const PERIOD: Duration = Duration::from_secs(1);
/// How long a renewal may take: what is left of the belief after it is a period.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether this replica leads, for whoever is about to write.
#[derive(Clone, Debug)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Whether it does now.
    pub fn holds(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }
}

/// Takes part in the election.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Lease>,
    identity: String,
    until: watch::Sender<Option<Instant>>,
    /// What the lease was when it was last seen to change, and when that was.
    observed: Option<(String, Instant)>,
    changed: Arc<tokio::sync::Notify>,
}

impl Candidate {
    /// A candidate that was not elected yet. `identity` is made unique, so that a restarted process is another one.
    pub fn new(api: Api<Lease>, identity: &str, changed: Arc<tokio::sync::Notify>) -> (Self, Leadership) {
        let (until, receiver) = watch::channel(None);
        let identity = format!("{identity}_{:x}", Timestamp::now().as_microsecond());
        (Self { api, identity, until, observed: None, changed }, Leadership(receiver))
    }

    /// Stands for election until `end` changes, then gives the lease back.
    pub async fn campaign(mut self, mut end: watch::Receiver<bool>) {
        let mut polls = tokio::time::interval(PERIOD);
        polls.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let ended = tokio::select! {
                _ = polls.tick() => false,
                () = over(&mut end) => true,
            };
            if ended {
                break;
            }
            self.poll().await;
        }
        self.release().await;
    }

    async fn poll(&mut self) {
        let sent = Instant::now();
        match timeout(PATIENCE, self.attempt()).await {
            Ok(Ok(true)) => self.believe(sent + BELIEF),
            Ok(Ok(false)) => self.stop_believing(),
            // Who cannot renew goes on until its belief ends by itself.
            Ok(Err(error)) => tracing::debug!(%error, "lease not renewed"),
            Err(_) => tracing::debug!("lease not renewed in time"),
        }
        if self.until.borrow().is_some_and(|until| until <= Instant::now()) {
            self.stop_believing();
        }
    }

    fn believe(&self, until: Instant) {
        if self.until.send_replace(Some(until)).is_none() {
            tracing::info!(identity = self.identity, "leading");
            self.changed.notify_one();
        }
    }

    fn stop_believing(&self) {
        if self.until.send_replace(None).is_some() {
            tracing::info!(identity = self.identity, "not leading any more");
            self.changed.notify_one();
        }
    }

    /// Tries to hold the lease; the resource version makes sure that of two who try, one does.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            return written(self.api.create(&PostParams::default(), &self.claim(None)).await);
        };
        if !self.free(&lease) {
            return Ok(false);
        }
        written(self.api.replace(NAME, &PostParams::default(), &self.claim(Some(lease))).await)
    }

    /// Whether the lease is ours, nobody's, or of one who has not renewed it for as long as it lasts.
    fn free(&mut self, lease: &Lease) -> bool {
        let spec = lease.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let now = Instant::now();
        let since = match &self.observed {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.observed = Some((version, now));
                now
            }
        };
        let lasts =
            spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok()).map_or(DURATION, Duration::from_secs);
        now.duration_since(since) >= lasts
    }

    /// The lease as it is when held by us.
    fn claim(&self, before: Option<Lease>) -> Lease {
        let now = MicroTime(Timestamp::now());
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            spec: None,
        });
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            spec.holder_identity = Some(self.identity.clone());
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.renew_time = Some(now);
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        lease
    }

    async fn release(&self) {
        if self.until.send_replace(None).is_none() {
            return;
        }
        let given_back = timeout(PERIOD, async {
            let mut lease = self.api.get(NAME).await?;
            let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
            if spec.holder_identity.as_ref() == Some(&self.identity) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                self.api.replace(NAME, &PostParams::default(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        });
        if let Ok(Ok(())) = given_back.await {
            tracing::info!(identity = self.identity, "lease given back");
        } else {
            tracing::warn!(identity = self.identity, "lease not given back, it runs out in seconds");
        }
    }
}

/// Returns when the process is to end; an error would say that the sender is gone, which is an end too.
async fn over(end: &mut watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

/// A conflict says that somebody else was faster.
fn written(done: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match done {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error),
    }
}
