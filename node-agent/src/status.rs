//! The status of this node's `NodeNetwork`: written when something of it changed, and never as a heartbeat.

mod claims;
mod contest;
mod counts;
mod news;
mod size;
mod wireguard;

use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use tokio::sync::watch::Receiver;
use tokio::time::Instant;
use towpath_crds::{AGENT, Drift, NodeNetwork, NodeNetworkStatus, Path, Routes, Uplink, conditions};
use towpath_net::state::NodeName;
use tracing::{debug, warn};

use crate::drift::KEPT;
use crate::snapshot::{Applied, Snapshot};
use crate::strangers::Strangers;
use news::Herald;

/// How far two writes are apart at least: a burst of changes is one write.
const APART: Duration = Duration::from_millis(500);
/// The same where nothing but counts of addresses changed.
const COUNTS_APART: Duration = Duration::from_secs(5);
/// How long after a failed write the next is tried.
const RETRY: Duration = Duration::from_secs(2);
/// The longest texts of what was found amiss, and of what was done about it, in characters (`Drift`).
const LONGEST_OBJECT: usize = 128;
const LONGEST_CHANGE: usize = 256;
/// The longest text of a node's CIDRs, in characters (`NodeNetworkStatus.podCIDRs`).
const LONGEST_CIDRS: usize = 128;

/// Writes the status of one node.
pub struct StatusWriter {
    api: Api<NodeNetwork>,
    herald: Herald,
    node: NodeName,
    /// As the API has it, of the object with this unique id; nothing before it was read.
    last: Option<(String, NodeNetworkStatus)>,
    /// What earlier agents of this node put right; nothing before it was read.
    earlier: Option<Earlier>,
    /// When it was written last.
    written: Option<Instant>,
    /// How large the object is without it, in bytes.
    rest: usize,
}

/// What earlier agents of this node put right.
#[derive(Clone, Default)]
struct Earlier {
    drift: Vec<Drift>,
    total: i64,
}

impl StatusWriter {
    /// Writes the status of `node`.
    pub fn new(client: Client, node: NodeName) -> Self {
        Self {
            api: Api::all(client.clone()),
            herald: Herald::new(client, &node),
            node,
            last: None,
            earlier: None,
            written: None,
            rest: 0,
        }
    }

    /// Follows the worker, and what is found of other networks' pods, for ever.
    pub async fn follow(mut self, mut snapshots: Receiver<Snapshot>, mut strangers: Receiver<Option<Strangers>>) {
        let mut failing = false;
        while snapshots.wait_for(|s| s.applied.is_some()).await.is_ok() {
            let snapshot = snapshots.borrow_and_update().clone();
            let others = strangers.borrow_and_update().clone();
            let again = match self.write(&snapshot, others.as_ref()).await {
                Ok(again) => {
                    failing = false;
                    tokio::time::sleep(APART).await;
                    again
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        warn!(%error, "cannot write the status; it is tried again until it can");
                    }
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            };
            tokio::select! {
                changed = snapshots.changed() => if changed.is_err() { return },
                Ok(()) = strangers.changed() => {}
                () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
        }
    }

    /// Writes what changed; answers when to come again where mere counts have to wait.
    async fn write(
        &mut self,
        snapshot: &Snapshot,
        strangers: Option<&Strangers>,
    ) -> Result<Option<Instant>, kube::Error> {
        let object = snapshot.applied.as_ref().map(|a| a.object.clone()).unwrap_or_default();
        let last = match self.last.take() {
            Some((of, last)) if of == object => last,
            _ => self.read().await?,
        };
        let status = self.status(snapshot, strangers, &last);
        let due = self.written.map(|written| written + COUNTS_APART).filter(|due| Instant::now() < *due);
        let waits = due.filter(|_| counts::can_wait(&last, &status));
        if status == last || waits.is_some() {
            self.last = Some((object, last));
            return Ok(waits);
        }
        let patch = serde_json::json!({
            "apiVersion": "towpath.dev/v1alpha1",
            "kind": "NodeNetwork",
            "metadata": {"name": self.node, "uid": object},
            "status": status,
        });
        let parameters = PatchParams::apply(AGENT).force();
        let written = self.api.patch_status(&self.node.0, &parameters, &Patch::Apply(patch)).await?;
        debug!("status written");
        self.written = Some(Instant::now());
        let before = std::mem::replace(&mut self.rest, size::rest(written));
        if let Some(news) = news::of(&last.conditions, &status.conditions) {
            self.herald.tell(&self.node, &object, news).await;
        }
        self.last = Some((object, status));
        // What has grown beside it may leave less for it than it took.
        Ok((self.rest > before).then(Instant::now))
    }

    /// What an earlier agent wrote outlives it: times of transitions, and what was put right.
    async fn read(&mut self) -> Result<NodeNetworkStatus, kube::Error> {
        let mut object = self.api.get(&self.node.0).await?;
        let last = object.status.take().unwrap_or_default();
        self.rest = size::rest(object);
        self.earlier
            .get_or_insert_with(|| Earlier { drift: last.drift.clone(), total: last.drift_total.unwrap_or_default() });
        Ok(last)
    }

    fn status(
        &self,
        snapshot: &Snapshot,
        strangers: Option<&Strangers>,
        last: &NodeNetworkStatus,
    ) -> NodeNetworkStatus {
        let applied = snapshot.applied.as_ref();
        let generation = applied.map(|a| a.generation);
        let earlier = self.earlier.clone().unwrap_or_default();
        let mut conditions = last.conditions.clone();
        for claim in claims::of(snapshot, strangers) {
            conditions::set(&mut conditions, &claim, generation, Timestamp::now());
        }
        let mut status = NodeNetworkStatus {
            observed_generation: generation,
            conditions,
            // What was in force last stays so until the new revision is wholly in the kernel.
            observed_revision: applied
                .filter(|_| snapshot.programmed)
                .map(|a| a.revision.to_string())
                .or_else(|| last.observed_revision.clone()),
            transport: applied.map(|a| towpath_crds::transports(a.transports())).filter(|text| !text.is_empty()),
            paths: applied.map(paths).unwrap_or_default(),
            encryption: applied.map(|a| a.effect.encryption().into()),
            node_addresses: snapshot.node_addresses.iter().map(ToString::to_string).collect(),
            mtu: applied.and_then(|a| a.mtu).and_then(|mtu| i32::try_from(mtu).ok()),
            pod_cidrs: applied.map(|a| bounded(&a.pod_cidrs)),
            addresses: counts::of(&snapshot.addresses),
            used_addresses: counts::text(&snapshot.addresses),
            idle: snapshot.addresses.idle.iter().map(ToString::to_string).collect(),
            drained: snapshot.addresses.drained.iter().map(ToString::to_string).collect(),
            uplink: applied.and_then(|a| a.uplink.as_ref()).map(|uplink| Uplink {
                name: uplink.name.clone(),
                addresses: uplink.addresses.iter().map(ToString::to_string).collect(),
                mtu: i32::try_from(uplink.mtu).unwrap_or(i32::MAX),
            }),
            agent_version: Some(env!("CARGO_PKG_VERSION").to_owned()),
            wire_guard: snapshot.keys.as_ref().map(wireguard::of),
            routes: applied.map(|a| Routes { count: count(a.effect.routes), digest: a.effect.digest() }),
            drift: snapshot.drift.last().map(drift).chain(earlier.drift).take(KEPT).collect(),
            drift_total: i64::try_from(snapshot.drift.total()).ok().map(|total| total + earlier.total),
        };
        size::fit(&mut status, self.rest);
        status
    }
}

fn paths(applied: &Applied) -> Vec<Path> {
    let paths = applied.effect.paths.iter();
    paths.map(|(transport, nodes)| Path { transport: (*transport).into(), nodes: count(*nodes) }).collect()
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn drift(drift: &crate::drift::Drift) -> Drift {
    Drift {
        time: Time(timestamp(drift.time)),
        object: conditions::shortened(&drift.object, LONGEST_OBJECT),
        change: match drift.times {
            1 => conditions::shortened(&drift.change, LONGEST_CHANGE),
            times => format!("{} ({times} times)", conditions::shortened(&drift.change, LONGEST_CHANGE - 32)),
        },
    }
}

/// As many CIDRs as the field takes, and how many more there are.
fn bounded(cidrs: &[IpNet]) -> String {
    let texts: Vec<String> = cidrs.iter().map(ToString::to_string).collect();
    (0..=texts.len())
        .map(|more| (texts.len() - more, more))
        .map(|(shown, more)| match more {
            0 => texts.join(","),
            _ => format!("{},+{more}", texts[..shown].join(",")),
        })
        .find(|text| text.len() <= LONGEST_CIDRS)
        .unwrap_or_default()
}

/// Whole seconds, as the API keeps them: what is read back equals what was written.
fn timestamp(time: SystemTime) -> Timestamp {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Timestamp::from_second(i64::try_from(seconds).unwrap_or_default()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_many_cidrs_is_cut_between_them() {
        let cidrs: Vec<IpNet> = (0..64).map(|n| format!("10.244.{n}.0/26").parse().unwrap()).collect();
        assert_eq!(bounded(&cidrs[..2]), "10.244.0.0/26,10.244.1.0/26");
        let text = bounded(&cidrs);
        assert!(text.len() <= 128 && text.ends_with(",10.244.7.0/26,+56"), "{text}");
        assert_eq!(bounded(&[]), "");
    }
}
