//! The domain of Towpath: pure functions from what users declare to what a node's kernel should hold.
//!
//! ```text
//! Draft --validate--> Intent --+
//! NodeFacts[] -----------------+--allocate, resolve--> NodeSpec per node --assemble--> NodeState
//!                                                                                        |
//!                        Surroundings, Lease[] ------------------------------- render <--+
//!                                                                                |
//!                                        Observed --------------- plan <------ Desired
//!                                                                  |
//!                                                                 Op[]
//! ```
//!
//! Nothing here reads a clock, a file or the kernel; equal input gives equal output, byte for byte.

pub mod alias;
pub mod allocate;
pub mod bandwidth;
pub mod budget;
pub mod device;
pub mod effect;
pub mod facts;
pub mod family;
pub mod intent;
pub mod lease;
pub mod link_name;
pub mod mac;
pub mod nft;
pub mod node_address;
pub mod node_file;
pub mod observed;
pub mod ops;
pub mod peer_change;
pub mod pick;
pub mod plan;
pub mod policy;
pub mod ranges;
pub mod render;
pub mod resolve;
pub mod rotation;
pub mod state;
pub mod sweep;
pub mod transport;
pub mod usage;

pub use family::{Family, PerFamily};
