//! The answer to an update, given when all that it brought is in the kernel.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use towpath_control::client::{Handle, Ticket};

/// What is told: nothing, or why not.
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;

/// Answers when nobody holds it any more: every thread that has to do something for the update holds it until that is done.
pub struct Receipt(Mutex<Pending>);

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
        Self(Mutex::new(Pending { answer: Some(Box::new(answer)), refused: None }))
    }

    /// It cannot be done, for this reason.
    pub fn refuse(&self, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused.get_or_insert(reason);
    }

    /// Nothing is answered: whoever had to do something for the update ends before that is done.
    pub fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).answer = None;
    }
}

impl Drop for Receipt {
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
