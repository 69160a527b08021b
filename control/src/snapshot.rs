//! What an agent keeps on disk, and starts from without operator and API server: a file with all of it, written anew from
//! time to time, and one with what became of it since.

mod journal;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use prost::Message;
use sha2::{Digest, Sha256};
use towpath_kernel::fs;
use towpath_net::policy::bundle::{Bundle, Delta};
use tracing::warn;

use crate::malformed::{Fault, Malformed};
use crate::message::undecodable;
use crate::update::{State, Update};
use crate::wire::peer::write_named;
use crate::wire::{policy, schema as wire};

pub use journal::Journal;

/// Begins every file: what it is, and of which version.
const MAGIC: &[u8] = b"towpath-state-1\n";
/// How often it is written at the most.
const PERIOD: Duration = Duration::from_secs(1);

/// What is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Whatever else the agent keeps, in its own form.
    pub own: Vec<u8>,
    /// What the operator told.
    pub state: State,
}

/// A file that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is of another version, or no such file at all.
    #[error("it is of another version, or something else")]
    Version,
    /// It is not what was written.
    #[error("it is not as it was written")]
    Checksum,
    /// It does not say what it should.
    #[error("it cannot be read: {0}")]
    Malformed(#[from] Malformed),
}

/// Which snapshot it is, by what it says (SHA-256).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark([u8; 32]);

/// Writes a snapshot, whole or not at all. It is on the disk when this returns. A [`Journal`] goes on from its mark.
///
/// # Errors
///
/// Where the disk fails.
pub fn save(path: &Path, own: &[u8], state: &State) -> Result<Mark, fs::Error> {
    let body = body(own, state);
    let mark = mark(&body);
    fs::write_atomically(path, &[MAGIC, &mark.0, &body].concat(), 0o600)?;
    Ok(mark)
}

/// Reads a snapshot, with what became of it since; nothing where there is none, or none that can be trusted.
pub fn load(path: &Path) -> Option<Snapshot> {
    let bytes = fs::read_optional(path).unwrap_or_else(|error| {
        warn!(%error, "what was known is not used");
        None
    })?;
    let (mark, snapshot) =
        open(&bytes).inspect_err(|damage| warn!(path = %path.display(), %damage, "what was known is not used")).ok()?;
    let Snapshot { own, mut state } = snapshot;
    journal::replay(path, mark, &mut state.policy);
    Some(Snapshot { own, state })
}

/// The bytes of a snapshot.
pub fn write(own: &[u8], state: &State) -> Vec<u8> {
    let body = body(own, state);
    [MAGIC, &mark(&body).0, &body].concat()
}

fn mark(body: &[u8]) -> Mark {
    Mark(Sha256::digest(body).into())
}

fn body(own: &[u8], state: &State) -> Vec<u8> {
    let peers = state.peers.iter().map(|(name, peer)| write_named(name, Some(peer))).collect::<Vec<_>>();
    let saved = wire::Saved {
        own: Bytes::copy_from_slice(own),
        peers: vec![Bytes::from(wire::Peers { peers }.encode_to_vec())],
        policy: policy::write(&Delta::between(&Bundle::default(), &state.policy)),
    };
    saved.encode_to_vec()
}

/// The snapshot of bytes.
pub fn read(bytes: &[u8]) -> Result<Snapshot, Damage> {
    open(bytes).map(|(_, snapshot)| snapshot)
}

fn open(bytes: &[u8]) -> Result<(Mark, Snapshot), Damage> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Version)?;
    let (checksum, body) = rest.split_first_chunk::<32>().ok_or(Damage::Checksum)?;
    let mark = mark(body);
    if mark.0 != *checksum {
        return Err(Damage::Checksum);
    }
    let mut saved = wire::Saved::decode(body).map_err(|error| undecodable(&error))?;
    let own = std::mem::take(&mut saved.own).to_vec();
    Ok((mark, Snapshot { own, state: read_state(saved)? }))
}

/// The same as an update to who knows nothing.
fn read_state(saved: wire::Saved) -> Result<State, Malformed> {
    let part = wire::Part { peers: saved.peers, policy: saved.policy, ..wire::Part::default() };
    let mut update = Update::default();
    update.take(&part)?;
    let mut state = State::default();
    state.apply(update).map_err(|_| Malformed::new("policy.sets", Fault::Contradiction))?;
    Ok(state)
}

/// When a snapshot is to be written: when something changed, and not too often.
#[derive(Debug, Default)]
pub struct Pace {
    written: Option<Instant>,
    is_changed: bool,
}

impl Pace {
    /// Something changed.
    pub fn change(&mut self) {
        self.is_changed = true;
    }

    /// How long until it is to be written; nothing where it need not be.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        let since = self.written.map(|written| now.saturating_duration_since(written));
        self.is_changed.then(|| since.map(|since| PERIOD.saturating_sub(since)).unwrap_or_default())
    }

    /// It was written.
    pub fn written(&mut self, now: Instant) {
        (self.written, self.is_changed) = (Some(now), false);
    }
}
