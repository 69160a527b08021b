//! What is counted, for whoever exports it or waits for it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(watch::Sender<u64>);

impl Counter {
    /// Adds to it.
    pub fn add(&self, by: u64) {
        self.0.send_modify(|number| *number += by);
    }

    /// What it is.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until it is at least that.
    pub async fn reach(&self, least: u64) {
        wait(&self.0, |number| *number >= least).await;
    }
}

/// A number of things that come and go.
#[derive(Debug, Default)]
pub struct Gauge(watch::Sender<u64>);

impl Gauge {
    /// One more, until what is given back is dropped.
    pub fn hold(self: &std::sync::Arc<Self>) -> Held {
        self.0.send_modify(|number| *number += 1);
        Held(self.clone())
    }

    /// How many there are.
    pub fn get(&self) -> u64 {
        *self.0.borrow()
    }

    /// Waits until there are so many.
    pub async fn come_to(&self, count: u64) {
        wait(&self.0, |number| *number == count).await;
    }
}

async fn wait(number: &watch::Sender<u64>, holds: impl FnMut(&u64) -> bool) {
    // It is not closed: it is here.
    _ = number.subscribe().wait_for(holds).await;
}

/// One of those that a [`Gauge`] counts.
#[derive(Debug)]
pub struct Held(std::sync::Arc<Gauge>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.send_modify(|number| *number -= 1);
    }
}

/// How large things were.
#[derive(Debug, Default)]
pub struct Sizes {
    counts: [AtomicU64; Self::BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl Sizes {
    /// The largest that each class but the last holds, in bytes.
    pub const BOUNDS: [u64; 6] = [256, 2048, 16_384, 131_072, 1_048_576, 8_388_608];

    /// One more, of so many bytes.
    pub fn add(&self, bytes: u64) {
        let class = Self::BOUNDS.iter().take_while(|bound| **bound < bytes).count();
        if let Some(count) = self.counts.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(bytes, Ordering::Relaxed);
    }

    /// How many there are of each class; the last one is without bound.
    pub fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|class| self.counts.get(class).map_or(0, |count| count.load(Ordering::Relaxed)))
    }

    /// All bytes together.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// Why somebody was not, or is no longer, served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// There are as many connections as there may be.
    Connections,
    /// There are as many from this address as there may be.
    ConnectionsOfAddress,
    /// As many as may have not yet said who they are.
    Unknown,
    /// The TLS handshake failed, or took too long.
    Handshake,
    /// No call was made, or no first message sent, in time.
    Late,
    /// It was no call that there is.
    Call,
    /// The token is not an agent's.
    Token,
    /// The token could not be reviewed.
    Review,
    /// The agent says that it is another node's than its token.
    Node,
    /// The agent speaks another version.
    Version,
    /// A message could not be read.
    Malformed,
    /// This replica does not know the cluster yet.
    Unready,
    /// The agent did not read what was sent to it.
    Stalled,
    /// The token was good, and expired.
    Expired,
}

impl Refusal {
    /// All that there are.
    pub const ALL: [Self; 14] = [
        Self::Connections,
        Self::ConnectionsOfAddress,
        Self::Unknown,
        Self::Handshake,
        Self::Late,
        Self::Call,
        Self::Token,
        Self::Review,
        Self::Node,
        Self::Version,
        Self::Malformed,
        Self::Unready,
        Self::Stalled,
        Self::Expired,
    ];

    /// What it is called as the value of a label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ConnectionsOfAddress => "connections_of_address",
            Self::Unknown => "unknown",
            Self::Handshake => "handshake",
            Self::Late => "late",
            Self::Call => "call",
            Self::Token => "token",
            Self::Review => "review",
            Self::Node => "node",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Unready => "unready",
            Self::Stalled => "stalled",
            Self::Expired => "expired",
        }
    }
}

/// What the operator counts.
#[derive(Debug, Default)]
pub struct ServerMetrics {
    /// Connections that there are.
    pub connections: std::sync::Arc<Gauge>,
    /// Agents that are followed.
    pub agents: std::sync::Arc<Gauge>,
    /// Agents that follow another replica, and report to this one too.
    pub reporters: std::sync::Arc<Gauge>,
    /// Connections that were taken.
    pub accepted: Counter,
    /// Updates that were sent.
    pub updates: Counter,
    /// How large they were, before encryption.
    pub update_bytes: Sizes,
    /// Updates that agents have in their kernels.
    pub acknowledged: Counter,
    /// Updates that agents refused.
    pub refused_updates: Counter,
    /// How often an agent was asked what it has, because it was too slow to be told every change, or refused one.
    pub asked: Counter,
    /// Bytes of messages to agents, before encryption.
    pub sent_bytes: Counter,
    /// Bytes of messages from agents, before encryption.
    pub received_bytes: Counter,
    refused: [Counter; Refusal::ALL.len()],
}

impl ServerMetrics {
    /// Counts a refusal.
    pub fn refuse(&self, why: Refusal) {
        if let Some(counter) = self.refused.get(why as usize) {
            counter.add(1);
        }
    }

    /// How often it was refused for this reason.
    pub fn refused(&self, why: Refusal) -> u64 {
        self.refused.get(why as usize).map(Counter::get).unwrap_or_default()
    }

    /// Waits until it was refused for this reason at least so often.
    pub async fn reach_refused(&self, why: Refusal, least: u64) {
        if let Some(counter) = self.refused.get(why as usize) {
            counter.reach(least).await;
        }
    }
}

/// What an agent counts.
#[derive(Debug, Default)]
pub struct ClientMetrics {
    /// Whether there is a stream: 0 or 1.
    pub connected: std::sync::Arc<Gauge>,
    /// Streams that were begun.
    pub streams: Counter,
    /// Replicas that are not followed, and to which there is a stream.
    pub reporting: std::sync::Arc<Gauge>,
    /// Streams to those that were begun.
    pub reports: Counter,
    /// Attempts that failed.
    pub failures: Counter,
    /// Updates that came.
    pub updates: Counter,
    /// Updates that were said to be in the kernel.
    pub acknowledged: Counter,
    /// Updates that were refused.
    pub refused: Counter,
    /// Bytes of messages from the operator, before encryption.
    pub received_bytes: Counter,
    /// Bytes of messages to the operator, before encryption.
    pub sent_bytes: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_counted_by_the_smallest_bound_that_holds_them() {
        let sizes = Sizes::default();
        for bytes in [0, 256, 257, 8_388_609] {
            sizes.add(bytes);
        }
        assert_eq!((sizes.counts(), sizes.sum()), ([2, 1, 0, 0, 0, 0, 1], 8_389_122));
    }
}
