//! Which agents are connected.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use towpath_net::state::NodeName;

use super::connection::Tie;
use crate::message::Purpose;

/// One of each purpose for each node.
type Streams = HashMap<(NodeName, Purpose), (u64, Arc<Tie>)>;

/// The streams that there are.
#[derive(Default)]
pub(super) struct Sessions {
    count: AtomicU64,
    all: Mutex<Streams>,
}

impl Sessions {
    /// Ends what there was of the node with this purpose.
    pub(super) fn begin(&self, node: &NodeName, purpose: Purpose, tie: &Arc<Tie>) -> u64 {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        if let Some((_, before)) = self.all().insert((node.clone(), purpose), (number, tie.clone())) {
            before.cut();
        }
        number
    }

    /// Forgets a stream that ended, unless there is another by now.
    pub(super) fn end(&self, node: &NodeName, purpose: Purpose, number: u64) {
        let mut all = self.all();
        let key = (node.clone(), purpose);
        if all.get(&key).is_some_and(|(last, _)| *last == number) {
            all.remove(&key);
        }
    }

    fn all(&self) -> MutexGuard<'_, Streams> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
