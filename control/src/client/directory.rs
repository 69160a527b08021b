//! Where replicas of the operator are, and whom to believe.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use kube::Client;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::{AUTHORITIES_KEY, CONFIG_MAP, OPERATOR};

/// The name of the port in the Service.
const PORT: &str = "control";

/// What is read to know where replicas are.
const SLICES: &str = "the EndpointSlices of Service towpath-operator";
/// How long one watch of them may last, in seconds.
const WATCH_SECONDS: u32 = 240;

/// Knows where replicas are, and their authorities.
pub trait Directory: Send + Sync + 'static {
    /// The addresses of the replicas.
    fn replicas(&self) -> impl Future<Output = Result<Vec<SocketAddr>, DirectoryError>> + Send;

    /// Waits until the replicas are others than these, and tells which.
    fn changed(&self, known: &[SocketAddr]) -> impl Future<Output = Result<Vec<SocketAddr>, DirectoryError>> + Send;

    /// The certificates of their authorities, in PEM.
    fn authorities(&self) -> impl Future<Output = Result<String, DirectoryError>> + Send;
}

/// Why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The API server does not answer, or refuses.
    #[error("cannot read {object}: {reason}")]
    Api {
        /// What was to be read.
        object: &'static str,
        /// Why it was not.
        reason: String,
    },
    /// The operator has published nothing yet.
    #[error("ConfigMap {CONFIG_MAP} has no key {AUTHORITIES_KEY}: the operator has not published its authorities yet")]
    Unpublished,
    /// The API server is too slow.
    #[error("the API server did not say in time where the operator is")]
    Late,
}

/// The API server's: the `EndpointSlice`s of the operator's Service, and its `ConfigMap`.
pub struct KubeDirectory {
    slices: Api<EndpointSlice>,
    config_maps: Api<ConfigMap>,
}

impl KubeDirectory {
    /// In this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { slices: Api::namespaced(client.clone(), namespace), config_maps: Api::namespaced(client, namespace) }
    }

    /// Where replicas are, and of which version of all slices that is true.
    async fn list(&self) -> Result<(Vec<SocketAddr>, String), DirectoryError> {
        // Out of the API server's cache: all agents may ask at once.
        let params = ListParams::default().match_any().labels(&label());
        let slices = self.slices.list(&params).await.map_err(|error| failed(SLICES, &error))?;
        Ok((addresses(&slices.items), slices.metadata.resource_version.unwrap_or_default()))
    }

    /// Waits until any slice is different, or enough time passes.
    async fn watch(&self, version: &str) -> Result<(), DirectoryError> {
        let params = WatchParams::default().labels(&label()).timeout(WATCH_SECONDS).disable_bookmarks();
        let events = self.slices.watch(&params, version).await.map_err(|error| failed(SLICES, &error))?;
        tokio::pin!(events);
        match events.next().await {
            Some(Ok(WatchEvent::Error(status))) => {
                Err(DirectoryError::Api { object: SLICES, reason: status.message.clone() })
            }
            Some(Err(error)) => Err(failed(SLICES, &error)),
            Some(Ok(_)) | None => Ok(()),
        }
    }
}

/// The label of the slices of the operator's Service (`discovery.k8s.io/v1`).
fn label() -> String {
    format!("kubernetes.io/service-name={OPERATOR}")
}

impl Directory for KubeDirectory {
    async fn replicas(&self) -> Result<Vec<SocketAddr>, DirectoryError> {
        Ok(self.list().await?.0)
    }

    async fn changed(&self, known: &[SocketAddr]) -> Result<Vec<SocketAddr>, DirectoryError> {
        loop {
            let (replicas, version) = self.list().await?;
            if replicas != known {
                return Ok(replicas);
            }
            // A connection that is silently dead is given up, and everything is asked anew.
            let patience = Duration::from_secs(u64::from(WATCH_SECONDS) + 5);
            timeout(patience, self.watch(&version)).await.unwrap_or(Ok(()))?;
        }
    }

    async fn authorities(&self) -> Result<String, DirectoryError> {
        let map = self.config_maps.get_opt(CONFIG_MAP).await;
        let map = map.map_err(|error| failed("ConfigMap towpath-control", &error))?;
        let data = map.and_then(|map| map.data).unwrap_or_default().remove(AUTHORITIES_KEY);
        data.ok_or(DirectoryError::Unpublished)
    }
}

fn failed(object: &'static str, error: &kube::Error) -> DirectoryError {
    DirectoryError::Api { object, reason: error.to_string() }
}

/// One address of each replica: there is one stream to each, and its word counts once. A slice has addresses of one family, so
/// that a replica of a Service of both families is in two; the lower address is taken, which is IPv4.
fn addresses(slices: &[EndpointSlice]) -> Vec<SocketAddr> {
    let mut replicas: BTreeMap<String, SocketAddr> = BTreeMap::new();
    for (endpoint, address) in slices.iter().flat_map(endpoints) {
        let known = replicas.entry(identity(endpoint, address)).or_insert(address);
        *known = address.min(*known);
    }
    let unique: BTreeSet<SocketAddr> = replicas.into_values().collect();
    unique.into_iter().collect()
}

/// What a replica has once: its pod, else its node, else its address.
fn identity(endpoint: &Endpoint, address: SocketAddr) -> String {
    let pod = endpoint.target_ref.as_ref().and_then(|target| target.uid.as_ref().or(target.name.as_ref()));
    pod.or(endpoint.node_name.as_ref()).cloned().unwrap_or_else(|| address.to_string())
}

/// Those that are ready, or of which nobody knows (`EndpointConditions.ready`).
fn endpoints(slice: &EndpointSlice) -> Vec<(&Endpoint, SocketAddr)> {
    let mut ports = slice.ports.iter().flatten().filter(|port| port.name.as_deref() == Some(PORT));
    let Some(port) = ports.find_map(|port| u16::try_from(port.port?).ok()) else { return Vec::new() };
    let is_ready = |ready: Option<bool>| ready != Some(false);
    let endpoints = slice.endpoints.iter();
    let ready = endpoints.filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|is| is.ready)));
    let addresses = ready.flat_map(|endpoint| endpoint.addresses.iter().map(move |address| (endpoint, address)));
    let known = |(endpoint, address): (_, &String)| Some((endpoint, SocketAddr::new(address.parse().ok()?, port)));
    addresses.filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn replicas_are_the_ready_addresses_of_the_port() {
        let slice = serde_json::from_value(json!({
            "metadata": {"name": "towpath-operator-abc"}, "addressType": "IPv4",
            "ports": [{"name": "metrics", "port": 9090}, {"name": "control", "port": 7443}],
            "endpoints": [
                {"addresses": ["192.168.0.1"], "conditions": {"ready": true}},
                {"addresses": ["192.168.0.2"], "conditions": {"ready": false}},
                {"addresses": ["192.168.0.3"]},
                {"addresses": ["a-name"]},
            ],
        }));
        let expected = ["192.168.0.1:7443", "192.168.0.3:7443"].map(|address| address.parse().unwrap());
        assert_eq!(addresses(&[slice.unwrap()]), expected);
    }

    #[test]
    fn a_replica_with_addresses_of_both_families_is_one() {
        let slice = |family: &str, addresses: [&str; 3]| {
            let [by_pod, by_node, by_itself] = addresses;
            serde_json::from_value(json!({
                "metadata": {}, "addressType": family, "ports": [{"name": "control", "port": 7443}],
                "endpoints": [
                    {"addresses": [by_pod], "nodeName": "n1", "targetRef": {"kind": "Pod", "name": "a", "uid": "u"}},
                    {"addresses": [by_node], "nodeName": "n2"},
                    {"addresses": [by_itself]},
                ],
            }))
        };
        let v6 = slice("IPv6", ["fd00::1", "fd00::2", "fd00::3"]).unwrap();
        let v4 = slice("IPv4", ["192.168.0.1", "192.168.0.2", "192.168.0.3"]).unwrap();
        let expected = ["192.168.0.1:7443", "192.168.0.2:7443", "192.168.0.3:7443", "[fd00::3]:7443"];
        assert_eq!(addresses(&[v6, v4]), expected.map(|address| address.parse().unwrap()));
    }

    #[test]
    fn a_slice_without_the_port_has_no_replicas() {
        let slice = json!({
            "metadata": {}, "addressType": "IPv6", "ports": null,
            "endpoints": [{"addresses": ["fd00::1"]}],
        });
        assert_eq!(addresses(&[serde_json::from_value(slice).unwrap()]), []);
    }
}
