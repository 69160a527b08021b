//! When a node makes a WireGuard key anew, and when it begins to send by it: no packet is lost over either.
//!
//! A node sends by one of its two keys, and takes packets by both. The other, idle one is made anew; sessions that peers
//! have with the key before go on taking their packets for at least a minute, in which they learn the new one from its
//! status. The node invites all of them to a session with the new key, and changes over once those that it had sessions
//! with have agreed to one. Then the key by which it sent so far is the idle one. The idle key is made anew when the active
//! one is half a period old, so that none becomes older than a period, the change itself aside. Where nobody comes to know
//! the new key, for there is no API server to tell them, the one before is put back.
//!
//! Nodes do this each on its own: nobody has to wait for anybody's turn.

/// Milliseconds since 1970 by the node's clock.
pub type Moment = u64;

/// How long peers that were silent before have for taking note of a new key.
const SILENT: Moment = 20_000;
/// How long peers that were not have before it is taken back: sessions with the key before take packets for at least 60
/// seconds (`REJECT_AFTER_TIME` less `REKEY_AFTER_TIME`, 180 and 120).
const PATIENCE: Moment = 45_000;
/// For how long after a handshake a peer counts as one that packets go to and come from: as long as a session lasts, and
/// the patience with it.
const LIVELY: Moment = 180_000 + PATIENCE;

/// What there is to be known of a node's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ages {
    /// When the key was made that the node sends by.
    pub active: Moment,
    /// When the other one was: by then the kernel had it, and nobody else knew of it.
    pub idle: Moment,
    /// When a new key was last taken back.
    pub taken_back: Option<Moment>,
}

/// The last handshakes of a peer on both devices; nothing where there was none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// On the one that the node sends by.
    pub active: Option<Moment>,
    /// On the other.
    pub idle: Option<Moment>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing before this moment.
    Wait(Moment),
    /// Make the idle key anew.
    Make,
    /// Look again soon: peers are yet to agree to sessions with the new key.
    Invite,
    /// Put the key back that was there before the new one: peers do not come to know it.
    TakeBack,
    /// Send by the new key from now on.
    ChangeOver,
}

impl Ages {
    /// The same by a clock that was set back: nothing was made in the future.
    #[must_use]
    pub fn as_of(self, now: Moment) -> Self {
        let taken_back = self.taken_back.map(|at| at.min(now));
        Self { active: self.active.min(now), idle: self.idle.min(now), taken_back }
    }

    /// Whether the idle key is newer than the active one: then peers are being invited to it.
    pub const fn is_inviting(&self) -> bool {
        self.idle > self.active
    }

    /// What is to be done now about keys that live for `period` seconds.
    pub fn step(&self, now: Moment, period: u32, peers: impl IntoIterator<Item = Handshakes>) -> Step {
        let period = 1_000 * Moment::from(period);
        if self.is_inviting() {
            return self.invited(now, period, peers);
        }
        let due = self.active.saturating_add(period / 2);
        let due = self.taken_back.map_or(due, |tried| due.max(tried.saturating_add(period / 8)));
        if now >= due { Step::Make } else { Step::Wait(due) }
    }

    fn invited(&self, now: Moment, period: Moment, peers: impl IntoIterator<Item = Handshakes>) -> Step {
        let (mut agreed, mut silent, mut lively) = (false, false, false);
        for peer in peers {
            let last = peer.active.max(peer.idle);
            if peer.idle.is_some_and(|at| at > self.idle) {
                agreed = true;
            } else if last.is_some_and(|at| at.saturating_add(LIVELY) >= now) {
                lively = true;
            } else {
                silent = true;
            }
        }
        let age = now.saturating_sub(self.idle);
        let is_overdue = now >= self.active.saturating_add(2 * period);
        if !lively && (!silent || agreed && age >= SILENT) {
            return Step::ChangeOver;
        }
        if age < PATIENCE {
            return Step::Invite;
        }
        // One of many that stays deaf does not keep a key from ever being changed; where all are, so is the API.
        if agreed && is_overdue { Step::ChangeOver } else { Step::TakeBack }
    }
}

#[cfg(test)]
mod tests;
