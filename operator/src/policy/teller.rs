//! What the leader says of policies on the policies themselves: conditions where their kind has a status
//! (`ClusterNetworkPolicy`), events where it has none (`NetworkPolicy`).

mod claims;
mod notices;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use self::claims::{Said, after};
use self::notices::Notices;
use super::report::{PolicyId, PolicyKind, Report};
use crate::cluster::{Cluster, Error};
use crate::control::{LATE, Shared, Standing};
use crate::events::{Herald, News};

/// How long after something became of a policy it is told, for changes come in bursts.
const GATHER: Duration = Duration::from_millis(200);
/// How far two rounds are apart at least.
const APART: Duration = Duration::from_secs(1);
/// How many statuses are looked at in a round.
const MOST_STATUSES: usize = 50;
/// For how long a new leader says nothing while agents come back, of which it does not know yet what they have.
const BEGINNING: Duration = Duration::from_secs(30);

/// Of what the network tells, what may be another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted {
    policies: usize,
    late: usize,
    away: usize,
    refusing: usize,
}

/// Says it.
#[derive(Debug)]
pub struct Teller {
    cluster: Cluster,
    herald: Herald,
    control: Arc<Shared>,
    policies: watch::Receiver<Report>,
    /// Notified when the status of the network may have to say something else.
    changed: Arc<Notify>,
    /// When this replica began to lead.
    leads: Option<Instant>,
    is_begun: bool,
    /// Policies of the cluster of which something else may have to be said.
    due: BTreeSet<String>,
    /// Those that are to be looked at again, behind all others.
    again: BTreeSet<String>,
    /// What was said of each.
    said: BTreeMap<String, Said>,
    notices: Notices,
    /// What the network was told.
    counted: Counted,
}

impl Teller {
    /// Says it by these, of what this replica knows.
    pub fn new(
        cluster: Cluster,
        herald: Herald,
        control: Arc<Shared>,
        policies: watch::Receiver<Report>,
        changed: Arc<Notify>,
    ) -> Self {
        Self {
            cluster,
            herald,
            control,
            policies,
            changed,
            leads: None,
            is_begun: false,
            due: BTreeSet::new(),
            again: BTreeSet::new(),
            said: BTreeMap::new(),
            notices: Notices::default(),
            counted: Counted::default(),
        }
    }

    /// Says what there is to be said while this replica leads, for ever.
    pub async fn follow(mut self) {
        loop {
            tokio::select! {
                () = self.control.news() => sleep(GATHER).await,
                // That a policy is late comes by time alone.
                () = sleep(LATE) => {}
            }
            self.round().await;
            sleep(APART).await;
        }
    }

    async fn round(&mut self) {
        let mut news = self.control.core().take_news();
        if !self.cluster.leads() {
            (self.leads, self.is_begun) = (None, false);
            return;
        }
        if self.leads.is_none() {
            self.leads = Some(Instant::now());
            self.said.clear();
            self.notices.forget();
            self.due.extend(self.control.core().all_of_cluster());
        }
        self.due.append(&mut news.cluster);
        if !self.policies.borrow().is_whole() {
            return;
        }
        let standing = self.control.core().standing();
        self.count(&standing);
        if self.begins() {
            self.statuses(&standing).await;
        }
        for (id, event) in self.notices.choose(&standing, news, Instant::now()) {
            self.event(&id, event).await;
        }
    }

    /// Has the network tell what is new about all of them together.
    fn count(&mut self, standing: &Standing) {
        let counted = Counted {
            policies: standing.policies,
            late: standing.late,
            away: standing.away.len(),
            refusing: standing.refusing,
        };
        if std::mem::replace(&mut self.counted, counted) != counted {
            self.changed.notify_one();
        }
    }

    /// Whether what agents have is known, as far as it will be.
    fn begins(&mut self) -> bool {
        let is_late = self.leads.is_none_or(|since| since.elapsed() >= BEGINNING);
        self.is_begun = self.is_begun || is_late || self.control.core().is_heard_of_all();
        self.is_begun
    }

    async fn statuses(&mut self, standing: &Standing) {
        let late = standing.late().filter(|policy| policy.id.kind == PolicyKind::ClusterNetworkPolicy);
        self.again.extend(late.map(|policy| policy.id.key.name.clone()));
        let mut is_taken = false;
        for _ in 0..MOST_STATUSES {
            // Not before all others had their turn, and once in a round: those that stay are not to keep others from it.
            if self.due.is_empty() && !std::mem::replace(&mut is_taken, true) {
                self.due.append(&mut self.again);
            }
            let Some(name) = self.due.pop_first() else { return };
            if let Err(error) = self.status(&name).await
                && !error.is_gone()
            {
                tracing::warn!(policy = name, %error, "status not written, it is tried again");
                self.again.insert(name);
                return;
            }
        }
    }

    /// Says what there is to be said of a policy of the cluster, where that is new.
    async fn status(&mut self, name: &str) -> Result<(), Error> {
        let Some(standing) = self.control.core().of_cluster(name) else {
            self.said.remove(name);
            return Ok(());
        };
        let uid = &standing.written.uid;
        let before = match self.said.remove(name).filter(|said| said.uid == *uid) {
            Some(said) => said.conditions,
            None => match self.cluster.cluster_policy_conditions(name, uid).await? {
                Some(conditions) => claims::ours(conditions),
                None => return Ok(()),
            },
        };
        let away = if claims::is_of(&before, standing.written.generation) {
            Vec::new()
        } else {
            self.control.core().away_of(&PolicyId::of_cluster(name))
        };
        let conditions: Vec<Condition> = after(&before, &standing, &away, Timestamp::now());
        if !away.is_empty() {
            self.again.insert(name.to_owned());
        }
        if conditions != before {
            self.cluster.apply_cluster_policy_status(name, uid, &conditions).await?;
        }
        self.said.insert(name.to_owned(), Said { uid: uid.clone(), conditions });
        Ok(())
    }

    async fn event(&self, id: &PolicyId, news: News) {
        match self.cluster.network_policy_uid(&id.key.namespace, &id.key.name).await {
            Ok(Some(uid)) => self.herald.tell(&id.reference(&uid), news).await,
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "event not written"),
        }
    }
}
