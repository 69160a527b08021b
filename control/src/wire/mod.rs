//! How what is said is written, and read again: total both ways, and checked on the way in.

pub mod members;
pub mod peer;
pub mod policy;
pub mod profile;
pub mod scalar;
pub mod schema;
