//! The stream between operators and agents, on the loopback.

mod following;
mod harness;
