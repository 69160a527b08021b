//! From what a pod may do to chains of rules.
//!
//! ```text
//! forward, input --> from-pod --address of the pod--> egress-v4-PROFILE --protocol and port--> to-v4-SETS --> denied-egress-v4
//! forward ---------> to-pod ---address of the pod--> ingress-v4-PROFILE --protocol and port--> from-v4-SETS --> denied-ingress-v4
//! ```
//!
//! Behind the maps of addresses everything is a `goto`, so that `return` leads back to the base chain: this direction lets
//! the packet through, and the other one is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher;

use super::bundle::{Allow, Direction, Isolation, Ordered, Peers, Ports, ProfileId, SetId};
use super::input::{Action, Key};
use super::objects::{GateId, Kind, Object, Way, common_set, denied, set_key};
use super::program::Error;
use crate::family::Family;
use crate::lease::Protocol;
use crate::nft::Rule;
use crate::nft::build::{Either, RuleBuilder, Side};

/// How many rules for single ports stand in a chain by themselves: with more, a map leads to where each goes on.
const FEW_PORTS: usize = 2;
/// How much of a comment is taken by names of policies: the kernel takes 127 bytes.
const COMMENT: usize = 100;

/// A chain that others lead to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Its name.
    pub name: String,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What becomes of packets by an element of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// This direction lets them through.
    Return,
    /// They go on in the chain of this name.
    Goto(Object),
}

/// A map from `protocol . port` to what becomes of packets; it is called like the chain that looks into it.
pub type PortMap = BTreeMap<(Protocol, u16), Verdict>;

/// What one direction of a profile is in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rendered {
    /// Its chains, the one where packets come in last.
    pub chains: Vec<Inner>,
    /// The map of its ports and the name of the map, where it has one.
    pub ports: Option<(String, PortMap)>,
    /// What it leads to, with what that looks at.
    pub gates: BTreeMap<Object, Vec<Object>>,
    /// The sets that its own rules look into.
    pub sets: BTreeSet<Object>,
}

/// Which kind of members a set has, if it is known.
pub type Kinds<'a> = dyn Fn(SetId) -> Option<Kind> + 'a;

/// Where a rule leads.
#[derive(Clone, Debug)]
enum End {
    Return,
    Deny,
    /// The same for rules that are known by their policies: it is counted.
    CountedReturn,
    CountedDeny,
    Goto(String),
}

struct Renderer<'a> {
    object: Object,
    profile: ProfileId,
    way: Way,
    family: Family,
    kinds: &'a Kinds<'a>,
    rules: Vec<Rule>,
    out: Rendered,
}

/// Renders one direction of a profile for packets of one family.
pub fn profile(
    id: ProfileId,
    way: Way,
    family: Family,
    direction: &Direction,
    kinds: &Kinds<'_>,
) -> Result<Rendered, Error> {
    let object = Object::Profile { id, way, family };
    let (rules, out) = (Vec::new(), Rendered::default());
    let mut to = Renderer { object, profile: id, way, family, kinds, rules, out };
    let is_split = direction.admin.iter().any(|rule| rule.action == Action::Pass);
    let behind = direction.isolated.is_some() || !direction.baseline.is_empty();
    let passed = if behind { End::Goto(object.behind_admin()) } else { End::Return };
    to.ordered(&direction.admin, &passed)?;
    if is_split && behind {
        to.rules.push(RuleBuilder::either("").go_to(object.behind_admin()).done());
        let admin = std::mem::take(&mut to.rules);
        to.behind_admin(direction, object.behind_admin())?;
        to.out.chains.push(Inner { name: object.behind_admin(), rules: std::mem::replace(&mut to.rules, admin) });
    } else {
        to.behind_admin(direction, object.to_string())?;
    }
    to.out.chains.push(Inner { name: object.to_string(), rules: to.rules });
    Ok(to.out)
}

/// The rules of a chain that goes back for who is in any of these sets.
pub fn gate(way: Way, family: Family, sets: &[Object]) -> Vec<Rule> {
    let back = |set: &Object| member_of(RuleBuilder::new(family, comment_of(*set)), way, *set).go_back().done();
    let deny = RuleBuilder::either("").go_to(denied(way, family)).done();
    sets.iter().map(back).chain([deny]).collect()
}

impl Renderer<'_> {
    fn end<F>(&self, rule: RuleBuilder<F>, end: &End) -> Rule {
        match end {
            End::Return => rule.go_back().done(),
            End::Deny => rule.go_to(denied(self.way, self.family)).done(),
            End::CountedReturn => rule.count().go_back().done(),
            End::CountedDeny => rule.count().go_to(denied(self.way, self.family)).done(),
            End::Goto(chain) => rule.go_to(chain.clone()).done(),
        }
    }

    fn behind_admin(&mut self, direction: &Direction, chain: String) -> Result<(), Error> {
        match &direction.isolated {
            Some(isolation) => self.isolated(isolation, chain),
            // What a baseline rule passes is left to the default, which is to let through.
            None => self.ordered(&direction.baseline, &End::Return),
        }
    }

    fn ordered(&mut self, rules: &[Ordered], passed: &End) -> Result<(), Error> {
        for rule in rules {
            let end = match rule.action {
                Action::Accept => &End::CountedReturn,
                Action::Deny => &End::CountedDeny,
                Action::Pass => passed,
            };
            for ports in &rule.ports {
                self.matching(*ports, &rule.peers, &shortened(&rule.policy), end)?;
            }
        }
        Ok(())
    }

    fn isolated(&mut self, isolation: &Isolation, chain: String) -> Result<(), Error> {
        let mut single: BTreeMap<(Protocol, u16), Peers> = BTreeMap::new();
        let mut others: Vec<&Allow> = Vec::new();
        for allow in &isolation.allows {
            match allow.ports {
                Ports::Range(protocol, first, last) if first == last => {
                    join(single.entry((protocol, first)).or_insert(Peers::In(Vec::new())), &allow.peers);
                }
                _ => others.push(allow),
            }
        }
        // What needs no look at ports first.
        others.sort_by_key(|allow| allow.ports != Ports::Any);
        for allow in others {
            self.matching(allow.ports, &allow.peers, "", &End::Return)?;
        }
        if single.len() <= FEW_PORTS {
            for ((protocol, port), peers) in single {
                self.matching(Ports::Range(protocol, port, port), &peers, "", &End::Return)?;
            }
        } else {
            self.by_port(single, chain)?;
        }
        let why = names(&isolation.policies);
        self.rules.push(self.end(RuleBuilder::either(why), &End::Deny));
        Ok(())
    }

    fn by_port(&mut self, single: BTreeMap<(Protocol, u16), Peers>, map: String) -> Result<(), Error> {
        let mut elements = PortMap::new();
        for (port, peers) in single {
            elements.insert(port, self.gate_of(&peers)?);
        }
        self.rules.push(RuleBuilder::either("").verdict_of_port(&map).done());
        self.out.ports = Some((map, elements));
        Ok(())
    }

    /// Where packets of these peers go on.
    fn gate_of(&mut self, peers: &Peers) -> Result<Verdict, Error> {
        let Peers::In(ids) = peers else { return Ok(Verdict::Return) };
        let sets = ids.iter().map(|id| self.set(*id, false)).collect::<Result<Vec<_>, _>>()?;
        let gate = Object::Gate { id: gate_id(ids), way: self.way, family: self.family };
        self.out.gates.insert(gate, sets);
        Ok(Verdict::Goto(gate))
    }

    /// Adds rules for packets to these ports, from or to these peers.
    fn matching(&mut self, ports: Ports, peers: &Peers, comment: &str, end: &End) -> Result<(), Error> {
        match peers {
            // Only a peer can say which port it means.
            Peers::Anyone if ports == Ports::OfPeer => Err(Error::Portless { profile: self.profile }),
            Peers::Anyone => {
                let rule = to_ports(RuleBuilder::either(comment), ports);
                self.rules.push(self.end(rule, end));
                Ok(())
            }
            Peers::In(ids) => ids.iter().try_for_each(|id| {
                let set = self.set(*id, ports == Ports::OfPeer)?;
                let words = [comment, &comment_of(set)];
                let words = words.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(": ");
                let rule = to_ports(RuleBuilder::either(words), ports).of_family(self.family);
                self.rules.push(self.end(member_of(rule, self.way, set), end));
                self.out.sets.insert(set);
                Ok(())
            }),
        }
    }

    fn set(&self, id: SetId, names_ports: bool) -> Result<Object, Error> {
        let kind = (self.kinds)(id).ok_or(Error::NoSet { user: self.object, set: id })?;
        if (kind == Kind::Ports) != names_ports || (names_ports && self.way == Way::Ingress) {
            return Err(Error::WrongKind { user: self.object, set: id, kind });
        }
        Ok(Object::Set { id, kind, family: self.family })
    }
}

fn to_ports(rule: RuleBuilder<Either>, ports: Ports) -> RuleBuilder<Either> {
    match ports {
        Ports::Any | Ports::OfPeer => rule,
        Ports::All(protocol) => rule.protocol(protocol.number()),
        Ports::Range(protocol, first, last) => rule.ports_between(protocol.number(), first, last),
    }
}

fn member_of(rule: RuleBuilder, way: Way, set: Object) -> RuleBuilder {
    let side = match way {
        Way::Ingress => Side::Source,
        Way::Egress => Side::Destination,
    };
    match set {
        Object::Set { id, kind: Kind::Addresses, family } => {
            rule.prefixed_address_in(&set_key(id), side, common_set(Kind::Addresses, family))
        }
        Object::Set { id, kind: Kind::Ports, family } => {
            rule.prefixed_port_in(&set_key(id), common_set(Kind::Ports, family))
        }
        named => rule.address_in(side, &named.to_string(), false),
    }
}

/// What is found by it in a listing of the common set.
fn comment_of(set: Object) -> String {
    match set {
        Object::Set { id, kind: Kind::Addresses | Kind::Ports, .. } => {
            let (high, low) = (id.0 >> 32, id.0 & u64::from(u32::MAX));
            format!("{high:#010x} . {low:#010x}")
        }
        _ => String::new(),
    }
}

fn gate_id(sets: &[SetId]) -> GateId {
    if let [one] = sets {
        return GateId(one.0);
    }
    let mut hash = fnv::FnvHasher::default();
    for set in sets {
        hash.write(&set.0.to_be_bytes());
    }
    GateId(hash.finish())
}

fn join(all: &mut Peers, more: &Peers) {
    match (all, more) {
        (Peers::In(all), Peers::In(more)) => {
            all.extend(more);
            all.sort_unstable();
            all.dedup();
        }
        (all, Peers::Anyone) => *all = Peers::Anyone,
        (Peers::Anyone, Peers::In(_)) => {}
    }
}

/// The names of as many policies as fit a comment, and how many more there are.
pub fn names(all: &[Key]) -> String {
    let mut text = String::new();
    for (at, Key { namespace, name }) in all.iter().enumerate() {
        if at > 0 && text.len() + namespace.len() + name.len() > COMMENT {
            return format!("{text} and {} more", all.len() - at);
        }
        let comma = if at == 0 { "" } else { ", " };
        text = format!("{text}{comma}{}", shortened(&format!("{namespace}/{name}")));
    }
    text
}

fn shortened(text: &str) -> String {
    text.chars().take(COMMENT).collect()
}
