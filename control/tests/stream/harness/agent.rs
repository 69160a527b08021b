//! Agents, and where they find replicas.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use towpath_control::client::{Client, Config, Directory, DirectoryError, Follower, Handle, Ticket};
use towpath_control::metrics::ClientMetrics;
use towpath_control::update::{Holdings, State, Update};

use super::{Operator, good_token, soon};

/// Says where replicas are, while it answers.
#[derive(Clone, Default)]
pub struct Map(Arc<watch::Sender<Known>>);

#[derive(Default)]
struct Known {
    all: BTreeMap<SocketAddr, String>,
    is_away: bool,
}

impl Known {
    fn read<T>(&self, read: impl FnOnce(&BTreeMap<SocketAddr, String>) -> T) -> Result<T, DirectoryError> {
        if self.is_away { Err(DirectoryError::Late) } else { Ok(read(&self.all)) }
    }

    fn replicas(&self) -> Result<Vec<SocketAddr>, DirectoryError> {
        self.read(|all| all.keys().copied().collect())
    }
}

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
        map.0.send_modify(|known| _ = known.all.insert(address, authorities));
        map
    }

    pub fn set(&self, operators: &[&Operator]) {
        let all = operators.iter().map(|operator| (operator.address, operator.authorities.published()));
        self.0.send_modify(|known| known.all = all.collect());
    }

    /// Says nothing any more.
    #[allow(dead_code, reason = "the benchmark's stays")]
    pub fn go_away(&self) {
        self.0.send_modify(|known| known.is_away = true);
    }
}

impl Directory for Map {
    async fn replicas(&self) -> Result<Vec<SocketAddr>, DirectoryError> {
        self.0.borrow().replicas()
    }

    async fn changed(&self, known: &[SocketAddr]) -> Result<Vec<SocketAddr>, DirectoryError> {
        let mut told = self.0.subscribe();
        let told = told.wait_for(|now| now.is_away || !now.all.keys().eq(known)).await;
        told.map_or(Err(DirectoryError::Late), |now| now.replicas())
    }

    async fn authorities(&self) -> Result<String, DirectoryError> {
        self.0.borrow().read(|all| all.values().cloned().collect())
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
