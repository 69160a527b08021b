//! Scenarios: Towpath on real clusters, each on a lab of its own that leaves nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod allowed;
mod audit;
mod churn;
mod cluster;
mod compromised;
mod conflict;
mod conformance;
mod connectivity;
mod crowd;
mod denied;
mod drift;
mod encrypted;
mod flood;
mod live;
mod netpol;
mod node_address;
mod nodes;
mod operators;
mod policy_api;
mod pools;
mod profiles;
mod reach;
mod refusal;
mod removal;
mod specs;
mod static_pods;
mod stream;
mod survival;
