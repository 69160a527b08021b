//! What an agent has to say, from wherever in it, to each replica that listens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use towpath_net::policy::digest::Digest;

use crate::message::{Attached, FromAgent, Hello, Nonce, Purpose, Settled};
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
pub struct Handle(Arc<Mutex<Says>>);

#[derive(Debug, Default)]
struct Says {
    /// Counts streams.
    count: u64,
    lines: BTreeMap<u64, Line>,
    /// The replicas that there should be, and whether each is known to be away.
    replicas: BTreeMap<SocketAddr, Presence>,
    attached: BTreeMap<String, Pod>,
    /// What is in the kernel, once the operator was told, and what of that was refused.
    settled: Option<Settled>,
}

/// A stream that is open.
#[derive(Debug)]
struct Line {
    address: SocketAddr,
    purpose: Purpose,
    say: UnboundedSender<FromAgent>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// There is a stream, or nobody knows yet that there cannot be.
    Here,
    /// The last attempt failed, or the last stream ended.
    Away,
}

#[derive(Debug)]
struct Pod {
    attached: Attached,
    /// The replicas whose nodes know it.
    heard: BTreeSet<SocketAddr>,
}

/// A stream that is open, until it is dropped.
pub(super) struct Opened {
    handle: Handle,
    pub(super) number: u64,
    pub(super) address: SocketAddr,
    /// What is to be said next.
    pub(super) says: UnboundedReceiver<FromAgent>,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.handle.says().lines.remove(&self.number);
    }
}

impl Handle {
    /// The update, and all before it, is in the kernel.
    pub fn acknowledge(&self, ticket: Ticket) {
        self.says().say(ticket.stream, FromAgent::Ack(ticket.nonce));
    }

    /// Nothing of the update is in the kernel, nor in what the agent holds, for this reason.
    pub fn refuse(&self, ticket: Ticket, reason: String) {
        let mut says = self.says();
        if says.lines.contains_key(&ticket.stream) {
            let before = says.settled.clone().unwrap_or_default();
            says.report(Settled { refusal: Some(reason.clone()), ..before });
        }
        says.say(ticket.stream, FromAgent::Nack(ticket.nonce, reason));
    }

    /// A pod has addresses.
    pub fn attach(&self, attached: Attached) {
        let mut says = self.says();
        says.tell_all(&FromAgent::Attached(attached.clone()));
        says.attached.insert(attached.uid.clone(), Pod { attached, heard: BTreeSet::new() });
    }

    /// A pod (`metadata.uid`) has none any more.
    pub fn detach(&self, uid: &str) {
        let mut says = self.says();
        if says.attached.remove(uid).is_some() {
            says.tell_all(&FromAgent::Detached(uid.to_owned()));
        }
    }

    /// A stream begins, with a message that names the pods that have addresses.
    pub(super) fn begin(&self, address: SocketAddr, hello: impl FnOnce(Vec<Attached>) -> Hello) -> Opened {
        let mut says = self.says();
        says.count += 1;
        let number = says.count;
        let (say, queue) = unbounded_channel();
        let hello = hello(says.attached.values().map(|pod| pod.attached.clone()).collect());
        let purpose = hello.purpose;
        says.replicas.insert(address, Presence::Here);
        says.lines.insert(number, Line { address, purpose, say });
        says.say(number, FromAgent::Hello(Box::new(hello)));
        if let Some(settled) = says.settled.clone().filter(|_| purpose == Purpose::Report) {
            says.say(number, FromAgent::Settled(settled));
        }
        Opened { handle: self.clone(), number, address, says: queue }
    }

    /// What the agent holds, because it was asked on this stream.
    pub(super) fn hold(&self, stream: u64, holdings: Holdings) {
        self.says().say(stream, FromAgent::Holdings(Box::new(holdings)));
    }

    /// What is in the kernel of the policies of pods, with all that was told.
    pub(super) fn settle(&self, pods: Digest) {
        self.says().report(Settled { pods, refusal: None });
    }

    /// These replicas there should be. Gives the pods that are known by that.
    pub(super) fn name(&self, replicas: &[SocketAddr]) -> Vec<String> {
        let mut says = self.says();
        let Says { lines, replicas: all, .. } = &mut *says;
        all.retain(|address, _| replicas.contains(address) || lines.values().any(|line| line.address == *address));
        for address in replicas {
            all.entry(*address).or_insert(Presence::Here);
        }
        says.judge()
    }

    /// A replica cannot be reached, or its stream has ended: nobody waits for it. Gives the pods that are known by that.
    pub(super) fn away(&self, address: SocketAddr) -> Vec<String> {
        let mut says = self.says();
        if says.lines.values().all(|line| line.address != address)
            && let Some(presence) = says.replicas.get_mut(&address)
        {
            *presence = Presence::Away;
        }
        says.judge()
    }

    /// Of the nodes that follow a replica, all that must know a pod do. Tells whether that is so of all replicas now: then
    /// nobody waits for the pod any more.
    pub(super) fn known(&self, address: SocketAddr, uid: &str) -> bool {
        let mut says = self.says();
        if let Some(pod) = says.attached.get_mut(uid) {
            pod.heard.insert(address);
        }
        says.judge().iter().any(|known| known == uid)
    }

    pub(super) const fn ticket(stream: u64, nonce: Nonce) -> Ticket {
        Ticket { stream, nonce }
    }

    fn says(&self) -> MutexGuard<'_, Says> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Says {
    /// Says something on a stream, where it is still open.
    fn say(&self, stream: u64, said: FromAgent) {
        if let Some(line) = self.lines.get(&stream) {
            // Whoever reads is gone when the stream is, which is dropped next.
            _ = line.say.send(said);
        }
    }

    /// What is in the kernel. Replicas that are not followed cannot know it otherwise.
    fn report(&mut self, settled: Settled) {
        if self.settled.as_ref() == Some(&settled) {
            return;
        }
        let reports = self.lines.iter().filter(|(_, line)| line.purpose == Purpose::Report);
        reports.for_each(|(stream, _)| self.say(*stream, FromAgent::Settled(settled.clone())));
        self.settled = Some(settled);
    }

    fn tell_all(&self, said: &FromAgent) {
        self.lines.keys().for_each(|stream| self.say(*stream, said.clone()));
    }

    /// The pods that wait, and that some replica and all those that are here know: nobody waits for them any more.
    fn judge(&mut self) -> Vec<String> {
        let here = |(address, presence): (&SocketAddr, &Presence)| (*presence == Presence::Here).then_some(*address);
        let here: Vec<SocketAddr> = self.replicas.iter().filter_map(here).collect();
        let mut known = Vec::new();
        for (uid, pod) in self.attached.iter_mut().filter(|(_, pod)| pod.attached.is_waiting) {
            if !pod.heard.is_empty() && here.iter().all(|address| pod.heard.contains(address)) {
                pod.attached.is_waiting = false;
                known.push(uid.clone());
            }
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use towpath_net::policy::input::Key;

    use super::*;
    use crate::message::VERSION;

    fn replica(number: u8) -> SocketAddr {
        ([192, 0, 2, number], 9472).into()
    }

    fn begin(handle: &Handle, number: u8) -> Opened {
        let hello = |attached| Hello {
            node: "n1".into(),
            version: VERSION,
            holdings: Holdings::default(),
            attached,
            purpose: Purpose::Report,
        };
        handle.begin(replica(number), hello)
    }

    /// A handle with a pod that waits.
    fn waiting() -> Handle {
        let handle = Handle::default();
        let key = Key { namespace: "web".to_owned(), name: "a".to_owned() };
        let addresses = vec![[10, 1, 1, 1].into()];
        handle.attach(Attached { uid: "a".to_owned(), key, addresses, is_waiting: true });
        handle
    }

    #[test]
    fn a_pod_is_known_when_every_replica_said_so() {
        let handle = waiting();
        let _streams = [begin(&handle, 1), begin(&handle, 2)];
        assert!(!handle.known(replica(1), "a"));
        assert!(!handle.known(replica(1), "a"));
        assert!(handle.known(replica(2), "a"));
        assert!(!handle.known(replica(2), "a"), "it is said once");
    }

    #[test]
    fn a_replica_that_is_named_counts_until_it_is_away() {
        let handle = waiting();
        let _stream = begin(&handle, 1);
        assert!(handle.name(&[replica(1), replica(2)]).is_empty());
        assert!(!handle.known(replica(1), "a"));
        assert_eq!(handle.away(replica(2)), ["a"]);
    }

    #[test]
    fn a_replica_that_is_named_no_more_does_not_count() {
        let handle = waiting();
        let _stream = begin(&handle, 1);
        assert!(handle.name(&[replica(1), replica(2)]).is_empty());
        assert!(!handle.known(replica(1), "a"));
        assert_eq!(handle.name(&[replica(1)]), ["a"]);
    }

    #[test]
    fn nobody_knows_a_pod_while_every_replica_is_away() {
        let handle = waiting();
        assert!(handle.name(&[replica(1)]).is_empty());
        assert!(handle.away(replica(1)).is_empty());
        let stream = begin(&handle, 1);
        assert!(handle.away(replica(1)).is_empty(), "there is a stream");
        assert!(handle.known(replica(1), "a"));
        drop(stream);
    }

    #[test]
    fn replicas_that_are_not_followed_hear_what_is_in_the_kernel_and_why_the_rest_is_not() {
        let handle = Handle::default();
        let mut stream = begin(&handle, 1);
        let mut heard = move || std::iter::from_fn(|| stream.says.try_recv().ok()).last();
        handle.settle(Digest(1));
        handle.settle(Digest(1));
        handle.refuse(Handle::ticket(1, Nonce(7)), "too large".to_owned());
        assert!(matches!(heard(), Some(FromAgent::Nack(..))));
        let refused = Settled { pods: Digest(1), refusal: Some("too large".to_owned()) };
        let mut later = begin(&handle, 2);
        assert!(matches!(later.says.try_recv(), Ok(FromAgent::Hello(_))));
        assert_eq!(later.says.try_recv(), Ok(FromAgent::Settled(refused)));
        handle.refuse(Handle::ticket(99, Nonce(8)), "of a stream that has ended".to_owned());
        assert_eq!(heard(), None);
        handle.settle(Digest(1));
        assert_eq!(heard(), Some(FromAgent::Settled(Settled { pods: Digest(1), refusal: None })));
    }

    #[test]
    fn what_is_said_goes_to_every_stream_and_answers_to_their_own() {
        let handle = Handle::default();
        let mut streams = [begin(&handle, 1), begin(&handle, 2)];
        for stream in &mut streams {
            assert!(matches!(stream.says.try_recv(), Ok(FromAgent::Hello(_))));
        }
        handle.detach("nobody");
        handle.acknowledge(Handle::ticket(streams[1].number, Nonce(7)));
        assert!(streams[0].says.try_recv().is_err());
        assert_eq!(streams[1].says.try_recv(), Ok(FromAgent::Ack(Nonce(7))));
    }
}
