//! Where a node's state comes from: one seam, several sources.

mod control;
mod file;
mod folder;
mod gathered;

use std::path::PathBuf;

use thiserror::Error;
use towpath_net::state::NodeName;

use crate::snapshot::{Assignment, Update};

pub use control::{ControlSource, Remembered};
pub use file::FileSource;
pub use folder::FolderSource;

/// How long a watch lasts before the API server ends it and it is begun anew, in seconds.
pub const WATCH_SECONDS: u32 = 30;

/// Why a source cannot give a state.
#[derive(Debug, Error)]
pub enum SourceError {
    /// The API server refused, or cannot be reached.
    #[error("cannot read NodeNetworks from the API server: {0}")]
    Api(#[source] Box<kube::Error>),
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path} is not {what}: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// Where and why.
        reason: String,
    },
    /// The file cannot be watched.
    #[error("cannot watch {path}: {source}")]
    Watch {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A `NodeNetwork` holds what its schema would have refused.
    #[error("NodeNetwork {node}: {source}")]
    Spec {
        /// Its name.
        node: NodeName,
        /// What is wrong.
        source: towpath_crds::SpecError,
    },
}

/// Where a node's state comes from.
pub enum Source {
    /// The operator's stream, and the node's own part from the API server.
    Control(Box<ControlSource>),
    /// A file, read anew whenever it changes.
    File(FileSource),
    /// A folder with a file for each node, of which only those are read anew that change.
    Folder(FolderSource),
}

impl Source {
    /// The state in a file of YAML or JSON, or in a folder of such files.
    pub fn file(path: PathBuf) -> Self {
        if path.is_dir() { Self::Folder(FolderSource::new(path)) } else { Self::File(FileSource::new(path)) }
    }

    /// The state as it is now; nothing where the node was told nothing yet.
    pub fn fetch(path: PathBuf) -> Result<Option<Assignment>, SourceError> {
        match Self::file(path) {
            Self::File(source) => source.fetch(),
            Self::Folder(source) => source.fetch(),
            Self::Control(_) => Ok(None),
        }
    }

    /// Hands what it is told to `each`, for ever: the whole state before anything else.
    pub async fn follow(self, each: impl FnMut(Update) + Send) -> Result<(), SourceError> {
        match self {
            Self::Control(source) => {
                source.follow(each).await;
                Ok(())
            }
            Self::File(source) => source.follow(each).await,
            Self::Folder(source) => source.follow(each).await,
        }
    }
}
