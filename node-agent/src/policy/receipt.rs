//! The answer to an update, given when all that it brought is in the kernel.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use towpath_control::client::{Handle, Ticket};

/// What is told: nothing, or why not.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A share in the answer to an update: every thread that has to do something for it holds one until that is done. It is given
/// when all of them are done. One that is let go without a word was not done, and then nothing is answered.
pub struct Receipt {
    shared: Arc<Shared>,
    is_done: bool,
}

struct Shared(Mutex<Pending>);

struct Pending {
    answer: Option<Answer>,
    refused: Option<String>,
}

impl Receipt {
    /// For an update.
    pub fn new(handle: Handle, ticket: Ticket) -> Self {
        Self::telling(move |result| match result {
            Ok(()) => handle.acknowledge(ticket),
            Err(reason) => handle.refuse(ticket, reason),
        })
    }

    /// For whoever is told.
    pub fn telling(answer: impl FnOnce(Result<(), String>) + Send + 'static) -> Self {
        let pending = Pending { answer: Some(Box::new(answer)), refused: None };
        Self { shared: Arc::new(Shared(Mutex::new(pending))), is_done: false }
    }

    /// For one more who has to do something.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), is_done: false }
    }

    /// What was to be done for the update is done.
    pub fn done(mut self) {
        self.is_done = true;
    }

    /// It cannot be done, for this reason.
    pub fn refuse(mut self, reason: String) {
        self.shared.pending().refused.get_or_insert(reason);
        self.is_done = true;
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_done {
            self.shared.pending().answer = None;
        }
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let Pending { answer, refused } = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(answer) = answer.take() {
            answer(refused.take().map_or(Ok(()), Err));
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receipt")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    fn shares() -> (Receipt, Receipt, Receiver<Result<(), String>>) {
        let (tell, told) = channel();
        let receipt = Receipt::telling(move |answer| tell.send(answer).unwrap());
        let share = receipt.share();
        (receipt, share, told)
    }

    #[test]
    fn an_update_is_answered_when_all_are_done() {
        let (one, other, told) = shares();
        one.done();
        assert!(told.try_recv().is_err(), "one has something to do yet");
        other.done();
        assert_eq!(told.try_recv(), Ok(Ok(())));
        let (one, other, told) = shares();
        one.refuse("why".to_owned());
        other.done();
        assert_eq!(told.try_recv(), Ok(Err("why".to_owned())));
    }

    #[test]
    fn an_update_that_somebody_let_go_is_not_answered() {
        let (one, other, told) = shares();
        drop(one);
        other.done();
        assert!(told.recv().is_err());
        let (one, other, told) = shares();
        one.refuse("why".to_owned());
        drop(other);
        assert!(told.recv().is_err());
    }
}
