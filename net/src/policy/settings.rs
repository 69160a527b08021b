//! What becomes of pods that start, and of connections that there are, where there are policies; and what is told of it.

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
    /// What is written of flows that are denied.
    #[serde(default, skip_serializing_if = "FlowLog::is_usual")]
    pub log: FlowLog,
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

/// What the agents write of flows that are denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowLog {
    /// Whether anything is.
    #[serde(default)]
    pub denied: LogDenied,
    /// How many lines an agent writes in a second at most, on average.
    #[serde(default = "FlowLog::usual_pace")]
    pub per_second: u16,
}

/// Whether flows that are denied are written to the agents' logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogDenied {
    /// None is.
    #[default]
    None,
    /// Each of them is, with who denies it.
    Flows,
}

impl Default for FlowLog {
    fn default() -> Self {
        Self { denied: LogDenied::default(), per_second: Self::usual_pace() }
    }
}

impl FlowLog {
    /// How many lines in a second where nobody says anything of it.
    pub const fn usual_pace() -> u16 {
        10
    }

    /// Whether nothing is chosen that is otherwise than usual.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

impl PolicySettings {
    /// Whether nothing is chosen that is otherwise than usual.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
