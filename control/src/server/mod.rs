//! The operator's side: takes connections, learns whose they are, and follows each agent.

mod codec;
mod connection;
mod door;
mod outbox;
mod session;
mod sessions;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use towpath_net::policy::bundle::Delta;
use towpath_net::state::NodeName;
use tracing::{debug, info};

pub use outbox::Outbox;

use crate::auth::{Authenticator, Judge};
use crate::message::{Attached, Settled};
use crate::metrics::ServerMetrics;
use crate::peers::PeerDifference;
use crate::update::Holdings;
use door::Door;
use sessions::Sessions;

/// The backend's own count of what it told an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

/// What agents are told, and who hears what they say. Nothing here may wait: it is called from the tasks that serve.
pub trait Backend: Send + Sync + 'static {
    /// The agent of a node came, or was asked what it has. From now on changes of what it must know go into `outbox`, and
    /// into no other one of this node. No change may be missed or come twice in between.
    fn open(&self, node: &NodeName, holdings: &Holdings, outbox: &Arc<Outbox>) -> Result<Opening, Unready>;

    /// The agent of a node came that follows another replica, and only says which pods have addresses. When they are known
    /// goes into `outbox`, and nothing else does.
    fn report(&self, node: &NodeName, outbox: &Arc<Outbox>);

    /// The agent of a node came, and these pods of the node have addresses, no others. Comes before [`Self::open`], and
    /// behind [`Self::report`]. The node is proven; that the pods are of this node is the agent's word, and for the backend to check.
    fn attachments(&self, node: &NodeName, attached: Vec<Attached>);

    /// A pod of the node has addresses now.
    fn attached(&self, node: &NodeName, attached: Attached);

    /// A pod of the node (`metadata.uid`) has none any more.
    fn detached(&self, node: &NodeName, uid: &str);

    /// This is in the kernel of a node whose agent follows another replica.
    fn settled(&self, node: &NodeName, settled: Settled);

    /// Everything up to this version is in the node's kernel.
    fn acknowledged(&self, node: &NodeName, version: Version);

    /// What this version brought is not in the node's kernel. It is told again, as it is then, when there is something new
    /// and in any case after a while.
    fn refused(&self, node: &NodeName, version: Version, reason: &str);

    /// The agent has gone. Where `outbox` is not the node's last one, another stream of it was begun meanwhile.
    fn closed(&self, node: &NodeName, outbox: &Arc<Outbox>);
}

/// What an agent must be told when it comes.
#[derive(Debug, Default)]
pub struct Opening {
    /// What it will have then.
    pub version: Version,
    /// Of the other nodes ([`crate::peers::PeerTable::difference`]).
    pub peers: PeerDifference,
    /// Of policies ([`towpath_net::policy::digest::Digests::delta_to`]).
    pub policy: Delta,
}

/// This replica does not know the cluster yet: the agent is to try another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this replica of the operator does not know the cluster yet")]
pub struct Unready;

/// What is enough for agents, and not more.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all.
    pub connections: usize,
    /// Connections from one address.
    pub connections_of_address: usize,
    /// Connections of which nobody knows yet whose they are.
    pub unknown: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How long it may take from there until an agent has called and is known.
    pub call: Duration,
    /// How long it may take from there to its first message.
    pub hello: Duration,
    /// How long an agent may read nothing of what is sent to it.
    pub stall: Duration,
    /// How often the connection is asked for a sign of life, and how long that may take.
    pub keepalive: Duration,
    /// The largest message of an agent, in bytes.
    pub message: usize,
    /// How many agents are told all that they need at once. Each takes memory for what one node must know.
    pub openings: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_of_address: 16,
            unknown: 1024,
            handshake: Duration::from_secs(5),
            call: Duration::from_secs(15),
            hello: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            keepalive: Duration::from_secs(20),
            message: 4 * 1024 * 1024,
            openings: 2,
        }
    }
}

/// Everything that connections need.
pub struct Server<B, J> {
    backend: Arc<B>,
    authenticator: Arc<Authenticator<J>>,
    tls: Arc<rustls::ServerConfig>,
    limits: Limits,
    metrics: Arc<ServerMetrics>,
    sessions: Sessions,
    openings: Semaphore,
    door: Arc<Door>,
}

impl<B: Backend, J: Judge> Server<B, J> {
    /// A server that takes its certificates from `tls` ([`crate::authority::server_config`]).
    pub fn new(
        backend: Arc<B>,
        authenticator: Arc<Authenticator<J>>,
        tls: Arc<rustls::ServerConfig>,
        limits: Limits,
    ) -> Self {
        Self {
            backend,
            authenticator,
            tls,
            limits,
            metrics: Arc::default(),
            sessions: Sessions::default(),
            openings: Semaphore::new(limits.openings),
            door: Arc::new(Door::new(limits)),
        }
    }

    /// One that counts there.
    #[must_use]
    pub fn counting(self, metrics: Arc<ServerMetrics>) -> Self {
        Self { metrics, ..self }
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<ServerMetrics> {
        self.metrics.clone()
    }

    /// Serves until `end` holds. Agents that are followed then find another replica.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, mut end: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                _ = end.wait_for(|end| *end) => break,
            };
            match accepted {
                Ok((stream, address)) => self.clone().take(stream, address, &end),
                Err(error) => pause(&error).await,
            }
        }
        info!("agents are no longer served");
    }

    fn take(
        self: Arc<Self>,
        stream: tokio::net::TcpStream,
        address: std::net::SocketAddr,
        end: &watch::Receiver<bool>,
    ) {
        match self.door.enter(address.ip()) {
            Ok(place) => {
                self.metrics.accepted.add(1);
                tokio::spawn(connection::serve(self, stream, place, end.clone()));
            }
            Err(why) => {
                self.metrics.refuse(why);
                debug!(%address, why = why.label(), "connection refused");
            }
        }
    }
}

/// After an error of `accept(2)` that is not the fault of one connection (too many open files), trying again at once would
/// only be busy.
async fn pause(error: &io::Error) {
    debug!(%error, "a connection was not taken");
    tokio::time::sleep(Duration::from_millis(50)).await;
}
