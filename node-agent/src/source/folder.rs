//! A node's state in a folder: `node.yaml` with its own part, and `peers/NAME.yaml` for every other node.
//!
//! A file that is written, moved or removed is read by itself, so that one change among thousands of nodes costs what
//! one node costs.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use futures::StreamExt as _;
use inotify::{EventMask, EventStream, Inotify, WatchDescriptor, WatchMask, Watches};
use towpath_net::state::{NodeName, NodeState, Peer};
use tracing::warn;

use super::SourceError;
use super::file::read;
use crate::snapshot::{Assignment, Own, Update};

/// The node's own part: a `NodeState` without peers.
const NODE: &str = "node.yaml";
/// The folder of the other nodes.
const PEERS: &str = "peers";
/// What the name of every other node's file ends in.
const ENDING: &str = "yaml";

/// A folder that holds a node's state, in YAML or JSON.
pub struct FolderSource {
    path: PathBuf,
}

/// What was seen of a folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Anything may have changed.
    everything: bool,
    /// The node's own part was written.
    own: bool,
    /// The names of peers whose files were written or removed.
    peers: BTreeSet<NodeName>,
}

impl FolderSource {
    /// The state below `path`.
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads everything; nothing while there is no `node.yaml`.
    pub fn fetch(&self) -> Result<Option<Assignment>, SourceError> {
        let Some(mut state) = self.own()? else { return Ok(None) };
        for name in self.names()? {
            if let Some(peer) = self.peer(&name)? {
                state.peers.insert(name, peer);
            }
        }
        Ok(Some(Assignment { object: String::new(), generation: 0, state }))
    }

    fn own(&self) -> Result<Option<NodeState>, SourceError> {
        let path = self.path.join(NODE);
        match read::<NodeState>(&path, "a node's own part")? {
            Some(state) if !state.peers.is_empty() => {
                let reason = format!("it has peers: move each of them into {PEERS}/NAME.{ENDING}");
                Err(SourceError::Malformed { path, what: "a node's own part", reason })
            }
            state => Ok(state),
        }
    }

    fn peer(&self, name: &NodeName) -> Result<Option<Peer>, SourceError> {
        read(&self.path.join(PEERS).join(format!("{name}.{ENDING}")), "what a node must know of a peer")
    }

    fn names(&self) -> Result<Vec<NodeName>, SourceError> {
        let path = self.path.join(PEERS);
        let failed = |source| SourceError::Read { path: path.clone(), source };
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => return Err(failed(source)),
        };
        let names = entries.map(|entry| Ok(peer_name(&entry.map_err(failed)?.file_name())));
        Ok(names.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// Hands the whole state to `each`, and then each change of it. What is malformed is told, and what was good stays.
    pub async fn follow(self, mut each: impl FnMut(Update) + Send) -> Result<(), SourceError> {
        let mut changes = Changes::of(&self.path)?;
        let mut seen = Seen { everything: true, ..Seen::default() };
        // Nothing is told of other nodes before all of them were read once.
        let mut complete = false;
        loop {
            if seen.everything || !complete {
                match self.fetch() {
                    Ok(Some(assignment)) => {
                        complete = true;
                        each(Update::State(Box::new(assignment)));
                    }
                    Ok(None) => {}
                    Err(error) => warn!(%error, "what was good stays"),
                }
            } else {
                self.tell(&seen, &mut each);
            }
            seen = changes.next().await?;
        }
    }

    fn tell(&self, seen: &Seen, each: &mut impl FnMut(Update)) {
        for name in &seen.peers {
            match self.peer(name) {
                Ok(peer) => each(Update::Peer(name.clone(), peer)),
                Err(error) => warn!(%error, "what was good stays"),
            }
        }
        match seen.own.then(|| self.own()).transpose() {
            Ok(Some(Some(state))) => {
                each(Update::Own(Box::new(Own { object: String::new(), generation: 0, spec: state.spec })));
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "what was good stays"),
        }
    }
}

/// The peer that a file is about; nothing where it is no such file.
fn peer_name(file: &OsStr) -> Option<NodeName> {
    let name = Path::new(file);
    (name.extension() == Some(OsStr::new(ENDING))).then(|| Some(NodeName(name.file_stem()?.to_str()?.to_owned())))?
}

/// What the kernel tells of the folder.
struct Changes {
    path: PathBuf,
    watches: Watches,
    events: EventStream<[u8; 4096]>,
    peers: Option<WatchDescriptor>,
}

impl Changes {
    fn of(path: &Path) -> Result<Self, SourceError> {
        let failed = |source| SourceError::Watch { path: path.to_owned(), source };
        let inotify = Inotify::init().map_err(failed)?;
        let mut watches = inotify.watches();
        watches.add(path, WatchMask::CLOSE_WRITE | WatchMask::MOVED_TO | WatchMask::CREATE).map_err(failed)?;
        let events = inotify.into_event_stream([0; 4096]).map_err(failed)?;
        let mut changes = Self { path: path.to_owned(), watches, events, peers: None };
        changes.watch_peers()?;
        Ok(changes)
    }

    /// Watches the folder of peers, as soon as there is one.
    fn watch_peers(&mut self) -> Result<(), SourceError> {
        let path = self.path.join(PEERS);
        let mask = WatchMask::CLOSE_WRITE | WatchMask::MOVE | WatchMask::DELETE | WatchMask::ONLYDIR;
        match self.watches.add(&path, mask) {
            Ok(watch) => self.peers = Some(watch),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(SourceError::Watch { path, source }),
        }
        Ok(())
    }

    /// Waits for changes.
    async fn next(&mut self) -> Result<Seen, SourceError> {
        let mut seen = Seen::default();
        while seen == Seen::default() {
            let event = match self.events.next().await {
                Some(Ok(event)) => event,
                Some(Err(source)) => return Err(SourceError::Watch { path: self.path.clone(), source }),
                None => {
                    let source = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(SourceError::Watch { path: self.path.clone(), source });
                }
            };
            let name = event.name.unwrap_or_default();
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                seen.everything = true;
            } else if Some(&event.wd) == self.peers.as_ref() {
                seen.peers.extend(peer_name(&name));
            } else if name == PEERS {
                self.watch_peers()?;
                seen.everything = true;
            } else if name == NODE {
                seen.own = true;
            }
        }
        Ok(seen)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const NODE_PART: &str = r#"{"node": "n1", "spec": {"revision": "7f3a91c", "addresses": [], "podCIDRs": [],
        "attachment": "Routed", "transport": {"prefers": ["Direct"], "accepts": ["Direct"]}, "masquerade": {"mode": "Off"}}}"#;
    const PEER: &str = r#"{"addresses": ["172.16.30.2"], "podCIDRs": ["10.244.2.0/24"], "accepts": ["Direct"]}"#;

    #[test]
    fn a_folder_is_a_node_and_a_file_for_each_peer() {
        let root = tempfile::tempdir().unwrap();
        let source = FolderSource::new(root.path().to_owned());
        assert_eq!(source.fetch().unwrap(), None);
        fs::write(root.path().join(NODE), NODE_PART).unwrap();
        assert!(source.fetch().unwrap().unwrap().state.peers.is_empty());
        fs::create_dir(root.path().join(PEERS)).unwrap();
        fs::write(root.path().join("peers/n2.example.yaml"), PEER).unwrap();
        fs::write(root.path().join("peers/.n3.yaml.new"), "half").unwrap();
        let names: Vec<NodeName> = source.fetch().unwrap().unwrap().state.peers.into_keys().collect();
        assert_eq!(names, ["n2.example".into()]);
        fs::write(root.path().join("peers/n4.yaml"), "half").unwrap();
        assert!(source.fetch().unwrap_err().to_string().contains("n4.yaml is not what a node must know of a peer"));
        fs::write(root.path().join(NODE), NODE_PART.replace("}}}", &format!("}}}}, \"peers\": {{\"n2\": {PEER}}}}}")))
            .unwrap();
        assert!(source.fetch().unwrap_err().to_string().contains("move each of them into peers/NAME.yaml"));
    }

    #[tokio::test]
    async fn one_file_that_changes_is_one_update() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(NODE), NODE_PART).unwrap();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let source = FolderSource::new(root.path().to_owned());
        let following = tokio::spawn(source.follow(move |update| _ = tell.send(update)));
        assert!(matches!(told.recv().await, Some(Update::State(_))));
        fs::create_dir(root.path().join(PEERS)).unwrap();
        assert!(matches!(told.recv().await, Some(Update::State(_))));
        let file = root.path().join("peers/n2.yaml");
        fs::write(&file, PEER).unwrap();
        assert!(matches!(told.recv().await, Some(Update::Peer(name, Some(_))) if name.0 == "n2"));
        fs::remove_file(&file).unwrap();
        assert!(matches!(told.recv().await, Some(Update::Peer(name, None)) if name.0 == "n2"));
        fs::write(root.path().join(NODE), NODE_PART.replace("7f3a91c", "8")).unwrap();
        assert!(matches!(told.recv().await, Some(Update::Own(own)) if own.spec.revision.0 == "8"));
        following.abort();
    }
}
