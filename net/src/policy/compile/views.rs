//! What each subscribed node has been told, and what it must be told next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fnv::FnvHashMap;

use super::Compiler;
use super::ids::{ClassId, NamespaceId, NodeId, PodId, ProfileNo, SetNo};
use super::sets::Member;
use crate::policy::bundle::{AddressPort, Bundle, Delta, Members, PodPolicy, Profile, ProfileId, SetDelta, SetId};
use crate::policy::digest::Digest;
use crate::policy::input::Key;
use crate::state::NodeName;

/// What a subscribed node has, and what of that is otherwise than it was told.
#[derive(Debug, Default)]
pub struct View {
    /// How many of its pods have each profile.
    profiles: FnvHashMap<ProfileNo, u32>,
    /// How many of these profiles name each set.
    sets: FnvHashMap<SetNo, u32>,
    /// Pods that may be otherwise, by `metadata.uid`.
    pods_before: BTreeMap<Box<str>, Touched>,
    /// Whether it had been told of these.
    profiles_before: FnvHashMap<ProfileNo, bool>,
    sets_before: FnvHashMap<SetNo, bool>,
}

/// A pod that may be otherwise than it was told.
#[derive(Debug)]
struct Touched {
    was: Option<Entry>,
    now: Option<PodId>,
}

/// What is told of a pod.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    namespace: NamespaceId,
    name: Arc<str>,
    profile: Option<ProfileNo>,
    is_policed: bool,
}

/// What is told to many nodes, computed once.
#[derive(Debug, Default)]
struct Shared {
    profiles: FnvHashMap<ProfileNo, Profile>,
    sets: FnvHashMap<SetNo, Members>,
}

impl Compiler {
    pub(super) fn profile_of(&self, class: ClassId) -> Option<ProfileNo> {
        self.pods.classes[class].recipe.map(|recipe| self.profiles.recipes[recipe].profile)
    }

    fn entry(&self, id: PodId) -> Entry {
        let pod = &self.pods.all[id];
        let namespace = self.pods.classes[pod.class].traits.namespace;
        let is_policed = self.spaces.all[namespace].is_policed;
        Entry { namespace, name: Arc::clone(&pod.name), profile: self.profile_of(pod.class), is_policed }
    }

    /// Notes that a pod is on its node from now on, as it is now.
    pub(super) fn arrive(&mut self, id: PodId) {
        let pod = &self.pods.all[id];
        let (Some(node), uid, class) = (pod.node, &pod.uid, pod.class) else { return };
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        view.pods_before.entry(uid.clone()).or_insert(Touched { was: None, now: None }).now = Some(id);
        self.changed.insert(node);
        if let Some(profile) = self.profile_of(class) {
            self.grant(node, profile);
        }
    }

    /// Notes that a pod is no longer on its node, or no longer as it is now.
    pub(super) fn depart(&mut self, id: PodId) {
        let pod = &self.pods.all[id];
        let (Some(node), uid, class) = (pod.node, &pod.uid, pod.class) else { return };
        let entry = self.entry(id);
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        view.pods_before.entry(uid.clone()).or_insert(Touched { was: Some(entry), now: None }).now = None;
        self.changed.insert(node);
        if let Some(profile) = self.profile_of(class) {
            self.revoke(node, profile);
        }
    }

    fn grant(&mut self, node: NodeId, profile: ProfileNo) {
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        let pods = view.profiles.entry(profile).or_default();
        *pods += 1;
        if *pods > 1 {
            return;
        }
        view.profiles_before.entry(profile).or_insert(false);
        for set in &self.profiles.all[profile].sets {
            let profiles = view.sets.entry(*set).or_default();
            *profiles += 1;
            if *profiles == 1 {
                view.sets_before.entry(*set).or_insert(false);
                self.sets.all[*set].holders.insert(node);
            }
        }
    }

    fn revoke(&mut self, node: NodeId, profile: ProfileNo) {
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        if !lower(&mut view.profiles, profile) {
            return;
        }
        view.profiles_before.entry(profile).or_insert(true);
        for set in &self.profiles.all[profile].sets {
            if lower(&mut view.sets, *set) {
                view.sets_before.entry(*set).or_insert(true);
                self.sets.all[*set].holders.remove(node);
            }
        }
    }

    /// Notes that a pod, which stays as it is, may be told otherwise.
    fn retell(&mut self, id: PodId) {
        let pod = &self.pods.all[id];
        let (Some(node), uid) = (pod.node, &pod.uid) else { return };
        let entry = self.entry(id);
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        view.pods_before.entry(uid.clone()).or_insert(Touched { was: Some(entry), now: Some(id) });
        self.changed.insert(node);
    }

    /// Finds out again whether namespaces are policed that may be so or not any more.
    fn judge_namespaces(&mut self) {
        for namespace in std::mem::take(&mut self.spaces.unjudged) {
            let is_policed = self.is_scoped(namespace);
            if self.spaces.all[namespace].is_policed == is_policed {
                continue;
            }
            let told = self.subscribers > 0;
            let pods: Vec<PodId> = self.spaces.all[namespace].pods.values().copied().filter(|_| told).collect();
            for pod in pods {
                self.retell(pod);
            }
            self.spaces.all[namespace].is_policed = is_policed;
        }
    }

    /// Finds the policies of the classes again that may have others.
    pub(super) fn settle(&mut self) {
        self.judge_namespaces();
        self.mark_selected();
        for id in std::mem::take(&mut self.pods.dirty) {
            if !std::mem::take(&mut self.pods.classes[id].is_dirty) {
                continue;
            }
            let recipe = self.recipe(id);
            if recipe != self.pods.classes[id].recipe {
                self.change_recipe(id, recipe);
            }
        }
    }

    fn change_recipe(&mut self, id: ClassId, recipe: Option<super::ids::RecipeId>) {
        let before = self.pods.classes[id].recipe;
        let now = recipe.map(|recipe| self.profiles.recipes[recipe].profile);
        let told: Vec<PodId> = if self.profile_of(id) == now || self.subscribers == 0 {
            Vec::new()
        } else {
            self.pods.classes[id].pods.iter().collect()
        };
        for pod in &told {
            self.depart(*pod);
        }
        if let Some(recipe) = recipe {
            self.profiles.hold_recipe(recipe);
        }
        if let Some(before) = before {
            self.profiles.release_recipe(before);
        }
        self.pods.classes[id].recipe = recipe;
        for pod in told {
            self.arrive(pod);
        }
    }

    /// Gives a node a view of what its pods have now, as if it had been told.
    pub(super) fn open_view(&mut self, node: NodeId) {
        self.nodes.all[node].view = Some(Box::default());
        self.subscribers += 1;
        let pods: Vec<PodId> = self.nodes.all[node].pods.iter().collect();
        for pod in pods {
            if let Some(profile) = self.profile_of(self.pods.all[pod].class) {
                self.grant(node, profile);
            }
        }
        let Some(view) = self.nodes.all[node].view.as_mut() else { return };
        view.profiles_before.clear();
        for (set, _) in view.sets_before.drain() {
            self.sets.set_told(set, true);
        }
    }

    pub(super) fn close_view(&mut self, node: NodeId) {
        let Some(view) = self.nodes.all[node].view.take() else { return };
        self.subscribers -= 1;
        self.changed.remove(&node);
        for set in view.sets.into_keys() {
            self.sets.all[set].holders.remove(node);
            let is_told = !self.sets.all[set].holders.is_empty();
            self.sets.set_told(set, is_told);
        }
    }

    /// A digest of what a node must know of its pods.
    pub(super) fn pods_digest(&self, node: NodeId) -> Digest {
        let digest = |id: PodId| {
            let pod = &self.pods.all[id];
            Digest::of_pod(&pod.uid, &self.pod_policy(id, self.profile_of(pod.class)))
        };
        Digest::of_pods(self.nodes.all[node].pods.iter().map(digest))
    }

    /// All that a node must know.
    pub(super) fn bundle_of(&self, node: NodeId) -> Bundle {
        let mut bundle = Bundle { is_enforced: self.is_enforced(), ..Bundle::default() };
        for pod in self.nodes.all[node].pods.iter() {
            let profile = self.profile_of(self.pods.all[pod].class);
            bundle.pods.insert(self.pods.all[pod].uid.to_string(), self.pod_policy(pod, profile));
            let Some(number) = profile else { continue };
            let entry = &self.profiles.all[number];
            bundle.profiles.entry(entry.id).or_insert_with(|| self.told_profile(number));
            for set in &entry.sets {
                bundle.sets.entry(self.set_id(*set)).or_insert_with(|| self.members(*set));
            }
        }
        bundle
    }

    fn pod_policy(&self, id: PodId, profile: Option<ProfileNo>) -> PodPolicy {
        let pod = &self.pods.all[id];
        let namespace = &self.spaces.all[self.pods.classes[pod.class].traits.namespace];
        let key = Key { namespace: namespace.name.to_string(), name: pod.name.to_string() };
        let profile = profile.map(|profile| self.profiles.all[profile].id);
        PodPolicy { key, profile, is_policed: namespace.is_policed }
    }

    /// What all subscribed nodes must be told.
    pub(super) fn flush(&mut self) -> BTreeMap<NodeName, Delta> {
        self.settle();
        let mut deltas: BTreeMap<NodeId, Delta> = BTreeMap::new();
        let is_enforced = self.is_enforced();
        if std::mem::replace(&mut self.was_enforced, is_enforced) != is_enforced {
            for node in self.nodes.subscribed() {
                deltas.entry(node).or_default().is_enforced = Some(is_enforced);
            }
        }
        self.flush_members(&mut deltas);
        let mut shared = Shared::default();
        for node in std::mem::take(&mut self.changed) {
            let Some(mut view) = self.nodes.all[node].view.take() else { continue };
            self.flush_view(&mut view, &mut shared, deltas.entry(node).or_default());
            self.nodes.all[node].view = Some(view);
        }
        let named = deltas.into_iter().filter(|(_, delta)| !delta.is_empty());
        named.map(|(node, delta)| (self.nodes.all[node].name.clone(), delta)).collect()
    }

    /// Who came to sets and went, for all nodes that had them already.
    fn flush_members(&mut self, deltas: &mut BTreeMap<NodeId, Delta>) {
        for (set, before) in std::mem::take(&mut self.sets.journal) {
            let (mut add, mut remove) = (BTreeSet::new(), BTreeSet::new());
            for (member, was_in) in before {
                match (was_in, self.holds(set, member)) {
                    (false, true) => add.insert(member),
                    (true, false) => remove.insert(member),
                    _ => false,
                };
            }
            if add.is_empty() && remove.is_empty() {
                continue;
            }
            let id = self.set_id(set);
            let change = SetDelta::Change { add: members(&add, &remove), remove: members(&remove, &add) };
            for node in self.sets.all[set].holders.iter() {
                let view = self.nodes.all[node].view.as_ref();
                let is_new = view.is_some_and(|view| view.sets_before.get(&set) == Some(&false));
                if !is_new {
                    deltas.entry(node).or_default().sets.insert(id, change.clone());
                }
            }
        }
    }

    fn flush_view(&mut self, view: &mut View, shared: &mut Shared, delta: &mut Delta) {
        for (uid, Touched { was, now }) in std::mem::take(&mut view.pods_before) {
            if was != now.map(|pod| self.entry(pod)) {
                let entry = now.map(|pod| self.pod_policy(pod, self.profile_of(self.pods.all[pod].class)));
                delta.pods.insert(uid.into(), entry);
            }
        }
        for (profile, was) in view.profiles_before.drain() {
            let id: ProfileId = self.profiles.all[profile].id;
            match (was, view.profiles.contains_key(&profile)) {
                (false, true) => {
                    let told = shared.profiles.entry(profile).or_insert_with(|| self.told_profile(profile));
                    delta.profiles.insert(id, Some(told.clone()));
                }
                (true, false) => {
                    delta.profiles.insert(id, None);
                }
                _ => {}
            }
        }
        for (set, was) in view.sets_before.drain() {
            let id: SetId = self.set_id(set);
            match (was, view.sets.contains_key(&set)) {
                (false, true) => {
                    let told = shared.sets.entry(set).or_insert_with(|| self.members(set));
                    delta.sets.insert(id, SetDelta::New(told.clone()));
                    self.sets.set_told(set, true);
                }
                (true, false) => {
                    delta.sets.insert(id, SetDelta::Gone);
                    let is_told = !self.sets.all[set].holders.is_empty();
                    self.sets.set_told(set, is_told);
                }
                _ => {}
            }
        }
    }

    /// Drops what nothing has any more. Nothing that is still to be told means any of it.
    pub(super) fn drop_idle(&mut self) {
        self.drop_idle_profiles();
        self.drop_idle_sets();
        self.drop_idle_atoms();
        self.drop_idle_groups();
        self.spaces.all.recycle();
        self.spaces.scopes.recycle();
        self.atoms.all.recycle();
        self.pods.all.recycle();
        self.pods.classes.recycle();
        self.nodes.all.recycle();
        self.nodes.groups.recycle();
        self.policies.all.recycle();
        self.profiles.recipes.recycle();
        self.profiles.all.recycle();
        self.sets.all.recycle();
    }
}

/// Takes one away; whether none is left.
fn lower<K: Eq + std::hash::Hash>(counts: &mut FnvHashMap<K, u32>, key: K) -> bool {
    let std::collections::hash_map::Entry::Occupied(mut entry) = counts.entry(key) else { return false };
    *entry.get_mut() -= 1;
    let is_last = *entry.get() == 0;
    if is_last {
        entry.remove();
    }
    is_last
}

/// Members as they are told, of the kind of these, or of the others where there are none.
fn members(these: &BTreeSet<Member>, others: &BTreeSet<Member>) -> Members {
    let is_ports = these.iter().chain(others).any(|member| matches!(member, Member::Port(_)));
    if is_ports {
        let port = |member: &Member| -> Option<AddressPort> {
            if let Member::Port(port) = member { Some(*port) } else { None }
        };
        Members::Ports(these.iter().filter_map(port).collect())
    } else {
        Members::Addresses(
            these
                .iter()
                .filter_map(|member| if let Member::Address(address) = member { Some(*address) } else { None })
                .collect(),
        )
    }
}
