//! A node agent as the operator sees one: it takes over what it is told, and reports how full its blocks are.

use std::collections::BTreeMap;

use ipnet::IpNet;
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use towpath_crds::{AGENT, NodeNetwork, NodeNetworkStatus};
use towpath_net::Family;

/// An agent and the pods of its node, which come and go when it looks.
pub struct Agent {
    api: Api<NodeNetwork>,
    name: String,
    /// How many pods there are to be.
    pub demand: u64,
    pods: BTreeMap<IpNet, u64>,
    said: Option<Value>,
}

/// What a block has room for, in these tests, where nothing is reserved.
fn room(block: IpNet) -> u64 {
    let (bits, own) = match Family::of_net(&block) {
        Family::V4 => (32, 3),
        Family::V6 => (128, 2),
    };
    (1_u64 << (bits - block.prefix_len())) - own
}

impl Agent {
    pub fn new(client: &Client, name: &str) -> Self {
        let api = Api::all(client.clone());
        Self { api, name: name.to_owned(), demand: 0, pods: BTreeMap::new(), said: None }
    }

    /// Looks once, writes what is new, and answers how many pods wait.
    pub async fn look(&mut self) -> u64 {
        let Some(part) = self.api.get_opt(&self.name).await.unwrap() else { return self.demand };
        let parse = |list: &[String]| list.iter().map(|text| text.parse().unwrap()).collect::<Vec<IpNet>>();
        let blocks = parse(&part.spec.pod_cidrs);
        let draining = part.spec.addressing.as_ref().and_then(|addressing| addressing.draining.clone());
        let draining = parse(&draining.unwrap_or_default());
        for (block, pods) in &self.pods {
            assert!(*pods == 0 || blocks.contains(block), "{block} was taken from {} with its pods", self.name);
        }
        let usable: Vec<IpNet> = blocks.iter().copied().filter(|block| !draining.contains(block)).collect();
        let waiting = self.attach(&usable);
        let empty = |list: &[IpNet]| {
            let is_empty = |block: &&IpNet| self.pods.get(*block).copied().unwrap_or_default() == 0;
            list.iter().filter(is_empty).map(ToString::to_string).collect::<Vec<_>>()
        };
        let ready = json!({
            "type": "Ready", "status": "True", "reason": "AsTold", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let status = json!({
            "observedGeneration": part.metadata.generation, "observedRevision": part.spec.revision,
            "transport": "Direct", "mtu": 1500, "conditions": [ready],
            "addresses": [self.count("IPv4", Family::V4, &usable), self.count("IPv6", Family::V6, &usable)],
            "idle": empty(&usable), "drained": empty(&draining),
        });
        self.say(&part, status).await;
        waiting
    }

    /// Pods leave the last block first, and come where there is room; answers how many found none.
    fn attach(&mut self, usable: &[IpNet]) -> u64 {
        let mut waiting = 0;
        for family in Family::ALL {
            let mut has: u64 = self.pods.iter().filter(|(b, _)| Family::of_net(b) == family).map(|(_, n)| n).sum();
            for (_, pods) in self.pods.iter_mut().rev().filter(|(block, _)| Family::of_net(block) == family) {
                let leave = has.saturating_sub(self.demand).min(*pods);
                (*pods, has) = (*pods - leave, has - leave);
            }
            let mut usable = usable.iter().filter(|block| Family::of_net(block) == family).peekable();
            let is_wanted = usable.peek().is_some();
            for block in usable {
                let pods = self.pods.entry(*block).or_default();
                let come = self.demand.saturating_sub(has).min(room(*block) - *pods);
                (*pods, has) = (*pods + come, has + come);
            }
            waiting = waiting.max(if is_wanted { self.demand.saturating_sub(has) } else { 0 });
        }
        waiting
    }

    fn count(&self, name: &str, family: Family, usable: &[IpNet]) -> Value {
        let blocks: Vec<IpNet> = usable.iter().copied().filter(|block| Family::of_net(block) == family).collect();
        let capacity: u64 = blocks.iter().map(|block| room(*block)).sum();
        let used: u64 = blocks.iter().filter_map(|block| self.pods.get(block)).sum();
        let wanted = if blocks.is_empty() { 0 } else { self.demand.saturating_sub(used) };
        json!({
            "family": name, "blocks": blocks.len(), "capacity": capacity, "used": used, "free": capacity - used,
            "wanted": wanted,
        })
    }

    /// Writes a status where it differs from the last.
    async fn say(&mut self, part: &NodeNetwork, status: Value) {
        let said = json!({"uid": part.uid(), "status": status});
        if self.said.as_ref() == Some(&said) {
            return;
        }
        let object = json!({
            "apiVersion": "towpath.dev/v1alpha1", "kind": "NodeNetwork", "metadata": {"name": self.name},
            "status": serde_json::from_value::<NodeNetworkStatus>(status).unwrap(),
        });
        let patch = Patch::Apply(object);
        match self.api.patch_status(&self.name, &PatchParams::apply(AGENT).force(), &patch).await {
            Ok(_) => self.said = Some(said),
            // It is gone, or was changed at the same time: the next look says it.
            Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
            refused => drop(refused.unwrap()),
        }
    }
}
