//! Names of what is told to nodes: they follow from its content, so that all replicas give the same.

use sha2::{Digest as _, Sha256};

/// The first 8 bytes of a SHA-256: nobody can make up a content that gets the name of another's.
pub fn first_8_bytes(bytes: &[u8]) -> u64 {
    Sha256::digest(bytes).iter().take(8).fold(0, |all, byte| all << 8 | u64::from(*byte))
}
