//! Operators that die between any two writes, two at a time: no block is anybody else's at any moment.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::Instant;

use futures::StreamExt;
use http::{Method, Request, Response};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, DeleteParams, ListParams};
use kube::client::{Body, ClientBuilder};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config, ResourceExt};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tower::{BoxError, Layer, Service};
use towpath_crds::NodeNetwork;
use towpath_net::intent::overlap;
use towpath_operator::cache::{Caches, Seen};
use towpath_operator::cluster::{Cluster as Writer, Error};
use towpath_operator::events::Herald;
use towpath_operator::grant::NAME;
use towpath_operator::lease::{Candidate, Leadership};
use towpath_operator::metrics::Metrics;
use towpath_operator::policy::report::Report;
use towpath_operator::publish::publish;
use towpath_operator::reconcile::{Context, Memory, reconcile};

use crate::agent::Agent;
use crate::harness::{Cluster, LONG, wait_to_lead, with_cluster};
use crate::passes;
use crate::pools::network;

/// When the process that a gate stands for dies.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// Just before its write is sent.
    Before,
    /// When its write was carried out, and before it hears of that.
    After,
    /// While its write is under way, for long.
    Meanwhile,
}

/// Lets so many writes through.
#[derive(Clone)]
struct Gate {
    left: Arc<AtomicI64>,
    is_dead: Arc<AtomicBool>,
    death: Death,
    /// Told when a write that was long under way is to arrive, and when it did.
    late: Arc<(Notify, Notify)>,
}

impl Gate {
    fn new(writes: i64, death: Death) -> Self {
        Self { left: Arc::new(AtomicI64::new(writes)), is_dead: Arc::default(), death, late: Arc::default() }
    }

    /// Has a write arrive that was under way at the death.
    async fn arrive(&self) {
        if matches!(self.death, Death::Meanwhile) {
            self.late.0.notify_one();
            self.late.1.notified().await;
        }
    }

    fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::SeqCst)
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S, B> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    S::Error: Send,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let gate = self.gate.clone();
        let is_write = request.method() != Method::GET;
        let left = if is_write { gate.left.fetch_sub(1, Ordering::SeqCst) } else { i64::MAX };
        let is_last = left == 1;
        if gate.is_dead() || left < 1 || (is_last && matches!(gate.death, Death::Before)) {
            gate.is_dead.store(true, Ordering::SeqCst);
            return Box::pin(async { Err("the process is dead".into()) });
        }
        let answer = self.inner.call(request);
        if is_last && matches!(gate.death, Death::Meanwhile) {
            gate.is_dead.store(true, Ordering::SeqCst);
            tokio::spawn(async move {
                gate.late.0.notified().await;
                drop(answer.await);
                gate.late.1.notify_one();
            });
            return Box::pin(async { Err("the process is dead".into()) });
        }
        Box::pin(async move {
            let answer = answer.await;
            if is_last {
                gate.is_dead.store(true, Ordering::SeqCst);
                return Err("the process is dead".into());
            }
            answer.map_err(Into::into)
        })
    }
}

/// An operator that leads, whatever others do.
struct Replica {
    context: Context,
    memory: Memory,
    gate: Gate,
    _watches: JoinSet<()>,
}

impl Replica {
    async fn start(config: &Config, leadership: &Leadership, gate: Gate) -> Self {
        let plain = Client::try_from(config.clone()).unwrap();
        let gated = ClientBuilder::try_from(config.clone()).unwrap().with_layer(&gate).build();
        let mut watches = JoinSet::new();
        let caches = Caches::watch(&plain, &Arc::new(Notify::new()), &mut watches);
        caches.filled().await;
        let cluster = Writer::new(&gated, "towpath-system", leadership.clone(), Arc::new(Metrics::default()));
        let policies = watch::channel(Report::default()).1;
        let context =
            Context { caches, cluster, herald: Herald::new(plain, "test"), policies, control: Arc::default() };
        Self { context, memory: Memory::default(), gate, _watches: watches }
    }

    /// One pass; what came of it is of no interest but where it is a mistake.
    async fn pass(&mut self) {
        if self.gate.is_dead() {
            return;
        }
        if let Err(error) = reconcile(&self.context, &mut self.memory).await {
            assert!(error.is_conflict() || passes(&error) || self.gate.is_dead(), "{error}");
        }
    }
}

/// Looks at every state of every `NodeNetwork` that etcd ever had.
async fn watch_for_sharing(client: Client) {
    let mut held: BTreeMap<String, Vec<IpNet>> = BTreeMap::new();
    let events = watcher(Api::<NodeNetwork>::all(client), watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        // Begun anew, for all of them or from where it ended.
        let Ok(event) = event else { continue };
        match event {
            watcher::Event::Init => held.clear(),
            watcher::Event::InitDone => {}
            watcher::Event::Delete(part) => drop(held.remove(&part.name_any())),
            watcher::Event::Apply(part) | watcher::Event::InitApply(part) => {
                let drained = part.status.iter().flat_map(|status| &status.drained);
                let all = part.spec.pod_cidrs.iter().chain(drained).map(|text| text.parse().unwrap()).collect();
                held.insert(part.name_any(), all);
                for (name, cidrs) in held.iter().filter(|(name, _)| **name != part.name_any()) {
                    let twice = held[&part.name_any()].iter().find(|c| cidrs.iter().any(|other| overlap(c, other)));
                    assert!(twice.is_none(), "{twice:?} is of {name} and of {}", part.name_any());
                }
            }
        }
    }
}

/// A leadership that others have too, by a lease of its own.
async fn leadership(cluster: &Cluster, namespace: &str, end: &watch::Receiver<bool>) -> Leadership {
    let leases = Api::namespaced(cluster.client.clone(), namespace);
    let (candidate, leadership) = Candidate::new(leases, namespace, Arc::default());
    tokio::spawn(candidate.campaign(end.clone()));
    wait_to_lead(&leadership).await;
    leadership
}

/// What all runs have in common.
struct Stage<'a> {
    cluster: &'a Cluster,
    config: Config,
    leaderships: [Leadership; 2],
}

impl Stage<'_> {
    /// Two nodes share blocks that change hands, while the first operator dies after so many writes and is started
    /// again; answers whether it did. When it dies a third node comes, which is given something before all others.
    async fn play(&self, writes: i64, death: Death) -> bool {
        self.clear().await;
        for n in 1..=2 {
            self.cluster.add_node(&format!("n{n}"), &[&format!("172.30.0.{n}")]).await;
        }
        let gate = Gate::new(writes, death);
        let [first, second] = &self.leaderships;
        let mut mortal = Replica::start(&self.config, first, gate.clone()).await;
        let mut other = Replica::start(&self.config, second, Gate::new(i64::MAX, death)).await;
        let mut agents = ["n0", "n1", "n2"].map(|name| Agent::new(&self.cluster.client, name));
        for demands in [[0, 1, 1], [0, 14, 1], [0, 1, 14], [0, 0, 0]] {
            let begun = Instant::now();
            agents.iter_mut().zip(demands).for_each(|(agent, demand)| agent.demand = demand);
            loop {
                if mortal.gate.is_dead() {
                    self.third_comes(&mut other).await;
                    gate.arrive().await;
                    mortal = Replica::start(&self.config, first, Gate::new(i64::MAX, death)).await;
                }
                let [zero, one, two] = &mut agents;
                let (.., none, waiting, also) =
                    tokio::join!(mortal.pass(), other.pass(), zero.look(), one.look(), two.look());
                if none + waiting + also == 0 && self.is_at_rest(demands).await {
                    break;
                }
                assert!(
                    begun.elapsed() < LONG,
                    "{demands:?} after {writes} writes, {death:?}: {waiting} and {also} wait"
                );
            }
        }
        gate.is_dead()
    }

    /// A third node comes, and the operator that is left gives it a block, with nothing heard from any agent.
    async fn third_comes(&self, other: &mut Replica) {
        self.cluster.add_node("n0", &["172.30.0.9"]).await;
        let parts = Api::<NodeNetwork>::all(self.cluster.client.clone());
        let begun = Instant::now();
        while parts.get_opt("n0").await.unwrap().is_none() {
            assert!(begun.elapsed() < LONG, "n0 is given nothing");
            other.pass().await;
        }
    }

    /// Whether each node has as many blocks of five pods as it needs, and none drains.
    async fn is_at_rest(&self, demands: [u64; 3]) -> bool {
        let parts = self.cluster.parts().await;
        let rests = |part: &NodeNetwork| {
            let name = part.name_any();
            let demand = demands[["n0", "n1", "n2"].iter().position(|known| *known == name).unwrap()];
            let drains = part.spec.addressing.iter().any(|addressing| addressing.draining.is_some());
            let fits = u64::try_from(part.spec.pod_cidrs.len()).unwrap() * 5 >= demand;
            let lean = demand > 1 || part.spec.pod_cidrs.len() == 1;
            let seen = part.status.as_ref().and_then(|status| status.observed_generation) == part.metadata.generation;
            !drains && fits && lean && seen
        };
        parts.len() >= 2 && parts.iter().all(rests)
    }

    async fn clear(&self) {
        let client = &self.cluster.client;
        let (nodes, parts) = (Api::<Node>::all(client.clone()), Api::<NodeNetwork>::all(client.clone()));
        let locks = Api::<ConfigMap>::namespaced(client.clone(), "towpath-system");
        for n in 0..=2 {
            let _ = nodes.delete(&format!("n{n}"), &DeleteParams::default()).await;
            let _ = parts.delete(&format!("n{n}"), &DeleteParams::default()).await;
        }
        let _ = locks.delete(NAME, &DeleteParams::default()).await;
    }
}

#[test]
fn an_operator_may_die_at_any_write_while_another_leads_too_and_no_block_is_given_twice() {
    const NAME: &str = "crash::an_operator_may_die_at_any_write_while_another_leads_too_and_no_block_is_given_twice";
    with_cluster(NAME, |cluster| async move {
        let pools = json!([{"name": "main", "cidr": "10.244.0.0/25", "blockSize": 29}]);
        cluster.server_side_apply("admin", &network(&pools), "spec").unwrap();
        let (end, ended) = watch::channel(false);
        let leaderships =
            [leadership(&cluster, "default", &ended).await, leadership(&cluster, "kube-public", &ended).await];
        let stage = Stage { config: cluster.operator_config().await, leaderships, cluster: &cluster };
        let history = tokio::spawn(watch_for_sharing(cluster.client.clone()));
        for death in [Death::Before, Death::After, Death::Meanwhile] {
            let mut writes = 1;
            while Box::pin(stage.play(writes, death)).await {
                assert!(!history.is_finished(), "the history says why");
                writes += 1;
            }
            assert!(writes > 8, "it died {writes} times only");
        }
        assert!(!history.is_finished(), "the history says why");
        history.abort();
        end.send_replace(true);
    });
}

#[test]
fn who_knows_an_old_state_of_a_node_takes_nothing_from_it() {
    with_cluster("crash::who_knows_an_old_state_of_a_node_takes_nothing_from_it", |cluster| async move {
        let pools = json!([{"name": "main", "cidr": "10.244.0.0/24", "blockSize": 29}]);
        cluster.server_side_apply("admin", &network(&pools), "spec").unwrap();
        cluster.add_node("n1", &["172.30.0.1"]).await;
        let (_end, ended) = watch::channel(false);
        let leadership = leadership(&cluster, "default", &ended).await;
        let config = cluster.operator_config().await;
        let mut replica = Replica::start(&config, &leadership, Gate::new(i64::MAX, Death::Before)).await;
        let mut agent = Agent::new(&cluster.client, "n1");
        agent.demand = 9;
        let begun = Instant::now();
        while agent.look().await > 0 {
            assert!(begun.elapsed() < LONG, "pods wait");
            replica.pass().await;
        }

        let nodes = Api::<Node>::all(cluster.client.clone()).list(&ListParams::default()).await.unwrap();
        let old = Seen {
            nodes: nodes.items.into_iter().map(Arc::new).collect(),
            node_networks: cluster.parts().await.into_iter().map(Arc::new).collect(),
            ..Seen::default()
        };
        let part = old.node_networks[0].clone();
        let mut spec = towpath_net::state::NodeSpec::try_from(&part.spec).unwrap();
        spec.addressing.draining = spec.pod_cidrs[1..].to_vec();
        agent.demand = 1;
        agent.look().await;
        let specs = [(towpath_net::state::NodeName::from("n1"), spec)].into();
        let errors = loop {
            wait_to_lead(&leadership).await;
            let errors = publish(&replica.context.cluster, &old, &specs).await;
            if !errors.iter().any(passes) {
                break errors;
            }
        };
        assert!(!errors.is_empty() && errors.iter().all(Error::is_conflict), "{errors:?}");
        assert_eq!(cluster.parts().await[0].spec, part.spec);
    });
}
