//! What the agent must still know after it was killed: its last state, and how the node was before.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use towpath_kernel::fs;
use towpath_net::observed::Sysctl;

use crate::paths::{Paths, folder};
use crate::snapshot::Assignment;

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
    /// It is not what the agent writes.
    #[error("{path} is damaged ({source}): mend or remove it; without it the agent starts from what it sees now")]
    Damaged {
        /// The file.
        path: String,
        /// Where it is damaged.
        source: serde_json::Error,
    },
}

/// The last state that was given, if any.
pub fn last_state(paths: &Paths) -> Result<Option<Assignment>, MemoryError> {
    read(&paths.last_state())
}

/// Keeps the state that was given.
pub fn keep_state(paths: &Paths, state: &Assignment) -> Result<(), MemoryError> {
    if matches!(last_state(paths), Ok(Some(kept)) if kept == *state) {
        return Ok(());
    }
    write(&paths.last_state(), state)
}

/// Settings as they were before the agent first changed them.
pub fn settings_before(paths: &Paths) -> Result<BTreeMap<Sysctl, String>, MemoryError> {
    let kept: Option<BTreeMap<String, String>> = read(&paths.settings_before())?;
    Ok(kept.unwrap_or_default().into_iter().map(|(key, value)| (Sysctl(key), value)).collect())
}

/// Keeps how settings are now, but for those that are kept already.
pub fn keep_settings(paths: &Paths, now: &BTreeMap<Sysctl, String>) -> Result<(), MemoryError> {
    let kept = settings_before(paths)?;
    let mut all = now.clone();
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
