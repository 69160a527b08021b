//! The domain of Towpath: pure functions from what users declare to what a node's kernel should hold.
