//! The lab's own talk with the API server, usable from threads and from asynchronous code alike.

use std::{future::Future, path::Path, sync::mpsc};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::runtime::{Builder, Runtime};

/// Why the API server could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The kubeconfig does not read or does not fit together.
    #[error("kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: kube::config::KubeconfigError,
    },
    /// No client could be made.
    #[error("client for the API server: {0}")]
    Client(kube::Error),
    /// The request failed.
    #[error("{operation}: {source}")]
    Request {
        /// What was asked.
        operation: &'static str,
        /// What came of it.
        source: kube::Error,
    },
    /// No thread could be started.
    #[error("start a runtime: {0}")]
    Runtime(std::io::Error),
    /// The request was dropped.
    #[error("the request did not come to its end")]
    Dropped,
}

/// A client with a runtime of its own.
pub struct Api {
    runtime: Option<Runtime>,
    client: Client,
}

/// A client from a kubeconfig; to be called in a runtime.
///
/// # Errors
/// When the file does not read.
pub async fn client(kubeconfig: &Path) -> Result<Client, ApiError> {
    let wrong = |source| ApiError::Kubeconfig { path: kubeconfig.display().to_string(), source };
    let file = Kubeconfig::read_from(kubeconfig).map_err(wrong)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)?;
    Client::try_from(config).map_err(ApiError::Client)
}

impl Api {
    /// Opens a client; no connection is made yet.
    ///
    /// # Errors
    /// When the kubeconfig does not read.
    pub fn open(kubeconfig: &Path) -> Result<Self, ApiError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(ApiError::Runtime)?;
        let path = kubeconfig.to_owned();
        let client = answer(&runtime, async move { client(&path).await })??;
        Ok(Self { runtime: Some(runtime), client })
    }

    /// Asks the server and waits for the answer.
    ///
    /// # Errors
    /// What came of the request.
    pub fn ask<T, F>(&self, operation: &'static str, request: impl FnOnce(Client) -> F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, kube::Error>> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().ok_or(ApiError::Dropped)?;
        answer(runtime, request(self.client.clone()))?.map_err(|source| ApiError::Request { operation, source })
    }

    /// The server's answer to a path, as text.
    ///
    /// # Errors
    /// What came of the request.
    pub fn get(&self, operation: &'static str, path: &'static str) -> Result<String, ApiError> {
        let request = http::Request::get(path).body(Vec::new());
        self.ask(
            operation,
            move |client| async move { client.request_text(request.map_err(kube::Error::HttpError)?).await },
        )
    }
}

/// Runs a future on the runtime's own threads: blocking on it here would panic inside of another runtime.
fn answer<T: Send + 'static>(
    runtime: &Runtime,
    future: impl Future<Output = T> + Send + 'static,
) -> Result<T, ApiError> {
    let (sender, receiver) = mpsc::channel();
    runtime.spawn(async move { drop(sender.send(future.await)) });
    receiver.recv().map_err(|_| ApiError::Dropped)
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
