//! Requests that change something: one by one, or several in one system call.

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR};

use super::{Cause, Error, Message, Operation, Socket, Wait, error, split};

/// How many requests go over the socket together: the kernel answers each before the call returns, and its answers have
/// to fit the receive buffer of a process that may not enlarge it.
const BATCH: usize = 100;

/// A change that is to be asked for, with the words for what may go wrong.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is to be changed, and to what.
    pub message: Message,
    /// `nlmsg_flags` besides those of every request.
    pub flags: u16,
    /// What is being done.
    pub operation: Operation,
    /// To which object.
    pub object: String,
}

impl Request {
    /// A request for `operation` on `object`.
    pub fn new(operation: Operation, object: String, message: Message, flags: u16) -> Self {
        Self { message, flags, operation, object }
    }
}

impl Socket {
    /// Asks for one change, and waits for the kernel's answer.
    pub fn execute(&mut self, request: &Request) -> Result<(), Error> {
        let written = self.write(&request.message, request.flags);
        written.map_err(|cause| Error::new(request.operation, &request.object, cause))
    }

    /// Asks for a few changes in one system call; the kernel makes them in order. It goes on behind one that it refuses:
    /// the error is of the first that it refused, and what is behind that may hold or not.
    pub fn execute_all(&mut self, requests: &[Request]) -> Result<(), Error> {
        let Some((last, others)) = requests.split_last() else { return Ok(()) };
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in others {
            // The kernel tells of a refusal without being asked to.
            bytes.extend(request.message.with_header(NLM_F_REQUEST | request.flags, self.next_sequence()));
        }
        bytes.extend(last.message.with_header(NLM_F_REQUEST | NLM_F_ACK | last.flags, self.next_sequence()));
        self.writes += u64::try_from(requests.len()).unwrap_or(u64::MAX);
        let whole = |cause| Error::new(last.operation, &last.object, cause);
        self.inner.send(&bytes, 0).map_err(|source| whole(Cause::Io(source)))?;
        match self.first_refused(first, requests.len()).map_err(whole)? {
            None => Ok(()),
            Some((index, cause)) => {
                let request = requests.get(index).unwrap_or(last);
                Err(Error::new(request.operation, &request.object, cause))
            }
        }
    }

    /// Asks for any number of changes, many in one system call; the kernel makes them in order, and goes on behind one
    /// that it refuses. What became of each, in order.
    pub fn execute_each(&mut self, requests: &[Request]) -> Vec<Result<(), Error>> {
        let mut results = Vec::with_capacity(requests.len());
        for batch in requests.chunks(BATCH) {
            let outcomes = self.exchange(batch);
            let named = batch.iter().zip(outcomes).map(|(request, outcome)| {
                outcome.map_err(|cause| Error::new(request.operation, &request.object, cause))
            });
            results.extend(named);
        }
        results
    }

    /// Sends requests together; the kernel's answers to them, in order.
    fn exchange(&mut self, requests: &[Request]) -> Vec<Result<(), Cause>> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        for request in requests {
            let sequence = self.next_sequence();
            request.message.append_to(&mut bytes, NLM_F_REQUEST | NLM_F_ACK | request.flags, sequence);
        }
        self.writes += u64::try_from(requests.len()).unwrap_or(u64::MAX);
        let mut answers: Vec<Option<Result<(), Cause>>> = requests.iter().map(|_| None).collect();
        let failed = match self.inner.send(&bytes, 0) {
            Ok(_) => self.collect(first, &mut answers).err(),
            Err(source) => Some(Cause::Io(source)),
        };
        let reason = failed.map(|cause| cause.to_string());
        let unanswered = || Err(Cause::Unanswered(reason.clone().unwrap_or_default()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(unanswered)).collect()
    }

    /// Reads until every request has its answer.
    fn collect(&mut self, first: u32, answers: &mut [Option<Result<(), Cause>>]) -> Result<(), Cause> {
        let mut open = answers.len();
        while open > 0 {
            let mut rest = self.receive(Wait::Block).map_err(Cause::Io)?.unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                let index = usize::try_from(message.sequence_number().wrapping_sub(first)).unwrap_or(usize::MAX);
                if message.message_type() == NLMSG_ERROR
                    && let Some(answer @ None) = answers.get_mut(index)
                {
                    *answer = Some(error::outcome(message.flags(), message.payload()));
                    open -= 1;
                }
            }
        }
        Ok(())
    }

    /// The first of `count` requests that was refused; read up to the answer to the last.
    fn first_refused(&mut self, first: u32, count: usize) -> Result<Option<(usize, Cause)>, Cause> {
        let mut refused = None;
        loop {
            let mut rest = self.receive(Wait::Block).map_err(Cause::Io)?.unwrap_or_default();
            while !rest.is_empty() {
                let (message, after) = split(rest)?;
                rest = after;
                let index = usize::try_from(message.sequence_number().wrapping_sub(first)).unwrap_or(usize::MAX);
                if message.message_type() != NLMSG_ERROR || index >= count {
                    continue;
                }
                if let Err(cause) = error::outcome(message.flags(), message.payload()) {
                    refused.get_or_insert((index, cause));
                }
                if index + 1 == count {
                    return Ok(refused);
                }
            }
        }
    }
}
