//! Whether the API server knows the nodes as they are now.

use std::{net::IpAddr, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::Lease,
        core::v1::{Node as ApiNode, ServiceAccount},
    },
    jiff::Timestamp,
};
use kube::{Api as Objects, Client, ResourceExt as _, api::ListParams};

use super::{Lab, LabError};
use crate::{component::Kind, node::Node, wait::Look};

const LIMIT: Duration = Duration::from_secs(90);

/// What the API server says of all nodes.
struct Known {
    nodes: Vec<ApiNode>,
    leases: Vec<Lease>,
    pods_admitted: bool,
}

impl Lab {
    /// Waits until the API server shows these nodes at their addresses, has heard of each since then, and takes pods.
    pub(super) fn wait_for_nodes(&self, nodes: &[Node], since: Timestamp) -> Result<(), LabError> {
        let api = self.api()?;
        self.wait_on(&[Kind::Kubelet], "nodes to register", LIMIT, || {
            let known = api.ask("list nodes and leases", Known::ask)?;
            let missing = nodes.iter().find_map(|node| known.lacks(node, &node.addresses(&self.config), since));
            Ok(missing.map_or(Look::Found(()), Look::NotYet))
        })
    }
}

impl Known {
    async fn ask(client: Client) -> Result<Self, kube::Error> {
        let nodes = Objects::<ApiNode>::all(client.clone()).list(&ListParams::default()).await?.items;
        let leases =
            Objects::<Lease>::namespaced(client.clone(), "kube-node-lease").list(&ListParams::default()).await?.items;
        // Pods are refused before their namespace has its account.
        let account = Objects::<ServiceAccount>::namespaced(client, "default").get_opt("default").await?;
        Ok(Self { nodes, leases, pods_admitted: account.is_some() })
    }

    fn lacks(&self, node: &Node, addresses: &[IpAddr], since: Timestamp) -> Option<String> {
        let name = node.name.as_str();
        let Some(found) = self.nodes.iter().find(|found| found.name_any() == name) else {
            return Some(format!("no Node {name}"));
        };
        let shown = internal(found);
        if shown != addresses {
            return Some(format!("Node {name} with addresses {shown:?} in place of {addresses:?}"));
        }
        if !self.heard_of(found, since) {
            return Some(format!("kubelet on {name} not heard of"));
        }
        (!self.pods_admitted).then(|| "namespace default without its service account".to_owned())
    }

    /// A kubelet that starts renews its lease at once, but makes that of a new node only some seconds later.
    fn heard_of(&self, node: &ApiNode, since: Timestamp) -> bool {
        let lease = self.leases.iter().find(|lease| lease.name_any() == node.name_any());
        let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref());
        let created = node.metadata.creation_timestamp.as_ref();
        renewed.is_some_and(|time| time.0 >= since)
            || created.is_some_and(|time| time.0.as_second() >= since.as_second())
    }
}

fn internal(node: &ApiNode) -> Vec<IpAddr> {
    let all = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    all.filter(|address| address.type_ == "InternalIP").filter_map(|address| address.address.parse().ok()).collect()
}
