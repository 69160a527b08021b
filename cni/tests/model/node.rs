//! A node with real pods and the real binary, which is killed at any system call.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};
use towpath_kernel::release::Sight;
use towpath_net::lease::host_interface;
use towpath_net::state::Attachment;

use crate::chance::Chance;
use crate::ground::{Ground, Verb, netns, remove_netns, wait_for_links};
use crate::pools::{ALL, Pools};
use crate::support::{Call, config, config_with_ports, node_of, table, write_node_json};

/// How many pods there are, attached or not.
const PODS: usize = 12;
/// No verb makes many more system calls than this.
const CALLS: usize = 260;
/// How many operations go by before everything is compared.
const LOOK: usize = 40;

/// What the model knows of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pod {
    /// It is not attached.
    Detached,
    /// It is, and this was returned.
    Attached(Value),
    /// Somebody died over it.
    Unknown,
}

struct Model {
    chance: Chance,
    pools: Pools,
    pods: Vec<Pod>,
    ground: Ground,
    before: BTreeSet<String>,
}

/// Runs a model in this namespace.
pub fn run(operations: usize) {
    let (chance, operations) = Chance::begin(operations);
    // The bridge has the gateways of every block there may be.
    node_of(Attachment::Bridge, &ALL);
    table();
    let mut ground = Ground::new();
    let before = ground.traces();
    let mut model = Model { chance, pools: Pools::new(), pods: vec![Pod::Detached; PODS], ground, before };
    write_node_json(&model.pools.node_json());
    for pod in 0..PODS {
        netns(&name(pod));
    }
    for operation in 0..operations {
        let what = model.step();
        model.compare(&format!("operation {operation}, {what}"));
        if operation % LOOK == LOOK - 1 {
            model.settle(&format!("operation {operation}"));
        }
    }
    model.end();
}

fn name(pod: usize) -> String {
    format!("p{pod}")
}

fn path(pod: usize) -> String {
    format!("/run/netns/p{pod}")
}

/// Every other pod has ports, which no other pod has.
fn config_of(pod: usize) -> Value {
    if pod.is_multiple_of(2) {
        return config();
    }
    config_with_ports(&json!([{"hostPort": 8000 + pod, "containerPort": 80, "protocol": "udp"}]))
}

fn addresses(result: &Value) -> BTreeSet<IpAddr> {
    let texts = result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap());
    texts.map(|text| text.split('/').next().unwrap().parse().unwrap()).collect()
}

impl Model {
    fn step(&mut self) -> String {
        let pod = self.chance.below(PODS);
        match self.chance.below(100) {
            0..30 => self.add(pod),
            30..45 => self.delete(pod),
            45..57 => self.add_killed(pod),
            57..67 => self.delete_killed(pod),
            67..72 => self.lose_namespace(pod),
            72..77 => self.collect(),
            77..87 => self.sweep(),
            _ => self.change_pools(),
        }
    }

    fn taken(&self) -> BTreeSet<IpAddr> {
        let results =
            self.pods.iter().filter_map(|pod| if let Pod::Attached(result) = pod { Some(result) } else { None });
        results.flat_map(addresses).collect()
    }

    fn unknown(&self) -> Vec<usize> {
        (0..PODS).filter(|pod| self.pods[*pod] == Pod::Unknown).collect()
    }

    fn add(&mut self, pod: usize) -> String {
        let answer = Call::of("ADD", &name(pod), &path(pod)).config(&config_of(pod)).run();
        let what = format!("ADD {pod}");
        if answer.status == 0 {
            self.given(pod, answer.document, &what);
        } else {
            self.refused(pod, answer.document["code"].as_u64().unwrap(), &format!("{what}: {}", answer.stdout));
        }
        what
    }

    fn given(&mut self, pod: usize, result: Value, what: &str) {
        let (got, taken) = (addresses(&result), self.taken());
        for v4 in [true, false] {
            let of_family: Vec<_> = got.iter().filter(|address| address.is_ipv4() == v4).collect();
            let right = match self.pools.given(v4) {
                None => of_family.is_empty(),
                Some(may) => of_family.len() == 1 && may.contains(of_family[0]) && !taken.contains(of_family[0]),
            };
            assert!(right, "{what}: got {got:?} of {:?}, {taken:?} is taken", self.pools);
        }
        assert!(!matches!(self.pods[pod], Pod::Attached(_)), "{what}: it is attached already");
        self.pods[pod] = Pod::Attached(result);
    }

    /// Those that died may each have an address of each family.
    fn refused(&mut self, pod: usize, code: u64, what: &str) {
        let (taken, unknown) = (self.taken(), self.unknown().len());
        let right = match code {
            101 | 102 => self.pods[pod] != Pod::Detached,
            // And what may be a gateway is not given for sure.
            11 => [true, false].into_iter().any(|v4| {
                let is_given = |address: &&IpAddr| !taken.contains(*address) && !Pools::is_gateway(**address);
                self.pools.given(v4).is_some_and(|may| may.iter().filter(is_given).count() <= unknown)
            }),
            _ => false,
        };
        assert!(right, "{what}; the pod is {:?}, {:?}, {taken:?} is taken", self.pods[pod], self.pools);
    }

    fn delete(&mut self, pod: usize) -> String {
        Call::of("DEL", &name(pod), &path(pod)).config(&config_of(pod)).succeed();
        self.pods[pod] = Pod::Detached;
        format!("DEL {pod}")
    }

    fn add_killed(&mut self, pod: usize) -> String {
        let at = self.chance.below(CALLS);
        let run = Verb::of("ADD", &name(pod), &path(pod), &config_of(pod)).killed_at(at);
        let what = format!("ADD {pod} killed at {at}");
        match run.status {
            Some(0) => self.given(pod, serde_json::from_str(&run.stdout).unwrap(), &what),
            Some(_) => {
                let document: Value = serde_json::from_str(&run.stdout).unwrap();
                self.refused(pod, document["code"].as_u64().unwrap(), &format!("{what}: {document}"));
            }
            // One that was attached already was refused, or would have been.
            None if matches!(self.pods[pod], Pod::Attached(_)) => {}
            None => self.pods[pod] = Pod::Unknown,
        }
        what
    }

    fn delete_killed(&mut self, pod: usize) -> String {
        let at = self.chance.below(CALLS);
        let run = Verb::of("DEL", &name(pod), &path(pod), &config_of(pod)).killed_at(at);
        assert!(run.status.is_none_or(|status| status == 0), "{run:?}");
        self.pods[pod] = match (run.status, &self.pods[pod]) {
            (Some(_), _) | (None, Pod::Detached) => Pod::Detached,
            (None, _) => Pod::Unknown,
        };
        format!("DEL {pod} killed at {at}")
    }

    /// The pod dies, and nobody detaches it; a new one has its name.
    fn lose_namespace(&mut self, pod: usize) -> String {
        remove_netns(&name(pod));
        netns(&name(pod));
        if self.pods[pod] != Pod::Detached {
            self.pods[pod] = Pod::Unknown;
        }
        format!("the namespace of {pod} goes")
    }

    fn collect(&mut self) -> String {
        let mut config = config();
        let alive = (0..PODS).filter(|pod| matches!(self.pods[*pod], Pod::Attached(_)));
        let entry = |pod| json!({"containerID": name(pod), "ifname": "eth0"});
        config["cni.dev/valid-attachments"] = alive.map(entry).collect::<Vec<Value>>().into();
        if self.chance.once_in(2) {
            let at = self.chance.below(CALLS);
            Verb::of("GC", "", "", &config).killed_at(at);
            return format!("GC killed at {at}");
        }
        Call::new("GC").config(&config).succeed();
        "GC".to_owned()
    }

    fn sweep(&mut self) -> String {
        if self.chance.once_in(2) {
            self.ground = Ground::new();
        }
        self.ground.sweep(Sight::Own);
        "a sweep".to_owned()
    }

    fn change_pools(&mut self) -> String {
        let (store, taken) = (&self.ground.store, self.taken());
        self.pools.change(&mut self.chance, |block| {
            let drained = store.drained(block).unwrap();
            assert!(!drained || !taken.iter().any(|address| block.contains(address)), "{block} is in use");
            drained
        });
        write_node_json(&self.pools.node_json());
        "another pool".to_owned()
    }

    /// Who is attached has what ADD returned, and nobody else has it.
    fn compare(&mut self, what: &str) {
        let holders = self.ground.holders();
        for (pod, state) in self.pods.iter().enumerate() {
            let Pod::Attached(result) = state else { continue };
            for address in addresses(result) {
                assert_eq!(holders.get(&address), Some(&name(pod)), "{what}: who has {address}?");
            }
        }
    }

    /// Ends what somebody died over, by a detachment or by the loss of its namespace; then nothing is there but what is
    /// attached.
    fn settle(&mut self, what: &str) {
        for pod in self.unknown() {
            if self.chance.once_in(2) {
                self.delete(pod);
            } else {
                remove_netns(&name(pod));
            }
        }
        let attached = |model: &Self| (0..PODS).filter(|pod| matches!(model.pods[*pod], Pod::Attached(_))).collect();
        let alive: Vec<usize> = attached(self);
        wait_for_links(&alive.iter().map(|pod| host_interface(&name(*pod), "eth0")).collect());
        self.ground.sweep(Sight::Own);
        for pod in self.unknown() {
            netns(&name(pod));
            self.pods[pod] = Pod::Detached;
        }
        let expected: BTreeSet<IpAddr> = self.taken();
        assert_eq!(self.ground.holders().into_keys().collect::<BTreeSet<_>>(), expected, "{what}");
        let bridged = self.bridged();
        let routed = expected.iter().copied().filter(|address| !bridged.contains(address)).collect();
        assert_eq!(self.ground.routed().into_keys().collect::<BTreeSet<_>>(), routed, "{what}");
        for pod in alive {
            let Pod::Attached(result) = &self.pods[pod] else { continue };
            let mut config = config_of(pod);
            config["prevResult"] = result.clone();
            let answer = Call::of("CHECK", &name(pod), &path(pod)).config(&config).run();
            assert_eq!(answer.status, 0, "{what}: {pod} lost something: {answer:?}");
        }
    }

    /// The addresses of pods behind the bridge: no route leads to them.
    fn bridged(&self) -> BTreeSet<IpAddr> {
        let leases = self.ground.store.read_all().unwrap().leases;
        let behind = leases.into_iter().filter(|lease| lease.mode == Attachment::Bridge);
        behind.flat_map(|lease| lease.addresses).map(|leased| leased.address.addr()).collect()
    }

    /// Without pods there is nothing.
    fn end(&mut self) {
        for pod in 0..PODS {
            self.delete(pod);
        }
        self.ground.sweep(Sight::Own);
        self.ground.assert_traces(&self.before, "all were detached");
    }
}
