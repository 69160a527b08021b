//! The stream between operators and agents, on the loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

mod authorities;
mod certificates;
mod following;
mod harness;
mod hostile;
mod identity;
mod raw;
mod reporting;
