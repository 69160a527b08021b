//! Profiles: what the policies that select a pod come to.

use std::sync::Arc;

use fnv::FnvHashMap;

use super::Compiler;
use super::hash::first_8_bytes;
use super::ids::{AtomId, ClassId, ProfileNo, RecipeId, SetNo, Slab};
use super::pods::PortSym;
use super::policies::{Body, Policy};
use crate::policy::bundle::{Allow, Direction, Isolation, Ordered, Peers, Ports, Profile as Told, ProfileId, SetId};
use crate::policy::input::{Action, Key};

/// All profiles, and what they are made of.
#[derive(Debug, Default)]
pub struct Profiles {
    pub recipes: Slab<RecipeId, Recipe>,
    recipe_ids: FnvHashMap<Arc<Ingredients>, RecipeId>,
    pub all: Slab<ProfileNo, Profile>,
    names: FnvHashMap<ProfileId, ProfileNo>,
    idle_recipes: Vec<RecipeId>,
    idle: Vec<ProfileNo>,
}

/// What decides about a profile, and which it is.
#[derive(Debug, Default)]
pub struct Recipe {
    of: Arc<Ingredients>,
    pub profile: ProfileNo,
    users: u32,
}

/// What decides about a profile.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
pub struct Ingredients {
    /// The selectors of policies, sorted, each with the version of what its policies are.
    pub atoms: Box<[(AtomId, u64)]>,
    /// The pod's own ports, where a policy has names for them.
    pub ports: Box<[PortSym]>,
}

/// A profile.
#[derive(Debug, Default)]
pub struct Profile {
    pub id: ProfileId,
    content: [Side; 2],
    /// Those that it names, sorted.
    pub sets: Box<[SetNo]>,
    users: u32,
}

/// One direction of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Side {
    pub admin: Box<[Step]>,
    pub isolated: Option<Closed>,
    pub baseline: Box<[Step]>,
}

/// A rule of a `ClusterNetworkPolicy`.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub policy: Arc<str>,
    pub action: Action,
    pub ports: Box<[Ports]>,
    pub peers: Far,
}

/// What `NetworkPolicy`s close, and open again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Closed {
    pub policies: Box<[Arc<Key>]>,
    pub allows: Box<[(Ports, Far)]>,
}

/// The other side: who is in these sets, in the order of their names; everyone where this is nothing.
pub type Far = Option<Box<[SetNo]>>;

impl Profiles {
    pub fn hold_recipe(&mut self, id: RecipeId) {
        self.recipes[id].users += 1;
    }

    pub fn release_recipe(&mut self, id: RecipeId) {
        self.recipes[id].users -= 1;
        if self.recipes[id].users == 0 {
            self.idle_recipes.push(id);
        }
    }
}

impl Side {
    fn sets(&self) -> impl Iterator<Item = SetNo> {
        let steps = self.admin.iter().chain(&self.baseline).map(|step| &step.peers);
        let allows = self.isolated.iter().flat_map(|closed| &closed.allows).map(|(_, peers)| peers);
        steps.chain(allows).flatten().flatten().copied()
    }
}

impl Compiler {
    /// What all policies that select a class come to; nothing where there are none.
    pub(super) fn recipe(&mut self, class: ClassId) -> Option<RecipeId> {
        let class = &self.pods.classes[class];
        let selecting = class.atoms.iter().filter(|atom| !self.atoms.all[**atom].policies.is_empty());
        let atoms: Box<[(AtomId, u64)]> = selecting.map(|atom| (*atom, self.atoms.all[*atom].version)).collect();
        if atoms.is_empty() {
            return None;
        }
        let is_named = atoms.iter().any(|(atom, _)| self.atoms.all[*atom].naming > 0);
        let ports = if is_named { class.traits.ports.clone() } else { Box::default() };
        let ingredients = Ingredients { atoms, ports };
        if let Some(id) = self.profiles.recipe_ids.get(&ingredients) {
            return Some(*id);
        }
        let profile = self.profile(&ingredients);
        self.profiles.all[profile].users += 1;
        let of = Arc::new(ingredients);
        let id = self.profiles.recipes.insert(Recipe { of: Arc::clone(&of), profile, users: 0 });
        self.profiles.recipe_ids.insert(of, id);
        self.profiles.idle_recipes.push(id);
        Some(id)
    }

    /// In the order in which they are looked at and listed.
    pub(super) fn ordered(&self, ingredients: &Ingredients) -> Vec<Arc<Policy>> {
        let ids = ingredients.atoms.iter().flat_map(|(atom, _)| self.atoms.all[*atom].policies.iter());
        let mut policies: Vec<Arc<Policy>> = ids.filter_map(|id| self.policies.all[id].clone()).collect();
        policies.sort_by(|one, other| match (&one.body, &other.body) {
            (Body::Network { key, .. }, Body::Network { key: other, .. }) => key.cmp(other),
            (Body::Cluster { priority, name, .. }, Body::Cluster { priority: then, name: other, .. }) => {
                (priority, name).cmp(&(then, other))
            }
            (Body::Network { .. }, Body::Cluster { .. }) => std::cmp::Ordering::Less,
            (Body::Cluster { .. }, Body::Network { .. }) => std::cmp::Ordering::Greater,
        });
        policies
    }

    fn profile(&mut self, ingredients: &Ingredients) -> ProfileNo {
        let content = self.content(ingredients);
        let mut bytes = self.encode(&content);
        loop {
            let id = ProfileId(first_8_bytes(&bytes));
            match self.profiles.names.get(&id) {
                Some(number) if self.profiles.all[*number].content == content => return *number,
                // Two contents of one name: the later one gets another.
                Some(_) => bytes.push(0),
                None => return self.add_profile(id, content),
            }
        }
    }

    fn add_profile(&mut self, id: ProfileId, content: [Side; 2]) -> ProfileNo {
        let mut sets: Vec<SetNo> = content.iter().flat_map(Side::sets).collect();
        sets.sort_unstable();
        sets.dedup();
        for set in &sets {
            self.sets.hold(*set);
        }
        let number = self.profiles.all.insert(Profile { id, content, sets: sets.into(), users: 0 });
        self.profiles.names.insert(id, number);
        number
    }

    /// Drops what no pod has any more, and the profiles that were only for that.
    pub(super) fn drop_idle_profiles(&mut self) {
        for id in std::mem::take(&mut self.profiles.idle_recipes) {
            let is_there = self.profiles.recipe_ids.get(&self.profiles.recipes[id].of) == Some(&id);
            if self.profiles.recipes[id].users > 0 || !is_there {
                continue;
            }
            let recipe = self.profiles.recipes.remove(id);
            self.profiles.recipe_ids.remove(&recipe.of);
            let profile = &mut self.profiles.all[recipe.profile];
            profile.users -= 1;
            if profile.users == 0 {
                self.profiles.idle.push(recipe.profile);
            }
        }
        for id in std::mem::take(&mut self.profiles.idle) {
            let is_there = self.profiles.names.get(&self.profiles.all[id].id) == Some(&id);
            if self.profiles.all[id].users > 0 || !is_there {
                continue;
            }
            let profile = self.profiles.all.remove(id);
            self.profiles.names.remove(&profile.id);
            for set in &profile.sets {
                self.sets.release(*set);
            }
        }
    }

    /// The profile as a node is told of it.
    pub(super) fn told_profile(&self, number: ProfileNo) -> Told {
        let [ingress, egress] = &self.profiles.all[number].content;
        Told { ingress: self.told_side(ingress), egress: self.told_side(egress) }
    }

    fn told_side(&self, side: &Side) -> Direction {
        let steps = |steps: &[Step]| steps.iter().map(|step| self.told_step(step)).collect();
        Direction {
            admin: steps(&side.admin),
            isolated: side.isolated.as_ref().map(|closed| Isolation {
                policies: closed.policies.iter().map(|key| Key::clone(key)).collect(),
                allows: closed
                    .allows
                    .iter()
                    .map(|(ports, peers)| Allow { ports: *ports, peers: self.told_peers(peers) })
                    .collect(),
            }),
            baseline: steps(&side.baseline),
        }
    }

    fn told_step(&self, step: &Step) -> Ordered {
        Ordered {
            policy: step.policy.to_string(),
            action: step.action,
            ports: step.ports.to_vec(),
            peers: self.told_peers(&step.peers),
        }
    }

    fn told_peers(&self, peers: &Far) -> Peers {
        match peers {
            None => Peers::Anyone,
            Some(sets) => Peers::In(sets.iter().map(|set| self.set_id(*set)).collect()),
        }
    }

    pub(super) fn set_id(&self, set: SetNo) -> SetId {
        self.sets.all[set].id
    }

    fn encode(&self, content: &[Side; 2]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        for side in content {
            self.encode_steps(&mut bytes, &side.admin);
            bytes.push(u8::from(side.isolated.is_some()));
            if let Some(closed) = &side.isolated {
                put_number(&mut bytes, closed.policies.len());
                for text in closed.policies.iter().flat_map(|key| [&key.namespace, &key.name]) {
                    put_text(&mut bytes, text);
                }
                put_number(&mut bytes, closed.allows.len());
                for (ports, peers) in &closed.allows {
                    put_ports(&mut bytes, *ports);
                    self.encode_peers(&mut bytes, peers);
                }
            }
            self.encode_steps(&mut bytes, &side.baseline);
        }
        bytes
    }

    fn encode_steps(&self, bytes: &mut Vec<u8>, steps: &[Step]) {
        put_number(bytes, steps.len());
        for step in steps {
            put_text(bytes, &step.policy);
            bytes.push(match step.action {
                Action::Accept => 0,
                Action::Deny => 1,
                Action::Pass => 2,
            });
            put_number(bytes, step.ports.len());
            for ports in &step.ports {
                put_ports(bytes, *ports);
            }
            self.encode_peers(bytes, &step.peers);
        }
    }

    fn encode_peers(&self, bytes: &mut Vec<u8>, peers: &Far) {
        bytes.push(u8::from(peers.is_some()));
        let sets = peers.as_deref().unwrap_or_default();
        put_number(bytes, sets.len());
        for set in sets {
            bytes.extend(self.set_id(*set).0.to_be_bytes());
        }
    }
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    bytes.extend((number as u64).to_be_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len());
    bytes.extend(text.as_bytes());
}

fn put_ports(bytes: &mut Vec<u8>, ports: Ports) {
    let (tag, protocol, first, last) = match ports {
        Ports::Any => (0, 0, 0, 0),
        Ports::All(protocol) => (1, protocol.number(), 0, 0),
        Ports::Range(protocol, first, last) => (2, protocol.number(), first, last),
        Ports::OfPeer => (3, 0, 0, 0),
    };
    bytes.extend([tag, protocol]);
    bytes.extend(first.to_be_bytes());
    bytes.extend(last.to_be_bytes());
}
