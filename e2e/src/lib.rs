//! The lab: the Kubernetes that users run, on one machine, without Docker and without virtual machines.
//!
//! [`Lab`] brings up etcd, the control plane and as many nodes as asked for, each a set of namespaces with a kubelet,
//! containerd and kube-proxy of its own. It has no pod network: that is what is tried on it. Tests use it as a library,
//! people through the command `lab`; both do the same. [`HostSnapshot`] proves that nothing of it stays.

pub mod address;
pub mod api;
pub mod binaries;
pub mod cgroup;
pub mod command;
pub mod component;
pub mod config;
pub mod control_plane;
pub mod gateway;
pub mod guest;
pub mod images;
pub mod isolated;
pub mod lab;
pub mod node;
pub mod pki;
pub mod preflight;
pub mod process;
pub mod progress;
pub mod rows;
pub mod run;
pub mod samples;
pub mod snapshot;
pub mod space;
pub mod wait;
pub mod wire;

pub use crate::{
    config::{LabConfig, LabName, NodeName, Wire},
    lab::{Lab, LabError, Manner},
    snapshot::HostSnapshot,
};
