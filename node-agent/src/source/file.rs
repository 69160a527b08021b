//! A node's state in a file: for nodes without an API server, and for tests.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use serde::de::DeserializeOwned;
use tracing::warn;

use super::SourceError;
use crate::paths::folder;
use crate::snapshot::{Assignment, Update};

/// The longest that a change of the file can stay unseen, where an event was lost.
const SLOW: Duration = Duration::from_secs(10);

/// A file that holds a `NodeState` in YAML or JSON.
pub struct FileSource {
    path: PathBuf,
}

impl FileSource {
    /// The state in `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads the file; nothing where there is none.
    pub fn fetch(&self) -> Result<Option<Assignment>, SourceError> {
        let state = read(&self.path, "a node's state")?;
        Ok(state.map(|state| Assignment { object: String::new(), generation: 0, state }))
    }

    /// Hands each new state to `each`. What is malformed is told, and the last good state stays.
    pub async fn follow(self, mut each: impl FnMut(Update) + Send) -> Result<(), SourceError> {
        let folder = folder(&self.path);
        let mut changes = watch(folder).map_err(|source| SourceError::Watch { path: folder.to_owned(), source })?;
        let mut last = None;
        loop {
            let now = stamp(&self.path);
            if last != Some(now) {
                last = Some(now);
                match self.fetch() {
                    Ok(Some(assignment)) => each(Update::State(Box::new(assignment))),
                    Ok(None) => {}
                    Err(error) => warn!(%error, "the last good state stays"),
                }
            }
            // A change, or the time after which a lost event is made up for.
            _ = tokio::time::timeout(SLOW, changes.next()).await;
        }
    }
}

/// Reads a file of YAML or JSON; nothing where there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<Option<T>, SourceError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SourceError::Read { path: path.to_owned(), source }),
    };
    let malformed = |reason: String| SourceError::Malformed { path: path.to_owned(), what, reason };
    // All JSON is YAML, and what is read as such costs far less time and memory.
    if let Ok(value) = serde_json::from_str(&text) {
        return Ok(Some(value));
    }
    serde_yaml_ng::from_str(&text).map(Some).map_err(|error| malformed(error.to_string()))
}

/// A file's number, length and last change: what differs where somebody wrote it.
fn stamp(path: &Path) -> Option<(u64, u64, i64, i64)> {
    std::fs::metadata(path).ok().map(|m| (m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

fn watch(folder: &Path) -> std::io::Result<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(folder, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 4096])
}
