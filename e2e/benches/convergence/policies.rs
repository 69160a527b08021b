//! Writing policies, by a client that keeps its connection open.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::place::OTHERS;
use crate::probe::Verdict;

/// The port of the API server inside of its own network.
const API: &str = "https://127.0.0.1:6443";
/// How many policies select each pod that others' policies are about.
const OF_EACH: usize = 10;

/// The policy of the pod that is probed.
pub fn of_probed(verdict: Verdict) -> NetworkPolicy {
    let from = match verdict {
        Verdict::Allowed => json!([{"from": [{"podSelector": {"matchLabels": {"app": "from"}}}]}]),
        Verdict::Denied => json!([]),
    };
    policy("probed", "to", &from)
}

/// One of other pods; what it says depends on the turn.
fn of_others(number: usize, turn: u32) -> NetworkPolicy {
    let pod = OTHERS[number % OTHERS.len()];
    let ingress = json!([{"from": [{"podSelector": {"matchLabels": {"app": OTHERS[0]}}}],
                          "ports": [{"protocol": "TCP", "port": 1000 + turn % 1000}]}]);
    policy(&format!("others-{number}"), pod, &ingress)
}

fn policy(name: &str, pod: &str, ingress: &Value) -> NetworkPolicy {
    let policy = json!({
        "metadata": {"name": name},
        "spec": {"podSelector": {"matchLabels": {"app": pod}}, "policyTypes": ["Ingress"], "ingress": ingress},
    });
    serde_json::from_value(policy).unwrap()
}

/// Writes, on the calling thread, which is in the network of the API server.
pub struct Writer {
    runtime: Runtime,
    api: Api<NetworkPolicy>,
}

impl Writer {
    /// One that is connected.
    pub fn open(kubeconfig: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let api = runtime.block_on(async {
            let api = Api::default_namespaced(client(kubeconfig).await);
            api.get_opt("none").await.unwrap();
            api
        });
        Self { runtime, api }
    }

    /// Makes a policy, or takes its place.
    pub fn make(&self, policy: &NetworkPolicy) {
        let name = policy.name_any();
        self.runtime.block_on(async {
            if self.api.get_opt(&name).await.unwrap().is_some() {
                return self.replace_one(policy).await;
            }
            self.api.create(&PostParams::default(), policy).await.unwrap();
        });
    }

    /// Takes the place of a policy.
    pub fn replace(&self, policy: &NetworkPolicy) {
        self.runtime.block_on(self.replace_one(policy));
    }

    /// Removes a policy.
    pub fn remove(&self, name: &str) {
        self.runtime.block_on(self.api.delete(name, &kube::api::DeleteParams::default())).unwrap();
    }

    async fn replace_one(&self, policy: &NetworkPolicy) {
        replace(&self.api, policy).await;
    }
}

async fn client(kubeconfig: &Path) -> Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
    config.cluster_url = API.parse().unwrap();
    Client::try_from(config).unwrap()
}

async fn replace(api: &Api<NetworkPolicy>, policy: &NetworkPolicy) {
    api.replace(&policy.name_any(), &PostParams::default(), policy).await.unwrap();
}

/// Changes other policies, so many a second, until it is to stop; the calling thread is in the network of the API server.
/// Returns how many a second it came to.
pub fn change_others(kubeconfig: &Path, rate: u32, changed: &Arc<AtomicU32>, stop: &AtomicBool) -> f64 {
    let writer = Writer::open(kubeconfig);
    let count = OF_EACH * OTHERS.len();
    for number in 0..count {
        writer.make(&of_others(number, 0));
    }
    let begun = Instant::now();
    writer.runtime.block_on(async {
        let mut ticks = interval(Duration::from_secs(1) / rate);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut requests = JoinSet::new();
        let mut turn = 0;
        while !stop.load(Ordering::Relaxed) {
            ticks.tick().await;
            turn += 1;
            let (api, changed) = (writer.api.clone(), Arc::clone(changed));
            requests.spawn(async move {
                replace(&api, &of_others(turn as usize % count, turn)).await;
                changed.fetch_add(1, Ordering::Relaxed);
            });
            while requests.try_join_next().is_some() {}
        }
        requests.join_all().await;
    });
    let rate = f64::from(changed.load(Ordering::Relaxed)) / begun.elapsed().as_secs_f64();
    for number in 0..count {
        writer.remove(&format!("others-{number}"));
    }
    rate
}
