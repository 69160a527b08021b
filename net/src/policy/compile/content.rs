//! What a profile says: the rules of its policies, put together by their ports.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Compiler;
use super::blocks;
use super::ids::SetNo;
use super::pods::PortSym;
use super::policies::{Body, Others, Policy, PortSpec, Rule};
use super::profiles::{Closed, Far, Ingredients, Side, Step};
use super::sets::{Definition, PortName};
use crate::policy::bundle::Ports;
use crate::policy::input::{Action, Tier};
use crate::policy::objects::Way;

/// Who all is let through to the same ports.
#[derive(Debug, Default)]
struct Union {
    is_anyone: bool,
    others: Others,
}

impl Union {
    fn add(&mut self, peers: Option<&Others>) {
        match peers {
            None => self.is_anyone = true,
            Some(more) => {
                self.others.atoms.extend(&more.atoms);
                self.others.groups.extend(&more.groups);
                self.others.ranges.extend(&more.ranges);
            }
        }
    }
}

impl Compiler {
    /// Both directions: what comes in, and what goes out.
    pub(super) fn content(&mut self, ingredients: &Ingredients) -> [Side; 2] {
        let policies = self.ordered(ingredients);
        Way::ALL.map(|way| {
            let isolated = self.closed(&policies, way, &ingredients.ports);
            let baseline = if isolated.is_some() {
                Box::default()
            } else {
                self.steps(&policies, Tier::Baseline, way, &ingredients.ports)
            };
            Side { admin: self.steps(&policies, Tier::Admin, way, &ingredients.ports), isolated, baseline }
        })
    }

    fn closed(&mut self, policies: &[Arc<Policy>], way: Way, own: &[PortSym]) -> Option<Closed> {
        let mut keys = Vec::new();
        let mut unions: BTreeMap<PortSpec, Union> = BTreeMap::new();
        for policy in policies {
            let (Some(rules), Body::Network { key, .. }) = (policy.allows(way), &policy.body) else { continue };
            keys.push(Arc::clone(key));
            for rule in rules {
                for spec in specs(rule, way, own) {
                    unions.entry(spec).or_default().add(rule.peers.as_ref());
                }
            }
        }
        (!keys.is_empty()).then(|| Closed { policies: keys.into(), allows: self.allows(unions) })
    }

    fn allows(&mut self, unions: BTreeMap<PortSpec, Union>) -> Box<[(Ports, Far)]> {
        let open: Vec<Ports> = unions
            .iter()
            .filter_map(|(spec, union)| match spec {
                PortSpec::Plain(ports) if union.is_anyone => Some(*ports),
                _ => None,
            })
            .collect();
        let mut allows: Vec<(Ports, Far)> = Vec::with_capacity(unions.len());
        let mut of_peer: Vec<SetNo> = Vec::new();
        for (spec, union) in unions {
            // Whoever reaches it reaches more by another.
            if open.iter().any(|ports| is_part(spec, *ports)) {
                continue;
            }
            match spec {
                PortSpec::Plain(ports) if union.is_anyone => allows.push((ports, None)),
                PortSpec::Plain(ports) => {
                    let sets = self.sets_of(union.others);
                    if !sets.is_empty() {
                        allows.push((ports, Some(sets)));
                    }
                }
                PortSpec::Named(port) => of_peer.extend(self.ports_set(port, union)),
            }
        }
        if !of_peer.is_empty() {
            allows.push((Ports::OfPeer, Some(self.by_name(of_peer))));
        }
        allows.sort_by_key(|(ports, _)| *ports);
        allows.into()
    }

    fn steps(&mut self, policies: &[Arc<Policy>], tier: Tier, way: Way, own: &[PortSym]) -> Box<[Step]> {
        let mut steps = Vec::new();
        for policy in policies {
            let Body::Cluster { name, .. } = &policy.body else { continue };
            for (action, rule) in policy.steps(tier, way) {
                self.add_steps(&mut steps, name, *action, rule, &specs(rule, way, own));
            }
        }
        steps.into()
    }

    /// One for ports that the rule gives by numbers, one for those that the peers name.
    fn add_steps(&mut self, steps: &mut Vec<Step>, name: &Arc<str>, action: Action, rule: &Rule, specs: &[PortSpec]) {
        let mut plain: Vec<Ports> = Vec::with_capacity(specs.len());
        let mut of_peer: Vec<SetNo> = Vec::new();
        for spec in specs {
            match spec {
                PortSpec::Plain(ports) => plain.push(*ports),
                PortSpec::Named(port) => {
                    let mut union = Union::default();
                    union.add(rule.peers.as_ref());
                    of_peer.extend(self.ports_set(*port, union));
                }
            }
        }
        plain.sort_unstable();
        plain.dedup();
        let mut add = |ports: Vec<Ports>, peers: Far| {
            let is_nobody = peers.as_ref().is_some_and(|sets| sets.is_empty());
            if !ports.is_empty() && !is_nobody {
                steps.push(Step { policy: Arc::clone(name), action, ports: ports.into(), peers });
            }
        };
        if !plain.is_empty() {
            let peers = rule.peers.clone().map(|others| self.sets_of(others));
            add(plain, peers);
        }
        add(vec![Ports::OfPeer], Some(self.by_name(of_peer)));
    }

    /// The sets of who these are: one of addresses, one of ranges.
    fn sets_of(&mut self, others: Others) -> Box<[SetNo]> {
        let Others { atoms, mut groups, ranges } = others;
        let atoms = self.simplified(atoms);
        groups.sort_unstable();
        groups.dedup();
        let mut sets = Vec::with_capacity(2);
        if !atoms.is_empty() || !groups.is_empty() {
            sets.push(self.set(Definition::Addresses { atoms: atoms.into(), groups: groups.into() }));
        }
        let ranges = blocks::united(ranges);
        if !ranges.is_empty() {
            sets.push(self.set(Definition::Ranges(ranges.into())));
        }
        self.by_name(sets)
    }

    /// The set of the ports of a name; nothing where nobody can have one.
    fn ports_set(&mut self, port: PortName, union: Union) -> Option<SetNo> {
        let mut atoms = union.others.atoms;
        if union.is_anyone {
            atoms.push(self.everything());
        }
        let atoms = self.simplified(atoms);
        let has_all = atoms.iter().any(|atom| self.is_everything(*atom));
        let within = if has_all { Vec::new() } else { blocks::united(union.others.ranges) };
        let everything = (!within.is_empty()).then(|| self.everything());
        (!atoms.is_empty() || !within.is_empty())
            .then(|| self.set(Definition::Ports { port, atoms: atoms.into(), within: within.into(), everything }))
    }

    /// Each once; and one alone where it selects all that the others do.
    fn simplified(&self, mut atoms: Vec<super::ids::AtomId>) -> Vec<super::ids::AtomId> {
        atoms.sort_unstable();
        atoms.dedup();
        if let Some(all) = atoms.iter().find(|atom| self.is_everything(**atom)) {
            return vec![*all];
        }
        atoms
    }

    fn by_name(&self, mut sets: Vec<SetNo>) -> Box<[SetNo]> {
        sets.sort_unstable_by_key(|set| self.set_id(*set));
        sets.dedup();
        sets.into()
    }
}

/// The ports of a rule, those of names of the pod itself as numbers.
fn specs(rule: &Rule, way: Way, own: &[PortSym]) -> Vec<PortSpec> {
    let Some(specs) = &rule.ports else { return vec![PortSpec::Plain(Ports::Any)] };
    let mut resolved = Vec::with_capacity(specs.len());
    for spec in specs {
        match (spec, way) {
            (PortSpec::Named(port), Way::Ingress) => {
                let named = own.iter().filter(|(name, protocol, _)| port.names(*name, *protocol));
                resolved.extend(named.map(|(_, protocol, n)| PortSpec::Plain(Ports::Range(*protocol, *n, *n))));
            }
            (PortSpec::Plain(_), _) | (PortSpec::Named(_), Way::Egress) => resolved.push(*spec),
        }
    }
    resolved
}

/// Whether ports are others of a wider kind, and not the same.
fn is_part(spec: PortSpec, of: Ports) -> bool {
    match (spec, of) {
        (PortSpec::Plain(Ports::Any), _) => false,
        (_, Ports::Any) => true,
        (PortSpec::Plain(Ports::Range(one, ..)), Ports::All(other)) => one == other,
        (PortSpec::Named(port), Ports::All(other)) => port.protocol == Some(other),
        (PortSpec::Plain(Ports::Range(one, a, b)), Ports::Range(other, first, last)) => {
            one == other && first <= a && b <= last && (first, last) != (a, b)
        }
        _ => false,
    }
}
