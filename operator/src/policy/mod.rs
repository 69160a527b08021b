//! Policies out of the API: what is watched for them, how it is read, and what of it cannot be honoured.
//!
//! ```text
//! Pod, Namespace, Node, NetworkPolicy, ClusterNetworkPolicy --watch--> read --Change--> compiler      (every replica)
//!                                                                       |
//!                                                                    Findings --> condition, events   (the leader)
//! what agents acknowledge --News--> Teller --> conditions, events of policies                            (the leader)
//! ```
//!
//! Reading is total: whatever an object holds, it is known what is in force because of it. What is not understood is never
//! half in force. It is found and told, what the policy selects stays isolated, and nothing is let through by it.

pub mod cluster_policy;
pub mod feed;
pub mod finding;
pub mod network_policy;
pub mod objects;
mod parts;
pub mod report;
pub mod teller;
#[cfg(test)]
mod tests;
