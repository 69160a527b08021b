//! What is made and dropped as bundles and leases change.
