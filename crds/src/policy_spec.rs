//! Of both kinds: how policies are brought into force.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use towpath_net::policy::settings::{self, PolicySettings};

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
        let told = Self { startup: Some(settings.startup.into()), established: Some(settings.established.into()) };
        (!settings.is_usual()).then_some(told)
    }

    /// What is meant, with what is usual where nothing is said.
    pub(crate) fn settings(self) -> PolicySettings {
        let usual = PolicySettings::default();
        PolicySettings {
            startup: self.startup.map_or(usual.startup, settings::Startup::from),
            established: self.established.map_or(usual.established, settings::Established::from),
        }
    }
}
