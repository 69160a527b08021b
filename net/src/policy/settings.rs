//! What becomes of pods that start, and of connections that there are, where there are policies.

use serde::{Deserialize, Serialize};

/// How policies are brought into force; what users may choose of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicySettings {
    /// How pods start.
    #[serde(default)]
    pub startup: Startup,
    /// What becomes of connections that a change of policies forbids.
    #[serde(default)]
    pub established: Established,
}

/// How a pod starts whose policies are not in force yet. Whatever it is, nothing passes to or from a pod before its own
/// policies are in its node's kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Startup {
    /// It waits for a bounded time, and then starts.
    #[default]
    Wait,
    /// It waits for a bounded time, and then fails to start: whoever wants it tries again.
    Strict,
    /// It starts.
    Async,
}

/// What becomes of connections that a change of policies forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Established {
    /// They end.
    #[default]
    Cut,
    /// They go on until they end by themselves.
    Keep,
}

impl PolicySettings {
    /// Whether nothing is chosen that is otherwise than usual.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
