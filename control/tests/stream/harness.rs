//! An operator and agents on the loopback: real TLS, real HTTP/2, a judge that believes what tokens say.

#[path = "harness/agent.rs"]
pub mod agent;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use towpath_control::auth::{Authenticator, Judge, Judgement, Unavailable};
use towpath_control::authority::{Authorities, Certificates, server_config};
use towpath_control::message::{Attached, Settled};
use towpath_control::metrics::ServerMetrics;
use towpath_control::peers::PeerTable;
use towpath_control::server::{Backend, Limits, Opening, Outbox, Server, Unready, Version};
use towpath_control::update::Holdings;
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::input::Key;
use towpath_net::state::{NodeName, Peer};
use towpath_net::transport::Transport;
use tracing_subscriber::EnvFilter;

pub use agent::{Agent, Map, Start};

/// The agents' service account.
pub const AGENT: &str = "system:serviceaccount:towpath-system:towpath-agent";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it came in time")
}

pub fn key(name: &str) -> Key {
    Key { namespace: "web".to_owned(), name: name.to_owned() }
}

pub fn peer(number: u16) -> Peer {
    let [high, low] = number.to_be_bytes();
    Peer {
        addresses: vec![[192, 168, high, low].into()],
        pod_cidrs: vec![format!("10.{high}.{low}.0/24").parse().unwrap()],
        accepts: vec![Transport::Vxlan, Transport::Direct],
        keys: None,
    }
}

pub fn attached(uid: &str, last: u8, is_waiting: bool) -> Attached {
    Attached { uid: uid.to_owned(), key: key(uid), addresses: vec![[10, 1, 1, last].into()], is_waiting }
}

/// A token that says what it is told to say.
pub fn token(user: &str, node: Option<&str>, audience: &str, expires_in: i64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "aud": [audience], "exp": now.saturating_add_signed(expires_in), "user": user, "node": node,
    });
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

pub fn good_token(node: &str) -> String {
    token(AGENT, Some(node), "towpath-control", 3600)
}

/// Believes every token, while it answers.
#[derive(Clone, Default)]
pub struct Credulous {
    pub is_away: Arc<AtomicBool>,
    pub asked: Arc<AtomicUsize>,
}

impl Judge for Credulous {
    async fn judge(&self, token: &str) -> Result<Judgement, Unavailable> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Unavailable("away".to_owned()));
        }
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: serde_json::Value = serde_json::from_slice(&claims).unwrap();
        let node = claims["node"].as_str().map(NodeName::from);
        Ok(Judgement::Authentic { user: claims["user"].as_str().unwrap().to_owned(), node })
    }
}

/// What agents said to the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    Attachments(Vec<Attached>),
    Attached(Attached),
    Detached(String),
    Settled(Settled),
    Acknowledged(Version),
    Refused(Version, String),
    Opened,
    Reports,
    Closed,
}

/// What nodes must know, as it is.
pub struct Cluster {
    peers: Mutex<PeerTable>,
    nodes: Mutex<HashMap<NodeName, Told>>,
    said: mpsc::UnboundedSender<(NodeName, Said)>,
    changed: watch::Sender<()>,
    pub is_unready: AtomicBool,
}

#[derive(Default)]
struct Told {
    bundle: Bundle,
    version: Version,
    outbox: Option<Arc<Outbox>>,
    /// Of the stream on which the agent only reports.
    reports: Option<Arc<Outbox>>,
}

impl Cluster {
    fn new(said: mpsc::UnboundedSender<(NodeName, Said)>) -> Self {
        let is_unready = AtomicBool::new(false);
        Self { peers: Mutex::default(), nodes: Mutex::default(), said, changed: watch::Sender::default(), is_unready }
    }

    /// Changes what one node must know of policies.
    pub fn change(&self, node: &str, delta: Delta) -> Version {
        let mut nodes = self.nodes.lock().unwrap();
        let told = nodes.entry(node.into()).or_default();
        let effect = told.bundle.apply(delta).unwrap();
        told.version.0 += 1;
        if let Some(outbox) = &told.outbox {
            outbox.push(told.version, &[], effect);
        }
        told.version
    }

    pub fn set_peer(&self, name: &str, peer: Option<Peer>) {
        let mut nodes = self.nodes.lock().unwrap();
        let Some(change) = self.peers.lock().unwrap().set(name.into(), peer) else { return };
        for (node, told) in nodes.iter_mut().filter(|(node, _)| node.0 != name) {
            told.version.0 += 1;
            if let Some(outbox) = &told.outbox {
                outbox.push(told.version, std::slice::from_ref(&change), Delta::default());
            }
            assert_ne!(node.0, name);
        }
    }

    pub fn bundle(&self, node: &str) -> Bundle {
        self.nodes.lock().unwrap().get(node).map(|told| told.bundle.clone()).unwrap_or_default()
    }

    pub fn outbox(&self, node: &str) -> Option<Arc<Outbox>> {
        self.nodes.lock().unwrap().get(node).and_then(|told| told.outbox.clone())
    }

    /// Where the agent of a node that follows another replica is told that pods are known.
    pub fn reports(&self, node: &str) -> Option<Arc<Outbox>> {
        self.nodes.lock().unwrap().get(node).and_then(|told| told.reports.clone())
    }

    fn say(&self, node: &NodeName, said: Said) {
        _ = self.said.send((node.clone(), said));
        self.changed.send_replace(());
    }

    /// Waits until something holds of what agents do.
    #[allow(dead_code, reason = "the benchmark waits for less")]
    pub async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut changed = self.changed.subscribe();
        soon(async {
            while !holds(self) {
                changed.changed().await.unwrap();
            }
        })
        .await;
    }
}

impl Backend for Cluster {
    fn open(&self, node: &NodeName, holdings: &Holdings, outbox: &Arc<Outbox>) -> Result<Opening, Unready> {
        if self.is_unready.load(Ordering::Relaxed) {
            return Err(Unready);
        }
        let mut nodes = self.nodes.lock().unwrap();
        let told = nodes.entry(node.clone()).or_default();
        told.outbox = Some(outbox.clone());
        self.say(node, Said::Opened);
        let peers = self.peers.lock().unwrap().difference(&holdings.peers, node);
        Ok(Opening { version: told.version, peers, policy: holdings.policy.delta_to(&told.bundle) })
    }

    fn report(&self, node: &NodeName, outbox: &Arc<Outbox>) {
        self.nodes.lock().unwrap().entry(node.clone()).or_default().reports = Some(outbox.clone());
        self.say(node, Said::Reports);
    }

    fn attachments(&self, node: &NodeName, attached: Vec<Attached>) {
        self.say(node, Said::Attachments(attached));
    }

    fn attached(&self, node: &NodeName, attached: Attached) {
        self.say(node, Said::Attached(attached));
    }

    fn detached(&self, node: &NodeName, uid: &str) {
        self.say(node, Said::Detached(uid.to_owned()));
    }

    fn settled(&self, node: &NodeName, settled: Settled) {
        self.say(node, Said::Settled(settled));
    }

    fn acknowledged(&self, node: &NodeName, version: Version) {
        self.say(node, Said::Acknowledged(version));
    }

    fn refused(&self, node: &NodeName, version: Version, reason: &str) {
        self.say(node, Said::Refused(version, reason.to_owned()));
    }

    fn closed(&self, node: &NodeName, outbox: &Arc<Outbox>) {
        let mut nodes = self.nodes.lock().unwrap();
        let told = nodes.entry(node.clone()).or_default();
        told.outbox.take_if(|last| Arc::ptr_eq(last, outbox));
        told.reports.take_if(|last| Arc::ptr_eq(last, outbox));
        self.say(node, Said::Closed);
    }
}

/// One replica.
pub struct Operator {
    pub cluster: Arc<Cluster>,
    pub address: SocketAddr,
    pub authorities: Authorities,
    pub certificates: Arc<Certificates>,
    pub judge: Credulous,
    pub metrics: Arc<ServerMetrics>,
    said: mpsc::UnboundedReceiver<(NodeName, Said)>,
    end: watch::Sender<bool>,
}

impl Operator {
    pub async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub async fn with(limits: Limits) -> Self {
        let mut authorities = Authorities::default();
        authorities.turn(SystemTime::now()).unwrap();
        Self::signed_by(authorities, SystemTime::now(), limits).await
    }

    /// One whose certificate was issued at this time.
    pub async fn signed_by(authorities: Authorities, time: SystemTime, limits: Limits) -> Self {
        _ = tracing_subscriber::fmt().with_env_filter(EnvFilter::from_default_env()).with_test_writer().try_init();
        let certificates = Arc::new(Certificates::default());
        certificates.renew(&authorities, time).unwrap();
        let (sender, said) = mpsc::unbounded_channel();
        let cluster = Arc::new(Cluster::new(sender));
        let judge = Credulous::default();
        let authenticator = Authenticator::new(judge.clone(), AGENT.to_owned(), SystemTime::now);
        let tls = Arc::new(server_config(certificates.clone()).unwrap());
        let server = Arc::new(Server::new(cluster.clone(), Arc::new(authenticator), tls, limits));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = server.metrics();
        let (end, ended) = watch::channel(false);
        tokio::spawn(server.serve(listener, ended));
        Self { cluster, address, authorities, certificates, judge, metrics, said, end }
    }

    /// Ends every connection, and takes no more.
    pub fn stop(&self) {
        self.end.send_replace(true);
    }

    /// The next thing that an agent says.
    pub async fn hear(&mut self) -> (String, Said) {
        let (node, said) = soon(self.said.recv()).await.unwrap();
        (node.0, said)
    }

    /// The next thing of its kind that an agent says; others are passed over.
    pub async fn hear_of<T>(&mut self, wanted: impl Fn(&Said) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(&self.hear().await.1) {
                return found;
            }
        }
    }

    /// Waits until an agent has everything up to a version.
    pub async fn acknowledged(&mut self, version: Version) {
        self.hear_of(|said| matches!(said, Said::Acknowledged(done) if *done >= version).then_some(())).await;
    }
}
