//! The answer to an update, given when all that it brought is in the kernel.

use std::sync::{Mutex, PoisonError};

use towpath_control::client::{Handle, Ticket};

/// Answers when nobody holds it any more: every thread that has to do something for the update holds it until that is done.
#[derive(Debug)]
pub struct Receipt {
    handle: Handle,
    ticket: Ticket,
    refused: Mutex<Option<String>>,
}

impl Receipt {
    /// For an update.
    pub const fn new(handle: Handle, ticket: Ticket) -> Self {
        Self { handle, ticket, refused: Mutex::new(None) }
    }

    /// It cannot be done, for this reason.
    pub fn refuse(&self, reason: String) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        match self.refused.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            None => self.handle.acknowledge(self.ticket),
            Some(reason) => self.handle.refuse(self.ticket, reason),
        }
    }
}
