//! The node agent: makes this node's kernel match its `NodeNetwork`, and keeps it so.
//!
//! ```text
//!  source (API watch | file) --NodeState--> worker: one thread that owns the kernel --Snapshot--> status, health
//!                                             ^   |
//!        kernel events, leases, files changed +   +--> kernel, node.json, CNI configuration file
//! ```
//!
//! The worker needs nothing but the last state that it was given: it heals the kernel with or without an API server.

pub mod addresses;
pub mod args;
pub mod cni_files;
pub mod command;
pub mod drift;
mod folders;
pub mod health;
pub mod keys;
pub mod memory;
pub mod paths;
pub mod policy;
pub mod rivals;
pub mod snapshot;
pub mod source;
pub mod status;
pub mod strangers;
pub mod worker;
