//! A node's state in a file: for nodes without an API server, and for tests.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt as _;
use inotify::{EventStream, Inotify, WatchMask};
use tracing::warn;

use super::SourceError;
use crate::paths::folder;
use crate::snapshot::Assignment;

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
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SourceError::Read { path: self.path.clone(), source }),
        };
        let state = serde_yaml_ng::from_str(&text)
            .map_err(|error| SourceError::Malformed { path: self.path.clone(), reason: error.to_string() })?;
        Ok(Some(Assignment { object: String::new(), generation: 0, state }))
    }

    /// Hands each new state to `each`. What is malformed is told, and the last good state stays.
    pub async fn follow(self, mut each: impl FnMut(Assignment) + Send) -> Result<(), SourceError> {
        let folder = folder(&self.path);
        let mut changes = watch(folder).map_err(|source| SourceError::Watch { path: folder.to_owned(), source })?;
        let mut last = None;
        loop {
            match self.fetch() {
                Ok(Some(assignment)) if last.as_ref() != Some(&assignment) => {
                    last = Some(assignment.clone());
                    each(assignment);
                }
                Ok(_) => {}
                Err(error) => warn!(%error, "the last good state stays"),
            }
            // A change, or the time after which a lost event is made up for.
            _ = tokio::time::timeout(SLOW, changes.next()).await;
        }
    }
}

fn watch(folder: &Path) -> std::io::Result<EventStream<[u8; 4096]>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(folder, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO)?;
    inotify.into_event_stream([0; 4096])
}
