//! What all benchmarks share.

pub mod figures;
pub mod table;
