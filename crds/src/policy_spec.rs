//! Of both kinds: how policies are brought into force.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use towpath_net::policy::settings::{self, FlowLog, PolicySettings};

/// How network policies are brought into force.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicySpec {
    /// How a pod starts whose policies are not in force yet; whatever it is, nothing passes to or from a pod before its own
    /// policies are in its node's kernel. Wait, which is also what leaving it out means: its start waits until they are
    /// in force and every node that must know the pod does, for 10 seconds at most, then it starts. Strict: then its start
    /// fails, and is tried again. Async: it starts without waiting. Where no policy concerns its namespace, no pod waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<PolicyStartup>,

    /// What becomes of established connections that a change of policies forbids. Cut, which is also what leaving it out
    /// means: they end. Keep: they go on until they end by themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub established: Option<PolicyEstablished>,

    /// What the agents write to their logs of flows that are denied. Left out: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<PolicyLog>,
}

/// What the agents write to their logs of flows that are denied.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLog {
    /// Flows: a line for each flow that is denied, with the names of the pods of the node and of the policies. None: nothing.
    pub denied: PolicyLogDenied,

    /// How many lines each agent writes in a second at most, on average; 10 where it is left out. What is left out of the
    /// log is counted there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub per_second: Option<i32>,
}

/// Whether flows that are denied are written to the agents' logs.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyLogDenied {
    /// None is.
    None,
    /// Each of them is.
    Flows,
}

/// How a pod starts whose policies are not in force yet.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyStartup {
    /// It waits, then starts.
    Wait,
    /// It waits, then fails to start.
    Strict,
    /// It starts.
    Async,
}

/// What becomes of established connections that a change of policies forbids.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyEstablished {
    /// They end.
    Cut,
    /// They go on.
    Keep,
}

impl PolicySpec {
    /// What is told of settings; nothing where they are as usual.
    pub(crate) fn of(settings: PolicySettings) -> Option<Self> {
        let told = Self {
            startup: Some(settings.startup.into()),
            established: Some(settings.established.into()),
            log: (!settings.log.is_usual()).then(|| settings.log.into()),
        };
        (!settings.is_usual()).then_some(told)
    }

    /// What is meant, with what is usual where nothing is said.
    pub(crate) fn settings(self) -> PolicySettings {
        let usual = PolicySettings::default();
        PolicySettings {
            startup: self.startup.map_or(usual.startup, settings::Startup::from),
            established: self.established.map_or(usual.established, settings::Established::from),
            log: self.log.map_or(usual.log, FlowLog::from),
        }
    }
}

impl From<FlowLog> for PolicyLog {
    fn from(log: FlowLog) -> Self {
        Self { denied: log.denied.into(), per_second: Some(log.per_second.into()) }
    }
}

impl From<PolicyLog> for FlowLog {
    fn from(log: PolicyLog) -> Self {
        Self { denied: log.denied.into(), per_second: log.per_second.map_or(Self::usual_pace(), pace) }
    }
}

/// The schema lets nothing else through.
fn pace(per_second: i32) -> u16 {
    u16::try_from(per_second.clamp(1, 1000)).unwrap_or(1)
}
