//! Whether the agent ends because it is restarted, or because Towpath is removed.
//!
//! A removal deletes the DaemonSet, its account, its rights and the kinds, in an order that nobody promises. Each of
//! these is told apart from an API server that does not answer: without an answer the end is a restart, and everything
//! stays.

use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::Api;
use kube::{Client, Error};
use tracing::info;

use crate::args::Pod;

/// How long an unclear answer is asked again: well within the time that a pod has to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How far two questions are apart.
const APART: Duration = Duration::from_millis(250);

/// What one question tells.
#[derive(Debug, PartialEq, Eq)]
enum Evidence {
    /// Towpath is being removed.
    Leaves,
    /// Towpath stays.
    Stays,
    /// Our rights are gone, but the kinds are still there: their end may only be a moment away.
    Unclear,
}

/// Whether Towpath leaves this node.
pub async fn towpath_leaves(client: Option<&Client>, pod: &Pod) -> bool {
    let (Some(client), Some(namespace)) = (client, &pod.pod_namespace) else { return false };
    let api: Api<DaemonSet> = Api::namespaced(client.clone(), namespace);
    let asked = tokio::time::timeout(PATIENCE, async {
        loop {
            match ask(client, &api, &pod.daemon_set).await {
                Evidence::Leaves => return true,
                Evidence::Stays => return false,
                Evidence::Unclear => tokio::time::sleep(APART).await,
            }
        }
    });
    asked.await.unwrap_or_else(|_| {
        info!("nobody tells whether Towpath is being removed: everything stays");
        false
    })
}

async fn ask(client: &Client, api: &Api<DaemonSet>, name: &str) -> Evidence {
    match api.get_opt(name).await {
        Ok(None) => Evidence::Leaves,
        Ok(Some(set)) if set.metadata.deletion_timestamp.is_some() => Evidence::Leaves,
        // The account is gone.
        Err(Error::Api(status)) if status.code == 401 => Evidence::Leaves,
        // The rights are gone; every account may still ask which kinds there are.
        Err(Error::Api(status)) if status.code == 403 => kinds(client).await,
        Ok(Some(_)) | Err(_) => Evidence::Stays,
    }
}

async fn kinds(client: &Client) -> Evidence {
    match client.list_api_group_resources("towpath.dev/v1alpha1").await {
        Err(Error::Api(status)) if matches!(status.code, 401 | 404) => Evidence::Leaves,
        Err(Error::Api(_)) | Ok(_) => Evidence::Unclear,
        Err(_) => Evidence::Stays,
    }
}
