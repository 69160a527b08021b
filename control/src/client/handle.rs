//! What an agent has to say, from wherever in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::{Attached, FromAgent, Hello, Nonce};
use crate::update::Holdings;

/// Names an update, for the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    stream: u64,
    nonce: Nonce,
}

/// Says to the operator what an agent has to say. Nothing is lost while there is no stream: which pods have addresses is
/// said when the next one begins, and answers to updates of an earlier one count no more.
#[derive(Clone, Debug, Default)]
pub struct Handle(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    says: Mutex<Says>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Says {
    /// Counts streams; the last one may have ended.
    stream: u64,
    is_open: bool,
    attached: BTreeMap<String, Attached>,
    queue: VecDeque<FromAgent>,
}

impl Handle {
    /// The update, and all before it, is in the kernel.
    pub fn acknowledge(&self, ticket: Ticket) {
        self.answer(ticket, FromAgent::Ack(ticket.nonce));
    }

    /// Nothing of the update is in the kernel, nor in what the agent holds, for this reason.
    pub fn refuse(&self, ticket: Ticket, reason: String) {
        self.answer(ticket, FromAgent::Nack(ticket.nonce, reason));
    }

    /// A pod has addresses.
    pub fn attach(&self, attached: Attached) {
        let mut says = self.says();
        says.attached.insert(attached.uid.clone(), attached.clone());
        self.say(says, FromAgent::Attached(attached));
    }

    /// A pod (`metadata.uid`) has none any more.
    pub fn detach(&self, uid: &str) {
        let mut says = self.says();
        if says.attached.remove(uid).is_some() {
            self.say(says, FromAgent::Detached(uid.to_owned()));
        }
    }

    fn answer(&self, ticket: Ticket, answer: FromAgent) {
        let says = self.says();
        if says.stream == ticket.stream {
            self.say(says, answer);
        }
    }

    fn say(&self, mut says: MutexGuard<'_, Says>, said: FromAgent) {
        if says.is_open {
            says.queue.push_back(said);
            drop(says);
            self.0.wake.notify_one();
        }
    }

    /// A stream begins, with a message that names the pods that have addresses: gives its number.
    pub(super) fn begin(&self, hello: impl FnOnce(Vec<Attached>) -> Hello) -> u64 {
        let mut says = self.says();
        says.stream += 1;
        says.is_open = true;
        says.queue.clear();
        let hello = hello(says.attached.values().cloned().collect());
        let number = says.stream;
        self.say(says, FromAgent::Hello(Box::new(hello)));
        number
    }

    /// What the agent holds, because it was asked.
    pub(super) fn hold(&self, holdings: Holdings) {
        let says = self.says();
        self.say(says, FromAgent::Holdings(Box::new(holdings)));
    }

    /// The stream has ended.
    pub(super) fn end(&self) {
        let mut says = self.says();
        says.is_open = false;
        says.queue.clear();
    }

    /// A pod is known where it must be: nobody waits for it any more.
    pub(super) fn known(&self, uid: &str) {
        if let Some(attached) = self.says().attached.get_mut(uid) {
            attached.is_waiting = false;
        }
    }

    pub(super) const fn ticket(stream: u64, nonce: Nonce) -> Ticket {
        Ticket { stream, nonce }
    }

    /// What is to be said next; waits until there is something.
    pub(super) async fn next(&self) -> FromAgent {
        loop {
            let woken = self.0.wake.notified();
            if let Some(said) = self.says().queue.pop_front() {
                return said;
            }
            woken.await;
        }
    }

    fn says(&self) -> MutexGuard<'_, Says> {
        self.0.says.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
