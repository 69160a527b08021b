//! What an agent keeps on disk, and starts from without operator and API server.

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

/// Writes a snapshot, whole or not at all. It is on the disk when this returns.
pub fn save(path: &Path, own: &[u8], state: &State) -> Result<(), fs::Error> {
    fs::write_atomically(path, &write(own, state), 0o600)
}

/// Reads a snapshot; nothing where there is none, or none that can be trusted.
pub fn load(path: &Path) -> Option<Snapshot> {
    let bytes = fs::read_optional(path).unwrap_or_else(|error| {
        warn!(%error, "what was known is not used");
        None
    })?;
    match read(&bytes) {
        Ok(snapshot) => Some(snapshot),
        Err(damage) => {
            warn!(path = %path.display(), %damage, "what was known is not used");
            None
        }
    }
}

/// The bytes of a snapshot.
pub fn write(own: &[u8], state: &State) -> Vec<u8> {
    let peers = state.peers.iter().map(|(name, peer)| write_named(name, Some(peer))).collect::<Vec<_>>();
    let saved = wire::Saved {
        own: Bytes::copy_from_slice(own),
        peers: vec![Bytes::from(wire::Peers { peers }.encode_to_vec())],
        policy: policy::write(&Delta::between(&Bundle::default(), &state.policy)),
    };
    let body = saved.encode_to_vec();
    [MAGIC, Sha256::digest(&body).as_slice(), &body].concat()
}

/// The snapshot of bytes.
pub fn read(bytes: &[u8]) -> Result<Snapshot, Damage> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damage::Version)?;
    let (checksum, body) = rest.split_at_checked(32).ok_or(Damage::Checksum)?;
    if Sha256::digest(body).as_slice() != checksum {
        return Err(Damage::Checksum);
    }
    let mut saved = wire::Saved::decode(body).map_err(|error| undecodable(&error))?;
    let own = std::mem::take(&mut saved.own).to_vec();
    Ok(Snapshot { own, state: read_state(saved)? })
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
