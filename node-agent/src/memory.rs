//! What the agent must still know after it was killed: its last state, and how the node was before.

mod journal;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use towpath_kernel::fs;
use towpath_net::observed::Sysctl;

use crate::paths::{Paths, folder};

pub use journal::Journal;

/// A file of the agent's that could not be read or written.
#[derive(Debug, Error)]
pub enum MemoryError {
    /// It could not be read or written.
    #[error(transparent)]
    File(#[from] fs::Error),
    /// Its folder could not be made.
    #[error("make folder {path}: {source}")]
    Folder {
        /// The folder.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It could not be written to its end.
    #[error("append to {path}: {source}")]
    Append {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// It is not what the agent writes.
    #[error("{path} is damaged ({source}): mend or remove it; without it the agent starts from what it sees now")]
    Damaged {
        /// The file.
        path: String,
        /// Where it is damaged.
        source: serde_json::Error,
    },
}

/// Settings as they were before the agent first changed them.
pub fn settings_before(paths: &Paths) -> Result<BTreeMap<Sysctl, String>, MemoryError> {
    let kept: Option<BTreeMap<String, String>> = read(&paths.settings_before())?;
    Ok(kept.unwrap_or_default().into_iter().map(|(key, value)| (Sysctl(key), value)).collect())
}

/// Keeps how settings of the node are now, but for those that are kept already.
pub fn keep_settings(paths: &Paths, now: BTreeMap<Sysctl, String>) -> Result<(), MemoryError> {
    let kept = settings_before(paths)?;
    let mut all = now;
    all.extend(kept.clone());
    if all == kept {
        return Ok(());
    }
    write(&paths.settings_before(), &all)
}

/// How often files of other networks were moved aside, by their names.
pub fn moves(paths: &Paths) -> Result<BTreeMap<String, u32>, MemoryError> {
    Ok(read(&paths.moves())?.unwrap_or_default())
}

/// Keeps how often they were.
pub fn keep_moves(paths: &Paths, moves: &BTreeMap<String, u32>) -> Result<(), MemoryError> {
    write(&paths.moves(), moves)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, MemoryError> {
    let damaged = |source| MemoryError::Damaged { path: path.display().to_string(), source };
    let content = fs::read_optional(path)?;
    content.map(|bytes| serde_json::from_slice(&bytes).map_err(damaged)).transpose()
}

fn write(path: &Path, value: &impl Serialize) -> Result<(), MemoryError> {
    let damaged = |source| MemoryError::Damaged { path: path.display().to_string(), source };
    let bytes = serde_json::to_vec(value).map_err(damaged)?;
    make_folder(folder(path))?;
    Ok(fs::write_atomically(path, &bytes, 0o600)?)
}

/// Makes a folder, where there is none.
pub fn make_folder(path: &Path) -> Result<(), MemoryError> {
    std::fs::create_dir_all(path).map_err(|source| MemoryError::Folder { path: path.display().to_string(), source })
}
