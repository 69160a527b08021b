//! The replicas that an agent does not follow: which pods have addresses matters to the nodes that follow them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, info};

use super::backoff::Backoff;
use super::connect::Stream;
use super::link::Link;
use super::{Directory, FollowError, Follower};
use crate::assembly::{Assembly, FromOperator};
use crate::malformed::{Fault, Malformed};
use crate::message::{FromAgent, Purpose, to_operator};
use crate::update::Holdings;
use crate::wire::schema as wire;

/// Reports to every replica but the one that is followed.
pub(super) struct Reporters<D, F> {
    link: Arc<Link<D>>,
    follower: Arc<F>,
    /// The replica that is followed, or tried; nothing before the first.
    tried: watch::Receiver<Option<SocketAddr>>,
}

impl<D, F> Clone for Reporters<D, F> {
    fn clone(&self) -> Self {
        Self { link: self.link.clone(), follower: self.follower.clone(), tried: self.tried.clone() }
    }
}

impl<D: Directory, F: Follower> Reporters<D, F> {
    pub(super) const fn new(link: Arc<Link<D>>, follower: Arc<F>, tried: watch::Receiver<Option<SocketAddr>>) -> Self {
        Self { link, follower, tried }
    }

    /// Reports for ever, to whichever replicas there are.
    pub(super) async fn keep(self) {
        let mut tasks: BTreeMap<SocketAddr, JoinSet<()>> = BTreeMap::new();
        let mut backoff = Backoff::default();
        let mut told = Vec::new();
        loop {
            let named = self.link.memory().remembered.replicas.clone();
            self.tell_known(self.link.handle.name(&named));
            tasks.retain(|address, _| named.contains(address));
            for address in named {
                tasks.entry(address).or_insert_with(|| {
                    let mut task = JoinSet::new();
                    task.spawn(self.clone().report(address));
                    task
                });
            }
            match self.link.directory.changed(&told).await {
                Ok(replicas) => {
                    backoff.reset();
                    // Where none is ready, those that were may be soon.
                    if !replicas.is_empty() {
                        self.link.memory().change(|remembered| remembered.replicas.clone_from(&replicas));
                    }
                    told = replicas;
                }
                Err(error) => {
                    debug!(%error, "replicas are looked for where they were");
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    fn tell_known(&self, known: Vec<String>) {
        for uid in known {
            self.follower.known(uid);
        }
    }

    /// Reports to one replica, whenever another one is followed.
    async fn report(mut self, address: SocketAddr) {
        let mut backoff = Backoff::default();
        let mut tried = self.tried.clone();
        loop {
            if self.tried.wait_for(|now| now.is_some_and(|now| now != address)).await.is_err() {
                return;
            }
            let is_followed = async { _ = tried.wait_for(|now| *now == Some(address)).await };
            let before = self.link.metrics.reports.get();
            let error = tokio::select! {
                error = self.attempt(address) => error,
                () = is_followed => continue,
            };
            debug!(%address, %error, "no stream to report on");
            if self.link.metrics.reports.get() > before {
                backoff.reset();
            }
            self.tell_known(self.link.handle.away(address));
            sleep(backoff.next()).await;
        }
    }

    async fn attempt(&self, address: SocketAddr) -> FollowError {
        match self.link.reach(address).await {
            Ok(stream) => self.run(stream, address).await,
            Err(error) => error,
        }
    }

    /// Reports on one stream, to its end.
    async fn run(&self, mut stream: Stream, address: SocketAddr) -> FollowError {
        let hello = |attached| self.link.hello(Purpose::Report, Holdings::default(), attached);
        let mut opened = self.link.handle.begin(address, hello);
        let mut assembly = Assembly::default();
        self.link.metrics.reports.add(1);
        let _counted = self.link.metrics.reporting.hold();
        info!(%address, "reporting to another replica of the operator");
        loop {
            tokio::select! {
                message = stream.inbound.message() => match message {
                    Ok(Some(message)) => if let Err(error) = self.hear(message, address, &mut assembly) {
                        return error;
                    },
                    Ok(None) => return FollowError::Over,
                    Err(status) => return FollowError::Ended(Box::new(status)),
                },
                Some(said) = opened.says.recv() => self.say(&stream, &said).await,
            }
        }
    }

    fn hear(
        &self,
        message: wire::FromOperator,
        address: SocketAddr,
        assembly: &mut Assembly,
    ) -> Result<(), FollowError> {
        self.link.metrics.received_bytes.add(message.encoded_len() as u64);
        match assembly.take_message(message)? {
            Some(FromOperator::Known(uid)) => {
                if self.link.handle.known(address, &uid) {
                    self.follower.known(uid);
                }
                Ok(())
            }
            // What another replica tells counts, and what this one tells does not.
            _ => Err(Malformed::new("says", Fault::Contradiction).into()),
        }
    }

    async fn say(&self, stream: &Stream, said: &FromAgent) {
        let message = to_operator(said);
        self.link.metrics.sent_bytes.add(message.encoded_len() as u64);
        // Closed only when the stream has ended: then reading tells why.
        _ = stream.out.send(message).await;
    }
}
