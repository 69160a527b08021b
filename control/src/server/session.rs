//! One agent, as long as it is connected.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tonic::{Code, Status, Streaming};
use towpath_net::state::NodeName;
use tracing::{debug, info, warn};

use super::connection::Tie;
use super::outbox::{Changes, Next};
use super::{Backend, Opening, Outbox, Server, Version};
use crate::auth::{Caller, Judge};
use crate::message::{FromAgent, Hello, Nonce, Purpose, VERSION, from_agent};
use crate::metrics::Refusal;
use crate::parts::parts;
use crate::update::Holdings;
use crate::wire::{policy, schema as wire};

/// How soon an update that was refused is tried again, if there is something new; doubles with each refusal.
const SOON: Duration = Duration::from_millis(250);
/// How late at the most.
const LATE: Duration = Duration::from_secs(60);
/// How long an agent has to read why its stream ends.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why a stream ends.
enum End {
    /// The agent went.
    Gone,
    /// The backend wants it.
    Closed,
    /// The agent is refused.
    Refused(Refusal, Status),
}

/// What is waited for.
enum Phase {
    /// Something to tell.
    Free,
    /// An answer to an update.
    Told(Nonce, Version),
    /// What the agent has.
    Asked,
    /// Something new, or that enough time passes.
    Refused { soonest: Instant, latest: Instant },
    /// Nothing: the agent only reports.
    Reporting,
}

/// What happened.
#[allow(clippy::large_enum_variant, reason = "there is one at a time")]
enum Event {
    Heard(Result<Option<wire::FromAgent>, Status>),
    Room(bool),
    Woken,
}

struct Session<B, J> {
    server: Arc<Server<B, J>>,
    node: NodeName,
    inbound: Streaming<wire::FromAgent>,
    out: mpsc::Sender<Result<wire::FromOperator, Status>>,
    queue: VecDeque<wire::FromOperator>,
    /// When something of the queue was last taken.
    progress: Instant,
    /// When the agent must say again who it is.
    until: Instant,
    outbox: Arc<Outbox>,
    phase: Phase,
    nonce: u64,
    pause: Duration,
}

/// Follows an agent until it goes, and then tells it why.
pub(super) async fn run<B: Backend, J: Judge>(
    server: Arc<Server<B, J>>,
    tie: Arc<Tie>,
    caller: Caller,
    mut inbound: Streaming<wire::FromAgent>,
    out: mpsc::Sender<Result<wire::FromOperator, Status>>,
) {
    let until = Instant::now() + caller.lasts;
    let node = caller.node;
    let end = match hello(&server, &node, &mut inbound).await {
        Ok(hello) => {
            let session = Session::new(&server, &node, until, inbound, out.clone());
            session.serve(&tie, hello).await
        }
        Err(end) => end,
    };
    let status = match end {
        End::Gone => Status::ok("the agent ended the stream"),
        End::Closed => Status::aborted("the operator ended the stream: another one of this node began, or it is gone"),
        End::Refused(Refusal::Expired, status) => {
            server.metrics.refuse(Refusal::Expired);
            info!(%node, "an agent is to say again who it is");
            status
        }
        End::Refused(why, status) => {
            server.metrics.refuse(why);
            warn!(%node, why = why.label(), reason = status.message(), "agent refused");
            status
        }
    };
    let farewell = async {
        _ = out.send(Err(status)).await;
        out.closed().await;
    };
    _ = timeout(FAREWELL, farewell).await;
    tokio::time::sleep(FAREWELL).await;
    tie.cut();
}

async fn hello<B, J>(
    server: &Server<B, J>,
    node: &NodeName,
    inbound: &mut Streaming<wire::FromAgent>,
) -> Result<Hello, End> {
    let first = timeout(server.limits.hello, inbound.message()).await.map_err(|_| {
        End::Refused(Refusal::Late, Status::deadline_exceeded("the first message did not come in time"))
    })?;
    let FromAgent::Hello(hello) = read(server, first)? else {
        return Err(malformed("the first message must be Hello"));
    };
    if hello.version != VERSION {
        let text = format!("the agent speaks version {}, the operator {VERSION}: bring both to one", hello.version);
        return Err(End::Refused(Refusal::Version, Status::failed_precondition(text)));
    }
    if hello.node != *node {
        let text = format!("the agent's token is of node {node}, and it says it is of {}", hello.node);
        return Err(End::Refused(Refusal::Node, Status::permission_denied(text)));
    }
    Ok(*hello)
}

fn malformed(text: &str) -> End {
    End::Refused(Refusal::Malformed, Status::invalid_argument(text))
}

fn read<B, J>(server: &Server<B, J>, message: Result<Option<wire::FromAgent>, Status>) -> Result<FromAgent, End> {
    let message = match message {
        Ok(Some(message)) => message,
        Ok(None) => return Err(End::Gone),
        // Too large, or no Protocol Buffer.
        Err(status) if matches!(status.code(), Code::OutOfRange | Code::Internal) => {
            return Err(malformed(status.message()));
        }
        Err(status) => {
            debug!(%status, "stream ended");
            return Err(End::Gone);
        }
    };
    server.metrics.received_bytes.add(message.encoded_len() as u64);
    from_agent(message).map_err(|error| malformed(&error.to_string()))
}

impl<B: Backend, J: Judge> Session<B, J> {
    fn new(
        server: &Arc<Server<B, J>>,
        node: &NodeName,
        until: Instant,
        inbound: Streaming<wire::FromAgent>,
        out: mpsc::Sender<Result<wire::FromOperator, Status>>,
    ) -> Self {
        Self {
            server: server.clone(),
            node: node.clone(),
            inbound,
            out,
            queue: VecDeque::new(),
            progress: Instant::now(),
            until,
            outbox: Arc::new(Outbox::default()),
            phase: Phase::Reporting,
            nonce: 0,
            pause: SOON,
        }
    }

    /// Follows an agent, or takes its reports, until either ends.
    async fn serve(mut self, tie: &Arc<Tie>, hello: Hello) -> End {
        let Hello { holdings, attached, purpose, .. } = hello;
        let server = self.server.clone();
        let number = server.sessions.begin(&self.node, purpose, tie);
        let _counted = match purpose {
            Purpose::Follow => server.metrics.agents.hold(),
            Purpose::Report => server.metrics.reporters.hold(),
        };
        info!(node = %self.node, ?purpose, "agent connected");
        if purpose == Purpose::Report {
            server.backend.report(&self.node, &self.outbox);
        }
        server.backend.attachments(&self.node, attached);
        let opened = if purpose == Purpose::Follow { self.open(&holdings).await } else { Ok(()) };
        let end = match opened {
            Ok(()) => self.follow().await,
            Err(end) => end,
        };
        server.sessions.end(&self.node, purpose, number);
        server.backend.closed(&self.node, &self.outbox);
        info!(node = %self.node, ?purpose, "agent disconnected");
        end
    }

    /// Tells the agent all that it must know and does not have.
    async fn open(&mut self, holdings: &Holdings) -> Result<(), End> {
        // What one node must know is large before it is written: not for all agents at once.
        let permit = self.server.openings.acquire().await;
        let outbox = Arc::new(Outbox::default());
        let opening = self
            .server
            .backend
            .open(&self.node, holdings, &outbox)
            .map_err(|unready| End::Refused(Refusal::Unready, Status::unavailable(unready.to_string())))?;
        let before = std::mem::replace(&mut self.outbox, outbox);
        // Which pods became known while it was asked.
        for uid in before.take_known() {
            self.outbox.known(uid);
        }
        let Opening { version, peers, policy } = opening;
        let policy = policy::write(&policy);
        drop(permit);
        self.tell(version, peers.buckets, peers.written, policy);
        Ok(())
    }

    fn tell(&mut self, version: Version, buckets: Bytes, peers: Vec<Bytes>, policy: Vec<Bytes>) {
        self.nonce += 1;
        let nonce = Nonce(self.nonce);
        let bytes: usize = buckets.len() + peers.iter().chain(&policy).map(Bytes::len).sum::<usize>();
        self.server.metrics.update_bytes.add(bytes as u64);
        for part in parts(nonce, buckets, peers, policy) {
            self.queue(wire::OperatorSays::Part(part));
        }
        self.phase = Phase::Told(nonce, version);
        self.server.metrics.updates.add(1);
    }

    fn queue(&mut self, says: wire::OperatorSays) {
        if self.queue.is_empty() {
            self.progress = Instant::now();
        }
        self.queue.push_back(wire::FromOperator { says: Some(says) });
    }

    async fn follow(&mut self) -> End {
        loop {
            if self.outbox.is_closed() {
                return End::Closed;
            }
            self.refill();
            let wake = self.deadline();
            let event = tokio::select! {
                message = self.inbound.message() => Event::Heard(message),
                room = self.out.reserve(), if !self.queue.is_empty() => Event::Room(room.is_ok()),
                () = self.outbox.woken() => Event::Woken,
                () = sleep_until(wake) => Event::Woken,
            };
            let done = match event {
                Event::Heard(message) => self.hear(message).await,
                Event::Room(true) => self.send(),
                Event::Room(false) => Err(End::Gone),
                Event::Woken => Ok(()),
            };
            if let Err(end) = done.and_then(|()| self.check()) {
                return end;
            }
        }
    }

    /// Sends the next message; there is room for it.
    fn send(&mut self) -> Result<(), End> {
        let Some(message) = self.queue.pop_front() else { return Ok(()) };
        self.server.metrics.sent_bytes.add(message.encoded_len() as u64);
        self.progress = Instant::now();
        self.out.try_send(Ok(message)).map_err(|_| End::Gone)
    }

    /// Whether the agent takes what is sent to it, and it is still known who it is.
    fn check(&self) -> Result<(), End> {
        if self.until <= Instant::now() {
            let text = "the agent's token has expired: it is to come again with another";
            return Err(End::Refused(Refusal::Expired, Status::unauthenticated(text)));
        }
        if !self.queue.is_empty() && self.progress.elapsed() >= self.server.limits.stall {
            let text = "the agent reads nothing of what is sent to it";
            return Err(End::Refused(Refusal::Stalled, Status::deadline_exceeded(text)));
        }
        Ok(())
    }

    /// Queues what is to be told, if it is time.
    fn refill(&mut self) {
        if self.queue.is_empty() {
            for uid in self.outbox.take_known() {
                self.queue(wire::OperatorSays::Known(uid));
            }
        }
        match self.phase {
            Phase::Free => match self.outbox.take() {
                Next::Nothing => {}
                Next::Tell(version, Changes { peers, policy, .. }) => {
                    self.tell(version, Bytes::new(), peers.into_values().collect(), policy::write(&policy));
                }
                Next::Ask => self.ask(),
            },
            Phase::Refused { soonest, latest } => {
                let now = Instant::now();
                if latest <= now || soonest <= now && self.outbox.is_changed() {
                    self.ask();
                }
            }
            Phase::Told(..) | Phase::Asked | Phase::Reporting => {}
        }
    }

    fn ask(&mut self) {
        self.outbox.forget();
        self.queue(wire::OperatorSays::Tell(wire::Tell {}));
        self.phase = Phase::Asked;
        self.server.metrics.asked.add(1);
    }

    /// When there is something to do though nothing happens.
    fn deadline(&self) -> Instant {
        let now = Instant::now();
        let retry = match self.phase {
            Phase::Refused { soonest, .. } if now < soonest => soonest,
            Phase::Refused { latest, .. } => latest,
            _ => now + LATE,
        };
        let retry = retry.min(self.until);
        if self.queue.is_empty() { retry } else { retry.min(self.progress + self.server.limits.stall) }
    }

    async fn hear(&mut self, message: Result<Option<wire::FromAgent>, Status>) -> Result<(), End> {
        let heard = read(&self.server, message)?;
        let (backend, node) = (&self.server.backend, &self.node);
        match (heard, &self.phase) {
            (FromAgent::Ack(nonce), Phase::Told(told, version)) if nonce == *told => {
                backend.acknowledged(node, *version);
                self.server.metrics.acknowledged.add(1);
                self.pause = SOON;
                self.phase = Phase::Free;
            }
            (FromAgent::Nack(nonce, reason), Phase::Told(told, version)) if nonce == *told => {
                warn!(%node, reason, "agent refused an update");
                backend.refused(node, *version, &reason);
                self.server.metrics.refused_updates.add(1);
                self.outbox.forget();
                let now = Instant::now();
                self.phase = Phase::Refused { soonest: now + self.pause, latest: now + LATE };
                self.pause = (self.pause * 2).min(LATE);
            }
            (FromAgent::Attached(attached), _) => backend.attached(node, attached),
            (FromAgent::Detached(uid), _) => backend.detached(node, &uid),
            (FromAgent::Settled(settled), Phase::Reporting) => backend.settled(node, settled),
            (FromAgent::Holdings(holdings), Phase::Asked) => self.open(&holdings).await?,
            (FromAgent::Hello(_), _) => return Err(malformed("Hello may only be the first message")),
            (FromAgent::Ack(_) | FromAgent::Nack(..) | FromAgent::Holdings(_) | FromAgent::Settled(_), _) => {
                return Err(malformed("an answer to nothing that was said"));
            }
        }
        Ok(())
    }
}
