//! How replicas are found and reached.

use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::timeout;
use tonic::metadata::{Ascii, MetadataValue};

use super::belief::client_config;
use super::connect::{ConnectError, Stream, connect};
use super::remembered::Memory;
use super::{Config, Directory, DirectoryError, FollowError, Handle};
use crate::message::{Attached, Hello, Purpose, VERSION};
use crate::metrics::ClientMetrics;
use crate::update::Holdings;

/// How long the API server has to say where replicas are, and whom to believe.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// All that it takes to reach replicas.
pub(super) struct Link<D> {
    pub(super) config: Config,
    pub(super) directory: D,
    memory: Mutex<Memory>,
    pub(super) handle: Handle,
    pub(super) metrics: Arc<ClientMetrics>,
}

impl<D: Directory> Link<D> {
    pub(super) fn new(config: Config, directory: D) -> Self {
        let memory = Mutex::new(Memory::load(&config.memory));
        Self { config, directory, memory, handle: Handle::default(), metrics: Arc::default() }
    }

    /// What is remembered of replicas.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a stream begins.
    pub(super) fn hello(&self, purpose: Purpose, holdings: Holdings, attached: Vec<Attached>) -> Hello {
        Hello { node: self.config.node.clone(), version: VERSION, holdings, attached, purpose }
    }

    /// A stream from one replica. Where it is not believed, whom to believe is asked once more.
    pub(super) async fn reach(&self, address: SocketAddr) -> Result<Stream, FollowError> {
        let token = self.authorization()?;
        let remembered = self.memory().remembered.authorities.clone();
        if let Some(authorities) = remembered {
            match self.connect(address, &authorities, token.clone()).await {
                Err(FollowError::Connect(ConnectError::Tls(..)) | FollowError::Tls(_)) => {}
                result => return result,
            }
        }
        let told = timeout(PATIENCE, self.directory.authorities()).await;
        let authorities = told.unwrap_or(Err(DirectoryError::Late))?;
        let stream = self.connect(address, &authorities, token).await?;
        self.memory().change(|remembered| remembered.authorities = Some(authorities));
        Ok(stream)
    }

    async fn connect(
        &self,
        address: SocketAddr,
        authorities: &str,
        token: MetadataValue<Ascii>,
    ) -> Result<Stream, FollowError> {
        let tls = client_config(authorities, self.config.clock.clone())?;
        Ok(connect(address, Arc::new(tls), token).await?)
    }

    /// The token as it is now: the kubelet writes another one before it expires.
    fn authorization(&self) -> Result<MetadataValue<Ascii>, FollowError> {
        let path = &self.config.token;
        let token = fs::read_to_string(path).map_err(|error| FollowError::Token(path.clone(), error))?;
        let value = format!("Bearer {}", token.trim());
        let mut value: MetadataValue<Ascii> = value.parse().map_err(|_| FollowError::NotAToken(path.clone()))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
