//! What agents are told: peers and policies, by a stream to each.
//!
//! ```text
//! NodeNetwork --watch--> peers ----+
//! Pod, NetworkPolicy ... --feed----+--> Core --Delta per node--> Outbox --> agent
//! agents: Attached, Detached ------+      ^                                   |
//!                                         +-------- acknowledged -------------+
//! ```
//!
//! Every replica does this from its own watches: it needs no leader, and writes nothing.

mod claims;
mod core;
mod peers;
mod serve;
mod waits;

pub use core::Core;
pub use peers::follow_peers;
pub use serve::{Shared, serve, take_changes};
