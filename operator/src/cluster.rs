//! Every request to the API server, each with a deadline, and every write counted.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;
use towpath_crds::cluster_policy::ClusterNetworkPolicy;
use towpath_crds::{CLUSTER_NETWORK, ClusterNetwork, ClusterNetworkStatus, NodeNetwork, NodeNetworkSpec, OPERATOR};

use crate::lease::Leadership;
use crate::metrics::{Kind, Metrics, Verb};
use crate::policy::report::PolicyKind;

/// How long one request may take. An API server gives up after a minute by itself (`--request-timeout`).
const DEADLINE: Duration = Duration::from_secs(10);

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or could not be reached.
    #[error("{operation} {object}: {source}")]
    Request {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// There was no answer.
    #[error("{operation} {object}: no answer within {} s", DEADLINE.as_secs())]
    Late {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
    },
    /// Another replica leads by now.
    #[error("{operation} {object}: another replica leads")]
    NotLeading {
        /// What was to be done.
        operation: &'static str,
        /// To what.
        object: String,
    },
    /// The allocation lock holds something that no operator wrote.
    #[error("read the allocation lock ConfigMap {name}: {source}; delete it, the next pass makes a new one")]
    Lock {
        /// The object's name.
        name: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Several things were not done; everything else was.
    #[error("{}", several(.0))]
    Several(Vec<Self>),
}

/// How many of several errors are told in full.
const MOST_TOLD: usize = 5;

fn several(errors: &[Error]) -> String {
    let told = errors.iter().take(MOST_TOLD).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match errors.len().saturating_sub(MOST_TOLD) {
        0 => told,
        more => format!("{told}; and {more} more"),
    }
}

impl Error {
    /// One error of many; nothing where there is none.
    pub fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(errors)),
        }
    }

    /// Whether there is no such object, or it is another one by now.
    pub fn is_gone(&self) -> bool {
        matches!(self.code(), Some(404 | 409))
    }

    /// Whether somebody else wrote at the same time; then the caches will soon say what.
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Several(errors) => errors.iter().all(Self::is_conflict),
            _ => self.code() == Some(409),
        }
    }

    fn code(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The API server, as far as the operator uses it.
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: Api<Node>,
    node_networks: Api<NodeNetwork>,
    networks: Api<ClusterNetwork>,
    global_policies: Api<ClusterNetworkPolicy>,
    locks: Api<ConfigMap>,
    leadership: Leadership,
    metrics: Arc<Metrics>,
}

impl Cluster {
    /// Requests go through `client`, and writes only while `leadership` holds.
    pub fn new(client: &Client, namespace: &str, leadership: Leadership, metrics: Arc<Metrics>) -> Self {
        Self {
            nodes: Api::all(client.clone()),
            node_networks: Api::all(client.clone()),
            networks: Api::all(client.clone()),
            global_policies: Api::all(client.clone()),
            locks: Api::namespaced(client.clone(), namespace),
            leadership,
            metrics,
        }
    }

    /// Whether writes would be carried out.
    pub fn leads(&self) -> bool {
        self.leadership.holds()
    }

    /// Where writes are counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The uid of a Node, as the API server has it now; nothing where there is none.
    pub async fn node_uid(&self, name: &str) -> Result<Option<String>, Error> {
        let node = ask("get Node", name, self.nodes.get_metadata_opt(name)).await?;
        Ok(node.and_then(|node| node.metadata.uid))
    }

    /// Every `NodeNetwork`, as etcd has them now: no resource version is given, so no cache answers.
    pub async fn node_networks(&self) -> Result<Vec<NodeNetwork>, Error> {
        let list = ask("list", "NodeNetworks", self.node_networks.list(&ListParams::default())).await?;
        Ok(list.items)
    }

    /// Makes a `NodeNetwork` (where none was seen), or changes the one that was seen, in the state in which it was
    /// seen: a conflict says that it is in another by now.
    pub async fn apply_node_network(
        &self,
        node: (&str, &str),
        seen: Option<&NodeNetwork>,
        spec: &NodeNetworkSpec,
    ) -> Result<NodeNetwork, Error> {
        let (name, node_uid) = node;
        self.must_lead("apply NodeNetwork", name)?;
        let mut object = json!({
            "apiVersion": "towpath.dev/v1alpha1",
            "kind": "NodeNetwork",
            "metadata": {
                "name": name,
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": name, "uid": node_uid,
                    "controller": false, "blockOwnerDeletion": false,
                }],
            },
            "spec": spec,
        });
        if let Some(seen) = seen {
            object["metadata"]["uid"] = seen.uid().into();
            object["metadata"]["resourceVersion"] = seen.resource_version().into();
        }
        let patch = Patch::Apply(&object);
        let done = ask("apply NodeNetwork", name, self.node_networks.patch(name, &by_us(), &patch)).await?;
        self.metrics.wrote(Kind::NodeNetwork, Verb::Apply);
        Ok(done)
    }

    /// Deletes the very `NodeNetwork` that was seen, in the state in which it was seen.
    pub async fn delete_node_network(&self, seen: &NodeNetwork) -> Result<(), Error> {
        let name = seen.name_any();
        self.must_lead("delete NodeNetwork", &name)?;
        let preconditions = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match ask("delete NodeNetwork", &name, self.node_networks.delete(&name, &params)).await {
            Err(error) if error.code() == Some(404) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => {
                self.metrics.wrote(Kind::NodeNetwork, Verb::Delete);
                Ok(())
            }
        }
    }

    /// Writes the status of the `ClusterNetwork`.
    pub async fn apply_status(&self, status: &ClusterNetworkStatus) -> Result<(), Error> {
        self.must_lead("apply status of ClusterNetwork", CLUSTER_NETWORK)?;
        let object = json!({
            "apiVersion": "towpath.dev/v1alpha1",
            "kind": "ClusterNetwork",
            "metadata": {"name": CLUSTER_NETWORK},
            "status": status,
        });
        let patch = Patch::Apply(&object);
        let params = by_us();
        let request = self.networks.patch_status(CLUSTER_NETWORK, &params, &patch);
        ask("apply status of ClusterNetwork", CLUSTER_NETWORK, request).await?;
        self.metrics.wrote(Kind::ClusterNetworkStatus, Verb::Apply);
        Ok(())
    }

    /// The uid of a `NetworkPolicy`, as the API server has it now; nothing where there is none.
    pub async fn network_policy_uid(&self, namespace: &str, name: &str) -> Result<Option<String>, Error> {
        let policies = Api::<NetworkPolicy>::namespaced(self.locks.clone().into_client(), namespace);
        let policy = ask("get NetworkPolicy", name, policies.get_metadata_opt(name)).await?;
        Ok(policy.and_then(|policy| policy.metadata.uid))
    }

    /// What was said of a `ClusterNetworkPolicy`, as the API server has it now; nothing where there is none of this uid.
    pub async fn cluster_policy_conditions(&self, name: &str, uid: &str) -> Result<Option<Vec<Condition>>, Error> {
        let policy = ask("get ClusterNetworkPolicy", name, self.global_policies.get_opt(name)).await?;
        let policy = policy.filter(|policy| policy.metadata.uid.as_deref() == Some(uid));
        Ok(policy.map(|policy| policy.conditions().to_vec()))
    }

    /// Writes conditions of the `ClusterNetworkPolicy` of this uid; those of others stay.
    pub async fn apply_cluster_policy_status(
        &self,
        name: &str,
        uid: &str,
        conditions: &[Condition],
    ) -> Result<(), Error> {
        let operation = "apply status of ClusterNetworkPolicy";
        self.must_lead(operation, name)?;
        let object = json!({
            "apiVersion": PolicyKind::ClusterNetworkPolicy.api_version(),
            "kind": "ClusterNetworkPolicy",
            "metadata": {"name": name, "uid": uid},
            "status": {"conditions": conditions},
        });
        let patch = Patch::Apply(&object);
        let params = by_us();
        ask(operation, name, self.global_policies.patch_status(name, &params, &patch)).await?;
        self.metrics.wrote(Kind::ClusterNetworkPolicyStatus, Verb::Apply);
        Ok(())
    }

    /// The allocation lock, where there is one.
    pub async fn lock(&self, name: &str) -> Result<Option<ConfigMap>, Error> {
        ask("get ConfigMap", name, self.locks.get_opt(name)).await
    }

    /// Writes the allocation lock; a conflict says that it is not any more what `lock` was made from.
    pub async fn write_lock(&self, name: &str, lock: &ConfigMap) -> Result<ConfigMap, Error> {
        self.must_lead("write ConfigMap", name)?;
        let params = PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() };
        let done = if lock.metadata.resource_version.is_some() {
            ask("replace ConfigMap", name, self.locks.replace(name, &params, lock)).await?
        } else {
            ask("create ConfigMap", name, self.locks.create(&params, lock)).await?
        };
        self.metrics.wrote(Kind::AllocationLock, Verb::Apply);
        Ok(done)
    }

    fn must_lead(&self, operation: &'static str, object: &str) -> Result<(), Error> {
        if self.leads() { Ok(()) } else { Err(Error::NotLeading { operation, object: object.to_owned() }) }
    }
}

fn by_us() -> PatchParams {
    PatchParams::apply(OPERATOR).force()
}

async fn ask<T>(
    operation: &'static str,
    object: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, Error> {
    match timeout(DEADLINE, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(Error::Request { operation, object: object.to_owned(), source: Box::new(source) }),
        Err(_) => Err(Error::Late { operation, object: object.to_owned() }),
    }
}
