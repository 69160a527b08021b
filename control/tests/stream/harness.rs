//! An operator and agents on the loopback: real TLS, real HTTP/2, a judge that believes what tokens say.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use towpath_control::auth::{Authenticator, Judge, Judgement, Unavailable};
use towpath_control::authority::{Authorities, Certificates, server_config};
use towpath_control::client::{Client, Config, Directory, DirectoryError, Follower, Handle, Ticket};
use towpath_control::message::Attached;
use towpath_control::metrics::{ClientMetrics, ServerMetrics};
use towpath_control::peers::PeerTable;
use towpath_control::server::{Backend, Limits, Opening, Outbox, Server, Unready, Version};
use towpath_control::update::{Holdings, State, Update};
use towpath_net::policy::bundle::{Bundle, Delta};
use towpath_net::policy::digest::Digest;
use towpath_net::policy::input::Key;
use towpath_net::state::{NodeName, Peer};
use towpath_net::transport::Transport;
use tracing_subscriber::EnvFilter;

/// The agents' service account.
pub const AGENT: &str = "system:serviceaccount:towpath-system:towpath-agent";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for what must come.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it came in time")
}

/// Waits until something holds.
pub async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
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
    Settled(Digest),
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
        Self { peers: Mutex::default(), nodes: Mutex::default(), said, is_unready: AtomicBool::new(false) }
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

    fn settled(&self, node: &NodeName, pods: Digest) {
        self.say(node, Said::Settled(pods));
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

/// Says where replicas are, while it answers.
#[derive(Clone, Default)]
pub struct Map(Arc<Mutex<BTreeMap<SocketAddr, String>>>, pub Arc<AtomicBool>);

impl Map {
    pub fn of(operators: &[&Operator]) -> Self {
        let map = Self::default();
        map.set(operators);
        map
    }

    /// One replica, wherever it runs.
    #[allow(dead_code, reason = "only the benchmark has agents in a process of their own")]
    pub fn at(address: SocketAddr, authorities: String) -> Self {
        let map = Self::default();
        map.0.lock().unwrap().insert(address, authorities);
        map
    }

    pub fn set(&self, operators: &[&Operator]) {
        let all = operators.iter().map(|operator| (operator.address, operator.authorities.published()));
        *self.0.lock().unwrap() = all.collect();
    }

    fn read<T>(&self, read: impl FnOnce(&BTreeMap<SocketAddr, String>) -> T) -> Result<T, DirectoryError> {
        if self.1.load(Ordering::Relaxed) { Err(DirectoryError::Late) } else { Ok(read(&self.0.lock().unwrap())) }
    }
}

impl Directory for Map {
    async fn replicas(&self) -> Result<Vec<SocketAddr>, DirectoryError> {
        self.read(|all| all.keys().copied().collect())
    }

    async fn changed(&self, known: &[SocketAddr]) -> Result<Vec<SocketAddr>, DirectoryError> {
        loop {
            let replicas = self.replicas().await?;
            if replicas != known {
                return Ok(replicas);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn authorities(&self) -> Result<String, DirectoryError> {
        self.read(|all| all.values().cloned().collect())
    }
}

/// What an agent was told.
#[derive(Debug)]
pub enum Heard {
    Update(Ticket, Update),
    Known(String),
    Connected(bool),
}

/// An agent that holds what it is told.
pub struct Agent {
    pub handle: Handle,
    pub state: Arc<Mutex<State>>,
    pub metrics: Arc<ClientMetrics>,
    heard: mpsc::UnboundedReceiver<Heard>,
    task: JoinHandle<()>,
    pub folder: TempDir,
}

struct Holder {
    state: Arc<Mutex<State>>,
    heard: mpsc::UnboundedSender<Heard>,
    /// Says yes to everything at once.
    eager: Option<Handle>,
    refuses: Arc<AtomicBool>,
}

impl Follower for Holder {
    async fn holdings(&self) -> Holdings {
        Holdings::of(&self.state.lock().unwrap())
    }

    fn update(&self, ticket: Ticket, update: Update) {
        if !self.refuses.load(Ordering::Relaxed) {
            self.state.lock().unwrap().apply(update.clone()).unwrap();
        }
        if let Some(handle) = &self.eager {
            handle.acknowledge(ticket);
        }
        _ = self.heard.send(Heard::Update(ticket, update));
    }

    fn known(&self, uid: String) {
        _ = self.heard.send(Heard::Known(uid));
    }

    fn connected(&self, is_connected: bool) {
        _ = self.heard.send(Heard::Connected(is_connected));
    }
}

/// How an agent comes up.
pub struct Start {
    pub node: String,
    pub token: String,
    pub state: State,
    pub is_eager: bool,
    pub refuses: Arc<AtomicBool>,
    pub folder: TempDir,
    pub config: fn(Config) -> Config,
}

impl Start {
    pub fn new(node: &str) -> Self {
        Self {
            node: node.to_owned(),
            token: good_token(node),
            state: State::default(),
            is_eager: true,
            refuses: Arc::default(),
            folder: tempfile::tempdir().unwrap(),
            config: |config| config,
        }
    }

    pub fn lazy(self) -> Self {
        Self { is_eager: false, ..self }
    }

    pub fn go(self, map: &Map) -> Agent {
        let path = |name: &str| -> PathBuf { self.folder.path().join(name) };
        std::fs::write(path("token"), &self.token).unwrap();
        let config = (self.config)(Config::new(self.node.as_str().into(), path("token"), path("memory")));
        let (client, handle) = Client::new(config, map.clone());
        let metrics = client.metrics();
        let state = Arc::new(Mutex::new(self.state));
        let (sender, heard) = mpsc::unbounded_channel();
        let eager = self.is_eager.then(|| handle.clone());
        let holder = Holder { state: state.clone(), heard: sender, eager, refuses: self.refuses };
        let task = tokio::spawn(client.follow(holder));
        Agent { handle, state, metrics, heard, task, folder: self.folder }
    }
}

impl Agent {
    pub async fn hear(&mut self) -> Heard {
        soon(self.heard.recv()).await.unwrap()
    }

    /// The next update.
    pub async fn update(&mut self) -> (Ticket, Update) {
        loop {
            if let Heard::Update(ticket, update) = self.hear().await {
                return (ticket, update);
            }
        }
    }

    /// Ends it, and gives what it leaves.
    pub async fn stop(self) -> (State, TempDir) {
        self.task.abort();
        _ = self.task.await;
        let state = self.state.lock().unwrap().clone();
        (state, self.folder)
    }
}
