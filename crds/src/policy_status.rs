//! What became of network policies, in a few numbers: a status does not grow with them.

#![allow(clippy::doc_markdown, reason = "kubectl explain shows these comments as they are")]

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many network policies there are, and how many of them are in force. While only these numbers change, they are
/// written every five seconds at most.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyCounts {
    /// All of both kinds, NetworkPolicy and ClusterNetworkPolicy.
    #[schemars(range(min = 0))]
    pub count: i32,

    /// Those that can be honoured in full, and are in the kernels of all nodes that have pods of them. What has changed
    /// within the last five seconds, and is on its way, counts.
    #[schemars(range(min = 0))]
    pub in_force: i32,

    /// Those that hold something that is not understood.
    #[schemars(range(min = 0))]
    pub not_honoured: i32,

    /// In force of count, as in 12/12.
    #[schemars(length(max = 24))]
    pub in_force_of_count: String,

    /// Since when all of them are in force, or since when they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

impl PolicyCounts {
    /// Counts with their text.
    pub fn new(count: usize, in_force: usize, not_honoured: usize, since: Option<Time>) -> Self {
        let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
        Self {
            count: number(count),
            in_force: number(in_force),
            not_honoured: number(not_honoured),
            in_force_of_count: format!("{in_force}/{count}"),
            since,
        }
    }
}
