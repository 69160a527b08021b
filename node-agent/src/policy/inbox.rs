//! What the thread of policies is to know next.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;
use towpath_net::policy::bundle::Delta;
use towpath_net::policy::digest::Digests;
use towpath_net::policy::settings::{Established, FlowLog};

use super::{Receipt, Survey};
use crate::worker::End;

/// What there is to know since it was last asked, in order: what was asked counts behind the deltas.
#[derive(Debug, Default)]
pub struct News {
    /// What the operator told.
    pub deltas: Vec<(Delta, Receipt)>,
    /// Who wants to know what the node has.
    pub asked: Vec<oneshot::Sender<Digests>>,
    /// Pods (`metadata.uid`) that are known wherever they must be.
    pub known: Vec<String>,
    /// What becomes of connections that a change forbids.
    pub established: Option<Established>,
    /// What is to be written of flows that are denied.
    pub log: Option<FlowLog>,
    /// Who wants to know what there is of policies.
    pub surveys: Vec<oneshot::Sender<Survey>>,
    /// Whether the folder of leases may be another one.
    pub look: bool,
    /// How the thread is to end.
    pub end: Option<End>,
}

/// A place for news, and a bell.
#[derive(Clone)]
pub struct Inbox(Arc<Shared>);

struct Shared {
    news: Mutex<News>,
    bell: OwnedFd,
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared { news: Mutex::default(), bell })))
    }

    /// What the operator tells.
    pub fn put(&self, delta: Delta, receipt: Receipt) {
        self.news().deltas.push((delta, receipt));
        self.ring();
    }

    /// What the node has, with all that was put in before.
    pub async fn digests(&self) -> Option<Digests> {
        let (asked, answer) = oneshot::channel();
        self.news().asked.push(asked);
        self.ring();
        answer.await.ok()
    }

    /// Every node that must know this pod (`metadata.uid`) does.
    pub fn known(&self, uid: String) {
        self.news().known.push(uid);
        self.ring();
    }

    /// What is to become of connections that a change forbids.
    pub fn established(&self, established: Established) {
        self.news().established = Some(established);
        self.ring();
    }

    /// What is to be written of flows that are denied.
    pub fn log(&self, log: FlowLog) {
        self.news().log = Some(log);
        self.ring();
    }

    /// What there is of policies.
    pub async fn survey(&self) -> Option<Survey> {
        let (asked, answer) = oneshot::channel();
        self.news().surveys.push(asked);
        self.ring();
        answer.await.ok()
    }

    /// Has it looked whether the folder of leases is another one.
    pub fn look(&self) {
        self.news().look = true;
        self.ring();
    }

    /// Makes the thread end. The first word on how holds.
    pub fn end(&self, end: End) {
        self.news().end.get_or_insert(end);
        self.ring();
    }

    /// Takes everything.
    pub fn take(&self) -> News {
        std::mem::take(&mut *self.news())
    }

    fn news(&self) -> MutexGuard<'_, News> {
        self.0.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread. The bell can only be full, and then it rings already.
    pub fn ring(&self) {
        _ = rustix::io::write(&self.0.bell, &1u64.to_ne_bytes());
    }

    /// What to wait on: readable when the bell rings.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.bell.as_fd()
    }

    /// Stops the bell.
    pub fn silence(&self) {
        _ = rustix::io::read(&self.0.bell, &mut [0u8; 8]);
    }
}
