//! Ends connections that a change of policies forbids, on a thread of its own: going through all connections of a node takes
//! longer than a change of policies may.
//!
//! ```text
//! changes --Suspicion--> Cutter --Look--> thread --dump--> kernel
//!                          ^                 |
//! Policies judge <--Found--+<----------------+
//!     \------------------------Cut---------> thread --delete--> kernel
//! ```

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use towpath_kernel::conntrack::{Connection, Tracker};
use towpath_kernel::netlink;
use towpath_net::policy::bind::{LeaseChanges, View};
use towpath_net::policy::bundle::Bundle;
use towpath_net::policy::flows::{Suspects, Suspicion};
use towpath_net::policy::program::Program;
use towpath_net::policy::settings::Established;
use tracing::{info, warn};

use super::Inbox;

/// How often connections are gone through at most. What changes meanwhile is looked at together.
const PACE: Duration = Duration::from_millis(100);
/// How many times as long as a look took nothing is looked at behind it: while policies change all the time, looks take a
/// twentieth of a processor. The kernel goes through all of its table in one piece, and what else that processor has
/// to do waits.
const SELDOM: u32 = 20;
/// What a look counts for at most in that.
const LONGEST: Duration = Duration::from_millis(50);
/// How soon what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How many portions of connections wait to be judged. The kernel is asked for no more before they are.
const PORTIONS: usize = 2;

/// What the thread is to do.
enum Order {
    /// Tell of the connections of these.
    Look(Arc<Suspects>),
    /// Forget these.
    Cut(Vec<Connection>),
}

/// What the thread tells.
enum Found {
    /// Connections of those that are looked at.
    Connections(Vec<Connection>),
    /// Something failed: connections may go on that are forbidden.
    Failed,
    /// All was looked at, in so long.
    Done(Duration),
}

/// What is owed to changes, and the thread that does it. The thread ends with it.
pub struct Cutter {
    orders: Sender<Order>,
    found: Receiver<Found>,
    /// What users want; nothing is cut before that is known.
    wanted: Option<Established>,
    owed: Suspicion,
    /// Whose connections are gone through.
    looking: Option<Arc<Suspects>>,
    next: Instant,
}

impl Cutter {
    /// Starts in this network namespace; the bell of the inbox rings when there is something to judge. Whatever went on
    /// before is looked at first.
    pub fn start(bell: Inbox) -> Result<Self, io::Error> {
        let tracker = Tracker::open().map_err(io::Error::other)?;
        let (orders, ordered) = channel();
        let (tell, found) = sync_channel(PORTIONS);
        let mut work = Work { tracker, ordered, tell, bell };
        thread::Builder::new().name("cut".to_owned()).spawn(move || work.run())?;
        let next = Instant::now();
        Ok(Self { orders, found, wanted: None, owed: Suspicion::everyone(), looking: None, next })
    }

    /// What users want of connections that are forbidden.
    pub fn want(&mut self, established: Established) {
        if self.wanted == Some(Established::Keep) && established == Established::Cut {
            self.owed = Suspicion::everyone();
        }
        self.wanted = Some(established);
    }

    /// A change is about to be made, of what the kernel has by the program.
    pub fn suspect(&mut self, view: View<'_>, program: Option<&Program>, leases: &LeaseChanges) {
        match program {
            _ if self.wanted == Some(Established::Keep) => {}
            Some(program) => self.owed.change(view, program.bound(), leases),
            None => self.owed = Suspicion::everyone(),
        }
    }

    /// Anything may have begun.
    pub fn suspect_everyone(&mut self) {
        self.owed = Suspicion::everyone();
    }

    /// Connections that are to be judged, with those whose they are.
    pub fn found(&mut self) -> Option<(Vec<Connection>, Arc<Suspects>)> {
        while let Ok(found) = self.found.try_recv() {
            match (found, &self.looking) {
                (Found::Connections(connections), Some(suspects)) => return Some((connections, Arc::clone(suspects))),
                (Found::Connections(_), None) => {}
                (Found::Failed, _) => {
                    self.owed = Suspicion::everyone();
                    self.next = Instant::now() + RETRY;
                }
                (Found::Done(took), _) => {
                    self.looking = None;
                    self.next = self.next.max(Instant::now() + took.min(LONGEST) * SELDOM);
                }
            }
        }
        None
    }

    /// Looks at what is owed, where it is time; tells when it will be.
    pub fn begin(&mut self, bundle: &Bundle, program: &Program) -> Option<Instant> {
        match self.wanted? {
            Established::Keep => self.owed = Suspicion::default(),
            Established::Cut => {}
        }
        if self.looking.is_some() || self.owed.is_empty() {
            return None;
        }
        let now = Instant::now();
        if now < self.next {
            return Some(self.next);
        }
        let suspects = std::mem::take(&mut self.owed).suspects(bundle, program.bound(), program.leases());
        if !suspects.is_empty() {
            self.next = now + PACE;
            let suspects = Arc::new(suspects);
            self.looking = Some(Arc::clone(&suspects));
            self.order(Order::Look(suspects));
        }
        None
    }

    /// Ends these.
    pub fn cut(&self, connections: Vec<Connection>) {
        self.order(Order::Cut(connections));
    }

    fn order(&self, order: Order) {
        if self.orders.send(order).is_err() {
            warn!("the thread that cuts connections has gone: connections go on that are forbidden");
        }
    }
}

struct Work {
    tracker: Tracker,
    ordered: Receiver<Order>,
    tell: SyncSender<Found>,
    bell: Inbox,
}

impl Work {
    /// Until nobody orders anything any more. What was judged while it looked is cut behind that.
    fn run(&mut self) {
        while let Ok(order) = self.ordered.recv() {
            match order {
                Order::Look(suspects) => self.look(&suspects),
                Order::Cut(connections) => self.cut(&connections),
            }
        }
    }

    fn look(&mut self, suspects: &Suspects) {
        let begun = Instant::now();
        let Self { tracker, tell, bell, .. } = self;
        let looked = tracker.look(suspects, |connections| say(tell, bell, Found::Connections(connections)));
        self.check(looked.err());
        say(&self.tell, &self.bell, Found::Done(begun.elapsed()));
    }

    fn cut(&mut self, connections: &[Connection]) {
        match self.tracker.forget(connections) {
            Ok(0) => {}
            Ok(count) => info!(count, "cut connections that are forbidden now"),
            Err(error) => self.check(Some(error)),
        }
    }

    fn check(&self, failed: Option<netlink::Error>) {
        if let Some(error) = failed {
            warn!(%error, "connections may go on that are forbidden");
            say(&self.tell, &self.bell, Found::Failed);
        }
    }
}

/// Where nobody listens any more, the thread is about to end.
fn say(tell: &SyncSender<Found>, bell: &Inbox, found: Found) {
    _ = tell.send(found);
    bell.ring();
}

#[cfg(test)]
mod tests;
