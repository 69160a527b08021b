//! Pods of this node that are in another network: they joined it while its CNI configuration was the one to take, and
//! stay there until they are made anew.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use tokio::sync::watch::{Receiver, Sender};
use tokio::time::Instant;
use towpath_kernel::leases::Store;
use towpath_net::state::NodeName;
use tracing::{info, warn};

use crate::rivals::Rival;
use crate::snapshot::Snapshot;

/// How many are named.
const NAMED: usize = 10;
/// How far two looks are apart, while there is a reason to look.
const APART: Duration = Duration::from_secs(5);
/// How many looks in a row must find nothing before no more are taken: a pod's address is in its status a moment after
/// the pod has it.
const CLEAN: u32 = 3;

/// A pod that is in another network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stranger {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address there.
    pub address: IpAddr,
}

/// The pods of a node that are in another network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    /// The first few, by namespace and name.
    pub named: Vec<Stranger>,
    /// How many there are.
    pub total: usize,
}

/// Looks for them.
pub struct Search {
    pods: Api<Pod>,
    node: NodeName,
    state: PathBuf,
}

/// What makes a new look worth its while.
#[derive(PartialEq, Eq)]
struct Reason {
    pod_cidrs: Vec<IpNet>,
    rivals: Vec<Rival>,
}

impl Search {
    /// Among the pods of `node`, whose leases are in `state`.
    pub fn new(client: Client, node: NodeName, state: PathBuf) -> Self {
        Self { pods: Api::all(client), node, state }
    }

    /// Looks when the agent starts and when another network comes or goes, and from then on until there is nothing to
    /// be seen for a while. Pods are not watched: that would keep all of them in memory for the sake of a few.
    pub async fn follow(self, mut snapshots: Receiver<Snapshot>, found: Sender<Option<Strangers>>) {
        let (mut reason, mut clean, mut next) = (None, 0, Instant::now());
        let mut failing = false;
        while snapshots.wait_for(|s| s.applied.is_some()).await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            let now = Reason {
                pod_cidrs: snapshot.applied.map(|applied| applied.pod_cidrs).unwrap_or_default(),
                rivals: snapshot.rivals.list,
            };
            if reason.as_ref() != Some(&now) {
                (clean, next) = (0, Instant::now());
            }
            if clean < CLEAN && next <= Instant::now() {
                next = Instant::now() + APART;
                match self.look(&now.pod_cidrs).await {
                    Ok(strangers) => {
                        failing = false;
                        let quiet = strangers.total == 0 && !now.rivals.iter().any(Rival::contests);
                        clean = if quiet { clean + 1 } else { 0 };
                        tell(&found, strangers);
                    }
                    Err(error) if !std::mem::replace(&mut failing, true) => {
                        warn!(%error, "cannot list this node's pods; it is tried again until it can");
                        // What else is known of other networks must not wait for it.
                        found.send_if_modified(|last| {
                            last.is_none().then(|| *last = Some(Strangers::default())).is_some()
                        });
                    }
                    Err(_) => {}
                }
            }
            reason = Some(now);
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next), if clean < CLEAN => {}
            }
        }
    }

    async fn look(&self, pod_cidrs: &[IpNet]) -> Result<Strangers, kube::Error> {
        // From the API server's own memory: any state that it has is recent enough.
        let mine = ListParams::default().fields(&format!("spec.nodeName={}", self.node)).match_any();
        let pods = self.pods.list(&mine).await?.items;
        let outside: Vec<Stranger> = pods.iter().filter_map(|pod| stranger(pod, pod_cidrs)).collect();
        if outside.is_empty() {
            return Ok(Strangers::default());
        }
        // Those of a CIDR that the node had before are ours all the same.
        let store = Store::below(&self.state);
        let leases = tokio::task::spawn_blocking(move || store.read_all()).await;
        let leases = leases.ok().and_then(Result::ok).map(|listing| listing.leases).unwrap_or_default();
        let is_ours = |address: IpAddr| leases.iter().any(|l| l.addresses.iter().any(|a| a.address.addr() == address));
        let mut named: Vec<Stranger> = outside.into_iter().filter(|stranger| !is_ours(stranger.address)).collect();
        named.sort();
        let total = named.len();
        named.truncate(NAMED);
        Ok(Strangers { named, total })
    }
}

fn tell(found: &Sender<Option<Strangers>>, strangers: Strangers) {
    found.send_if_modified(|last| {
        let changed = last.as_ref() != Some(&strangers);
        if changed {
            if last.as_ref().map_or(0, |last| last.total) != strangers.total {
                info!(pods = strangers.total, "pods of this node that are in another network");
            }
            *last = Some(strangers);
        }
        changed
    });
}

/// The pod as a stranger, where it runs or starts, is in a network of its own and has an address that is not this
/// node's to give.
fn stranger(pod: &Pod, pod_cidrs: &[IpNet]) -> Option<Stranger> {
    let (spec, status) = (pod.spec.as_ref()?, pod.status.as_ref()?);
    let lives = matches!(status.phase.as_deref(), Some("Running" | "Pending"));
    if spec.host_network == Some(true) || !lives || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let listed = status.pod_ips.iter().flatten().map(|address| address.ip.as_str());
    let mut addresses = listed.chain(status.pod_ip.as_deref()).filter_map(|text| text.parse::<IpAddr>().ok());
    let address = addresses.find(|address| !pod_cidrs.iter().any(|cidr| cidr.contains(address)))?;
    Some(Stranger { namespace: pod.namespace().unwrap_or_default(), name: pod.name_any(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pod: serde_json::Value) -> Option<String> {
        let cidrs = ["10.244.3.0/24", "fd00:244:0:3::/64"].map(|cidr| cidr.parse().unwrap());
        stranger(&serde_json::from_value(pod).unwrap(), &cidrs).map(|stranger| stranger.address.to_string())
    }

    fn pod(phase: &str, host_network: bool, addresses: &[&str]) -> serde_json::Value {
        let listed: Vec<_> = addresses.iter().map(|ip| serde_json::json!({"ip": ip})).collect();
        serde_json::json!({
            "metadata": {"name": "a", "namespace": "default"},
            "spec": {"containers": [], "hostNetwork": host_network},
            "status": {"phase": phase, "podIP": addresses.first(), "podIPs": listed},
        })
    }

    #[test]
    fn a_pod_with_any_address_of_another_network_is_a_stranger_while_it_lives() {
        assert_eq!(found(pod("Running", false, &["10.88.0.5"])).as_deref(), Some("10.88.0.5"));
        assert_eq!(found(pod("Pending", false, &["10.244.3.7", "fd00:88::5"])).as_deref(), Some("fd00:88::5"));
        assert_eq!(found(pod("Running", false, &["10.244.3.7", "fd00:244:0:3::7"])), None);
        assert_eq!(found(pod("Running", true, &["172.30.0.11"])), None);
        assert_eq!(found(pod("Succeeded", false, &["10.88.0.5"])), None);
        assert_eq!(found(pod("Pending", false, &[])), None);
    }
}
