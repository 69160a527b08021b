//! Who may talk to whom: network policies, from what users write to what the kernel of a node checks.
//!
//! ```text
//! Pod, Namespace, NetworkPolicy, ClusterNetworkPolicy --compile--> per node: Bundle --Delta--> agent
//!                                                                                               |
//!            leases (which addresses a pod of this node has) --bind--> profiles by address <----+
//!                                                                        |
//!                                                             chains, sets, verdict maps of nftables
//! ```
//!
//! [`input`] is what is compiled; [`bundle`] is all that one node must know, in terms of addresses and numbers alone.
//! [`change`] leads from one bundle to the next, [`digest`] tells what a node that comes back has already.

pub mod admission;
pub mod bind;
pub mod bundle;
pub mod chains;
pub mod change;
pub mod compile;
pub mod digest;
pub mod evaluate;
pub mod flows;
pub mod identity;
pub mod input;
pub mod latch;
pub mod objects;
pub mod program;
pub mod settings;
pub mod skeleton;
