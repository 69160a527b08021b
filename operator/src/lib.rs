//! The operator: turns `ClusterNetwork` and Nodes into one `NodeNetwork` per node.
//!
//! ```text
//! Node, ClusterNetwork, NodeNetwork, ServiceCIDR --watch--> caches
//!                                                             |
//!   reconcile:  fetch -> remove -> validate -> allocate -> resolve -> publish -> status
//!   client:      no       yes        no         only to      no        yes       yes
//!                                               give CIDRs
//! ```
//!
//! Every replica watches; only the one that holds the lease ([`lease`]) reconciles. Each pass starts from the caches
//! alone and writes what differs, so a pass over a cluster that is right writes nothing. Two replicas that both think
//! that they lead cannot give a CIDR twice: see [`grant`].
//!
//! [`policy`] watches for itself: it keeps no object, and runs on every replica.

pub mod args;
pub mod cache;
pub mod cluster;
pub mod control;
pub mod events;
pub mod facts;
pub mod grant;
pub mod http;
pub mod lease;
pub mod metrics;
pub mod policy;
pub mod publish;
pub mod reconcile;
pub mod run;
pub mod status;
