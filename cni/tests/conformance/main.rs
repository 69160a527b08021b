//! What the CNI specification and its runtimes ask of a plugin, row by row of the checklist, against the built binary.
//!
//! The rows about host ports (C32) and bandwidth (C33) are tests of their own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod add;
mod capabilities;
mod check;
mod del;
mod environment;
mod gc;
mod input;
mod result;
mod status;
#[path = "../support/mod.rs"]
mod support;
mod version;

/// A node whose pods have both families.
const DUAL: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
