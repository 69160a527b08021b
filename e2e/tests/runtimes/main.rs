//! Other ways to call Towpath's CNI binary than a kubelet's: podman, cnitool, CRI-O's library, and containerd alone by its CRI. The agent and
//! the binary are the real ones, the configuration is the one that the agent writes, and there is no Kubernetes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cnitool;
mod containerd;
mod crio;
mod node;
mod podman;
