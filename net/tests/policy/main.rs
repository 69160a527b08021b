//! An independent judge of policies: a naive evaluator, written from the text of the APIs, says of random clusters and
//! packets what must become of them.
//!
//! `TOWPATH_SEED` and `TOWPATH_CASES` choose the first cluster and how many packets are tried; what is wrong is shown in the
//! smallest cluster in which it still is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bundled;
mod compiled;
mod differential;
mod encoded;
mod generate;
mod machine;
mod naive;
mod node;
mod search;
mod shrink;
mod story;
mod tables;
mod text;
mod world;
