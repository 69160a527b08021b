//! What there is of policies on the node, for metrics.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use towpath_kernel::policy::Written;
use towpath_net::policy::bundle::{Direction, Members};
use towpath_net::policy::chains::names;
use towpath_net::policy::input::Key;
use towpath_net::policy::objects::{Object, Way};

use super::policies::Policies;

/// What there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The pods of the node that some policy is for.
    pub pods: Vec<Surveyed>,
    /// Chains that have rules of `ClusterNetworkPolicies`.
    pub chains: Vec<(Way, String)>,
    /// How much there is of what.
    pub sizes: Vec<(&'static str, usize)>,
}

/// One direction of a pod that some policy is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surveyed {
    /// Its namespace and name.
    pub key: Key,
    /// The direction.
    pub way: Way,
    /// The policies that decide, as many as fit.
    pub policies: String,
    /// The addresses that the kernel knows it by.
    pub addresses: Vec<IpAddr>,
}

/// What was done since the start.
#[derive(Clone, Debug)]
pub struct Tally {
    /// How long changes took, in seconds.
    pub seconds: Histogram,
    /// How many bytes they gave to the kernel.
    pub bytes: Histogram,
    /// How many there were that the kernel had to be told of.
    pub changes: Counter,
    /// How often something was put right that others had altered, or an earlier agent had left.
    pub repairs: Counter,
    /// When the kernel was last told of anything, in seconds since 1970.
    pub last: Gauge,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            seconds: Histogram::new(exponential_buckets(0.0001, 4.0, 9)),
            bytes: Histogram::new(exponential_buckets(256.0, 8.0, 7)),
            changes: Counter::default(),
            repairs: Counter::default(),
            last: Gauge::default(),
        }
    }
}

impl Tally {
    /// A change was made.
    #[expect(clippy::cast_precision_loss, reason = "bytes of a transaction are far fewer")]
    pub fn changed(&self, took: Duration, written: &Written) {
        self.seconds.observe(took.as_secs_f64());
        self.bytes.observe(written.bytes as f64);
        self.changes.inc();
        self.touched();
    }

    /// Something was put right.
    pub fn repaired(&self) {
        self.repairs.inc();
        self.touched();
    }

    fn touched(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.last.set(i64::try_from(now).unwrap_or(i64::MAX));
    }
}

impl Policies {
    /// What there is.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey { sizes: self.sizes(), ..Survey::default() };
        let Some(program) = self.table.program().filter(|_| self.bundle.is_enforced) else { return survey };
        for (uid, pod) in &self.bundle.pods {
            let (Some(profile), Some(addresses)) =
                (pod.profile.and_then(|id| self.bundle.profiles.get(&id)), program.leases().get(uid))
            else {
                continue;
            };
            for way in Way::ALL.into_iter().filter(|way| !profile.direction(*way).is_open()) {
                let (key, policies) = (pod.key.clone(), deciding(profile.direction(way)));
                survey.pods.push(Surveyed { key, way, policies, addresses: addresses.clone() });
            }
        }
        for (object, entry) in program.objects() {
            let Object::Profile { id, way, .. } = *object else { continue };
            let is_ruled = |direction: &Direction| !(direction.admin.is_empty() && direction.baseline.is_empty());
            if self.bundle.profiles.get(&id).is_some_and(|profile| is_ruled(profile.direction(way))) {
                survey.chains.extend(entry.parts.chains(*object).into_iter().map(|chain| (way, chain)));
            }
        }
        survey
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let directions = || self.bundle.profiles.values().flat_map(|profile| [&profile.ingress, &profile.egress]);
        let keys: fnv::FnvHashSet<&Key> =
            directions().flat_map(|direction| &direction.isolated).flat_map(|isolation| &isolation.policies).collect();
        let ruled: BTreeSet<&str> = directions()
            .flat_map(|direction| direction.admin.iter().chain(&direction.baseline))
            .map(|rule| rule.policy.as_str())
            .collect();
        let objects = self.table.program().map_or(0, |program| program.objects().len());
        vec![
            ("Pods", self.bundle.pods.len()),
            ("Policies", keys.len() + ruled.len()),
            ("Profiles", self.bundle.profiles.len()),
            ("Sets", self.bundle.sets.len()),
            ("Members", self.bundle.sets.values().map(Members::len).sum()),
            ("Objects", objects),
        ]
    }
}

/// The policies that decide about a direction.
fn deciding(direction: &Direction) -> String {
    let ruled: BTreeSet<&str> =
        direction.admin.iter().chain(&direction.baseline).map(|rule| rule.policy.as_str()).collect();
    let isolating = direction.isolated.as_ref().map(|isolation| names(&isolation.policies));
    ruled.into_iter().map(str::to_owned).chain(isolating).collect::<Vec<_>>().join(", ")
}
