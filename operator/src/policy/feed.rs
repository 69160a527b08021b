//! What the API holds, told as changes: what policies are compiled from. Every replica has its own.
//!
//! No object is kept: each event is read at once (`sources`), and only a hash of what it said remains (`memory`), by which
//! events that change nothing are dropped, and objects that vanished between two lists are noticed.
//!
//! A receiver that is slow holds up the watches, and nothing else: what is not read stays with the API server.

mod memory;
mod sources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;

use futures::StreamExt;
use futures::stream::select_all;
use kube::Client;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use towpath_net::policy::compile::Change;

use self::memory::Memory;
use self::sources::{Item, Kind, Step, Steps};
use super::report::{Complaint, PolicyId, Report, Written};

/// How many changes wait for the receiver.
const WAITING: usize = 1024;

/// One thing to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// Something came, went, or is other than before.
    Change(Change),
    /// A `ClusterNetworkPolicy` of this name is written so; what it means was told before.
    Written(String, Written),
    /// From now on, all that there is was told. It is said once.
    Whole,
}

/// Where it is told.
#[derive(Debug)]
pub struct Feed {
    /// The changes, each other than what was told of the same object before.
    pub changes: mpsc::Receiver<Fed>,
    /// The policies that cannot be honoured in full.
    pub report: watch::Receiver<Report>,
}

/// Starts watching. It ends when nobody receives the changes any more.
pub fn feed(client: &Client, tasks: &mut JoinSet<()>) -> Feed {
    let (out, changes) = mpsc::channel(WAITING);
    let (reporter, report) = watch::channel(Report::default());
    let feeder = Feeder::new(out, reporter);
    let client = client.clone();
    tasks.spawn(async move {
        // An error says that nobody receives any more, which is when it ends.
        let _ = feeder.run(&client).await;
    });
    Feed { changes, report }
}

/// Nobody receives any more.
struct Closed;

impl<T> From<mpsc::error::SendError<T>> for Closed {
    fn from(_: mpsc::error::SendError<T>) -> Self {
        Self
    }
}

struct Feeder {
    /// What was told of each kind.
    memories: BTreeMap<Kind, Memory>,
    /// `metadata.uid` and `metadata.generation` of each policy of the cluster, as they were told.
    written: BTreeMap<Box<str>, (String, i64)>,
    /// The kinds that were not listed in full yet.
    unlisted: BTreeSet<Kind>,
    out: mpsc::Sender<Fed>,
    reporter: watch::Sender<Report>,
}

impl Feeder {
    fn new(out: mpsc::Sender<Fed>, reporter: watch::Sender<Report>) -> Self {
        Self { memories: BTreeMap::new(), written: BTreeMap::new(), unlisted: Kind::ALL.into(), out, reporter }
    }

    async fn run(mut self, client: &Client) -> Result<(), Closed> {
        let mut objects = select_all(sources::always(client));
        let mut definitions = sources::definition(client);
        let mut cluster_policies: Option<Steps> = None;
        loop {
            let told = tokio::select! {
                told = objects.next() => told,
                told = next(&mut cluster_policies) => told,
                Some(is_defined) = definitions.next() => {
                    if !is_defined {
                        cluster_policies = None;
                        self.undefined(Kind::ClusterNetworkPolicy).await?;
                    } else if cluster_policies.is_none() {
                        tracing::info!("ClusterNetworkPolicy is defined");
                        cluster_policies = Some(sources::cluster_policies(client));
                    }
                    continue;
                }
                () = self.out.closed() => return Err(Closed),
            };
            if let Some((kind, step)) = told {
                self.step(kind, step).await?;
            }
        }
    }

    /// There is no such kind, so nothing of it either.
    async fn undefined(&mut self, kind: Kind) -> Result<(), Closed> {
        self.step(kind, Step::Begun).await?;
        self.step(kind, Step::Listed).await
    }

    async fn step(&mut self, kind: Kind, step: Step) -> Result<(), Closed> {
        let memory = self.memories.entry(kind).or_default();
        match step {
            Step::Begun => memory.begin(),
            Step::Is(item) => self.is(kind, item).await?,
            Step::Gone(name) => {
                if memory.forget(&name) {
                    self.gone(kind, &name).await?;
                }
            }
            Step::Listed => {
                for name in memory.vanished() {
                    self.gone(kind, &name).await?;
                }
                if self.unlisted.remove(&kind) && self.unlisted.is_empty() {
                    tracing::info!("all that policies are compiled from is known");
                    self.reporter.send_modify(Report::complete);
                    self.out.send(Fed::Whole).await?;
                }
            }
        }
        Ok(())
    }

    async fn is(&mut self, kind: Kind, item: Item) -> Result<(), Closed> {
        let Item { name, print, generation, change, policy } = item;
        let written =
            policy.as_ref().and_then(|(_, complaint)| self.written(kind, &name, generation, complaint, &change));
        if let Some((id, complaint)) = policy {
            self.complain(id, Some(complaint));
        }
        let memory = self.memories.entry(kind).or_default();
        if memory.note(name, print) {
            self.out.send(Fed::Change(change)).await?;
        }
        if let Some(written) = written {
            self.out.send(written).await?;
        }
        Ok(())
    }

    /// How a policy of the cluster is written, where that was not told.
    fn written(
        &mut self,
        kind: Kind,
        name: &str,
        generation: i64,
        complaint: &Complaint,
        change: &Change,
    ) -> Option<Fed> {
        let now = (complaint.uid.clone(), generation);
        if kind != Kind::ClusterNetworkPolicy || self.written.get(name) == Some(&now) {
            return None;
        }
        self.written.insert(name.into(), now);
        let written = Written {
            uid: complaint.uid.clone(),
            generation,
            findings: complaint.findings.clone(),
            is_for_nobody: matches!(change, Change::ClusterPolicyGone(_)),
        };
        Some(Fed::Written(name.to_owned(), written))
    }

    async fn gone(&mut self, kind: Kind, name: &str) -> Result<(), Closed> {
        if let Some(id) = kind.policy_id(name) {
            self.complain(id, None);
            self.written.remove(name);
        }
        self.out.send(Fed::Change(kind.gone(name))).await?;
        Ok(())
    }

    /// Reports what is found in a policy now, which may be nothing any more.
    fn complain(&self, id: PolicyId, complaint: Option<Complaint>) {
        self.reporter.send_if_modified(|report| report.set(id, complaint));
    }
}

/// What comes next, where anything may come.
async fn next(steps: &mut Option<Steps>) -> Option<(Kind, Step)> {
    match steps {
        Some(steps) => steps.next().await,
        None => pending().await,
    }
}
