//! What the worker is to do next; a new assignment takes the place of one that was not begun.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::snapshot::Assignment;

/// What the worker is to do.
#[derive(Debug)]
pub enum Task {
    /// Make the kernel match this, and keep it so.
    Assign(Box<Assignment>),
    /// End, and leave everything as it is.
    Stop,
    /// Bring the node back to how it was before, and end.
    Leave,
}

/// A place for one task, and a bell.
#[derive(Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

struct Shared {
    task: Mutex<Option<Task>>,
    bell: OwnedFd,
}

impl Inbox {
    /// An empty inbox.
    pub fn new() -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { shared: Arc::new(Shared { task: Mutex::new(None), bell }) })
    }

    /// Gives the worker something to do. Nothing takes the place of an end.
    pub fn put(&self, task: Task) {
        let mut place = self.shared.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*place, Some(Task::Stop | Task::Leave)) {
            *place = Some(task);
        }
        drop(place);
        self.ring();
    }

    /// Makes the worker look at the kernel now. The bell can only be full, and then it rings already.
    pub fn ring(&self) {
        _ = rustix::io::write(&self.shared.bell, &1u64.to_ne_bytes());
    }

    /// Takes the task, if there is one.
    pub fn take(&self) -> Option<Task> {
        self.shared.task.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// What to wait on: readable when the bell rings.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }

    /// Stops the bell.
    pub fn silence(&self) {
        _ = rustix::io::read(&self.shared.bell, &mut [0u8; 8]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_takes_the_place_of_an_end() {
        let inbox = Inbox::new().unwrap();
        inbox.put(Task::Leave);
        inbox.put(Task::Stop);
        assert!(matches!(inbox.take(), Some(Task::Leave)));
        assert!(inbox.take().is_none());
    }
}
