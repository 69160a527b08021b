//! An agent's side: finds a replica of the operator, whatever becomes of the one it had, and follows it.

mod backoff;
mod belief;
mod connect;
mod directory;
mod following;
mod handle;
mod link;
mod remembered;
mod reporting;

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use towpath_net::state::NodeName;
use tracing::{debug, warn};

pub use directory::{Directory, DirectoryError, KubeDirectory};
pub use handle::{Handle, Ticket};

use crate::malformed::Malformed;
use crate::message::Purpose;
use crate::metrics::ClientMetrics;
use crate::tls::TlsError;
use crate::update::{Holdings, Update};
use backoff::Backoff;
use connect::{ConnectError, Stream};
use following::Following;
use link::{Link, PATIENCE};
use reporting::Reporters;

/// How old that may become before it is asked again.
const STALE: Duration = Duration::from_secs(2);

/// Who an agent is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its node.
    pub node: NodeName,
    /// The file of its token, which is read anew for each connection.
    pub token: PathBuf,
    /// The file in which it remembers where replicas are and whom to believe.
    pub memory: PathBuf,
    /// The clock that certificates are judged by.
    pub clock: Arc<dyn TimeProvider>,
}

impl Config {
    /// An agent of this node, by the clock of the system.
    pub fn new(node: NodeName, token: PathBuf, memory: PathBuf) -> Self {
        Self { node, token, memory, clock: Arc::new(DefaultTimeProvider) }
    }
}

/// Who is told. What is told comes in order, and nothing here may wait but [`Self::holdings`].
pub trait Follower: Send + Sync + 'static {
    /// What the agent holds, with every update that it was given before and did not refuse; whether it is in the kernel
    /// already does not matter.
    fn holdings(&self) -> impl Future<Output = Holdings> + Send;

    /// What changes. The answer goes to [`Handle::acknowledge`] or [`Handle::refuse`].
    fn update(&self, ticket: Ticket, update: Update);

    /// Every node that must know this pod (`metadata.uid`) does.
    fn known(&self, uid: String);

    /// Whether there is a stream, where that is new.
    fn connected(&self, is_connected: bool);
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("cannot read the token {0}: {1}")]
    Token(PathBuf, #[source] std::io::Error),
    #[error("the token {0} is not one: it has characters that no token has")]
    NotAToken(PathBuf),
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    #[error("no replica of the operator is ready")]
    Nobody,
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the stream ended: {message}", message = .0.message())]
    Ended(Box<Status>),
    #[error("the operator ended the stream")]
    Over,
    #[error("the operator sent nothing in time")]
    Silent,
    #[error("the operator sent what cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// Follows the operator.
pub struct Client<D> {
    link: Arc<Link<D>>,
    /// When the API server last said where replicas are.
    asked: Option<Instant>,
}

impl<D: Directory> Client<D> {
    /// A client that has no stream yet, and what an agent says through it.
    pub fn new(config: Config, directory: D) -> (Self, Handle) {
        let link = Arc::new(Link::new(config, directory));
        let handle = link.handle.clone();
        (Self { link, asked: None }, handle)
    }

    /// What is counted.
    pub fn metrics(&self) -> Arc<ClientMetrics> {
        self.link.metrics.clone()
    }

    /// Follows for ever: from one replica to the next. To all others it reports which pods have addresses.
    pub async fn follow(self, follower: impl Follower) {
        let follower = Arc::new(follower);
        let (try_one, tried) = watch::channel(None);
        let reporters = Reporters::new(self.link.clone(), follower.clone(), tried);
        tokio::join!(reporters.keep(), self.follow_one(&*follower, try_one));
    }

    async fn follow_one(mut self, follower: &impl Follower, tried: watch::Sender<Option<SocketAddr>>) {
        let mut backoff = Backoff::default();
        let mut last = String::new();
        loop {
            let began = self.link.metrics.streams.get();
            let error = self.attempt(follower, &tried).await;
            if self.link.metrics.streams.get() > began {
                backoff.reset();
            }
            self.link.metrics.failures.add(1);
            // The same over and over is told once.
            let text = error.to_string();
            if text == last {
                debug!(%error, "no stream from the operator");
            } else {
                warn!(%error, "no stream from the operator; what is in force stays so");
                last = text;
            }
            sleep(backoff.next()).await;
        }
    }

    /// Follows any replica, until there is none or its stream ends.
    async fn attempt(&mut self, follower: &impl Follower, tried: &watch::Sender<Option<SocketAddr>>) -> FollowError {
        let mut replicas = match self.replicas().await {
            Ok(replicas) => replicas,
            Err(error) => return error,
        };
        fastrand::shuffle(&mut replicas);
        let mut last = FollowError::Nobody;
        for address in replicas {
            // Nobody reports to it any more when it is tried: there is one stream to each.
            tried.send_replace(Some(address));
            let reached = self.link.reach(address).await;
            let is_reached = reached.is_ok();
            last = match reached {
                Ok(stream) => self.run(stream, address, follower).await,
                Err(error) => {
                    debug!(%error, "replica not reached");
                    error
                }
            };
            self.link.handle.away(address).into_iter().for_each(|uid| follower.known(uid));
            if is_reached {
                break;
            }
        }
        last
    }

    /// Where replicas are: what the API server says, and what it said before while it does not answer.
    async fn replicas(&mut self) -> Result<Vec<SocketAddr>, FollowError> {
        if self.asked.is_none_or(|asked| asked.elapsed() >= STALE) {
            let told = timeout(PATIENCE, self.link.directory.replicas()).await;
            match told.unwrap_or(Err(DirectoryError::Late)) {
                Ok(replicas) if !replicas.is_empty() => {
                    self.link.memory().change(|remembered| remembered.replicas = replicas);
                    self.asked = Some(Instant::now());
                }
                Ok(_) => debug!("no replica of the operator is ready"),
                Err(error) if self.link.memory().remembered.replicas.is_empty() => return Err(error.into()),
                Err(error) => debug!(%error, "replicas are looked for where they were"),
            }
        }
        Ok(self.link.memory().remembered.replicas.clone())
    }

    /// Follows one stream to its end.
    async fn run(&self, stream: Stream, address: SocketAddr, follower: &impl Follower) -> FollowError {
        let link = &self.link;
        let holdings = follower.holdings().await;
        let pods = holdings.policy.pods.clone();
        let opened = link.handle.begin(address, |attached| link.hello(Purpose::Follow, holdings, attached));
        let mut following = Following::new(stream, opened, link.handle.clone(), &link.metrics, pods);
        let error = following.follow(follower).await;
        if following.is_open() {
            follower.connected(false);
        }
        error
    }
}
