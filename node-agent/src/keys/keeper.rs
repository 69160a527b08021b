//! Keeps the node's keys: makes them when they are first needed, and anew when their time has come.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use towpath_kernel::host::HostKernel;
use towpath_kernel::kernel::KernelError;
use towpath_kernel::wireguard::{Device, KeyRing};
use towpath_net::device::wireguard;
use towpath_net::ops::Op;
use towpath_net::rotation::{Ages, Handshakes, Moment, Step};
use towpath_net::transport::{Keys, PublicKey, Slot, Transport, Transports};
use tracing::{info, warn};

use super::store::{Before, KeysError, Stored, StoredKey};
use super::{OwnKey, PublicKeys};

/// How soon to look again while peers are invited to a new key.
const SOON: Moment = 1_000;
/// How soon where something failed.
const RETRY: Moment = 10_000;

/// Keeps the keys of one node.
pub struct Keeper {
    path: PathBuf,
    stored: Option<Stored>,
    /// When to look next; nothing where nothing is to be done.
    due: Option<Moment>,
    /// Whether the kernel said that it has no WireGuard.
    kernel_lacks_it: bool,
}

/// Whether the kernel must be brought to match the keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tended {
    /// It matches them.
    AsBefore,
    /// Keys were changed, or the node sends by the other one.
    Changed,
}

impl Keeper {
    /// Keys that are kept in a file, which is read when they are first needed.
    pub const fn new(path: PathBuf) -> Self {
        Self { path, stored: None, due: None, kernel_lacks_it: false }
    }

    /// The public keys, for what is rendered; nothing where the node has no use for any. The kernel is given the private
    /// ones to choose from.
    pub fn ready(&mut self, kernel: &mut HostKernel, transports: &Transports) -> Option<Keys> {
        let uses = |list: &[Transport]| list.contains(&Transport::WireGuard);
        if !uses(&transports.prefers) && !uses(&transports.accepts) {
            if self.stored.take().is_some() {
                kernel.hold_keys(KeyRing::default());
            }
            self.due = None;
            return None;
        }
        if self.stored.is_none() {
            match self.load() {
                Ok(stored) => self.hold(kernel, stored),
                Err(error) => warn!(%error, "there are no keys for WireGuard"),
            }
        }
        self.keys()
    }

    /// The public keys as they are.
    pub fn keys(&self) -> Option<Keys> {
        self.stored.as_ref().map(public)
    }

    /// The public keys that a file tells, for whoever only looks; nothing where it does not.
    pub fn keys_in(path: &Path) -> Option<Keys> {
        Stored::read(path).ok().flatten().as_ref().map(public)
    }

    /// What others are told: only keys that the kernel has. Until it has a new one, that is the one before. Where the
    /// kernel has no WireGuard there is nothing to wait for: they are of use as soon as it has.
    pub fn told(&self) -> Option<PublicKeys> {
        let stored = self.stored.as_ref()?;
        let told = |slot: Slot| {
            let key = stored.of(slot);
            let current = || (&key.private, key.made);
            let before = key.before.as_ref().map(|before| (&before.private, before.made));
            let (private, made) = match before {
                _ if key.is_in_kernel => current(),
                Some(before) => before,
                None if self.kernel_lacks_it => current(),
                None => return None,
            };
            let since = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(made))?;
            Some(OwnKey { slot, public: private.public(), since })
        };
        let keys: Vec<_> = Slot::ALL.into_iter().filter_map(told).collect();
        (!keys.is_empty()).then_some(PublicKeys { active: stored.active, keys })
    }

    /// When to tend the keys next.
    pub fn due_in(&self) -> Option<Duration> {
        self.due.map(|due| Duration::from_millis(due.saturating_sub(now())))
    }

    /// Looks after the keys: takes note of those that the kernel has by now, and does the next step of making one anew.
    pub fn tend(&mut self, kernel: &mut HostKernel, period: Option<u32>) -> Tended {
        let Some(stored) = self.stored.clone() else { return Tended::AsBefore };
        let outcome = self.look(kernel, stored, period);
        outcome.unwrap_or_else(|error| {
            warn!(%error, "cannot look after the keys of WireGuard");
            self.due = Some(now() + RETRY);
            Tended::AsBefore
        })
    }

    /// Invites peers that were just added to a session: who makes a key anew waits for that.
    pub fn greet(&self, kernel: &mut HostKernel, done: &[Op], period: Option<u32>) {
        if period.is_none() || self.stored.is_none() {
            return;
        }
        let mut added: BTreeMap<&str, Vec<PublicKey>> = BTreeMap::new();
        for op in done {
            if let Op::SetCipherPeer { link, key, .. } = op {
                added.entry(link).or_default().push(*key);
            }
        }
        for (link, peers) in added {
            if let Err(error) = kernel.greet(link, &peers) {
                warn!(%error, link, "cannot invite peers");
            }
        }
    }

    fn load(&self) -> Result<Stored, KeysError> {
        match Stored::read(&self.path) {
            Ok(Some(stored)) => return Ok(stored),
            Ok(None) => info!("made the keys for WireGuard"),
            Err(error @ KeysError::Damaged { .. }) => warn!(%error, "made new keys for WireGuard"),
            Err(error) => return Err(error),
        }
        let stored = Stored::generate(now())?;
        stored.keep(&self.path)?;
        Ok(stored)
    }

    /// From now on these are the keys.
    fn hold(&mut self, kernel: &mut HostKernel, stored: Stored) {
        kernel.hold_keys(Slot::ALL.into_iter().map(|slot| stored.of(slot).private.clone()).collect::<KeyRing>());
        self.stored = Some(stored);
    }

    fn change(&mut self, kernel: &mut HostKernel, stored: Stored) -> Result<(), KeeperError> {
        stored.keep(&self.path)?;
        self.hold(kernel, stored);
        Ok(())
    }

    fn look(
        &mut self,
        kernel: &mut HostKernel,
        mut stored: Stored,
        period: Option<u32>,
    ) -> Result<Tended, KeeperError> {
        self.due = None;
        if self.take_note(kernel, &mut stored)? == Noted::Awaited {
            return Ok(Tended::AsBefore);
        }
        let Some(period) = period else { return Ok(Tended::AsBefore) };
        let now = now();
        let idle = stored.active.other();
        let before =
            Ages { active: stored.of(stored.active).made, idle: stored.of(idle).made, taken_back: stored.taken_back };
        let ages = before.as_of(now);
        if ages != before {
            let active = stored.active;
            stored.of_mut(active).made = ages.active;
            stored.of_mut(idle).made = ages.idle;
            stored.taken_back = ages.taken_back;
            self.change(kernel, stored.clone())?;
        }
        let peers = if ages.is_inviting() { handshakes(kernel, stored.active)? } else { Vec::new() };
        self.step(kernel, stored, ages.step(now, period, peers))
    }

    fn step(&mut self, kernel: &mut HostKernel, mut stored: Stored, step: Step) -> Result<Tended, KeeperError> {
        let idle = stored.active.other();
        let (link, key) = (wireguard(idle), stored.of_mut(idle));
        match step {
            Step::Wait(due) => {
                self.due = Some(due);
                return Ok(Tended::AsBefore);
            }
            Step::Invite => {
                self.due = Some(now() + SOON);
                return Ok(Tended::AsBefore);
            }
            Step::Make => {
                let old = std::mem::replace(key, StoredKey::generate(now())?);
                key.before = Some(Before { private: old.private, made: old.made });
                info!(link, key = %key.private.public(), "made a new key, and invite peers to it");
            }
            Step::TakeBack => {
                if let Some(before) = key.before.take() {
                    (key.private, key.made) = (before.private, before.made);
                }
                info!(link, key = %key.private.public(), "peers do not come to know the new key: put the one before back");
                stored.taken_back = Some(now());
            }
            Step::ChangeOver => {
                key.before = None;
                stored.active = idle;
                info!(link, "peers know the new key: from now on packets go by it");
            }
        }
        self.change(kernel, stored)?;
        Ok(Tended::Changed)
    }

    /// Takes note of keys that the kernel has by now; from then on handshakes are with these.
    fn take_note(&mut self, kernel: &mut HostKernel, stored: &mut Stored) -> Result<Noted, KeeperError> {
        let mut noted = Noted::All;
        self.kernel_lacks_it = false;
        for slot in Slot::ALL {
            let link = wireguard(slot);
            if stored.of(slot).is_in_kernel {
                continue;
            }
            let device = match kernel.sessions(link) {
                // What is told of the device says so.
                Err(KernelError::Unsupported { .. }) => {
                    self.kernel_lacks_it = true;
                    None
                }
                device => device?,
            };
            let key = stored.of_mut(slot);
            let has_it = |device: &Device| device.public_key == Some(key.private.public());
            let Some(device) = device.filter(has_it) else {
                noted = Noted::Awaited;
                continue;
            };
            (key.made, key.is_in_kernel) = (now(), true);
            self.change(kernel, stored.clone())?;
            let peers: Vec<_> = device.peers.into_keys().collect();
            kernel.greet(link, &peers)?;
        }
        Ok(noted)
    }
}

/// Whether the kernel has all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Noted {
    All,
    Awaited,
}

/// Why the keys could not be looked after.
#[derive(Debug, thiserror::Error)]
enum KeeperError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The last handshakes with each peer, which has another key on each device: the ranges that it may send from tell that
/// they are one.
fn handshakes(kernel: &mut HostKernel, active: Slot) -> Result<Vec<Handshakes>, KeeperError> {
    let mut peers: BTreeMap<_, Handshakes> = BTreeMap::new();
    for slot in [active, active.other()] {
        let device = kernel.sessions(wireguard(slot))?.unwrap_or_default();
        for peer in device.peers.into_values().filter(|peer| !peer.peer.allowed.is_empty()) {
            let last = peer.handshake.map(moment);
            let of_peer = peers.entry(peer.peer.allowed).or_default();
            *if slot == active { &mut of_peer.active } else { &mut of_peer.idle } = last;
        }
    }
    Ok(peers.into_values().collect())
}

fn public(stored: &Stored) -> Keys {
    let of = |slot| Some(stored.of(slot).private.public());
    Keys { first: of(Slot::First), second: of(Slot::Second), active: stored.active }
}

fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Moment::try_from(since.as_millis()).unwrap_or(Moment::MAX)
}

fn now() -> Moment {
    moment(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use towpath_kernel::sysctl::Sysctls;
    use towpath_kernel::testing::isolated;

    use super::*;

    #[test]
    fn keys_are_told_once_the_kernel_has_them_or_never_can() {
        isolated("keys::keeper::tests::keys_are_told_once_the_kernel_has_them_or_never_can", || {
            let folder = tempfile::tempdir().unwrap();
            let mut kernel = HostKernel::open(Sysctls::below("/proc/sys")).unwrap();
            let mut keeper = Keeper::new(folder.path().join("wireguard.json"));
            let keys = keeper.ready(&mut kernel, &Transports::only(Transport::WireGuard)).unwrap();
            assert_eq!(keeper.told(), None);
            assert_eq!(keeper.tend(&mut kernel, None), Tended::AsBefore);
            // There is no device yet.
            match kernel.sessions(wireguard(Slot::First)) {
                Err(KernelError::Unsupported { .. }) => assert_eq!(keeper.told().map(|told| told.told()), Some(keys)),
                sessions => assert_eq!((sessions.unwrap(), keeper.told()), (None, None)),
            }
        });
    }
}
