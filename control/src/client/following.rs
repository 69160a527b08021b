//! One stream, as long as it lasts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tokio::time::{Instant, sleep_until};
use tonic::Status;
use towpath_net::policy::bundle::PodPolicy;
use towpath_net::policy::digest::Digest;
use tracing::info;

use super::connect::Stream;
use super::handle::Opened;
use super::{FollowError, Follower, Handle};
use crate::assembly::{Assembly, FromOperator};
use crate::message::{FromAgent, to_operator};
use crate::metrics::{ClientMetrics, Held};
use crate::wire::schema as wire;

/// How long a replica has for the first update: it may have many agents to tell.
const FIRST_UPDATE: Duration = Duration::from_secs(60);

pub(super) struct Following<'a> {
    stream: Stream,
    opened: Opened,
    handle: Handle,
    metrics: &'a Arc<ClientMetrics>,
    assembly: Assembly,
    /// What is on its way into the stream.
    said: Option<FromAgent>,
    /// Since the first update came.
    open: Option<Held>,
    /// What the agent has of the policies of its pods, with all that it was told.
    pods: BTreeMap<String, Digest>,
}

/// What there is to do.
enum Next {
    Heard(Result<Option<wire::FromOperator>, Status>),
    Said(FromAgent),
    Room,
}

impl<'a> Following<'a> {
    /// One of an agent that has these pods.
    pub(super) fn new(
        stream: Stream,
        opened: Opened,
        handle: Handle,
        metrics: &'a Arc<ClientMetrics>,
        pods: BTreeMap<String, Digest>,
    ) -> Self {
        Self { stream, opened, handle, metrics, assembly: Assembly::default(), said: None, open: None, pods }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Follows it to its end, and tells why it ended.
    pub(super) async fn follow(&mut self, follower: &impl Follower) -> FollowError {
        let silence = Instant::now() + FIRST_UPDATE;
        loop {
            let next = tokio::select! {
                message = self.stream.inbound.message() => Next::Heard(message),
                Some(said) = self.opened.says.recv(), if self.said.is_none() => Next::Said(said),
                _ = self.stream.out.reserve(), if self.said.is_some() => Next::Room,
                () = sleep_until(silence), if self.open.is_none() => return FollowError::Silent,
            };
            match next {
                Next::Said(said) => self.said = Some(said),
                Next::Room => self.send(),
                Next::Heard(message) => {
                    if let Err(error) = self.hear(message, follower).await {
                        return error;
                    }
                }
            }
        }
    }

    fn send(&mut self) {
        if let Some(said) = self.said.take() {
            // There is one update under way at most, so that all that was told is in the kernel.
            if matches!(said, FromAgent::Ack(_)) {
                self.handle.settle(Digest::of_pods(self.pods.values().copied()));
            }
            let message = to_operator(&said);
            self.metrics.sent_bytes.add(message.encoded_len() as u64);
            // Closed only when the stream has ended: then reading tells why.
            _ = self.stream.out.try_send(message);
        }
    }

    async fn hear(
        &mut self,
        message: Result<Option<wire::FromOperator>, Status>,
        follower: &impl Follower,
    ) -> Result<(), FollowError> {
        let message = message.map_err(|status| FollowError::Ended(Box::new(status)))?.ok_or(FollowError::Over)?;
        self.metrics.received_bytes.add(message.encoded_len() as u64);
        match self.assembly.take_message(message)? {
            None => {}
            Some(FromOperator::Update(nonce, update)) => {
                self.metrics.updates.add(1);
                if self.open.is_none() {
                    info!(address = %self.opened.address, "connected to the operator");
                    self.metrics.streams.add(1);
                    self.open = Some(self.metrics.connected.hold());
                    follower.connected(true);
                }
                take(&mut self.pods, &update.policy.pods);
                follower.update(Handle::ticket(self.opened.number, nonce), *update);
            }
            Some(FromOperator::Known(uid)) => {
                let is_known = self.handle.known(self.opened.address, &uid);
                if is_known {
                    follower.known(uid);
                }
            }
            Some(FromOperator::Tell) => {
                let holdings = follower.holdings().await;
                self.pods.clone_from(&holdings.policy.pods);
                self.handle.hold(self.opened.number, holdings);
            }
        }
        Ok(())
    }
}

/// What becomes of pods by an update.
fn take(pods: &mut BTreeMap<String, Digest>, changes: &BTreeMap<String, Option<PodPolicy>>) {
    for (uid, pod) in changes {
        match pod {
            Some(pod) => _ = pods.insert(uid.clone(), Digest::of_pod(uid, pod)),
            None => _ = pods.remove(uid),
        }
    }
}
