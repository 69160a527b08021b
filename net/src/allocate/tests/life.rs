//! Mode `Pools` through whatever can happen to a cluster, against a model of its agents.

use super::pools::{of_pools, pool};
use super::*;
use crate::facts::{Count, Report};
use crate::intent::DraftPool;

/// A node, its agent, and its pods.
#[derive(Clone, Debug, Default)]
struct Agent {
    zone: u8,
    /// What it is told.
    told: Told,
    /// What it knows of that.
    knows: Told,
    /// How many pods have an address of each block.
    pods: BTreeMap<IpNet, u64>,
    /// How many pods want to be.
    demand: u64,
    report: Report,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    blocks: Vec<IpNet>,
    draining: Vec<IpNet>,
}

impl Agent {
    fn usable(&self, family: Family) -> Vec<IpNet> {
        let is_usable = |block: &&IpNet| Family::of_net(block) == family && !self.knows.draining.contains(block);
        self.knows.blocks.iter().filter(is_usable).copied().collect()
    }

    /// The CNI binary at work: pods come and go; answers how many of a family found no address.
    fn attach(&mut self, family: Family) -> u64 {
        let is_of_it = |(block, _): &(&IpNet, &mut u64)| Family::of_net(block) == family;
        let mut has: u64 = self.pods.iter_mut().filter(is_of_it).map(|(_, pods)| *pods).sum();
        for (_, pods) in self.pods.iter_mut().rev().filter(is_of_it) {
            let leave = has.saturating_sub(self.demand).min(*pods);
            (*pods, has) = (*pods - leave, has - leave);
        }
        for block in self.usable(family) {
            let pods = self.pods.entry(block).or_default();
            let come = self.demand.saturating_sub(has).min(ROOM - *pods);
            (*pods, has) = (*pods + come, has + come);
        }
        self.demand.saturating_sub(has)
    }

    /// The agent at work: it takes over what it is told, and reports.
    fn look(&mut self) {
        self.knows = self.told.clone();
        let mut counts = crate::family::PerFamily::default();
        for family in Family::ALL {
            let wanted = self.attach(family);
            let usable = self.usable(family);
            let capacity = ROOM * u64::try_from(usable.len()).unwrap();
            let used: u64 = usable.iter().map(|block| self.pods_of(block)).sum();
            *counts.get_mut(family) = Some(Count { capacity, free: capacity - used, wanted });
        }
        let empty = |list: &[IpNet]| list.iter().filter(|b| self.pods_of(b) == 0).copied().collect::<Vec<_>>();
        let drained = empty(&self.knows.draining);
        let idle = empty(&self.knows.blocks);
        self.report = Report { current: true, counts, idle, drained };
    }

    fn pods_of(&self, block: &IpNet) -> u64 {
        self.pods.get(block).copied().unwrap_or_default()
    }
}

/// Pods that find an address in a block of this model: of /29 and /125.
const ROOM: u64 = 5;

#[derive(Clone, Debug)]
struct World {
    pools: Vec<DraftPool>,
    agents: BTreeMap<NodeName, Agent>,
    held: Vec<HeldCidrs>,
}

/// What can happen.
#[derive(Clone, Debug)]
enum Step {
    Come(u8),
    Go(u8),
    Forget,
    Demand(u8, u64),
    Attach(u8),
    Look(u8),
    Pass,
    Toggle(usize),
    Relabel(u8, u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0_u8..6).prop_map(Step::Come),
        1 => (0_u8..6).prop_map(Step::Go),
        1 => Just(Step::Forget),
        4 => (0_u8..6, 0_u64..40).prop_map(|(n, pods)| Step::Demand(n, pods)),
        2 => (0_u8..6).prop_map(Step::Attach),
        8 => (0_u8..6).prop_map(Step::Look),
        8 => Just(Step::Pass),
        1 => (0_usize..4).prop_map(Step::Toggle),
        1 => (0_u8..6, 0_u8..2).prop_map(|(n, zone)| Step::Relabel(n, zone)),
    ];
    prop::collection::vec(step, 1..80)
}

impl World {
    fn new() -> Self {
        let pools = vec![
            pool("a", "10.1.0.0/24", 29, Some("0")),
            pool("rest", "10.2.0.0/24", 29, None),
            pool("a6", "fd00:1::/120", 125, Some("0")),
            pool("rest6", "fd00:2::/120", 125, None),
        ];
        Self { pools, agents: BTreeMap::new(), held: Vec::new() }
    }

    fn facts(&self) -> Facts {
        let node = |agent: &Agent| NodeFacts {
            labels: [("zone".to_owned(), agent.zone.to_string())].into(),
            existing: agent.told.blocks.clone(),
            draining: agent.told.draining.clone(),
            report: agent.report.clone(),
            ..NodeFacts::default()
        };
        let nodes = self.agents.iter().map(|(name, agent)| (name.clone(), node(agent))).collect();
        Facts { nodes, held: self.held.clone(), ..Facts::default() }
    }

    fn serves(&self, agent: &Agent, family: Family) -> bool {
        let zone = agent.zone.to_string();
        let serves = |pool: &DraftPool| !pool.disabled && pool.selector.labels.get("zone").is_none_or(|z| *z == zone);
        self.pools.iter().any(|pool| serves(pool) && pool.cidr.contains(':') == (family == Family::V6))
    }

    fn agent(&mut self, n: u8) -> Option<&mut Agent> {
        self.agents.get_mut(format!("n{n}").as_str())
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Come(n) => {
                let fresh = Agent { zone: n % 2, ..Agent::default() };
                self.agents.entry(NodeName(format!("n{n}"))).or_insert(fresh);
            }
            Step::Go(n) => {
                let by = NodeName(format!("n{n}"));
                if let Some(agent) = self.agents.remove(&by) {
                    let cidrs = agent.told.blocks.into_iter().chain(agent.knows.blocks).collect();
                    self.held.push(HeldCidrs { by, cidrs });
                }
            }
            Step::Forget => self.held.clear(),
            Step::Demand(n, pods) => self.agent(n).into_iter().for_each(|agent| agent.demand = pods),
            Step::Attach(n) => {
                if let Some(agent) = self.agent(n) {
                    agent.attach(Family::V4);
                    agent.attach(Family::V6);
                }
            }
            Step::Look(n) => self.agent(n).into_iter().for_each(Agent::look),
            Step::Toggle(index) => self.pools[index].disabled = !self.pools[index].disabled,
            Step::Relabel(n, zone) => self.agent(n).into_iter().for_each(|agent| agent.zone = zone),
            Step::Pass => {}
        }
    }

    /// The operator at work; answers whether it changed anything.
    fn pass(&mut self) -> Result<bool, TestCaseError> {
        let given = allocate(&of_pools(self.pools.clone()), &self.facts());
        let mut changed = false;
        for (name, agent) in &mut self.agents {
            let Some(blocks) = given.blocks.get(name) else { continue };
            let told = Told { blocks: blocks.clone(), draining: given.addressing[name].draining.clone() };
            for lost in agent.told.blocks.iter().filter(|block| !told.blocks.contains(block)) {
                prop_assert_eq!(agent.pods_of(lost), 0, "{} is taken from {} with its pods", lost, name);
                prop_assert!(agent.told.draining.contains(lost) && agent.report.drained.contains(lost));
            }
            prop_assert!(told.draining.iter().all(|block| told.blocks.contains(block)));
            if told != agent.told {
                (agent.told, agent.report.current, changed) = (told, false, true);
            }
        }
        Ok(changed)
    }

    /// No address is of two blocks, be they told, known, used, or held.
    fn disjoint(&self) -> Result<(), TestCaseError> {
        let used = |agent: &Agent| agent.pods.iter().filter(|(_, n)| **n > 0).map(|(b, _)| *b).collect::<Vec<_>>();
        let all_of = |agent: &Agent| {
            [agent.told.blocks.clone(), agent.knows.blocks.clone(), used(agent)].concat().into_iter().collect()
        };
        let mut all: Vec<BTreeSet<IpNet>> = self.agents.values().map(all_of).collect();
        all.extend(self.held.iter().map(|held| held.cidrs.iter().copied().collect()));
        let flat: Vec<IpNet> = all.into_iter().flatten().collect();
        for (index, one) in flat.iter().enumerate() {
            prop_assert!(flat[..index].iter().all(|other| !overlap(one, other)), "{} is somebody else's too", one);
        }
        Ok(())
    }

    /// Every agent looks and the operator passes until nothing changes any more; answers what is wrong then.
    fn come_to_rest(&mut self) -> Result<Allocations, TestCaseError> {
        for _ in 0..30 {
            self.agents.values_mut().for_each(Agent::look);
            let changed = self.pass()?;
            self.disjoint()?;
            if !changed {
                return Ok(allocate(&of_pools(self.pools.clone()), &self.facts()));
            }
        }
        Err(TestCaseError::fail("it does not come to rest"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_block_is_given_twice_or_taken_with_its_pods_and_everything_comes_to_rest(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            if matches!(step, Step::Pass) {
                // What is new to the agents may take another pass, and one more to let go of what was replaced.
                let passes = (0..4).map(|_| world.pass()).collect::<Result<Vec<bool>, _>>()?;
                prop_assert!(!passes[3], "without news from the agents there is always something to do");
            }
            world.disjoint()?;
        }
        let rest = world.come_to_rest()?;
        for (name, agent) in &world.agents {
            let served = |family| world.serves(agent, family);
            let waits = |family: Family| agent.report.counts.get(family).is_some_and(|count| count.wanted > 0);
            let waits = Family::ALL.into_iter().any(|family| served(family) && waits(family));
            prop_assert!(!waits || rest.findings.contains_key(name), "{} waits, and nobody says why: {:?}", name, agent);
        }
    }
}
