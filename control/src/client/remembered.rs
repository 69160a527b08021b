//! What an agent remembers of replicas, so that it finds them while the API server does not answer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use towpath_kernel::fs;
use tracing::warn;

/// Kept on disk.
#[derive(Debug)]
pub(super) struct Memory {
    path: PathBuf,
    pub(super) remembered: Remembered,
}

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Remembered {
    /// Where they were.
    pub(super) replicas: Vec<SocketAddr>,
    /// Whom to believe, in PEM; nothing where nobody told yet.
    pub(super) authorities: Option<String>,
}

impl Memory {
    /// What is on disk. What cannot be read is forgotten: it can be learned again.
    pub(super) fn load(path: &Path) -> Self {
        let read = fs::read_optional(path).unwrap_or_else(|error| {
            warn!(%error, "where the operator was is forgotten");
            None
        });
        let remembered = read.map(|json| serde_json::from_slice(&json)).transpose().unwrap_or_else(|error| {
            warn!(%error, path = %path.display(), "where the operator was is forgotten");
            None
        });
        Self { path: path.to_owned(), remembered: remembered.unwrap_or_default() }
    }

    /// Remembers something else.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut Remembered)) {
        let before = self.remembered.clone();
        change(&mut self.remembered);
        if self.remembered == before {
            return;
        }
        let written = serde_json::to_vec(&self.remembered).map_err(|error| error.to_string());
        let written =
            written.and_then(|json| fs::write_atomically(&self.path, &json, 0o600).map_err(|error| error.to_string()));
        if let Err(error) = written {
            warn!(error, "where the operator is will not be remembered");
        }
    }
}
