//! The last state that the agent was given: a file with all of it, and one with what became of it since, a line a
//! change. A change among thousands of nodes is so written in no time.

use std::fs::{File, OpenOptions};
use std::hash::Hasher as _;
use std::io::Write as _;
use std::path::Path;

use fnv::FnvHasher;
use serde::{Deserialize, Serialize};
use towpath_kernel::fs;
use towpath_net::state::{NodeName, Peer};
use tracing::warn;

use super::{MemoryError, make_folder};
use crate::paths::{Paths, folder};
use crate::snapshot::Assignment;

/// After how many changes the state is written as a whole again.
const MOST: usize = 1000;

/// The first line of the changes: which state they belong to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// Of the file with the state.
    state: u64,
}

/// Another node is so, or gone.
#[derive(Debug, Serialize, Deserialize)]
struct Change {
    name: NodeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<Peer>,
}

/// Keeps the last state.
#[derive(Debug, Default)]
pub struct Journal {
    /// Of the file with the state as it was last written or read.
    head: Option<Head>,
    changes: Option<File>,
    written: usize,
}

impl Journal {
    /// The last state that was given, if any.
    pub fn read(&mut self, paths: &Paths) -> Result<Option<Assignment>, MemoryError> {
        let path = paths.last_state();
        let Some(content) = fs::read_optional(&path)? else { return Ok(None) };
        let damaged = |source| MemoryError::Damaged { path: path.display().to_string(), source };
        let mut state: Assignment = serde_json::from_slice(&content).map_err(damaged)?;
        let head = Head { state: hash(&content) };
        let changes = fs::read_optional(&paths.journal())?.unwrap_or_default();
        if replay(&changes, &head, &mut state) {
            self.keep(paths, &state)?;
        } else {
            self.head = Some(head);
        }
        Ok(Some(state))
    }

    /// Keeps a whole state.
    pub fn keep(&mut self, paths: &Paths, state: &Assignment) -> Result<(), MemoryError> {
        let path = paths.last_state();
        let damaged = |source| MemoryError::Damaged { path: path.display().to_string(), source };
        let content = serde_json::to_vec(state).map_err(damaged)?;
        let head = Head { state: hash(&content) };
        if self.head.as_ref() != Some(&head) || self.written > 0 {
            make_folder(folder(&path))?;
            fs::write_atomically(&path, &content, 0o600)?;
        }
        *self = Self { head: Some(head), changes: None, written: 0 };
        Ok(())
    }

    /// Keeps a change of one node; tells whether the whole state is to be kept in its stead.
    pub fn note(&mut self, paths: &Paths, name: &NodeName, peer: Option<&Peer>) -> Result<bool, MemoryError> {
        let Some(head) = self.head.as_ref().filter(|_| self.written < MOST) else { return Ok(true) };
        let path = paths.journal();
        let failed = |source| MemoryError::Append { path: path.display().to_string(), source };
        let file = match &mut self.changes {
            Some(file) => file,
            none => {
                let mut file = begin(&path).map_err(failed)?;
                line(&mut file, head).map_err(failed)?;
                none.insert(file)
            }
        };
        line(file, &Change { name: name.clone(), peer: peer.cloned() }).map_err(failed)?;
        self.written += 1;
        Ok(false)
    }
}

fn begin(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(path)
}

/// In one write: a line is there as a whole, or the last and torn.
fn line(file: &mut File, value: &impl Serialize) -> std::io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// Takes the changes into the state that they belong to; tells whether there were any.
fn replay(changes: &[u8], head: &Head, state: &mut Assignment) -> bool {
    let mut lines = changes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let belongs = |line: &[u8]| serde_json::from_slice::<Head>(line).is_ok_and(|found| found == *head);
    if !lines.next().is_some_and(belongs) {
        return false;
    }
    let mut any = false;
    for line in lines {
        match serde_json::from_slice::<Change>(line) {
            Ok(Change { name, peer }) => _ = state.state.set_peer(name, peer),
            Err(error) => warn!(%error, "a change of the last state is damaged"),
        }
        any = true;
    }
    any
}

fn hash(content: &[u8]) -> u64 {
    let mut hash = FnvHasher::default();
    hash.write(content);
    hash.finish()
}

#[cfg(test)]
mod tests {
    use towpath_net::state::{NodeSpec, NodeState};
    use towpath_net::transport::Transport;

    use super::*;

    fn paths(root: &Path) -> Paths {
        let here = root.to_owned();
        Paths {
            state: here.clone(),
            lasting: here.clone(),
            state_on_node: here.clone(),
            cni_conf: here.clone(),
            cni_bin: here.clone(),
            cni_binary: here.clone(),
            sysctls: here,
        }
    }

    fn peer() -> Peer {
        let pod_cidrs = vec!["10.244.2.0/24".parse().unwrap()];
        Peer { addresses: Vec::new(), pod_cidrs, accepts: vec![Transport::Vxlan], keys: None }
    }

    fn assignment() -> Assignment {
        let peers = [("n2".into(), peer())].into();
        let state = NodeState { node: "n1".into(), spec: NodeSpec::plain(Vec::new(), Vec::new()), peers };
        Assignment { object: "a".to_owned(), generation: 1, state }
    }

    fn names(state: Assignment) -> Vec<String> {
        state.state.peers.into_keys().map(|name| name.0).collect()
    }

    #[test]
    fn what_was_kept_is_read_with_what_became_of_it_and_a_torn_line_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let mut journal = Journal::default();
        assert!(journal.note(&paths, &"n3".into(), None).unwrap(), "no state that it could belong to");
        journal.keep(&paths, &assignment()).unwrap();
        assert!(!journal.note(&paths, &"n3".into(), Some(&peer())).unwrap());
        assert!(!journal.note(&paths, &"n2".into(), None).unwrap());
        let mut torn = std::fs::read(paths.journal()).unwrap();
        torn.extend(br#"{"name": "n4", "peer": {"addr"#);
        std::fs::write(paths.journal(), torn).unwrap();
        let mut fresh = Journal::default();
        assert_eq!(names(fresh.read(&paths).unwrap().unwrap()), ["n3"]);
        assert!(!fresh.note(&paths, &"n5".into(), Some(&peer())).unwrap());
        assert_eq!(names(Journal::default().read(&paths).unwrap().unwrap()), ["n3", "n5"]);
    }

    #[test]
    fn changes_of_an_older_state_are_nothing_to_a_newer_one() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let mut journal = Journal::default();
        journal.keep(&paths, &assignment()).unwrap();
        journal.note(&paths, &"n3".into(), Some(&peer())).unwrap();
        journal.keep(&paths, &Assignment { generation: 2, ..assignment() }).unwrap();
        assert_eq!(names(Journal::default().read(&paths).unwrap().unwrap()), ["n2"]);
    }

    #[test]
    fn after_many_changes_the_state_is_written_as_a_whole() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let mut journal = Journal::default();
        journal.keep(&paths, &assignment()).unwrap();
        let whole = (0..=MOST).map(|_| journal.note(&paths, &"n2".into(), Some(&peer())).unwrap());
        assert_eq!(whole.filter(|whole| *whole).count(), 1);
    }
}
