//! The table of policies on the real kernel: what people see of it, what packets meet in it, and that a change leads to
//! what a load would have made.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::unreadable_literal,
    reason = "a test fails by panicking, and shows numbers as nft does"
)]

mod apart;
mod bundles;
mod changes;
mod cut;
mod golden;
mod latch;
mod log;
mod mended;
mod node;
mod packets;
