//! What agents are told: peers and policies, by a stream to each.
//!
//! ```text
//! NodeNetwork --watch--> peers ----+
//! Pod, NetworkPolicy ... --feed----+--> Core --Delta per node--> Outbox --> agent
//! agents: Attached, Detached ------+      ^                                   |
//!                                         +-------- acknowledged -------------+
//! ```
//!
//! Every replica does this from its own watches: it needs no leader, and writes nothing. An agent follows one replica, and
//! tells all of them which pods have addresses, so that those who follow another learn it as early.

mod away;
mod claims;
mod core;
mod exported;
mod force;
mod lacks;
mod peers;
mod places;
mod refusals;
mod serve;
mod standing;
mod waits;

pub use core::Core;
pub use exported::Exported;
pub use peers::follow_peers;
pub use serve::{Serving, Shared, serve, take_changes};
pub use standing::{ClusterStanding, LATE, News, Pending, Settled, Standing};
