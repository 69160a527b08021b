//! Other ways to call Towpath's CNI binary than a kubelet's: podman, cnitool, and containerd alone by its CRI. The agent and
//! the binary are the real ones, the configuration is the one that the agent writes, and there is no Kubernetes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cnitool;
mod containerd;
mod node;
mod podman;
