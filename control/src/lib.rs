//! The stream between the operator and the agents.
//!
//! ```text
//! operator                                                         agent
//!                <-- Hello: its node, digests of what it has, the addresses of its pods
//!   Update 1: all that is different --> (in parts, applied as a whole)
//!                <-- Ack 1: it is in the kernel
//!   Update 2: what changed since, of all changes one --> ...
//!                <-- Nack 2: why not
//!   Tell -->
//!                <-- Holdings: digests of what it has
//!   Update 3: all that is different --> ...
//!                <-- Attached: a pod has addresses
//!   Known: every node that must know them does -->
//! ```
//!
//! An agent follows one replica. To all others it reports: a stream on which it says which pods have addresses, and hears
//! when the nodes that follow that replica know them.
//!
//! At most one update is under way to an agent. What changes meanwhile is put together; where that becomes too much, it is
//! forgotten, and the agent is asked what it has. So a slow agent costs bounded memory, and nobody waits for it.
//!
//! Nothing that one replica of the operator counts means anything to another: an agent that comes back, to whichever, says
//! by digests what it has.

pub mod assembly;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod authority;
#[cfg(feature = "client")]
pub mod client;
pub mod digest;
pub mod malformed;
pub mod message;
#[cfg(feature = "transport")]
pub mod metrics;
pub mod parts;
pub mod peers;
pub mod process;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "client")]
pub mod snapshot;
#[cfg(feature = "transport")]
mod tls;
pub mod update;
mod wire;

/// The name of the operator's Service, and of every replica in its certificate.
#[cfg(feature = "transport")]
pub const OPERATOR: &str = "towpath-operator";

/// The `ConfigMap` that holds the certificates of the operator's authorities.
#[cfg(feature = "transport")]
pub const CONFIG_MAP: &str = "towpath-control";

/// Its key.
#[cfg(feature = "transport")]
pub const AUTHORITIES_KEY: &str = "ca.crt";
