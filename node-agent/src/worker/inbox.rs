//! What the worker is to know next. News that was not looked at yet is one with what came after it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use towpath_net::state::{NodeName, Peer};

use crate::policy::Receipt;
use crate::snapshot::{Assignment, Own, Update};

/// How the worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Everything is left as it is.
    Stop,
    /// The node is brought back to how it was before.
    Leave,
}

/// What a source told since the worker last asked, in the order in which it holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The state as a whole.
    pub whole: Option<Box<Assignment>>,
    /// The node's own part.
    pub own: Option<Box<Own>>,
    /// Other nodes: nothing where one is gone.
    pub peers: BTreeMap<NodeName, Option<Peer>>,
    /// Whether there are policies.
    pub is_enforced: Option<bool>,
}

impl News {
    fn add(&mut self, update: Update) {
        match (update, &mut self.whole) {
            (Update::State(whole), _) => {
                *self = Self { whole: Some(whole), is_enforced: self.is_enforced, ..Self::default() };
            }
            (Update::Enforced(is_enforced), _) => self.is_enforced = Some(is_enforced),
            (Update::Own(own), Some(whole)) => whole.take_own(*own),
            (Update::Own(own), None) => self.own = Some(own),
            (Update::Peer(name, peer), Some(whole)) => _ = whole.state.set_peer(name, peer),
            (Update::Peer(name, peer), None) => _ = self.peers.insert(name, peer),
            (Update::Receipt(_), _) => {}
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A place for news, and a bell.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    pending: Mutex<Pending>,
    bell: OwnedFd,
}

#[derive(Default)]
struct Pending {
    news: News,
    receipts: Vec<Receipt>,
    look: bool,
    end: Option<End>,
}

/// What was in the inbox.
#[derive(Debug, Default)]
pub struct Mail {
    /// What a source told.
    pub news: News,
    /// Done when that was brought about.
    pub receipts: Vec<Receipt>,
    /// Whether the kernel is to be looked at now.
    pub look: bool,
    /// Whether the worker is to end, before all else.
    pub end: Option<End>,
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { shared: Arc::new(Shared { pending: Mutex::default(), bell }) })
    }

    /// Tells the worker what a source said.
    pub fn put(&self, update: Update) {
        match update {
            Update::Receipt(receipt) => self.pending().receipts.push(receipt),
            update => self.pending().news.add(update),
        }
        self.ring();
    }

    /// Makes the worker look at the kernel now.
    pub fn look(&self) {
        self.pending().look = true;
        self.ring();
    }

    /// Makes the worker end. The first word on how holds.
    pub fn end(&self, end: End) {
        self.pending().end.get_or_insert(end);
        self.ring();
    }

    /// Takes everything.
    pub fn take(&self) -> Mail {
        let Pending { news, receipts, look, end } = std::mem::take(&mut *self.pending());
        Mail { news, receipts, look, end }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bell can only be full, and then it rings already.
    fn ring(&self) {
        _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
    }

    /// What to wait on: readable when the bell rings.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// Stops the bell.
    pub fn silence(&self) {
        _ = rustix::io::read(&self.shared.bell, &mut [0u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use towpath_net::state::{NodeSpec, NodeState};
    use towpath_net::transport::Transport;

    use super::*;

    fn peer(address: &str) -> Peer {
        let addresses = vec![address.parse().unwrap()];
        Peer { addresses, pod_cidrs: Vec::new(), accepts: vec![Transport::Direct], keys: None }
    }

    fn assignment(peers: &[&str]) -> Assignment {
        let peers = peers.iter().map(|name| (NodeName::from(*name), peer("172.16.30.9"))).collect();
        let state = NodeState { node: "n1".into(), spec: NodeSpec::plain(Vec::new(), Vec::new()), peers };
        Assignment { object: "a".to_owned(), generation: 1, state }
    }

    #[test]
    fn the_first_end_holds() {
        let inbox = Inbox::new().unwrap();
        inbox.end(End::Leave);
        inbox.end(End::Stop);
        assert_eq!(inbox.take().end, Some(End::Leave));
        let Mail { news, look, end, .. } = inbox.take();
        assert_eq!((news, look, end), (News::default(), false, None));
    }

    #[test]
    fn what_comes_after_a_whole_state_goes_into_it_and_a_whole_state_replaces_what_came_before() {
        let inbox = Inbox::new().unwrap();
        inbox.put(Update::Peer("n2".into(), Some(peer("172.16.30.2"))));
        inbox.put(Update::State(Box::new(assignment(&["n3", "n4"]))));
        inbox.put(Update::Peer("n4".into(), None));
        inbox.put(Update::Peer("n5".into(), Some(peer("172.16.30.5"))));
        let News { whole, own, peers, .. } = inbox.take().news;
        let names: Vec<String> = whole.unwrap().state.peers.into_keys().map(|name| name.0).collect();
        assert_eq!((names, own, peers.len()), (vec!["n3".to_owned(), "n5".to_owned()], None, 0));
    }

    #[test]
    fn of_what_is_told_of_one_node_the_last_holds() {
        let inbox = Inbox::new().unwrap();
        inbox.put(Update::Peer("n2".into(), Some(peer("172.16.30.2"))));
        inbox.put(Update::Peer("n2".into(), None));
        let news = inbox.take().news;
        assert_eq!(news.peers.into_iter().collect::<Vec<_>>(), [("n2".into(), None)]);
    }
}
