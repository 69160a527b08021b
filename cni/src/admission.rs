//! Waiting until a pod's policies are in force: the agent of the node knows, and says so over a socket.
//!
//! Before the pod's links are up, nothing of an earlier pod may be bound to its addresses any more. The agent says when that
//! is so; where it does not, the elements of that pod are taken out of the kernel here. Its connections end here in any case.
//! (DEL cannot see to that: the agent may be away then, and where it is not, elements that somebody else takes out have it
//! compare everything.) So a pod whose own policies are missing gets nothing through, to wherever and from whomever.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use towpath_kernel::conntrack::Tracker;
use towpath_kernel::netlink;
use towpath_kernel::policy::PolicyTable;
use towpath_net::lease::{Lease, PodReference};
use towpath_net::policy::admission::{Progress, Question, SOCKET};
use towpath_net::policy::objects::Way;
use towpath_net::policy::settings::Startup;

use crate::error::Error;

/// How long ADD waits in all: far less than runtimes give a plugin.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for an agent that is not there: one that is restarted is back within that.
pub const ABSENCE: Duration = Duration::from_secs(2);
/// How long to wait before looking for the agent again.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a pod's policies are not known to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// Nobody listens.
    #[error("the node agent is not there")]
    Agent,
    /// They are not in this node's kernel.
    #[error("after {PATIENCE:?} this node has not been told them; is an operator there?")]
    Here,
    /// They are, but other nodes may not know the pod.
    #[error("after {PATIENCE:?} not every other node knows the pod")]
    Elsewhere,
}

/// A pod that starts where there are policies.
pub struct Admission {
    startup: Startup,
    socket: PathBuf,
    /// Nothing where nobody can know the pod: the runtime did not say which one it is.
    question: Option<Question>,
    addresses: Vec<IpAddr>,
    line: Option<Line>,
    end: Instant,
    /// Since when the agent is away.
    away: Instant,
    reached: Option<Progress>,
}

impl Admission {
    /// Asks the agent about the pod of a new lease, and does not wait for the answer.
    pub fn begin(state: &Path, startup: Startup, lease: &Lease) -> Self {
        let addresses: Vec<IpAddr> = lease.addresses.iter().map(|leased| leased.address.addr()).collect();
        let uid = lease.pod.as_ref().and_then(PodReference::identity);
        let question =
            uid.map(|uid| Question { attachment: lease.attachment().to_string(), uid, addresses: addresses.clone() });
        let now = Instant::now();
        let patience = if startup == Startup::Async { ABSENCE } else { PATIENCE };
        let mut admission = Self {
            startup,
            socket: state.join(SOCKET),
            question,
            addresses,
            line: None,
            end: now + patience,
            away: now,
            reached: None,
        };
        admission.connect();
        admission
    }

    /// Makes sure that no earlier pod is bound to the addresses. Before the links of the pod are up.
    pub fn bind(&mut self) -> Result<(), Error> {
        if self.wait(Progress::Bound).is_err() {
            PolicyTable::open()?.forget(&self.addresses)?;
        }
        Ok(self.end_connections()?)
    }

    /// Ends the connections of whoever had the addresses before: their packets are not judged again, and whoever is at the
    /// other end may go on to send them. The agent may be one that keeps connections.
    fn end_connections(&self) -> Result<(), netlink::Error> {
        let both = |address: &IpAddr| Way::ALL.map(|way| (*address, way));
        let mut tracker = Tracker::open()?;
        let mut found = Vec::new();
        tracker.look(&self.addresses.iter().flat_map(both).collect(), |some| found.extend(some))?;
        tracker.forget(&found).map(drop)
    }

    /// Waits until the policies are in force, where that is to be waited for. After an error, what it says is to be told, and
    /// where that was declared, ADD fails.
    pub fn complete(&mut self) -> Result<(), Missing> {
        if self.startup == Startup::Async || self.question.is_none() {
            return Ok(());
        }
        self.wait(Progress::Known)
    }

    /// Whether nobody can tell the pod's policies, for the runtime did not say which pod it is.
    pub const fn is_anonymous(&self) -> bool {
        self.question.is_none()
    }

    /// Whether a pod must not start without.
    pub fn is_strict(&self) -> bool {
        self.startup == Startup::Strict
    }

    fn wait(&mut self, for_this: Progress) -> Result<(), Missing> {
        while self.reached < Some(for_this) {
            let now = Instant::now();
            if now >= self.end {
                let is_here = self.reached >= Some(Progress::InForce);
                return Err(if is_here { Missing::Elsewhere } else { Missing::Here });
            }
            match self.line.as_mut().map(|line| line.next(self.end)) {
                Some(Ok(Some(progress))) => self.reached = self.reached.max(Some(progress)),
                Some(Ok(None)) => {}
                Some(Err(_)) => {
                    (self.line, self.away) = (None, now);
                    thread::sleep(PAUSE);
                }
                None if self.connect() => {}
                None if self.question.is_none() || now >= self.away + self.absence() => return Err(Missing::Agent),
                None => thread::sleep(PAUSE),
            }
        }
        Ok(())
    }

    /// How long the agent may be away.
    fn absence(&self) -> Duration {
        if self.startup == Startup::Async { Duration::ZERO } else { ABSENCE }
    }

    /// Asks the agent, where there is one. It is away as long as it does not answer.
    fn connect(&mut self) -> bool {
        self.line = self.question.as_ref().and_then(|question| Line::ask(&self.socket, question).ok());
        self.line.is_some()
    }
}

/// A connection to the agent that has been asked.
struct Line {
    socket: OwnedFd,
    /// What came of a line that is not complete.
    begun: Vec<u8>,
}

impl Line {
    /// An agent that takes no more connections is as one that is away: nothing here blocks.
    fn ask(path: &Path, question: &Question) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(path)?)?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        let sent = send(&socket, &line, SendFlags::NOSIGNAL)?;
        // A new connection takes far more than a line.
        if sent < line.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(Self { socket, begun: Vec::new() }) }
    }

    /// What the agent says next; nothing where it said nothing that is understood, or time is over.
    fn next(&mut self, until: Instant) -> io::Result<Option<Progress>> {
        if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).take(end).collect();
            return Ok(std::str::from_utf8(&line).ok().and_then(Progress::parse));
        }
        let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
        match poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&left)) {
            Ok(0) | Err(Errno::INTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut bytes = [0_u8; 256];
        let (count, _) = recv(&self.socket, &mut bytes[..], RecvFlags::empty())?;
        // Whoever is the agent says little.
        if count == 0 || self.begun.len() > bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.begun.extend(bytes.iter().take(count));
        Ok(None)
    }
}
